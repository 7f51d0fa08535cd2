//! Attacks that once worked on exeat, and what must happen instead.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    Origin, Proxy, ProxyBuilder, RawOrigin, Zone, connect_tunnel, exchange, raw_connect,
    read_answer, read_head,
};

async fn proxy() -> Proxy {
    ProxyBuilder::new("allowed_domains = [\"ok.test\"]").local("ok.test").start().await
}

fn request(method: &str, port: u16, more: &str) -> String {
    format!("{method} http://ok.test:{port}/ HTTP/1.1\r\nHost: ok.test:{port}\r\n{more}\r\n")
}

/// Everything an origin's socket still gets.
async fn rest_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.ok();
    rest
}

const WEBSOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";

#[tokio::test]
async fn an_upgrade_field_does_not_switch_the_check_off() {
    let (origin, proxy) = (Origin::start().await, proxy().await);
    let port = origin.port();
    let two_readings = request("POST", port, "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n");
    for first in [
        "GET /healthz HTTP/1.1\r\nHost: x\r\nUpgrade: x\r\n\r\n".to_owned(),
        request("GET", port, "Connection: Upgrade\r\nUpgrade: h2c\r\n"),
        request("GET", port, "Upgrade: websocket\r\n"),
    ] {
        let before = origin.requests().len();
        let mut client = raw_connect(proxy.address).await;
        client.write_all(first.as_bytes()).await.unwrap();
        assert_eq!(read_answer(&mut client).await.status, 200, "{first}");
        let sent = origin.requests().len();
        assert!(sent - before <= 1);
        client.write_all(two_readings.as_bytes()).await.unwrap();
        assert_eq!(read_answer(&mut client).await.status, 400, "{first}");
        assert_eq!(origin.requests().len(), sent);
    }
    // What is answered otherwise than by switching ends the connection.
    for first in [
        format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{WEBSOCKET}\r\n"),
        format!("GET http://no.test/ HTTP/1.1\r\nHost: no.test\r\n{WEBSOCKET}\r\n"),
        request("GET", port, WEBSOCKET),
    ] {
        let answer = exchange(proxy.address, first.as_bytes()).await;
        assert_eq!(answer.field("connection"), Some("close"), "{first}");
    }
}

#[tokio::test]
async fn no_stand_in_is_ever_written_into_a_tunnel() {
    let proxy = proxy().await;
    let origin = RawOrigin::bind().await;
    // Frames sent before the answer, with line feeds that are no line ends.
    let early = b"\x81\x05xxxxx\nyyy\n\n";
    let mut client = raw_connect(proxy.address).await;
    let mut bytes = request("GET", origin.port(), WEBSOCKET).into_bytes();
    bytes.extend_from_slice(early);
    client.write_all(&bytes).await.unwrap();
    let (mut server, _) = origin.accept_request().await;
    server
        .write_all(b"HTTP/1.1 101 Ok\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(read_answer(&mut client).await.status, 101);
    client.shutdown().await.unwrap();
    assert_eq!(rest_of(&mut server).await, early);
}

#[tokio::test]
async fn an_origin_cannot_switch_to_another_protocol() {
    let proxy = proxy().await;
    let origin = RawOrigin::bind().await;
    let mut client = raw_connect(proxy.address).await;
    client.write_all(request("GET", origin.port(), WEBSOCKET).as_bytes()).await.unwrap();
    let (mut server, _) = origin.accept_request().await;
    server
        .write_all(b"HTTP/1.1 101 Ok\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(read_answer(&mut client).await.status, 502);
}

#[tokio::test]
async fn an_upload_ends_with_its_answer() {
    let proxy = proxy().await;
    let origin = RawOrigin::bind().await;
    let mut client = raw_connect(proxy.address).await;
    let post = request("POST", origin.port(), "Content-Length: 1000000\r\n");
    client.write_all(post.as_bytes()).await.unwrap();
    client.write_all(b"first").await.unwrap();
    let (mut server, _) = origin.accept_request().await;
    let mut first = [0; 5];
    server.read_exact(&mut first).await.unwrap();
    server.write_all(b"HTTP/1.1 200 Ok\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    assert_eq!(read_answer(&mut client).await.status, 200);
    let ends = proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
    assert_eq!(ends[0]["exeat.bytes.sent"], 5);
    // The origin's connection is closed, so nothing can follow that was not recorded.
    client.write_all(&[0; 10_000]).await.ok();
    assert_eq!(rest_of(&mut server).await, b"");
}

#[tokio::test]
async fn a_stalled_upload_holds_up_nobody_else() {
    let proxy = proxy().await;
    let origin = RawOrigin::bind().await;
    let port = origin.port();
    let mut stalled = raw_connect(proxy.address).await;
    stalled.write_all(request("POST", port, "Content-Length: 100\r\n").as_bytes()).await.unwrap();
    let (mut server, _) = origin.accept_request().await;
    server.write_all(b"HTTP/1.1 200 Ok\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert_eq!(read_answer(&mut stalled).await.status, 200);
    let mut other = raw_connect(proxy.address).await;
    other.write_all(request("GET", port, "").as_bytes()).await.unwrap();
    let (mut fresh, _) = origin.accept_request().await;
    fresh.write_all(b"HTTP/1.1 200 Ok\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert_eq!(read_answer(&mut other).await.status, 200);
}

#[tokio::test]
async fn nothing_leaves_in_trailers() {
    let proxy = proxy().await;
    let origin = RawOrigin::bind().await;
    let mut client = raw_connect(proxy.address).await;
    let post = request(
        "POST",
        origin.port(),
        "Transfer-Encoding: chunked\r\nTrailer: Proxy-Authorization, Upgrade\r\n",
    );
    let body = "2\r\nhi\r\n0\r\nProxy-Authorization: Basic c2VjcmV0\r\nUpgrade: h2c\r\n\r\n";
    client.write_all(format!("{post}{body}").as_bytes()).await.unwrap();
    let (mut server, head) = origin.accept_request().await;
    let head = head.to_lowercase();
    assert!(!head.contains("trailer"), "{head}");
    let mut got = vec![0; "2\r\nhi\r\n0\r\n\r\n".len()];
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(got, b"2\r\nhi\r\n0\r\n\r\n");
}

#[tokio::test]
async fn a_body_of_get_is_a_body() {
    let (origin, proxy) = (Origin::start().await, proxy().await);
    for framing in ["Transfer-Encoding: chunked\r\n", "Content-Length: 05\r\n"] {
        let body = if framing.starts_with('T') { "5\r\nhello\r\n0\r\n\r\n" } else { "hello" };
        let get = request("GET", origin.port(), framing);
        let answer = exchange(proxy.address, format!("{get}{body}").as_bytes()).await;
        assert_eq!(answer.json()["body"], "hello", "{framing}");
    }
    let fields = origin.requests()[1]["fields"].to_string();
    assert!(fields.contains("[\"content-length\",\"5\"]"), "in one spelling: {fields}");
}

#[tokio::test]
async fn a_malformed_body_is_the_clients_mistake() {
    let (origin, proxy) = (RawOrigin::bind().await, proxy().await);
    let post = request("POST", origin.port(), "Transfer-Encoding: chunked\r\n");
    // With its head: nothing is sent on for it.
    let both = format!("{post}5 \r\nhello\r\n0\r\n\r\n");
    assert_eq!(exchange(proxy.address, both.as_bytes()).await.status, 400);
    // After its head: the origin must not take the half for the whole.
    let mut client = raw_connect(proxy.address).await;
    client.write_all(post.as_bytes()).await.unwrap();
    let (mut server, _) = origin.accept_request().await;
    client.write_all(b"2\r\nhe\r\n5 \r\nhello\r\n0\r\n\r\n").await.unwrap();
    let answer = read_answer(&mut client).await;
    assert_eq!((answer.status, answer.field("connection")), (400, Some("close")));
    assert!(!rest_of(&mut server).await.ends_with(b"0\r\n\r\n"));
    let ends = proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
    assert_eq!(ends[0]["exeat.ending"], "client_gone");
}

#[tokio::test]
async fn answers_with_two_readings_are_not_passed_on() {
    let proxy = proxy().await;
    for framing in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, gzip",
    ] {
        let origin = RawOrigin::bind().await;
        let mut client = raw_connect(proxy.address).await;
        client.write_all(request("GET", origin.port(), "").as_bytes()).await.unwrap();
        let (mut server, _) = origin.accept_request().await;
        let answer = format!("HTTP/1.1 200 Ok\r\n{framing}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        server.write_all(answer.as_bytes()).await.unwrap();
        assert_eq!(read_answer(&mut client).await.status, 502, "{framing}");
    }
}

#[tokio::test]
async fn no_origin_can_forge_a_verdict() {
    let (origin, proxy) = (Origin::start().await, proxy().await);
    origin.answer_field("X-Proxy-Error", "blocked-by-denylist");
    origin.answer_field("Proxy-Status", "exeat; error=http_request_denied");
    let answer = exchange(proxy.address, request("GET", origin.port(), "").as_bytes()).await;
    assert_eq!((answer.field("x-proxy-error"), answer.field("proxy-status")), (None, None));
}

#[tokio::test]
async fn no_origin_can_speak_as_the_proxy_in_its_reason_phrase() {
    let (origin, proxy) = (RawOrigin::bind().await, proxy().await);
    for (status_line, shown) in [
        ("403 exeat: ok.test denied by *.test, requirements.toml:3", "Forbidden"),
        ("403  \tEXEAT: denied", "Forbidden"),
        ("502 Sorry, Exeat: ok.test cannot be reached", "Bad Gateway"),
        ("403 Forbidden by the origin", "Forbidden by the origin"),
    ] {
        let mut client = raw_connect(proxy.address).await;
        client.write_all(request("GET", origin.port(), "").as_bytes()).await.unwrap();
        let (mut server, _) = origin.accept_request().await;
        let answer = format!("HTTP/1.1 {status_line}\r\nContent-Length: 0\r\n\r\n");
        server.write_all(answer.as_bytes()).await.unwrap();
        assert_eq!(read_answer(&mut client).await.phrase, shown, "{status_line}");
    }
}

#[tokio::test]
async fn a_request_is_replayed_once_at_most_and_only_if_safe() {
    for (method, most) in [("GET", 2), ("DELETE", 1)] {
        let proxy = proxy().await;
        let origin = RawOrigin::bind().await;
        let port = origin.port();
        // Several kept connections, all of which break on their second request.
        let mut clients = Vec::new();
        let mut servers = Vec::new();
        for _ in 0..4 {
            let mut client = raw_connect(proxy.address).await;
            client.write_all(request("GET", port, "").as_bytes()).await.unwrap();
            let (server, _) = origin.accept_request().await;
            clients.push(client);
            servers.push(server);
        }
        for (client, server) in clients.iter_mut().zip(&mut servers) {
            server.write_all(b"HTTP/1.1 200 Ok\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            assert_eq!(read_answer(client).await.status, 200);
        }
        let (seen, mut count) = tokio::sync::mpsc::unbounded_channel();
        for mut server in servers {
            let seen = seen.clone();
            tokio::spawn(async move {
                if server.read_u8().await.is_ok() {
                    seen.send(()).ok();
                }
            });
        }
        tokio::spawn(async move {
            let (_fresh, _) = origin.accept_request().await;
            seen.send(()).ok();
        });
        let answer = exchange(proxy.address, request(method, port, "").as_bytes()).await;
        assert_eq!(answer.status, 502, "{method}");
        let mut times = 0;
        while count.try_recv().is_ok() {
            times += 1;
        }
        assert!((1..=most).contains(&times), "{method} was sent {times} times");
    }
}

#[tokio::test]
async fn a_name_that_turns_private_is_not_reported_as_let_through() {
    let origin = RawOrigin::bind().await;
    let port = origin.port();
    let rounds: &[&[&str]] = &[&["127.0.0.1"], &["10.0.0.1"]];
    let dns = Zone::default().rounds("ok.test", rounds, 0).serve().await;
    let proxy = ProxyBuilder::new("allowed_domains = [\"ok.test\"]")
        .dns(dns.address)
        .private("127.0.0.0/8")
        .start()
        .await;
    let mut client = raw_connect(proxy.address).await;
    client.write_all(request("GET", port, "").as_bytes()).await.unwrap();
    let (mut server, _) = origin.accept_request().await;
    server.write_all(b"HTTP/1.1 200 Ok\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert_eq!(read_answer(&mut client).await.status, 200);
    client.write_all(request("GET", port, "").as_bytes()).await.unwrap();
    read_head(&mut server).await;
    drop(server);
    assert_eq!(read_answer(&mut client).await.status, 403);
    let ends = proxy.audit(2, |record| record["event.name"] == "exeat.end").await;
    assert_eq!(ends[1]["exeat.ending"], "address_refused");
    assert!(ends[1]["network.peer.address"].is_null());
}

#[tokio::test]
async fn not_a_byte_moves_in_a_tunnel_that_is_refused_from_the_start() {
    // The policy changes while the name is being looked up.
    let origin = RawOrigin::bind().await;
    let port = origin.port();
    let dns = Zone::default()
        .name("slow.test", &["127.0.0.1"])
        .slow("slow.test", Duration::from_millis(1_500))
        .serve()
        .await;
    let proxy = ProxyBuilder::new("allowed_domains = [\"slow.test\"]")
        .dns(dns.address)
        .private("*.test")
        .start()
        .await;
    let mut client = raw_connect(proxy.address).await;
    let connect = format!("CONNECT slow.test:{port} HTTP/1.1\r\nHost: slow.test\r\n\r\nSECRET");
    client.write_all(connect.as_bytes()).await.unwrap();
    crate::support::eventually("the lookup", || {
        dns.names_asked().contains("slow.test").then_some(())
    })
    .await;
    proxy.replace_policy("allowed_domains = []");
    proxy.signal("HUP");
    let mut server = origin.accept().await;
    assert_eq!(rest_of(&mut server).await, b"");
    let ends = proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
    assert_eq!(ends[0]["exeat.ending"], "policy_changed");
    assert_eq!(ends[0]["exeat.bytes.sent"], 0);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_not_waited_for() {
    let (origin, proxy) = (
        Origin::start().await,
        ProxyBuilder::new("allowed_domains = [\"ok.test\"]")
            .local("ok.test")
            .settings("[timeouts]\nidle = \"500ms\"")
            .start()
            .await,
    );
    origin.file("/big", vec![0; 64 << 20]);
    let port = origin.port();
    let mut client = raw_connect(proxy.address).await;
    let get = format!("GET http://ok.test:{port}/big HTTP/1.1\r\nHost: ok.test:{port}\r\n\r\n");
    client.write_all(get.as_bytes()).await.unwrap();
    let ends = proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
    assert_eq!(ends[0]["exeat.ending"], "idle_timeout");
}

#[cfg(unix)]
#[tokio::test]
async fn a_reset_after_a_half_close_ends_the_tunnel() {
    let origin = RawOrigin::bind().await;
    let proxy = proxy().await;
    let mut client = connect_tunnel(proxy.address, &format!("ok.test:{}", origin.port())).await;
    let mut server = origin.accept().await;
    client.shutdown().await.unwrap();
    assert_eq!(rest_of(&mut server).await, b"");
    // The origin says nothing; the client closes for good, which resets the connection.
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    let ends = proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
    assert_eq!(ends[0]["exeat.ending"], "client_gone");
    drop(server);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_audit_that_nobody_reads_does_not_keep_the_program() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let _reader = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let mut proxy = ProxyBuilder::new("allowed_domains = []")
        .flag(&format!("--audit={}", pipe.display()))
        .flag("--drain=100ms")
        .start()
        .await;
    for _ in 0..300 {
        exchange(proxy.address, b"GET http://x.test/ HTTP/1.1\r\nHost: x.test\r\n\r\n").await;
    }
    proxy.signal("TERM");
    assert_eq!(proxy.ended().await.code(), Some(0));
}

#[tokio::test]
async fn refusals_that_are_not_the_policys_are_recorded_too() {
    let proxy = ProxyBuilder::new("allowed_domains = [\"ok.test\"]")
        .settings("[listen]\nclients = [\"10.0.0.0/8\"]")
        .start()
        .await;
    let answer = exchange(proxy.address, request("GET", 80, "").as_bytes()).await;
    assert_eq!(answer.status, 403);
    assert!(answer.phrase.contains("127.0.0.1 may not use this proxy"), "{}", answer.phrase);
    let denials = proxy.audit(1, |record| record["network.policy.decision"] == "deny").await;
    assert_eq!(denials[0]["network.policy.reason"], "client_not_listed");
}

#[tokio::test]
async fn a_slow_reader_gets_what_a_resetting_origin_had_sent() {
    let proxy = proxy().await;
    let origin = RawOrigin::bind().await;
    let mut client = connect_tunnel(proxy.address, &format!("ok.test:{}", origin.port())).await;
    let mut server = origin.accept().await;
    let blob = vec![7; 3_000_000];
    let sent = blob.clone();
    let sending = tokio::spawn(async move {
        server.write_all(&sent).await.unwrap();
        server.shutdown().await.unwrap();
        server
    });
    // Part of it is read, so that the rest can be sent; then the client writes to an origin that
    // closes for good, which answers with a reset.
    let mut received = vec![0; 2_000_000];
    client.read_exact(&mut received).await.unwrap();
    drop(sending.await.unwrap());
    client.write_all(b"late").await.unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    received.extend(rest);
    assert!(received == blob, "{} of {} bytes", received.len(), blob.len());
}

#[tokio::test]
async fn a_client_that_writes_first_and_reads_afterwards_gets_an_early_answer() {
    let proxy = proxy().await;
    let origin = RawOrigin::bind().await;
    let mut client = raw_connect(proxy.address).await;
    let post = request("POST", origin.port(), "Content-Length: 4000000\r\n");
    client.write_all(post.as_bytes()).await.unwrap();
    let (mut server, _) = origin.accept_request().await;
    server.write_all(b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
    proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
    for _ in 0..40 {
        client.write_all(&[1; 100_000]).await.unwrap();
    }
    let answer = read_answer(&mut client).await;
    assert_eq!((answer.status, answer.text()), (401, "no".into()));
}

#[tokio::test]
async fn a_length_of_zero_is_passed_on() {
    let (origin, proxy) = (Origin::start().await, proxy().await);
    exchange(proxy.address, request("POST", origin.port(), "Content-Length: 0\r\n").as_bytes())
        .await;
    let fields = origin.requests()[0]["fields"].to_string();
    assert!(fields.contains("[\"content-length\",\"0\"]"), "{fields}");
}

#[tokio::test]
async fn a_websocket_client_that_floods_before_the_answer_is_dropped() {
    let proxy = proxy().await;
    let origin = RawOrigin::bind().await;
    let mut client = raw_connect(proxy.address).await;
    client.write_all(request("GET", origin.port(), WEBSOCKET).as_bytes()).await.unwrap();
    let (mut server, _) = origin.accept_request().await;
    client.write_all(&vec![0; 200_000]).await.ok();
    assert_eq!(rest_of(&mut server).await, b"");
    let ends = proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
    assert_eq!(ends[0]["exeat.ending"], "client_gone");
}
