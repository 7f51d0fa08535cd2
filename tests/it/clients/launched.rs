//! Programs run by `exeat run`: told of the proxy by nothing but the environment it gives them.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    os::unix::process::ExitStatusExt as _,
    thread::JoinHandle,
};

use super::*;
use crate::support::signal;

/// Policy, settings and origins of a run.
pub(super) struct Launch {
    pub(super) files: TempDir,
    pub(super) plain: Origin,
    pub(super) tls: TlsOrigin,
}

impl Launch {
    pub(super) async fn set() -> Self {
        let names = ["ok.test", "no.test", "evil.test"];
        let builder =
            names.iter().fold(ProxyBuilder::new(RULES), |builder, name| builder.local(name));
        let launch = Self {
            files: builder.files(),
            plain: Origin::start().await,
            tls: TlsOrigin::start(&names).await,
        };
        launch.plain.file("/", "plain");
        launch.tls.origin.file("/", "tls");
        fs::write(launch.path("authority.pem"), &launch.tls.authority_pem).unwrap();
        launch
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    pub(super) fn http(&self, host: &str) -> String {
        format!("http://{host}:{}/", self.plain.port())
    }

    pub(super) fn https(&self, host: &str) -> String {
        format!("https://{host}:{}/", self.tls.origin.port())
    }

    /// `exeat run` without a jail, in an environment that names other proxies and exceptions.
    pub(super) fn command(&self) -> Command {
        let mut command = bare(EXEAT, self.files.path());
        for name in ["HTTP_PROXY", "https_proxy", "ALL_PROXY", "npm_config_proxy"] {
            command.env(name, "http://127.0.0.1:1");
        }
        for name in ["NO_PROXY", "no_proxy", "npm_config_noproxy"] {
            command.env(name, "*,no.test,evil.test");
        }
        command.arg("run").args(["--requirements", "requirements.toml"]);
        command.args(["--settings", "exeat.toml", "--jail", "off"]);
        command
    }

    fn script(&self, script: &str) -> Command {
        let mut command = self.command();
        command.args(["--", "sh", "-c", script]).env("EXEAT", EXEAT);
        command
    }
}

pub(super) const EXEAT: &str = env!("CARGO_BIN_EXE_exeat");

#[tokio::test(flavor = "multi_thread")]
async fn curl_goes_through_the_proxy_and_is_refused_by_it() {
    if !curl_installed().await {
        return;
    }
    let launch = Launch::set().await;
    let curl = "curl --silent --max-time 30 --cacert authority.pem";
    let finished = run(launch.script(&format!(
        "{curl} {} && {curl} {} && {curl} {}; echo; {curl} -o /dev/null -w '%{{http_connect}}' {}",
        launch.http("ok.test"),
        launch.https("ok.test"),
        launch
            .http("no.test")
            .replace("http://", "--output /dev/null --write-out %{http_code} http://"),
        launch.https("evil.test"),
    )))
    .await;
    assert_eq!(finished.text(), "plaintls403\n403", "{}", finished.stderr);
    assert_eq!(asked(&launch.plain), ["GET /"]);
    assert_eq!(asked(&launch.tls.origin), ["GET /"]);
    let summary: Vec<&str> = finished.stderr.lines().collect();
    assert_eq!(summary[0], "exeat: refused 2 requests:", "{summary:?}");
    let says = |part: &str| summary.iter().any(|line| line.contains(part));
    assert!(says("not_allowed (requirements.toml:3)"), "{summary:?}");
    assert!(says("denied by evil.test, requirements.toml:4"), "{summary:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn git_and_python_read_the_same_environment() {
    if !(git_installed().await && python_installed().await) {
        return;
    }
    let launch = Launch::set().await;
    let git = |url: String| format!("git -c http.sslCAInfo=authority.pem ls-remote {url}");
    let python = "import os, ssl, sys, urllib.request as u; \
         print(u.urlopen(sys.argv[1], context=ssl.create_default_context(cafile='authority.pem'), \
         timeout=30).read().decode())";
    fs::write(launch.path("get.py"), python).unwrap();
    // A configuration of the user's would send git elsewhere.
    fs::write(launch.path(".gitconfig"), "[http]\n\tproxy = http://127.0.0.1:1\n").unwrap();
    let finished = run(launch.script(&format!(
        "python3 get.py {}; python3 get.py {}; {}; {}",
        launch.https("ok.test"),
        launch.https("no.test"),
        git(launch.https("ok.test")),
        git(launch.https("evil.test")),
    )))
    .await;
    assert_eq!(finished.text(), "tls\n");
    assert!(finished.stderr.contains("Tunnel connection failed: 403"), "{}", finished.stderr);
    assert!(finished.stderr.contains("not_allowed"), "{}", finished.stderr);
    assert!(finished.stderr.contains("denied by evil.test"), "{}", finished.stderr);
    let asked = asked(&launch.tls.origin);
    assert!(asked.iter().any(|line| line.contains("git-upload-pack")), "{asked:?}");
}

#[tokio::test]
async fn every_variable_is_given_and_no_exception_left() {
    let launch = Launch::set().await;
    let mut command = launch.command();
    command.args(["--", "env"]);
    let given = run(command).await.succeeded().text();
    let given: std::collections::BTreeMap<&str, &str> =
        given.lines().filter_map(|line| line.split_once('=')).collect();
    let url = given["EXEAT_PROXY"];
    assert!(url.starts_with("http://127.0.0.1:") && url != "http://127.0.0.1:1", "{url}");
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
    {
        assert_eq!(given[name], url, "{name}");
    }
    for name in ["npm_config_proxy", "YARN_HTTPS_PROXY", "BUNDLE_HTTP_PROXY", "GRPC_PROXY"] {
        assert_eq!(given[name], url, "{name}");
    }
    for name in ["NO_PROXY", "no_proxy", "npm_config_noproxy", "BUNDLE_NO_PROXY"] {
        assert_eq!(given[name], "", "{name}");
    }
    assert_eq!(given["NODE_USE_ENV_PROXY"], "1");
    let port = url.rsplit(':').next().unwrap();
    assert_eq!(given["CLOUDSDK_PROXY_PORT"], port);
    assert!(given["JAVA_TOOL_OPTIONS"].contains(&format!("-Dhttps.proxyPort={port} ")));
    assert_eq!(given["GIT_CONFIG_KEY_0"], "http.proxy");
}

#[tokio::test]
async fn the_end_of_the_program_is_passed_on() {
    let launch = Launch::set().await;
    for (script, code) in [("true", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -9 $$", 137)]
    {
        assert_eq!(run(launch.script(script)).await.code, Some(code), "{script}");
    }
    for (program, code) in [("/nonexistent/program", 127), ("/", 126)] {
        let mut command = launch.command();
        command.args(["--", program]);
        let finished = run(command).await;
        assert_eq!(finished.code, Some(code), "{program}");
        assert!(finished.stderr.contains("exeat: cannot run /"), "{}", finished.stderr);
    }
    let mut command = launch.command();
    command.args(["--", "sh", "-c", "printf %s \"$1\"", "sh", "--jail"]);
    assert_eq!(run(command).await.succeeded().text(), "--jail", "its arguments are its own");
}

#[tokio::test]
async fn the_program_gets_the_limits_it_would_have_got() {
    let launch = Launch::set().await;
    for jail in ["off", "auto"] {
        let mut command = bare("sh", launch.files.path());
        command.args([
            "-c",
            &format!(
                "ulimit -Sn 100; exec '{EXEAT}' run --preset agent --jail {jail} -- \
             sh -c 'ulimit -Sn; ulimit -Hn'"
            ),
        ]);
        let text = run(command).await.succeeded().text();
        let mut hard = bare("sh", launch.files.path());
        hard.args(["-c", "ulimit -Hn"]);
        assert_eq!(text, format!("100\n{}", run(hard).await.text()), "{jail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_are_passed_on() {
    let launch = Launch::set().await;
    for (name, code) in [("TERM", 3), ("INT", 4), ("HUP", 5), ("USR1", 6)] {
        let script = "trap 'exit 3' TERM; trap 'exit 4' INT; trap 'exit 5' HUP; \
             trap 'exit 6' USR1; echo ready; while :; do sleep 0.02; done";
        let mut command = launch.script(script);
        // Of a session of its own: no terminal sends it anything by keys.
        let mut child = detached(&mut command).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        signal(child.id(), name);
        let status = child.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (Some(code), None), "{name}");
    }
}

/// As under nohup(1).
#[tokio::test]
async fn hang_ups_that_are_ignored_stay_so() {
    let launch = Launch::set().await;
    for jail in ["off", "auto"] {
        let mut command = bare("sh", launch.files.path());
        let script = format!(
            "trap '' HUP; exec '{EXEAT}' run --preset agent --jail {jail} -- \
             sh -c 'kill -s HUP $$; echo lived'"
        );
        command.args(["-c", &script]);
        assert_eq!(run(command).await.succeeded().text(), "lived\n", "{jail}");
    }
}

/// By setsid(1): the program becomes the command itself, with the same number.
pub(super) fn detached(command: &mut Command) -> Command {
    let mut detached = Command::new("setsid");
    detached.arg(command.get_program()).args(command.get_args());
    detached.env_clear().current_dir(command.get_current_dir().unwrap());
    for (name, value) in command.get_envs() {
        detached.env(name, value.unwrap());
    }
    detached
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_cannot_change_the_policy() {
    if !curl_installed().await {
        return;
    }
    let launch = Launch::set().await;
    // SIGHUP makes `serve` read the policy at once; here it is the program's own.
    let script = format!(
        "trap 'curl --silent --output /dev/null --write-out %{{http_code}} {url}; exit' HUP; \
         sed -i s/ok.test/no.test/ requirements.toml; kill -HUP $PPID; \
         while :; do sleep 0.02; done",
        url = launch.http("no.test")
    );
    let finished = run(launch.script(&script)).await;
    assert_eq!(finished.text(), "403", "{}", finished.stderr);
    assert!(
        fs::read_to_string(launch.path("requirements.toml")).unwrap().contains("[\"no.test\"]")
    );
}

#[tokio::test]
async fn what_is_asked_for_and_not_there_ends_it() {
    let launch = Launch::set().await;
    let mut command = bare(EXEAT, launch.files.path());
    command.args(["run", "--requirements", "absent.toml", "--jail", "off", "--", "touch", "ran"]);
    assert_eq!(run(command).await.code, Some(78));
    let mut command = bare(EXEAT, launch.files.path());
    command.args(["run", "--preset", "agent", "--jail", "off", "touch", "ran"]);
    assert_eq!(run(command).await.code, Some(64), "the program stands after `--`");
    assert!(!launch.path("ran").exists());
}

#[tokio::test]
async fn the_audit_is_written_when_asked_for() {
    let launch = Launch::set().await;
    let mut command = launch.command();
    command.args(["--audit", "audit.jsonl", "--", EXEAT, "connect", "evil.test", "22"]);
    let finished = run(command).await;
    assert_eq!((finished.code, finished.text().as_str()), (Some(1), ""));
    let audit = fs::read_to_string(launch.path("audit.jsonl")).unwrap();
    let record: Value = serde_json::from_str(audit.lines().next().unwrap()).unwrap();
    assert_eq!(record["server.address"], "evil.test");
    assert_eq!(record["network.policy.reason"], "denied");
}

/// Greets, hears everything until the end, and says it backwards.
fn backwards(listener: TcpListener) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"hello ").unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        heard.reverse();
        stream.write_all(&heard).unwrap();
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_moves_bytes_both_ways_and_ends_by_halves() {
    let launch = Launch::set().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let origin = backwards(listener);
    let text = "abc".repeat(100_000);
    fs::write(launch.path("text"), &text).unwrap();
    let script = format!("\"$EXEAT\" connect ok.test {port} < text");
    let finished = run(launch.script(&script)).await.succeeded();
    let mut expected = b"hello ".to_vec();
    expected.extend(text.bytes().rev());
    assert!(finished.stdout == expected, "{} bytes", finished.stdout.len());
    origin.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn git_over_ssh_goes_through_connect() {
    if !(git_installed().await && installed("ssh", &["ssh", "-V"]).await) {
        return;
    }
    let launch = Launch::set().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sshd = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        (&stream).write_all(b"SSH-2.0-exeat-test\r\n").unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        line
    });
    let git = |host: &str| format!("git ls-remote ssh://git@{host}:{port}/repo.git");
    let finished = run(launch.script(&format!("{}; {}", git("ok.test"), git("evil.test")))).await;
    assert!(sshd.join().unwrap().starts_with("SSH-2.0-"));
    let why = "no connection to evil.test:";
    assert!(finished.stderr.contains(why), "{}", finished.stderr);
    assert!(finished.stderr.contains("denylist"), "{}", finished.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn why_says_what_to_do() {
    let launch = Launch::set().await;
    let (port, closed) = (launch.plain.port(), 1);
    for (host, code, part) in [
        (format!("ok.test:{port}"), 0, "is allowed, and answers"),
        (format!("ok.test:{closed}"), 1, "is allowed, but not reached: ok.test"),
        ("evil.test".into(), 1, "evil.test:443 is refused: evil.test is on the denylist"),
        ("https://no.test/x".into(), 1, "ask the administrator to add it. Retrying will not help."),
    ] {
        let mut command = launch.command();
        command.args(["--", EXEAT, "why", &host]);
        let finished = run(command).await;
        assert_eq!(finished.code, Some(code), "{host}");
        assert!(finished.text().contains(part), "{host}: {}", finished.text());
    }
    // The policy alone, without any proxy.
    for (host, code, part) in [
        ("ok.test", 0, "ok.test:443 is allowed by ok.test, requirements.toml:3"),
        ("no.test", 1, "not in allowed_domains (requirements.toml:3); ask the administrator"),
        ("evil.test", 1, "denied (evil.test, requirements.toml:4)"),
        ("127.0.0.1", 1, "local or private"),
    ] {
        let mut command = bare(EXEAT, launch.files.path());
        command.args(["why", "--requirements", "requirements.toml", host]);
        let finished = run(command).await;
        assert_eq!(finished.code, Some(code), "{host}");
        assert!(finished.text().contains(part), "{host}: {}", finished.text());
    }
    let mut command = bare(EXEAT, launch.files.path());
    command.args(["why", "ok.test"]);
    let finished = run(command).await;
    assert_eq!(finished.code, Some(64));
    assert!(finished.stderr.contains("no proxy is known"), "{}", finished.stderr);
}

/// A name often has an address of each family, and the proxy one of them.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn every_address_of_the_proxy_is_tried() {
    let unshare = ["unshare", "--user", "--map-root-user", "--mount"];
    if !installed("unshare", &[&unshare[..], &["true"]].concat()).await {
        return;
    }
    let stage = Stage::set().await;
    let hosts = stage.home.path().join("hosts");
    fs::write(&hosts, "::1 two.test\n127.0.0.1 two.test\n").unwrap();
    let proxy = format!("two.test:{}", stage.proxy.address.port());
    for (asking, code) in [("health", 0), ("why no.test", 1)] {
        let mut command = stage.bare("unshare");
        let script = format!(
            "mount --bind '{}' /etc/hosts && exec '{EXEAT}' {asking} --proxy {proxy}",
            hosts.display()
        );
        command.args(&unshare[1..]).args(["sh", "-c", &script]);
        let finished = run(command).await;
        assert_eq!(finished.code, Some(code), "{asking}: {}", finished.stderr);
    }
}

/// To a health check silence is the answer; the others could not ask.
#[tokio::test]
async fn no_proxy_is_told_from_a_refusal() {
    let launch = Launch::set().await;
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for (asking, code) in
        [(&["connect", "ok.test", "22"][..], 69), (&["why", "ok.test"], 69), (&["health"], 1)]
    {
        let mut command = bare(EXEAT, launch.files.path());
        command.args(asking).args(["--proxy", &free]);
        let finished = run(command).await;
        assert_eq!(finished.code, Some(code), "{asking:?}: {}", finished.stderr);
        assert!(finished.stderr.contains("does not answer"), "{}", finished.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_can_read_the_variables() {
    if !curl_installed().await {
        return;
    }
    let stage = Stage::set().await;
    let mut command = stage.bare("sh");
    command.env("EXEAT_LISTEN", stage.proxy.address.to_string()).env("NO_PROXY", "*");
    command.args(["-c", &format!(
        "eval \"$({EXEAT} env)\"; curl --silent --output /dev/null --write-out %{{http_code}} {}",
        stage.http("no.test", "/")
    )]);
    assert_eq!(run(command).await.succeeded().text(), "403");
    for (shell, line) in [
        ("fish", "set -gx HTTP_PROXY 'http://exeat:3128'"),
        ("powershell", "$env:HTTP_PROXY = 'http://exeat:3128'"),
        ("dotenv", "HTTP_PROXY='http://exeat:3128'"),
    ] {
        let mut command = stage.bare(EXEAT);
        command.args(["env", "--proxy", "exeat:3128", "--shell", shell]);
        let text = run(command).await.succeeded().text();
        assert!(text.lines().any(|found| found == line), "{shell}: {text}");
    }
}
