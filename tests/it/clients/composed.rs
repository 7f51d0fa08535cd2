//! The topology of `config/compose`, made of network namespaces: the agent's network leads to exeat
//! and nowhere else, and exeat has a leg in another one, with DNS, origins and a metadata service.
//!
//! Skipped by name where no such networks can be made.

use std::{
    io::{BufRead as _, BufReader},
    process::Child,
};

use tokio::net::{TcpListener, UdpSocket};

use super::*;
use crate::support::{
    DnsServer, Zone, eventually,
    networks::{AGENT, METADATA, Networks, ORIGIN, PROXY_INSIDE, PROXY_OUTSIDE, Side},
};

const EXEAT: &str = env!("CARGO_BIN_EXE_exeat");

/// What leads to where nobody may go is allowed too: addresses are judged, and the proxy's own.
const RULES: &str = "[experimental_network]\nenabled = true\n\
    allowed_domains = [\"ok.test\", \"metadata.test\", \"self.test\", \"11.77.0.2\", \"11.77.0.1:443\"]\n\
    denied_domains = [\"evil.test\"]\n";

/// Everything of the topology that runs.
struct Composed {
    files: TempDir,
    tls: TlsOrigin,
    plain: Origin,
    metadata: Origin,
    dns: DnsServer,
    _exeat: Running,
    networks: Networks,
}

/// A proxy. Ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Composed {
    /// None where there cannot be such networks. Must be called inside a runtime.
    fn up() -> Option<Self> {
        let networks = Networks::make()?;
        let tcp = [(ORIGIN, 443), (ORIGIN, 80), (METADATA, 80), (ORIGIN, 53)];
        let (listeners, mut datagrams) = networks.sockets(&tcp, &[(ORIGIN, 53)]);
        let mut listeners = listeners.into_iter().map(|listener| {
            listener.set_nonblocking(true).unwrap();
            TcpListener::from_std(listener).unwrap()
        });
        let mut listener = || listeners.next().unwrap();
        let names = ["ok.test", "no.test", "evil.test"];
        let tls = TlsOrigin::start_on(listener(), &names);
        let plain = Origin::start_on(listener());
        let metadata = Origin::start_on(listener());
        let datagrams = datagrams.remove(0);
        datagrams.set_nonblocking(true).unwrap();
        let zone = names
            .iter()
            .fold(Zone::default(), |zone, name| zone.name(name, &[ORIGIN]))
            .name("metadata.test", &[METADATA])
            .name("self.test", &[PROXY_INSIDE]);
        let dns = zone.serve_on(UdpSocket::from_std(datagrams).unwrap(), listener());
        tls.origin.file("/", "tls");
        plain.file("/", "plain");
        let files = tempfile::tempdir().unwrap();
        let path = |name: &str| files.path().join(name);
        fs::write(path("requirements.toml"), RULES).unwrap();
        fs::write(path("exeat.toml"), format!("[dns]\nservers = [\"{ORIGIN}\"]\n")).unwrap();
        fs::write(path("authority.pem"), &tls.authority_pem).unwrap();
        let exeat =
            serve(&networks, Side::Proxy, "0.0.0.0:3128", &files, &["--audit", "audit.jsonl"]);
        Some(Self { files, tls, plain, metadata, dns, _exeat: exeat, networks })
    }

    /// A program of the agent's, told of the proxy.
    fn agent(&self, program: &str) -> Command {
        let mut command = self.networks.at(Side::Agent, program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.files.path())
            .current_dir(self.files.path());
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            command.env(name, format!("http://{PROXY_INSIDE}:3128"));
        }
        command
    }

    /// The status that curl sees, of the proxy where it asks for a tunnel, and the body.
    async fn curl(&self, url: &str) -> String {
        let mut command = self.agent("curl");
        command.args(["--silent", "--max-time", "30", "--cacert", "authority.pem"]);
        command.args(["--output", "body", "--write-out", "%{http_connect} %{http_code} "]);
        fs::write(self.files.path().join("body"), "").unwrap();
        let status = run({
            command.arg(url);
            command
        })
        .await
        .text();
        status + &fs::read_to_string(self.files.path().join("body")).unwrap()
    }

    /// A Python program of the agent's, and what it prints, as JSON.
    async fn python(&self, program: &str) -> Value {
        let mut command = self.agent("python3");
        command.args(["-c", program]);
        let finished = run(command).await;
        serde_json::from_str(&finished.text())
            .unwrap_or_else(|error| panic!("{error}: {} {}", finished.text(), finished.stderr))
    }

    /// Nothing but DNS has been reached on the outer side.
    fn assert_untouched(&self) {
        for origin in [&self.tls.origin, &self.plain, &self.metadata] {
            assert_eq!(origin.connections(), 0, "{}", origin.address);
        }
    }
}

/// The proxy, once it listens, with the files there.
fn serve(
    networks: &Networks,
    side: Side,
    listen: &str,
    files: &TempDir,
    arguments: &[&str],
) -> Running {
    let mut command = networks.at(side, EXEAT);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .current_dir(files.path())
        // As compose.yaml says it.
        .env("EXEAT_LISTEN", listen)
        .env("EXEAT_ALLOW_NON_LOOPBACK", "true")
        .args(["serve", "--requirements", "requirements.toml", "--settings", "exeat.toml"])
        // The owner of /tmp is nobody's in a user namespace.
        .arg("--insecure-policy-permissions")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut exeat = Running(command.spawn().unwrap());
    let mut stderr = BufReader::new(exeat.0.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains(&format!("listening on http://{listen}")) {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "it does not listen: {said}");
    }
    // Nobody reads on, and nobody stops writing for that.
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    exeat
}

/// Both must be there; Python makes the sockets of the outer side.
async fn tools_installed() -> bool {
    curl_installed().await && python_installed().await
}

/// A connection, and what comes of sending something; `None` of them hangs.
const ATTEMPT: &str = r#"
import errno, json, socket
v4, v6, tcp, udp = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, socket.SOCK_DGRAM
def attempt(family, kind, address, patience=20):
    try:
        with socket.socket(family, kind) as s:
            s.settimeout(patience)
            s.connect(address)
            if kind == tcp:
                return "open"
            s.send(b"x")
            return "open" if s.recv(1) else "ended"
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_allowed_works_and_the_rest_is_refused() {
    if !tools_installed().await {
        return;
    }
    let Some(composed) = Composed::up() else { return };
    assert_eq!(composed.curl("https://ok.test/").await, "200 200 tls");
    assert_eq!(composed.curl("http://ok.test/").await, "000 200 plain");
    for name in ["no.test", "evil.test"] {
        assert_eq!(composed.curl(&format!("https://{name}/")).await, "403 000 ");
        let refused = composed.curl(&format!("http://{name}/")).await;
        assert!(refused.starts_with("000 403 {"), "{refused}");
    }
    assert_eq!(composed.tls.origin.connections(), 1);
    // What is not allowed is not even looked up.
    assert_eq!(composed.dns.names_asked().into_iter().collect::<Vec<_>>(), ["ok.test"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_way_around() {
    if !tools_installed().await {
        return;
    }
    let Some(composed) = Composed::up() else { return };
    let program = format!(
        r#"{ATTEMPT}
def name():
    try:
        return socket.getaddrinfo("ok.test", 443)[0][4][0]
    except OSError:
        return "unknown"
print(json.dumps({{
    "origin": attempt(v4, tcp, ("{ORIGIN}", 443)),
    "origin, udp": attempt(v4, udp, ("{ORIGIN}", 443)),
    "v6": attempt(v6, tcp, ("2001:db8::1", 443)),
    "metadata": attempt(v4, tcp, ("{METADATA}", 80)),
    "dns": attempt(v4, udp, ("{ORIGIN}", 53)),
    "dns, tcp": attempt(v4, tcp, ("{ORIGIN}", 53)),
    "names": name(),
    "the proxy's other leg": attempt(v4, tcp, ("{PROXY_OUTSIDE}", 3128)),
    "another port of the proxy": attempt(v4, tcp, ("{PROXY_INSIDE}", 80)),
    "dns at the proxy": attempt(v4, udp, ("{PROXY_INSIDE}", 53)),
}}))
"#
    );
    let found = composed.python(&program).await;
    let expected = json!({
        "origin": "ENETUNREACH",
        "origin, udp": "ENETUNREACH",
        "v6": "ENETUNREACH",
        "metadata": "ENETUNREACH",
        "dns": "ENETUNREACH",
        "dns, tcp": "ENETUNREACH",
        "names": "unknown",
        "the proxy's other leg": "ENETUNREACH",
        "another port of the proxy": "ECONNREFUSED",
        "dns at the proxy": "ECONNREFUSED",
    });
    assert_eq!(found, expected);

    let mut doctor = composed.agent(EXEAT);
    doctor.args(["doctor", "--proxy", &format!("{PROXY_INSIDE}:3128")]);
    let text = run(doctor).await.text();
    let says = |part: &str| text.lines().filter(|line| line.starts_with(part)).count();
    assert_eq!(
        says("OPEN     TCP") + says("OPEN     UDP") + says("OPEN     metadata"),
        0,
        "{text}"
    );
    assert_eq!(
        says("closed   TCP") + says("closed   UDP") + says("closed   metadata"),
        6,
        "{text}"
    );
    assert_eq!(says("closed   the system's resolver"), 1, "{text}");
    assert_eq!(says(&format!("ok       the proxy at {PROXY_INSIDE}:3128 answers")), 1, "{text}");
    composed.assert_untouched();
    assert_eq!(composed.dns.names_asked().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_reaches_more_than_it_gives() {
    if !tools_installed().await {
        return;
    }
    let Some(composed) = Composed::up() else { return };
    // It could: nothing but the policy keeps it from there.
    let mut command = composed.networks.at(Side::Proxy, "curl");
    command.args(["--silent", "--max-time", "30", &format!("http://{METADATA}/")]);
    run(command).await.succeeded();
    assert_eq!(composed.metadata.connections(), 1);
    let own = [PROXY_INSIDE, PROXY_OUTSIDE, "127.0.0.1", "0.0.0.0"];
    let own = own.map(|address| format!("http://{address}:3128/healthz"));
    for url in [
        format!("http://{METADATA}/"),
        "http://metadata.test/".to_owned(),
        "http://self.test:3128/healthz".to_owned(),
        format!("http://{AGENT}/"),
    ]
    .iter()
    .chain(&own)
    {
        let refused = composed.curl(url).await;
        assert!(refused.starts_with("000 403 {"), "{url}: {refused}");
        assert!(refused.contains("not_allowed_local"), "{url}: {refused}");
    }
    assert_eq!(composed.metadata.connections(), 1);
}

/// The agent's only neighbour tells it that it works, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn the_agent_sees_health_and_nothing_more() {
    if !tools_installed().await {
        return;
    }
    let Some(composed) = Composed::up() else { return };
    let mut command = composed.agent(EXEAT);
    command.args(["health", "--proxy", &format!("http://{PROXY_INSIDE}:3128")]);
    run(command).await.succeeded();
    let ask = |method: &str, path: &str| {
        let mut command = composed.agent("curl");
        command.args(["--silent", "--noproxy", "*", "--max-time", "30", "--output", "body"]);
        command.args(["--write-out", "%{http_code}", "--request", method]);
        command.arg(format!("http://{PROXY_INSIDE}:3128{path}"));
        command
    };
    for (method, path, status) in [
        ("GET", "/healthz", "200"),
        ("POST", "/healthz", "400"),
        ("GET", "/", "400"),
        ("GET", "/metrics", "400"),
        ("GET", "/admin", "400"),
        ("POST", "/policy", "400"),
        ("TRACE", "/healthz", "405"),
    ] {
        assert_eq!(run(ask(method, path)).await.text(), status, "{method} {path}");
    }
    let health = run(ask("GET", "/healthz")).await;
    assert_eq!(health.text(), "200");
    let health = fs::read_to_string(composed.files.path().join("body")).unwrap();
    for private in ["ok.test", "evil.test", "requirements", ORIGIN] {
        assert!(!health.contains(private), "{private}: {health}");
    }
    composed.assert_untouched();
}

/// An agent that could set routes gets no further: exeat's network forwards nothing. Where it does,
/// it is a router, as the last attempt shows.
#[tokio::test(flavor = "multi_thread")]
async fn a_route_by_way_of_the_proxy_leads_nowhere() {
    if !tools_installed().await {
        return;
    }
    let Some(composed) = Composed::up() else { return };
    let mut route = composed.agent("ip");
    route.args(["route", "add", "default", "via", PROXY_INSIDE]);
    run(route).await.succeeded();
    let direct = |patience: u32| {
        format!("{ATTEMPT}\nprint(json.dumps(attempt(v4, tcp, (\"{ORIGIN}\", 443), {patience})))")
    };
    assert_eq!(composed.python(&direct(1)).await, json!("TimeoutError"));
    composed.assert_untouched();
    let mut forward = composed.networks.at(Side::Proxy, "sh");
    forward.args(["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
    if !run(forward).await.success {
        skip_optional("no setting of the network may be changed");
        return;
    }
    assert_eq!(composed.python(&direct(20)).await, json!("open"));
}

/// An exeat of the agent's own, on a machine whose only way out is another: names are looked up here,
/// and what was vetted is what the other is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn an_exeat_may_be_behind_another() {
    if !tools_installed().await {
        return;
    }
    let Some(composed) = Composed::up() else { return };
    let files = tempfile::tempdir().unwrap();
    let policy = RULES.replace("\"11.77.0.1:443\"", "\"private.test\"");
    fs::write(files.path().join("requirements.toml"), policy).unwrap();
    let settings = format!(
        "[dns]\nservers = []\n[dns.hosts]\n\"ok.test\" = [\"{ORIGIN}\"]\n\
         \"private.test\" = [\"10.77.0.9\"]\n"
    );
    fs::write(files.path().join("exeat.toml"), settings).unwrap();
    let parent = format!("http://{PROXY_INSIDE}:3128");
    let arguments = ["--audit", "audit.jsonl", "--parent", &parent];
    let _child = serve(&composed.networks, Side::Agent, "127.0.0.1:3128", &files, &arguments);
    let ask = |url: &str| {
        let mut command = composed.agent("curl");
        command.args(["--silent", "--max-time", "30", "--cacert", "authority.pem", "--proxy"]);
        command.args(["http://127.0.0.1:3128", "--output", "body"]);
        command.args(["--write-out", "%{http_connect}", url]);
        command
    };
    run(ask("https://ok.test/")).await.succeeded();
    assert_eq!(fs::read_to_string(composed.files.path().join("body")).unwrap(), "tls");
    for name in ["no.test", "private.test"] {
        assert_eq!(run(ask(&format!("https://{name}/"))).await.text(), "403");
    }
    let records = |directory: &TempDir| {
        let text = fs::read_to_string(directory.path().join("audit.jsonl")).unwrap();
        // The last may still be under way.
        let records = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        records.filter(|record: &Value| record["event.name"] == "exeat.end").collect::<Vec<_>>()
    };
    let (of_child, of_parent) = eventually("the records", || {
        let both = (records(&files), records(&composed.files));
        (both.0.len() + both.1.len() == 2).then_some(both)
    })
    .await;
    assert_eq!(of_child[0]["server.address"], "ok.test");
    assert_eq!(of_child[0]["network.peer.address"], ORIGIN);
    assert_eq!(of_child[0]["exeat.parent.address"], PROXY_INSIDE);
    assert_eq!(of_parent[0]["server.address"], ORIGIN);
    assert_eq!(composed.dns.names_asked().len(), 0);
}
