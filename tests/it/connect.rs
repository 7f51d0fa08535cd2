//! CONNECT: tunnels that open, refusals that explain themselves.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{
    FullListener, Origin, ProxyBuilder, RawOrigin, connect_tunnel, exchange, raw_connect,
};

fn connect_to(authority: &str) -> Vec<u8> {
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn a_tunnel_carries_bytes_and_half_closes_both_ways() {
    let origin = RawOrigin::bind().await;
    let proxy = ProxyBuilder::new("allowed_domains = [\"ok.test\"]").local("ok.test").start().await;
    let mut client = connect_tunnel(proxy.address, &format!("ok.test:{}", origin.port())).await;
    let mut server = origin.accept().await;

    // The client has said all; the origin sees the end, and still answers.
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut question = String::new();
    server.read_to_string(&mut question).await.unwrap();
    assert_eq!(question, "question");
    server.write_all(b"late answer").await.unwrap();
    server.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "late answer");

    let ends = proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
    assert_eq!(ends[0]["exeat.ending"], "complete");
    assert_eq!(ends[0]["exeat.bytes.sent"], 8);
    assert_eq!(ends[0]["exeat.bytes.received"], 11);
    assert_eq!(ends[0]["network.peer.port"], origin.port());
}

#[tokio::test]
async fn the_origin_may_close_first() {
    let origin = RawOrigin::bind().await;
    let proxy = ProxyBuilder::new("allowed_domains = [\"ok.test\"]").local("ok.test").start().await;
    let mut client = connect_tunnel(proxy.address, &format!("ok.test:{}", origin.port())).await;
    let mut server = origin.accept().await;
    server.write_all(b"banner").await.unwrap();
    server.shutdown().await.unwrap();
    let mut banner = String::new();
    client.read_to_string(&mut banner).await.unwrap();
    assert_eq!(banner, "banner");
    client.write_all(b"still here").await.unwrap();
    client.shutdown().await.unwrap();
    let mut rest = String::new();
    server.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "still here");
}

#[tokio::test]
async fn early_bytes_reach_the_origin_once() {
    let origin = RawOrigin::bind().await;
    let proxy = ProxyBuilder::new("allowed_domains = [\"ok.test\"]").local("ok.test").start().await;
    let mut client = raw_connect(proxy.address).await;
    let mut bytes = connect_to(&format!("ok.test:{}", origin.port()));
    bytes.extend_from_slice(b"early");
    client.write_all(&bytes).await.unwrap();
    let mut server = origin.accept().await;
    let mut early = [0; 5];
    server.read_exact(&mut early).await.unwrap();
    assert_eq!(&early, b"early");
    client.write_all(b" and late").await.unwrap();
    client.shutdown().await.unwrap();
    let mut rest = String::new();
    server.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, " and late");
}

#[tokio::test]
async fn a_megabyte_each_way() {
    let origin = RawOrigin::bind().await;
    let proxy = ProxyBuilder::new("allowed_domains = [\"ok.test\"]").local("ok.test").start().await;
    let client = connect_tunnel(proxy.address, &format!("ok.test:{}", origin.port())).await;
    let server = origin.accept().await;
    let blob: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let both = |stream: tokio::net::TcpStream, blob: Vec<u8>| async move {
        let (mut read, mut write) = stream.into_split();
        let sent = blob.clone();
        let writing = tokio::spawn(async move {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        read.read_to_end(&mut received).await.unwrap();
        writing.await.unwrap();
        assert!(received == blob, "the bytes arrive as they were sent");
    };
    tokio::join!(both(client, blob.clone()), both(server, blob));
}

#[tokio::test]
async fn refusals_name_the_rule_and_close() {
    let proxy = ProxyBuilder::new(
        "allowed_domains = [\"*.example\", \"port.test:8443\"]\ndenied_domains = [\"evil.example\"]",
    )
    .start()
    .await;
    for (authority, phrase, error, reason) in [
        (
            "evil.example:443",
            "exeat: evil.example denied by evil.example, requirements.toml:4",
            "blocked-by-denylist",
            "denied",
        ),
        (
            "other.test:443",
            "exeat: other.test not in allowed_domains, requirements.toml:3",
            "blocked-by-allowlist",
            "not_allowed",
        ),
        (
            "127.0.0.1:22",
            "exeat: 127.0.0.1 is local or private, requirements.toml",
            "blocked-by-allowlist",
            "not_allowed_local",
        ),
        (
            "port.test:443",
            "exeat: port.test not allowed on port 443 by port.test:8443, requirements.toml:3",
            "blocked-by-policy",
            "port_not_allowed",
        ),
    ] {
        let answer = exchange(proxy.address, &connect_to(authority)).await;
        assert_eq!((answer.status, answer.phrase.as_str()), (403, phrase));
        assert_eq!(answer.field("x-proxy-error"), Some(error), "{authority}");
        assert!(answer.field("proxy-status").unwrap().contains(phrase), "{authority}");
        assert_eq!(answer.field("connection"), Some("close"));
        let body = answer.json();
        assert_eq!(body["reason"], reason);
        assert!(body["message"].as_str().unwrap().contains("Retrying will not help"));
    }
}

#[tokio::test]
async fn nothing_after_a_refused_connect_is_a_request() {
    let origin = Origin::start().await;
    let proxy = ProxyBuilder::new("allowed_domains = [\"ok.test\"]").local("ok.test").start().await;
    let mut bytes = connect_to("evil.test:443");
    bytes.extend_from_slice(
        format!("GET http://ok.test:{}/ HTTP/1.1\r\nHost: ok.test:{0}\r\n\r\n", origin.port())
            .as_bytes(),
    );
    let mut client = raw_connect(proxy.address).await;
    client.write_all(&bytes).await.unwrap();
    let mut everything = Vec::new();
    client.read_to_end(&mut everything).await.unwrap();
    let text = String::from_utf8_lossy(&everything);
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text}");
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn bad_targets_and_hosts() {
    let proxy = ProxyBuilder::new("allowed_domains = [\"ok.test\"]").local("ok.test").start().await;
    for request in [
        "CONNECT ok.test HTTP/1.1\r\nHost: ok.test\r\n\r\n",
        "CONNECT ok.test:0 HTTP/1.1\r\nHost: ok.test\r\n\r\n",
        "CONNECT user@ok.test:443 HTTP/1.1\r\nHost: ok.test\r\n\r\n",
        "CONNECT http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n",
        "CONNECT ok.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n",
        "CONNECT ok.test:443 HTTP/1.1\r\nHost: ok.test\r\nHost: ok.test\r\n\r\n",
        "CONNECT ok.test:443 HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 5\r\n\r\nhello",
        "CONNECT ok.test:443 HTTP/1.1\r\nHost: ok.test\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let answer = exchange(proxy.address, request.as_bytes()).await;
        assert_eq!(answer.status, 400, "{request:?} {}", answer.phrase);
        assert_eq!(answer.field("connection"), Some("close"));
    }
}

#[tokio::test]
async fn the_answer_waits_for_the_origin() {
    let closed = RawOrigin::bind().await;
    let port = closed.port();
    drop(closed);
    let proxy = ProxyBuilder::new("allowed_domains = [\"ok.test\"]").local("ok.test").start().await;
    let answer = exchange(proxy.address, &connect_to(&format!("ok.test:{port}"))).await;
    assert_eq!(answer.status, 502);
    assert!(answer.field("proxy-status").unwrap().contains("connection_refused"));
    assert!(!answer.text().contains("127.0.0.1"), "resolved addresses stay inside");
    let ends = proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
    assert_eq!(ends[0]["exeat.ending"], "connect_failed");
}

#[tokio::test]
async fn an_idle_tunnel_ends() {
    let origin = RawOrigin::bind().await;
    let proxy = ProxyBuilder::new("allowed_domains = [\"ok.test\"]")
        .local("ok.test")
        .settings("[timeouts]\nidle = \"200ms\"")
        .start()
        .await;
    let mut client = connect_tunnel(proxy.address, &format!("ok.test:{}", origin.port())).await;
    let _server = origin.accept().await;
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    let ends = proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
    assert_eq!(ends[0]["exeat.ending"], "idle_timeout");
    assert!(ends[0]["exeat.duration_seconds"].as_f64().unwrap() >= 0.2);
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_dialling() {
    let full = FullListener::bind();
    let proxy = ProxyBuilder::new("allowed_domains = [\"ok.test\"]")
        .local("ok.test")
        .settings("[timeouts]\nconnect = \"60s\"")
        .start()
        .await;
    let mut client = raw_connect(proxy.address).await;
    client.write_all(&connect_to(&format!("ok.test:{}", full.address.port()))).await.unwrap();
    proxy.audit(1, |record| record["event.name"] == "exeat.decision").await;
    drop(client);
    let ends = proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
    assert_eq!(ends[0]["exeat.ending"], "client_gone");
    assert!(ends[0]["exeat.duration_seconds"].as_f64().unwrap() < 55.0);
}
