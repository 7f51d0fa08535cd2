//! Requests for unix sockets (`x-unix-socket`): judged by where a path leads, and connected to as judged.

use std::{
    fs,
    os::unix::fs::{lchown, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    time::timeout,
};

use crate::support::{
    Answer, Origin, PATIENCE, Proxy, ProxyBuilder, add_addresses, eventually, exchange,
    in_own_network, raw_connect, read_answer, skip, skip_optional,
};

/// Somebody who is not root.
const NOBODY: u32 = 65_534;

/// A directory with sockets in it: one that is allowed, and one that is not.
struct Stage {
    directory: TempDir,
    allowed: Origin,
    other: Origin,
}

impl Stage {
    fn set() -> Self {
        // Without links on the way to it.
        let root = std::env::temp_dir().canonicalize().unwrap();
        let directory = tempfile::tempdir_in(root).unwrap();
        let at = |name: &str| directory.path().join(name);
        let (allowed, other) =
            (Origin::start_at(&at("allowed.sock")), Origin::start_at(&at("other.sock")));
        allowed.file("/", "hello");
        other.file("/", "secret");
        Self { directory, allowed, other }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn proxy(&self) -> Proxy {
        self.builder(&["allowed.sock"]).start().await
    }

    fn builder(&self, allowed: &[&str]) -> ProxyBuilder {
        let paths: Vec<String> =
            allowed.iter().map(|name| self.path(name).display().to_string()).collect();
        ProxyBuilder::new(&format!("allow_unix_sockets = {paths:?}"))
    }
}

/// A program that ends with the test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A request that names a socket, as a client of a proxy sends it.
fn get(path: &Path) -> Vec<u8> {
    let path = path.display();
    format!("GET http://docker/ HTTP/1.1\r\nHost: docker\r\nx-unix-socket: {path}\r\n\r\n").into()
}

async fn ask(proxy: &Proxy, path: &Path) -> Answer {
    exchange(proxy.address, &get(path)).await
}

#[tokio::test]
async fn one_request_goes_to_the_socket_and_its_answer_back() {
    let stage = Stage::set();
    let proxy = stage.proxy().await;
    let path = stage.path("allowed.sock");
    let field = format!("X-Unix-Socket: {}\r\n", path.display());
    for (line, host) in
        [("GET http://docker/v1?a=b HTTP/1.1", "docker"), ("GET /v1?a=b HTTP/1.1", "localhost")]
    {
        let request = format!(
            "{line}\r\nHost: {host}\r\n{field}Proxy-Authorization: Basic x\r\nX-Other: 1\r\n\r\n"
        );
        let answer = exchange(proxy.address, request.as_bytes()).await;
        assert_eq!(answer.status, 200);
        let asked = answer.json();
        assert_eq!((&asked["method"], &asked["target"]), (&"GET".into(), &"/v1?a=b".into()));
        let mut fields: Vec<String> = asked["fields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|field| format!("{}: {}", field[0].as_str().unwrap(), field[1].as_str().unwrap()))
            .collect();
        fields.sort();
        assert_eq!(fields, [&format!("host: {host}"), "via: 1.1 exeat", "x-other: 1"]);
    }
    // A body, and a second request on the same connection.
    let mut client = raw_connect(proxy.address).await;
    for _ in 0..2 {
        let request = format!(
            "POST http://docker/ HTTP/1.1\r\nHost: docker\r\n{field}Content-Length: 4\r\n\r\nbody"
        );
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = read_answer(&mut client).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    }
    assert_eq!(stage.allowed.requests()[3]["body"], "body");
    let ends = proxy.audit(4, |record| record["event.name"] == "exeat.end").await;
    for record in &ends {
        assert_eq!(record["exeat.ending"], "complete");
        assert_eq!(record["server.address"], "unix-socket");
        assert_eq!(record["server.port"], 0);
        assert_eq!(record["exeat.socket.path"], path.display().to_string());
    }
    assert_eq!(ends[3]["exeat.bytes.sent"], 4);
    let decisions = proxy.audit(4, |it| it["network.policy.decision"] == "allow").await;
    assert_eq!(decisions[0]["network.policy.reason"], "allow");
    assert_eq!(proxy.health().await["confinement"]["calls_refused"], 0);
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_whether_it_is_there_or_not() {
    let stage = Stage::set();
    let proxy = stage.proxy().await;
    fs::write(stage.path("file"), "").unwrap();
    for name in ["other.sock", "missing.sock", "file", ".", "allowed.sock/", "allowed.sock.x"] {
        let answer = ask(&proxy, &stage.path(name)).await;
        assert_eq!(answer.status, 403, "{name}");
        assert!(answer.phrase.contains("not in unix_sockets, requirements.toml:3"), "{name}");
        assert_eq!(answer.field("x-proxy-error"), Some("blocked-by-allowlist"));
        assert_eq!(answer.field("connection"), Some("close"));
        let body = answer.json();
        assert_eq!(
            (&body["host"], &body["reason"]),
            (&"unix-socket".into(), &"not_allowed".into())
        );
    }
    assert_eq!(stage.other.connections(), 0);
    proxy.audit(6, |it| it["network.policy.reason"] == "not_allowed").await;
    let bad = async |request: String| exchange(proxy.address, request.as_bytes()).await.status;
    let path = stage.path("allowed.sock").display().to_string();
    for field in ["", "allowed.sock", "./x", "unix:/x", "@/x"] {
        let request =
            format!("GET http://a/ HTTP/1.1\r\nHost: a\r\nx-unix-socket: {field}\r\n\r\n");
        assert_eq!(bad(request).await, 400, "{field:?}");
    }
    let field = format!("x-unix-socket: {path}\r\n");
    for request in [
        format!("GET http://a/ HTTP/1.1\r\nHost: a\r\n{field}{field}\r\n"),
        format!("GET http://a/ HTTP/1.1\r\nHost: b\r\n{field}\r\n"),
        format!("GET https://a/ HTTP/1.1\r\nHost: a\r\n{field}\r\n"),
        format!("GET / HTTP/1.1\r\n{field}\r\n"),
        format!("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n{field}\r\n"),
    ] {
        assert_eq!(bad(request.clone()).await, 400, "{request}");
    }
    let trace = format!("TRACE http://a/ HTTP/1.1\r\nHost: a\r\n{field}\r\n");
    assert_eq!(bad(trace).await, 405);
    assert_eq!(stage.allowed.connections(), 0);
}

#[tokio::test]
async fn deny_wins_over_all() {
    let stage = Stage::set();
    let denied = stage.path("other.sock");
    symlink(&denied, stage.path("link")).unwrap();
    fs::hard_link(&denied, stage.path("hard.sock")).unwrap();
    let proxy = ProxyBuilder::new(&format!(
        "dangerously_allow_all_unix_sockets = true\nunix_sockets = {{ {denied:?} = \"deny\" }}"
    ))
    .start()
    .await;
    assert_eq!(ask(&proxy, &stage.path("allowed.sock")).await.text(), "hello");
    for name in ["other.sock", "link", "hard.sock"] {
        let answer = ask(&proxy, &stage.path(name)).await;
        assert_eq!(answer.status, 403);
        assert!(
            answer.phrase.contains("denied by unix_sockets, requirements.toml:4"),
            "{answer:?}"
        );
        assert_eq!(answer.field("x-proxy-error"), Some("blocked-by-denylist"));
    }
    assert_eq!(stage.other.connections(), 0);
}

#[tokio::test]
async fn links_are_judged_by_where_they_lead() {
    let stage = Stage::set();
    // To what is allowed from anywhere; to what is not also from the place of what is.
    symlink(stage.path("allowed.sock"), stage.path("link")).unwrap();
    symlink("link", stage.path("link-of-link")).unwrap();
    symlink(stage.path("other.sock"), stage.path("posing.sock")).unwrap();
    symlink(".", stage.path("here")).unwrap();
    for name in ["posing.sock", "here"] {
        lchown(stage.path(name), Some(NOBODY), None).ok();
    }
    let proxy = stage.builder(&["allowed.sock", "posing.sock", "here/other.sock"]).start().await;
    for name in ["link", "link-of-link", "here/allowed.sock", "here/../allowed.sock"] {
        let name = name.replace("here/..", "here/here/.");
        assert_eq!(ask(&proxy, &stage.path(&name)).await.text(), "hello", "{name}");
    }
    for name in ["posing.sock", "other.sock", "here/other.sock"] {
        assert_eq!(ask(&proxy, &stage.path(name)).await.status, 403, "{name}");
    }
    assert_eq!(stage.other.connections(), 0);
}

/// As `/var/run` is on most machines.
#[tokio::test]
async fn paths_of_the_policy_are_followed_over_links_of_root() {
    if !rustix::process::geteuid().is_root() {
        return skip_optional("links of root, which root makes");
    }
    let stage = Stage::set();
    symlink(stage.directory.path(), stage.path("var")).unwrap();
    symlink("var", stage.path("var-var")).unwrap();
    let proxy = stage.builder(&["var-var/./allowed.sock"]).start().await;
    for name in ["allowed.sock", "var/allowed.sock", "var-var/allowed.sock"] {
        assert_eq!(ask(&proxy, &stage.path(name)).await.text(), "hello", "{name}");
    }
    // Once somebody else has it, it leads nowhere.
    lchown(stage.path("var"), Some(NOBODY), None).unwrap();
    for name in ["allowed.sock", "var/allowed.sock"] {
        assert_eq!(ask(&proxy, &stage.path(name)).await.status, 403, "{name}");
    }
}

/// In mounts of one's own any socket lies at any path, and `/proc` leads into them.
#[tokio::test]
async fn links_of_proc_lead_nowhere() {
    let stage = Stage::set();
    let (allowed, other) = (stage.path("allowed.sock"), stage.path("other.sock"));
    let script = "mount --bind \"$1\" \"$2\" && echo ready && exec sleep 1000";
    let mut mounted = Command::new("unshare");
    mounted.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    let mounted = mounted.args([&other, &allowed]).stdout(std::process::Stdio::piped()).spawn();
    let Ok(mut mounted) = mounted else { return skip("mounts of its own, for want of unshare") };
    let mut ready = [0; 6];
    let is_ready = std::io::Read::read_exact(&mut mounted.stdout.take().unwrap(), &mut ready);
    let mounted = Ended(mounted);
    if is_ready.is_err() {
        return skip("mounts of its own, which this kernel gives nobody");
    }
    // What confines the proxy would keep it from there too.
    let proxy = stage.builder(&["allowed.sock"]).flag("--no-confine").start().await;
    let there = format!("/proc/{}/root{}", mounted.0.id(), allowed.display());
    assert_eq!(ask(&proxy, Path::new(&there)).await.status, 403);
    assert_eq!(
        ask(&proxy, Path::new(&format!("/proc/self/cwd{}", allowed.display()))).await.status,
        403
    );
    assert_eq!(ask(&proxy, &allowed).await.text(), "hello");
    assert_eq!(stage.other.connections(), 0);
}

/// The path changes between an allowed socket and a link to another one, as fast as it can.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_exchange_it_between_the_judgement_and_the_connection() {
    let stage = Stage::set();
    let path = stage.path("swapped.sock");
    let link = path.clone();
    fs::hard_link(stage.path("allowed.sock"), &path).unwrap();
    let proxy = stage.builder(&["swapped.sock"]).start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let (until, directory) = (Arc::clone(&stop), stage.directory.path().to_owned());
    let swapping = std::thread::spawn(move || {
        let (new, mut count) = (directory.join("new"), 0);
        while !until.load(Ordering::Relaxed) {
            match count % 2 {
                0 => {
                    symlink(directory.join("other.sock"), &new).unwrap();
                    // Links that root makes count.
                    lchown(&new, Some(NOBODY), None).ok();
                }
                _ => fs::hard_link(directory.join("allowed.sock"), &new).unwrap(),
            }
            fs::rename(&new, &link).unwrap();
            // Renaming a hard link over another of the same file does nothing.
            fs::remove_file(&new).ok();
            count += 1;
        }
        count
    });
    let mut said = [0, 0];
    for _ in 0..1_000 {
        let answer = ask(&proxy, &path).await;
        match answer.status {
            200 => {
                assert_eq!(answer.text(), "hello");
                said[0] += 1;
            }
            // 502: it was another one a moment later.
            403 | 502 => said[1] += 1,
            status => panic!("{status} {}", answer.phrase),
        }
    }
    stop.store(true, Ordering::Relaxed);
    let swaps = swapping.join().unwrap();
    assert_eq!(stage.other.connections(), 0, "{said:?} with {swaps} swaps");
    assert!(said.iter().all(|count| *count > 0), "{said:?} with {swaps} swaps");
}

#[tokio::test]
async fn what_is_allowed_and_fails_says_how() {
    let stage = Stage::set();
    fs::write(stage.path("file"), "").unwrap();
    drop(UnixListener::bind(stage.path("dead.sock")).unwrap());
    let rude = UnixListener::bind(stage.path("rude.sock")).unwrap();
    let silent = UnixListener::bind(stage.path("silent.sock")).unwrap();
    let proxy = stage
        .builder(&["file", "dead.sock", "missing.sock", "rude.sock", "silent.sock"])
        .settings("[timeouts]\nresponse_head = \"300ms\"")
        .start()
        .await;
    tokio::spawn(async move {
        let (mut stream, _) = rude.accept().await.unwrap();
        stream.write_all(b"220 hello\r\n").await.unwrap();
    });
    for (name, status, proxy_status, ending) in [
        ("file", 502, "destination_unavailable", "connect_failed"),
        ("missing.sock", 502, "destination_unavailable", "connect_failed"),
        ("dead.sock", 502, "connection_refused", "connect_failed"),
        ("rude.sock", 502, "http_protocol_error", "origin_failed"),
        ("silent.sock", 504, "http_response_timeout", "response_timeout"),
    ] {
        let answer = ask(&proxy, &stage.path(name)).await;
        assert_eq!(answer.status, status, "{name} {}", answer.phrase);
        assert!(answer.field("proxy-status").unwrap().contains(proxy_status), "{name}");
        let path = stage.path(name).display().to_string();
        proxy.audit(1, |it| it["exeat.ending"] == ending && it["exeat.socket.path"] == path).await;
    }
    drop(silent);
}

/// What cannot be opened any more is not tried.
#[tokio::test]
async fn without_any_in_the_policy_there_are_none_until_a_restart() {
    let stage = Stage::set();
    let proxy = ProxyBuilder::new("allowed_domains = []").start().await;
    let path = stage.path("allowed.sock");
    let answer = ask(&proxy, &path).await;
    assert_eq!((answer.status, &answer.json()["reason"]), (403, &Value::from("not_allowed")));
    proxy.replace_policy(&format!("allow_unix_sockets = [{path:?}]"));
    proxy.signal("HUP");
    eventually("the warning", || proxy.log().contains("restart to open them").then_some(())).await;
    let answer = ask(&proxy, &path).await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.json()["reason"], "unix_socket_unsupported");
    assert!(answer.phrase.contains("restart"), "{}", answer.phrase);
    assert_eq!(proxy.health().await["confinement"]["calls_refused"], 0);
    assert_eq!(stage.allowed.connections(), 0);
    drop(proxy);
    let proxy = ProxyBuilder::whole(
        "[experimental_network]\nenabled = false\ndangerously_allow_all_unix_sockets = true\n",
    )
    .start()
    .await;
    let answer = ask(&proxy, &path).await;
    assert_eq!((answer.status, &answer.json()["reason"]), (403, &Value::from("proxy_disabled")));
}

/// A request that waits and an answer under way.
#[tokio::test]
async fn a_new_policy_ends_what_it_refuses() {
    let stage = Stage::set();
    let slow = UnixListener::bind(stage.path("slow.sock")).unwrap();
    let proxy = stage.builder(&["slow.sock"]).start().await;
    let path = stage.path("slow.sock");
    let mut waiting = raw_connect(proxy.address).await;
    waiting.write_all(&get(&path)).await.unwrap();
    let (_first, _) = slow.accept().await.unwrap();
    let mut begun = raw_connect(proxy.address).await;
    begun.write_all(&get(&path)).await.unwrap();
    let (mut second, _) = slow.accept().await.unwrap();
    second.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await.unwrap();
    begun.read_exact(&mut [0; 12]).await.unwrap();
    proxy.replace_policy("allow_unix_sockets = [\"/elsewhere\"]");
    proxy.signal("HUP");
    assert_eq!(read_answer(&mut waiting).await.status, 403);
    timeout(PATIENCE, begun.read_to_end(&mut Vec::new())).await.unwrap().ok();
    proxy.audit(2, |record| record["exeat.ending"] == "policy_changed").await;
}

/// The denies of a system file are kept, those of sockets too; a client at a unix socket may ask.
#[tokio::test]
async fn clients_at_a_path_may_ask_too() {
    let stage = Stage::set();
    let listening = stage.path("http.sock");
    let _proxy = stage.builder(&["allowed.sock"]).socket(&listening).start().await;
    let mut client = UnixStream::connect(&listening).await.unwrap();
    let request = format!(
        "GET http://docker/ HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nx-unix-socket: {}\r\n\r\n",
        stage.path("allowed.sock").display()
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, client.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hello"), "{answer}");
}

/// From another machine, or from this one by an address that others have too, it is asked for in vain.
#[test]
fn clients_beyond_loopback_get_none() {
    if !in_own_network("unix_sockets::clients_beyond_loopback_get_none") {
        return;
    }
    if !add_addresses(&["192.0.2.10/32"]) {
        return skip_optional("ip, for an address");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stage = Stage::set();
        let listen = "[listen]\nclients = [\"192.0.2.0/24\", \"127.0.0.0/8\"]";
        let proxy = stage.builder(&["allowed.sock"]).settings(listen).everywhere().start().await;
        let path = stage.path("allowed.sock");
        let port = proxy.address.port();
        let ask = async |address: [u8; 4]| exchange((address, port).into(), &get(&path)).await;
        assert_eq!(ask([127, 0, 0, 1]).await.text(), "hello");
        let answer = ask([192, 0, 2, 10]).await;
        assert_eq!(answer.status, 403);
        assert!(answer.phrase.contains("clients of this machine"), "{}", answer.phrase);
        assert_eq!(answer.json()["reason"], "unix_socket_unsupported");
        assert_eq!(stage.allowed.connections(), 1);
        proxy.audit(1, |it| it["network.policy.reason"] == "unix_socket_unsupported").await;
    });
}

/// It is asked for WebSocket in vain: what follows would not be looked at.
#[tokio::test]
async fn nothing_switches_there() {
    let stage = Stage::set();
    let proxy = stage.proxy().await;
    let request = format!(
        "GET http://docker/v HTTP/1.1\r\nHost: docker\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         x-unix-socket: {}\r\n\r\n",
        stage.path("allowed.sock").display()
    );
    let answer = exchange(proxy.address, request.as_bytes()).await;
    assert_eq!(answer.status, 200);
    let fields = answer.json()["fields"].to_string();
    assert!(!fields.contains("upgrade") && !fields.contains("x-unix-socket"), "{fields}");
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_reaches_it_through_the_proxy() {
    if Command::new("curl").arg("--version").output().is_err() {
        return skip("curl is not installed");
    }
    let stage = Stage::set();
    let proxy = stage.proxy().await;
    let curl = |name: &str| {
        let field = format!("x-unix-socket: {}", stage.path(name).display());
        let output = Command::new("curl")
            .args(["--silent", "--max-time", "30", "--write-out", " %{http_code}", "--header"])
            .args([&field, "--proxy", &proxy.url(), "http://docker/"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(curl("allowed.sock"), "hello 200");
    assert!(curl("other.sock").ends_with(" 403"));
}
