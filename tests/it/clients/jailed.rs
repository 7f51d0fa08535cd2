//! Programs in the jail of `exeat run`, as root and as an ordinary user: what the policy allows works
//! through the proxy, and there is nothing else.
//!
//! Skipped by name where the kernel lets nobody make user namespaces.

use std::{
    fs::Permissions,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::PermissionsExt as _,
            net::{SocketAddr, UnixListener},
            process::CommandExt as _,
        },
    },
};

use super::{
    jailed_attacks::scopes_signals,
    launched::{EXEAT, Launch, detached},
    *,
};
use crate::support::signal;

/// The number of `nobody`, who owns nothing.
pub(super) const NOBODY: u32 = 65_534;

/// Whose programs are run.
#[derive(Debug, Clone, Copy)]
pub(super) enum User {
    /// Whoever runs the tests.
    Own,
    Nobody,
}

/// A launch whose programs are jailed.
pub(super) struct Jail {
    pub(super) launch: Launch,
    user: User,
    pub(super) exeat: PathBuf,
}

/// Those that this process can be.
pub(super) fn users() -> Vec<User> {
    match rustix::process::geteuid().is_root() {
        true => vec![User::Own, User::Nobody],
        false => vec![User::Own],
    }
}

impl Jail {
    /// None where there cannot be one.
    pub(super) async fn set(user: User) -> Option<Self> {
        let launch = Launch::set().await;
        fs::set_permissions(launch.files.path(), Permissions::from_mode(0o755)).unwrap();
        let mut jail = Self { launch, user, exeat: EXEAT.into() };
        let reachable = |jail: &Self| jail.bare(&jail.exeat).arg("--version").output().is_ok();
        if !reachable(&jail) {
            jail.exeat = jail.launch.path("exeat");
            fs::copy(EXEAT, &jail.exeat).unwrap();
        }
        let mut probe = jail.command();
        probe.args(["--", "true"]);
        let finished = run(probe).await;
        if finished.stderr.contains("user namespaces are forbidden") {
            skip(&finished.stderr);
            return None;
        }
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        Some(jail)
    }

    pub(super) fn bare(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        command.env("HOME", self.launch.files.path()).current_dir(self.launch.files.path());
        match self.user {
            User::Own => {}
            User::Nobody => {
                command.uid(NOBODY).gid(NOBODY);
            }
        }
        command
    }

    pub(super) fn command(&self) -> Command {
        let mut command = self.bare(&self.exeat);
        command.args(["run", "--requirements", "requirements.toml", "--settings", "exeat.toml"]);
        command.args(["--jail", "require"]).env("EXEAT", &self.exeat);
        command
    }

    /// Where whoever is jailed may write, below the directory that a program starts in.
    pub(super) fn workplace(&self) -> PathBuf {
        let path = self.launch.path("work");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o1777)).unwrap();
        path
    }

    pub(super) fn script(&self, script: &str) -> Command {
        let mut command = self.command();
        command.args(["--", "sh", "-c", script]);
        command
    }

    /// A Python program, and what it prints, as JSON.
    pub(super) async fn python(&self, program: &str) -> Value {
        fs::write(self.launch.path("program.py"), program).unwrap();
        let finished = run(self.script("exec python3 program.py")).await;
        serde_json::from_str(&finished.text())
            .unwrap_or_else(|error| panic!("{error}: {} {}", finished.text(), finished.stderr))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_allowed_works_and_the_rest_is_refused() {
    if !curl_installed().await {
        return;
    }
    for user in users() {
        let Some(jail) = Jail::set(user).await else { return };
        let curl = "curl --silent --max-time 30 --cacert authority.pem";
        let launch = &jail.launch;
        let finished = run(jail.script(&format!(
            "{curl} {} && {curl} {}; {curl} -o /dev/null -w '%{{http_connect}}' {}; \
             \"$EXEAT\" why evil.test",
            launch.http("ok.test"),
            launch.https("ok.test"),
            launch.https("no.test"),
        )))
        .await;
        let text = finished.text();
        assert!(text.starts_with("plaintls403evil.test:443 is refused"), "{user:?}: {text}");
        let says = |part: &str| finished.stderr.contains(part);
        assert!(says("exeat: refused 2 requests:"), "{}", finished.stderr);
        assert!(!says("NOT JAILED"), "{}", finished.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_way_around() {
    if !python_installed().await {
        return;
    }
    for user in users() {
        let Some(jail) = Jail::set(user).await else { return };
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let program = r#"
import errno, fcntl, json, os, socket
def attempt(family, kind, address, protocol=0):
    try:
        with socket.socket(family, kind, protocol) as s:
            s.settimeout(20)
            s.connect(address)
            s.send(b"x")
            return "open" if s.recv(1) else "ended"
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)
v4, v6, tcp, udp = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, socket.SOCK_DGRAM
def type_into(terminal):
    try:
        return fcntl.ioctl(terminal, 0x5412, b"x") and "open"
    except OSError as error:
        return errno.errorcode[error.errno]
def name():
    try:
        return socket.getaddrinfo("ok.test", 443)[0][4][0]
    except OSError:
        return "unknown"
print(json.dumps({
    "host loopback": attempt(v4, tcp, ("127.0.0.1", PORT)),
    "host loopback, udp": attempt(v4, udp, ("127.0.0.1", UDP)),
    "tcp": attempt(v4, tcp, ("198.51.100.1", 443)),
    "tcp, v6": attempt(v6, tcp, ("2001:db8::1", 443)),
    "udp": attempt(v4, udp, ("198.51.100.1", 443)),
    "udp, v6": attempt(v6, udp, ("2001:db8::1", 53)),
    "metadata": attempt(v4, tcp, ("169.254.169.254", 80)),
    "icmp": attempt(v4, socket.SOCK_RAW, ("198.51.100.1", 0), socket.IPPROTO_ICMP),
    "vsock": attempt(40, tcp, (2, 1)),
    "packet": attempt(17, socket.SOCK_RAW, ("lo", 0)),
    "typing": type_into(0),
    "settings": os.access("/proc/sys/kernel/core_pattern", os.W_OK),
    "dns": name(),
}))
"#;
        let program = program
            .replace("PORT", &jail.launch.plain.port().to_string())
            .replace("UDP", &udp.local_addr().unwrap().port().to_string());
        let found = jail.python(&program).await;
        let expected = json!({
            "host loopback": "ECONNREFUSED",
            "host loopback, udp": "ECONNREFUSED",
            "tcp": "ECONNRESET",
            "tcp, v6": "ENETUNREACH",
            "udp": "ECONNREFUSED",
            "udp, v6": "ENETUNREACH",
            "metadata": "ECONNRESET",
            "icmp": "EPERM",
            "vsock": "EAFNOSUPPORT",
            "packet": "EAFNOSUPPORT",
            "typing": "EPERM",
            "settings": false,
            "dns": "198.18.0.0",
        });
        assert_eq!(found, expected, "{user:?}");
        assert_eq!(jail.launch.plain.connections(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_know_no_proxy_are_judged_by_name() {
    if !(python_installed().await && curl_installed().await) {
        return;
    }
    for user in users() {
        let Some(jail) = Jail::set(user).await else { return };
        let launch = &jail.launch;
        // A protocol in which the server speaks first, at a port of its own.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"220 hello\r\n").unwrap();
            let mut heard = String::new();
            stream.read_to_string(&mut heard).unwrap();
            stream.write_all(b"221 bye\r\n").unwrap();
            heard
        });
        let program = r#"
import json, os, socket, subprocess
def curl(*arguments):
    command = ["curl", "-sS", "--noproxy", "*", "--max-time", "30", "--cacert", "authority.pem"]
    ended = subprocess.run(command + list(arguments), capture_output=True, text=True)
    return [ended.returncode, ended.stdout]
def speak(host):
    try:
        with socket.create_connection((host, PORT), 30) as s:
            said = s.recv(99)
            s.sendall(b"QUIT\r\n")
            s.shutdown(socket.SHUT_WR)
            return (said + s.recv(99)).decode()
    except OSError as error:
        return type(error).__name__
resolved = [socket.getaddrinfo(name, 1, type=socket.SOCK_STREAM) for name in ("a.test", "a.test", "B.Test")]
print(json.dumps({
    "resolved": len(set(str(r) for r in resolved)),
    "only v4": all(len(r) == 1 for r in resolved),
    "http": curl("HTTP"), "https": curl("HTTPS"), "no": curl("NO"),
    "other sni": curl("--connect-to", "::ok.test:TLS", "NO")[0],
    "ok": speak("ok.test"), "evil": speak("evil.test"),
}))
"#;
        let program = program
            .replace("PORT", &port.to_string())
            .replace("HTTPS", &launch.https("ok.test"))
            .replace("HTTP", &launch.http("ok.test"))
            .replace("TLS", &launch.tls.origin.port().to_string())
            .replace("NO", &launch.https("no.test"));
        let found = jail.python(&program).await;
        assert_eq!(found["resolved"], 2, "{user:?} {found}");
        assert_eq!(found["only v4"], true);
        assert_eq!(found["http"], json!([0, "plain"]), "{found}");
        assert_eq!(found["https"], json!([0, "tls"]), "{found}");
        // Reset: before the handshake, in it, or when it was read.
        let is_reset = |code: &Value| [7, 35, 56].iter().any(|known| code == known);
        assert!(is_reset(&found["no"][0]) && found["no"][1] == "", "{found}");
        assert!(is_reset(&found["other sni"]), "{found}");
        assert_eq!(found["ok"], "220 hello\r\n221 bye\r\n", "{found}");
        assert_eq!(found["evil"], "ConnectionResetError", "{found}");
        assert_eq!(server.join().unwrap(), "QUIT\r\n");
        assert_eq!(asked(&launch.tls.origin), ["GET /"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_the_address_of_a_name_means_the_name() {
    if !python_installed().await {
        return;
    }
    let Some(jail) = Jail::set(User::Own).await else { return };
    let program = r#"
import json, re, socket
def ask(method, address, port=PORT):
    with socket.create_connection(("127.0.0.1", 3128), 30) as s:
        host = "%s:%d" % (address, port)
        target = host if method == "CONNECT" else "http://" + host + "/"
        s.sendall(("%s %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (method, target, host)).encode())
        return s.recv(4096).decode().split("\r\n")[0]
def of(name):
    return socket.getaddrinfo(name, 1)[0][4][0]
print(json.dumps([[ask(method, of("ok.test")), ask(method, of("no.test")),
    ask(method, "198.18.200.1")] for method in ("CONNECT", "GET")]))
"#;
    let port = jail.launch.plain.port().to_string();
    let found = jail.python(&program.replace("PORT", &port)).await;
    let refused = format!("HTTP/1.1 403 {NOT_ALLOWED}");
    for answers in found.as_array().unwrap() {
        assert_eq!(answers[0], "HTTP/1.1 200 OK", "{found}");
        assert_eq!(answers[1], refused, "{found}");
        assert!(answers[2].as_str().unwrap().starts_with("HTTP/1.1 502 "), "{found}");
    }
    assert_eq!(asked(&jail.launch.plain), ["GET /"]);
    let hosts = jail.launch.plain.requests();
    assert_eq!(field(&hosts[0], "host"), Some(&*format!("ok.test:{port}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_of_the_machine_are_out_of_reach() {
    if !python_installed().await {
        return;
    }
    for user in users() {
        let Some(jail) = Jail::set(user).await else { return };
        let open = |path: &Path| {
            let listener = UnixListener::bind(path).unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
            listener
        };
        // One beside other files, one in a directory for sockets, one that no path leads to.
        let (beside, among) = (jail.launch.path("agent.sock"), jail.launch.path("for-sockets"));
        fs::create_dir(&among).unwrap();
        let among = among.join("docker.sock");
        let listeners = [open(&beside), open(&among)];
        let number = format!("exeat-test-{}-{user:?}", std::process::id());
        let hidden = SocketAddr::from_abstract_name(number.as_bytes()).unwrap();
        let hidden = UnixListener::bind_addr(&hidden).unwrap();
        for listener in listeners.iter().chain([&hidden]) {
            listener.set_nonblocking(true).unwrap();
        }
        let program = format!(
            r#"
import json, os, socket, stat
def attempt(path):
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path)
        return "open"
    except OSError:
        return "closed"
left = []
for directory, _, names in os.walk("/run"):
    left += [n for n in names if stat.S_ISSOCK(os.lstat(os.path.join(directory, n)).st_mode)]
own = socket.socket(socket.AF_UNIX)
own.bind("\0own")
own.listen()
print(json.dumps([attempt({beside:?}), attempt({among:?}), attempt("\0{number}"), attempt("\0own"), left]))
"#
        );
        let found = jail.python(&program).await;
        assert_eq!(found, json!(["closed", "closed", "closed", "open", []]), "{user:?}");
        for listener in listeners.iter().chain([&hidden]) {
            assert!(listener.accept().is_err(), "nobody came");
        }
        assert!(fs::exists(&beside).unwrap() && fs::exists(&among).unwrap(), "outside they stay");
    }
}

/// Where only a parent proxy knows the names: nothing is looked up here, and what knows no proxy goes
/// by it as well.
#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_by_the_parent_proxy() {
    if !curl_installed().await {
        return;
    }
    let Some(jail) = Jail::set(User::Own).await else { return };
    let launch = &jail.launch;
    let parent =
        ProxyBuilder::new("allowed_domains = [\"ok.test\"]").local("ok.test").start().await;
    let settings = "[dns]\nservers = []\n[parent]\nask = \"name\"\n";
    fs::write(launch.path("exeat.toml"), settings).unwrap();
    let curl = "curl --silent --max-time 30 --cacert authority.pem";
    let mut command = jail.command();
    let script = format!(
        "{curl} {}; {curl} --noproxy '*' {}; {curl} -o /dev/null -w '%{{http_connect}}' {}",
        launch.https("ok.test"),
        launch.http("ok.test"),
        launch.https("no.test"),
    );
    command.args(["--parent", &parent.url(), "--", "sh", "-c", &script]);
    let finished = run(command).await;
    assert_eq!(finished.text(), "tlsplain403", "{}", finished.stderr);
    let ended = |record: &Value| record["event.name"] == "exeat.end";
    let ports: Vec<Value> =
        parent.audit(2, ended).await.iter().map(|record| record["server.port"].clone()).collect();
    assert_eq!(ports, [json!(launch.tls.origin.port()), json!(launch.plain.port())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_can_be_regained() {
    for user in users() {
        let Some(jail) = Jail::set(user).await else { return };
        let uid = match user {
            User::Own => rustix::process::geteuid().as_raw(),
            User::Nobody => NOBODY,
        };
        let finished = run(jail.script(
            "id -u; grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' \
             /proc/self/status | tr '\\t' ' '; \
             ip link set lo down 2>/dev/null && echo configured; \
             umount /run 2>/dev/null && echo uncovered; \
             unshare --user --map-root-user --mount umount /run 2>/dev/null && echo uncovered; \
             nsenter --target $PPID --net true 2>/dev/null && echo left; true",
        ))
        .await
        .succeeded();
        let none = "0000000000000000";
        let expected = format!(
            "{uid}\nCapInh: {none}\nCapPrm: {none}\nCapEff: {none}\nCapBnd: {none}\n\
             CapAmb: {none}\nNoNewPrivs: 1\nSeccomp: 2\n"
        );
        assert_eq!(finished.text(), expected, "{user:?} {}", finished.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loopback_is_its_own() {
    if !(python_installed().await && curl_installed().await) {
        return;
    }
    for user in users() {
        let Some(jail) = Jail::set(user).await else { return };
        // A server of its own, found by what NO_PROXY says.
        let program = r#"
import http.server, json, subprocess, threading
class Own(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"own")
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Own)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = "http://localhost:%d/" % server.server_port
print(json.dumps(subprocess.run(["curl", "-s", url], capture_output=True, text=True).stdout))
"#;
        assert_eq!(jail.python(program).await, json!("own"), "{user:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_signals_and_the_end_are_the_programs() {
    let Some(jail) = Jail::set(User::Own).await else { return };
    let mut command = jail.script("cat; echo error >&2; exit 7");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"input").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!((&*output.stdout, &*output.stderr), (&b"input"[..], &b"error\n"[..]));

    for (program, code) in [("/nonexistent/program", 127), ("/", 126)] {
        let mut command = jail.command();
        command.args(["--", program]);
        assert_eq!(run(command).await.code, Some(code), "{program}");
    }
    let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.02; done";
    let mut command = jail.script(script);
    let mut child = detached(&mut command).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
    signal(child.id(), "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_leaves_the_jail_by_connect() {
    if !(git_installed().await && installed("ssh", &["ssh", "-V"]).await) {
        return;
    }
    let Some(jail) = Jail::set(User::Own).await else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sshd = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"SSH-2.0-exeat-test\r\n").unwrap();
        let mut begin = [0; 8];
        stream.read_exact(&mut begin).unwrap();
        begin
    });
    run(jail.script(&format!("git ls-remote ssh://git@ok.test:{port}/repo.git"))).await.failed();
    assert_eq!(&sshd.join().unwrap(), b"SSH-2.0-");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_nothing_open() {
    for user in users() {
        let Some(jail) = Jail::set(user).await else { return };
        let mut command = jail.command();
        // Found by its name in the environment.
        let agent = jail.launch.path("agent.sock");
        let listener = UnixListener::bind(&agent).unwrap();
        fs::set_permissions(&agent, Permissions::from_mode(0o777)).unwrap();
        command.env("SSH_AUTH_SOCK", &agent).arg("--").arg(&jail.exeat).arg("doctor");
        // Its name is for nobody's terminal.
        let strange = jail.launch.path("new\nline\u{1b}[2J");
        let strange = UnixListener::bind(&strange).unwrap();
        let finished = run(command).await;
        let text = finished.text();
        assert_eq!(finished.code, Some(0), "{user:?} {text} {}", finished.stderr);
        let closed = text.lines().filter(|line| line.starts_with("closed ")).count();
        let well = text.lines().filter(|line| line.starts_with("ok ")).count();
        assert_eq!((closed, well, text.lines().count()), (8, 2, 10), "{text}");

        // Where nothing is hidden and no proxy runs, in a network without a way out.
        let mut command = jail.bare(Path::new("unshare"));
        command.args(["--user", "--map-root-user", "--net", "--"]).arg(&jail.exeat);
        command.args(["doctor", "--proxy", "127.0.0.1:9"]).env("SSH_AUTH_SOCK", &agent);
        let finished = run(command).await;
        let text = finished.text();
        assert_eq!(finished.code, Some(1), "{text}");
        let says = |part: &str| text.lines().any(|line| line.starts_with(part));
        assert!(says(&format!("OPEN     unix socket {}", agent.display())), "{user:?} {text}");
        if matches!(user, User::Own) {
            assert!(text.contains(r"/new\nline\u{1b}[2J"), "{text}");
        }
        assert!(says("MISSING  the proxy at 127.0.0.1:9 does not answer"), "{text}");
        assert!(says("MISSING  not set, or to something else"), "{text}");
        assert!(!says("OPEN     TCP"), "{text}");
        drop((listener, strange));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_jail_it_is_said() {
    let Some(jail) = Jail::set(User::Own).await else { return };
    if !works(&["unshare", "--user", "--map-root-user", "true"]).await {
        skip("unshare makes no user namespace");
        return;
    }
    // In a user namespace that may have none below it.
    let within = |mode: &str, script: &str| {
        let mut command = jail.bare(Path::new("unshare"));
        command.args([
            "--user",
            "--map-root-user",
            "sh",
            "-c",
            &format!(
                "echo 0 > /proc/sys/user/max_user_namespaces && exec '{}' run --jail {mode} \
             --preset agent -- sh -c '{script}'",
                jail.exeat.display()
            ),
        ]);
        command
    };
    let finished = run(within("require", "echo ran")).await;
    assert_eq!((finished.code, finished.text().as_str()), (Some(69), ""), "{}", finished.stderr);
    assert!(finished.stderr.contains("no jail, cannot make namespaces"), "{}", finished.stderr);
    assert!(finished.stderr.contains("user.max_user_namespaces > 0"), "{}", finished.stderr);
    let finished = run(within("auto", "echo ran $HTTP_PROXY")).await.succeeded();
    assert!(finished.text().starts_with("ran http://127.0.0.1:"), "{}", finished.text());
    assert!(finished.stderr.contains("NOT JAILED"), "{}", finished.stderr);
    if !finished.stderr.contains("Landlock, seccomp") {
        skip_optional("this kernel has no Landlock for ports");
        return;
    }
    // What is left: TCP to the proxy, and nothing else of the internet.
    let program = r#"
import errno, json, os, socket
def attempt(kind, port, protocol=0, fast=False):
    try:
        with socket.socket(socket.AF_INET, kind, protocol) as s:
            if fast:
                s.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", port))
            else:
                s.connect(("127.0.0.1", port))
        return "open"
    except OSError as error:
        return errno.errorcode[error.errno]
tcp, udp, mptcp = socket.SOCK_STREAM, socket.SOCK_DGRAM, 262
def signal():
    try:
        return os.kill(PID, 0) or "done"
    except OSError as error:
        return errno.errorcode[error.errno]
own = int(os.environ["HTTP_PROXY"].rsplit(":", 1)[1])
print(json.dumps([attempt(tcp, own), attempt(tcp, PORT), attempt(tcp, PORT, mptcp),
    attempt(tcp, PORT, 0, True), attempt(udp, PORT), signal()]))
"#;
    let program = program
        .replace("PORT", &jail.launch.plain.port().to_string())
        .replace("PID", &std::process::id().to_string());
    fs::write(jail.launch.path("left.py"), program).unwrap();
    let finished = run(within("auto", "python3 left.py")).await;
    let found: Value = serde_json::from_str(&finished.text()).unwrap();
    let signal = if scopes_signals() { "EPERM" } else { "done" };
    let expected = json!(["open", "EACCES", "EAFNOSUPPORT", "EPERM", "EAFNOSUPPORT", signal]);
    assert_eq!(found, expected, "{}", finished.stderr);
    assert_eq!(jail.launch.plain.connections(), 0);
    assert_eq!(run(within("auto", "exit 7")).await.code, Some(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn open_descriptors_that_lead_out_are_refused() {
    let Some(jail) = Jail::set(User::Own).await else { return };
    let mut command = jail.bare(Path::new("sh"));
    command.args([
        "-c",
        &format!(
            "exec 9< /; exec '{}' run --jail require --preset agent -- echo ran",
            jail.exeat.display()
        ),
    ]);
    let finished = run(command).await;
    assert_eq!((finished.code, finished.text().as_str()), (Some(69), ""));
    assert!(finished.stderr.contains("descriptor 9 is open"), "{}", finished.stderr);
    // A directory that is covered is no place to work in.
    let mut command = jail.bare(&jail.exeat);
    command.args(["run", "--jail", "require", "--preset", "agent", "--", "echo", "ran"]);
    let below = tempfile::tempdir_in("/run");
    if let Ok(below) = below {
        command.current_dir(below.path());
        let finished = run(command).await;
        assert_eq!((finished.code, finished.text().as_str()), (Some(69), ""));
        assert!(finished.stderr.contains("it is hidden in the jail"), "{}", finished.stderr);
    }
}

#[tokio::test]
async fn nobody_enters_by_hand() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = bare(EXEAT, directory.path());
    command.args(["jail-inside", "--", "echo", "ran"]);
    let finished = run(command).await;
    assert_eq!((finished.code, finished.text().as_str()), (Some(69), ""));
}
