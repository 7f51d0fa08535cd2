//! A proxy that listens at a path: who may connect, what it takes over and what it leaves, and that
//! everything goes as at a port.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixListener as StdListener},
    path::Path,
    process::Command,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

use crate::support::{Origin, PATIENCE, Proxy, ProxyBuilder, RawOrigin, read_head_of, signal};

fn builder(path: &Path) -> ProxyBuilder {
    ProxyBuilder::new("allowed_domains = [\"ok.test\"]").local("ok.test").socket(path)
}

async fn said(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

async fn answers(path: &Path) {
    assert!(said(path, HEALTH).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn requests_and_tunnels_go_as_at_a_port() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("http.sock");
    let (plain, raw) = (Origin::start().await, RawOrigin::bind().await);
    let proxy = builder(&path).start().await;
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let target = format!("ok.test:{}", plain.port());
    let get = |host: &str| {
        format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    };
    assert!(said(&path, &get(&target)).await.starts_with("HTTP/1.1 200 "));
    assert!(said(&path, &get("no.test")).await.starts_with("HTTP/1.1 403 exeat: no.test not in"));

    let mut client = UnixStream::connect(&path).await.unwrap();
    let target = format!("ok.test:{}", raw.port());
    let connect = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\nearly");
    client.write_all(connect.as_bytes()).await.unwrap();
    assert!(read_head_of(&mut client).await.starts_with("HTTP/1.1 200 "));
    let mut server = raw.accept().await;
    // Enough to be spliced, each way and to its end.
    let much: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 251) as u8).collect();
    let upload = much.clone();
    let (mut from_proxy, mut to_proxy) = client.into_split();
    let sending = tokio::spawn(async move {
        to_proxy.write_all(&upload).await.unwrap();
        to_proxy.shutdown().await.unwrap();
        to_proxy
    });
    let mut received = Vec::new();
    server.read_to_end(&mut received).await.unwrap();
    assert!(received.starts_with(b"early") && received[5..] == much);
    let _to_proxy = sending.await.unwrap();
    let download = much.clone();
    tokio::spawn(async move { server.write_all(&download).await.unwrap() });
    let mut received = Vec::new();
    from_proxy.read_to_end(&mut received).await.unwrap();
    assert!(received == much);

    let ends = proxy.audit(2, |record| record["event.name"] == "exeat.end").await;
    for end in ends {
        assert_eq!(
            (&end["client.address"], &end["exeat.ending"]),
            (&"unix".into(), &"complete".into())
        );
        assert!(end["client.port"].is_null());
    }
}

/// Not counted as one client, and listed whatever addresses are.
#[tokio::test]
async fn clients_at_a_path_have_no_address() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("http.sock");
    let _proxy = builder(&path)
        .settings("[listen]\nclients = [\"192.0.2.0/24\"]\n[limits]\nconnections_per_client = 1")
        .start()
        .await;
    let _first = UnixStream::connect(&path).await.unwrap();
    let _second = UnixStream::connect(&path).await.unwrap();
    let refused = "GET http://no.test/ HTTP/1.1\r\nHost: no.test\r\nConnection: close\r\n\r\n";
    assert!(said(&path, refused).await.starts_with("HTTP/1.1 403 exeat: no.test not in"));
}

#[tokio::test]
async fn it_is_removed_at_the_end_and_taken_over_from_the_dead() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("http.sock");
    let mut proxy = builder(&path).start().await;
    answers(&path).await;
    proxy.signal("TERM");
    assert!(proxy.ended().await.success());
    assert!(!path.exists());

    let proxy = builder(&path).start().await;
    signal(proxy.pid(), "KILL");
    drop(proxy);
    assert!(path.exists(), "nobody was left to remove it");
    let mut proxy = builder(&path).start().await;
    answers(&path).await;
    proxy.signal("TERM");
    assert!(proxy.ended().await.success());
    assert!(!path.exists());
}

#[tokio::test]
async fn the_living_and_what_is_no_socket_stay() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("http.sock");
    let live = builder(&path).start().await;
    let refused = async |path: &Path, why: &str| {
        let (status, log) = builder(path).try_start().await.unwrap_err();
        assert_eq!(status.code(), Some(69), "{log}");
        assert!(log.contains(why), "{log}");
    };
    refused(&path, "another program listens there").await;
    answers(&path).await;
    // One that accepts nothing, and whose queue is full.
    let busy = directory.path().join("busy.sock");
    let listener = StdListener::bind(&busy).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _queued = std::os::unix::net::UnixStream::connect(&busy).unwrap();
    refused(&busy, "another program listens there").await;

    for (name, make) in [
        ("file", (|path| fs::write(path, "kept")) as fn(&Path) -> std::io::Result<()>),
        ("directory", |path| fs::create_dir(path)),
        ("link", |path| std::os::unix::fs::symlink("/nonexistent", path)),
    ] {
        let path = directory.path().join(name);
        make(&path).unwrap();
        refused(&path, "no socket").await;
        assert!(fs::symlink_metadata(&path).is_ok(), "{name}");
    }
    refused(&directory.path().join("missing/http.sock"), "No such file").await;
    let long = directory.path().join("x".repeat(120));
    refused(&long, "cannot listen on unix:").await;
    drop(live);
}

/// What has taken its place is not removed.
#[tokio::test]
async fn another_file_of_its_name_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("http.sock");
    let mut proxy = builder(&path).start().await;
    fs::remove_file(&path).unwrap();
    fs::write(&path, "kept").unwrap();
    proxy.signal("TERM");
    assert!(proxy.ended().await.success());
    assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
}

/// Of many that find a dead one, one takes its place.
#[tokio::test]
async fn only_one_takes_it_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("http.sock");
    drop(StdListener::bind(&path).unwrap());
    let starts: Vec<_> = (0..6).map(|_| tokio::spawn(builder(&path).try_start())).collect();
    let mut live: Vec<Proxy> = Vec::new();
    for start in starts {
        match start.await.unwrap() {
            Ok(proxy) => live.push(proxy),
            Err((status, log)) => assert_eq!(status.code(), Some(69), "{log}"),
        }
    }
    assert_eq!(live.len(), 1);
    answers(&path).await;
}

#[tokio::test]
async fn socks_may_be_at_a_path_too_and_health_asks_there() {
    let directory = tempfile::tempdir().unwrap();
    let (http, socks) = (directory.path().join("http.sock"), directory.path().join("socks.sock"));
    let proxy = builder(&http).flag(&format!("--socks=unix:{}", socks.display())).start().await;
    let mut client = UnixStream::connect(&socks).await.unwrap();
    client.write_all(b"\x05\x01\0\x05\x01\0\x03\x07no.test\0\x50").await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer[..4], [5, 0, 5, 2]);

    let place = format!("unix:{}", http.display());
    let health = |program: &mut Command| program.arg("health").output().unwrap().status.code();
    let exeat = || Command::new(env!("CARGO_BIN_EXE_exeat"));
    assert_eq!(health(exeat().env("EXEAT_LISTEN", &place)), Some(0));
    assert_eq!(exeat().args(["health", "--proxy", &place]).status().unwrap().code(), Some(0));
    let env = exeat().args(["env", "--proxy", &place]).output().unwrap();
    assert_eq!(env.status.code(), Some(64));
    drop(proxy);
    assert_eq!(
        exeat().args(["health", "--proxy", &place]).output().unwrap().status.code(),
        Some(1)
    );
}

/// The same as any other client, curl too.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_know_unix_sockets() {
    if Command::new("curl").arg("--version").output().is_err() {
        return crate::support::skip("curl is not installed");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("http.sock");
    let origin = Origin::start().await;
    origin.file("/", "hello");
    let _proxy = builder(&path).start().await;
    let url = format!("http://ok.test:{}/", origin.port());
    // curl 7.x has no proxy at a path; with its own socket option it speaks to one as a server does.
    let output = Command::new("curl")
        .args(["--silent", "--max-time", "30", "--unix-socket"])
        .arg(&path)
        .args(["--request-target", &url, &url])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello");
}
