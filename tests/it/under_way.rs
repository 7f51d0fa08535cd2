//! Forwarded requests that are under way when a new policy refuses them: they end, as tunnels do.

use std::time::Duration;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    PATIENCE, Proxy, ProxyBuilder, RawOrigin, Zone, eventually, get, raw_connect, read_answer,
    read_head,
};

const BOTH: &str = "allowed_domains = [\"a.test\", \"b.test\"]";
const ONE: &str = "allowed_domains = [\"a.test\"]";
/// The names stay allowed, their address does not.
const ADDRESS: &str =
    "allowed_domains = [\"a.test\", \"b.test\"]\ndenied_domains = [\"127.0.0.1\"]";

async fn proxy() -> Proxy {
    ProxyBuilder::new(BOTH).local("a.test").local("b.test").start().await
}

fn change(proxy: &Proxy, rules: &str) {
    proxy.replace_policy(rules);
    proxy.signal("HUP");
}

/// How the only request so far ended.
async fn end(proxy: &Proxy) -> Value {
    proxy.audit(1, |record| record["event.name"] == "exeat.end").await.remove(0)
}

/// Everything up to the end of a connection, however it ends.
async fn rest_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("an end in time").ok();
    rest
}

/// A POST of which half the body has come.
fn half_a_post(host: &str, port: u16) -> Vec<u8> {
    format!(
        "POST http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 8\r\n\r\nhalf"
    )
    .into()
}

/// An answer that streams, of which the first event has come: the client's end and the origin's.
async fn stream(proxy: &Proxy, origin: &RawOrigin, request: &[u8]) -> (TcpStream, TcpStream) {
    let mut client = raw_connect(proxy.address).await;
    client.write_all(request).await.unwrap();
    let (mut server, _) = origin.accept_request().await;
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n";
    server.write_all(answer).await.unwrap();
    read_head(&mut client).await;
    let mut event = [0; 10];
    client.read_exact(&mut event).await.unwrap();
    assert_eq!(&event, b"5\r\nevent\r\n");
    (client, server)
}

#[tokio::test]
async fn an_answer_that_streams_is_cut() {
    let origin = RawOrigin::bind().await;
    for rules in [ONE, ADDRESS] {
        let proxy = proxy().await;
        let (mut client, mut server) = stream(&proxy, &origin, &get("b.test", origin.port())).await;
        change(&proxy, rules);
        // No last chunk: what has come must not be taken for all there is.
        assert_eq!(rest_of(&mut client).await, b"", "{rules}");
        assert_eq!(rest_of(&mut server).await, b"", "{rules}");
        let end = end(&proxy).await;
        assert_eq!(end["exeat.ending"], "policy_changed", "{rules}");
        assert_eq!(end["http.response.status_code"], 200);
        assert_eq!(end["exeat.bytes.received"], 5);
    }
}

#[tokio::test]
async fn what_the_new_policy_allows_too_goes_on() {
    let (proxy, origin) = (proxy().await, RawOrigin::bind().await);
    let (mut kept, mut server) = stream(&proxy, &origin, &get("a.test", origin.port())).await;
    let (mut lost, _) = stream(&proxy, &origin, &get("b.test", origin.port())).await;
    change(&proxy, ONE);
    assert_eq!(rest_of(&mut lost).await, b"");
    server.write_all(b"4\r\nmore\r\n0\r\n\r\n").await.unwrap();
    let mut more = [0; 14];
    kept.read_exact(&mut more).await.unwrap();
    assert_eq!(&more, b"4\r\nmore\r\n0\r\n\r\n");
    // The connection is still good for the next request, and the policy for the next refusal.
    kept.write_all(&get("b.test", origin.port())).await.unwrap();
    assert_eq!(read_answer(&mut kept).await.status, 403);
    kept.write_all(&get("a.test", origin.port())).await.unwrap();
    read_head(&mut server).await;
    change(&proxy, "allowed_domains = [\"c.test\"]");
    assert_eq!(read_answer(&mut kept).await.status, 403);
}

#[tokio::test]
async fn an_upload_ends_with_its_answer() {
    let (proxy, origin) = (proxy().await, RawOrigin::bind().await);
    let post = half_a_post("b.test", origin.port());
    let (mut client, mut server) = stream(&proxy, &origin, &post).await;
    server.read_exact(&mut [0; 4]).await.unwrap();
    change(&proxy, ONE);
    assert_eq!(rest_of(&mut client).await, b"");
    assert_eq!(rest_of(&mut server).await, b"");
    let end = end(&proxy).await;
    assert_eq!(end["exeat.ending"], "policy_changed");
    assert_eq!(
        (&end["exeat.bytes.sent"], &end["exeat.bytes.received"]),
        (&Value::from(4), &Value::from(5))
    );
}

/// A client that takes no answer must not thereby keep what it sends flowing.
#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off_too() {
    let (proxy, origin) = (proxy().await, RawOrigin::bind().await);
    let (host, port) = ("b.test", origin.port());
    let mut client = raw_connect(proxy.address).await;
    let head = format!("POST http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n");
    client
        .write_all(format!("{head}Content-Length: 1000000\r\n\r\nbegin").as_bytes())
        .await
        .unwrap();
    let (mut server, _) = origin.accept_request().await;
    server.read_exact(&mut [0; 5]).await.unwrap();
    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await.unwrap();
    // Until nothing moves any more: every buffer on the way is full.
    let bytes = vec![0; 1 << 20];
    while timeout(Duration::from_secs(1), server.write_all(&bytes)).await.is_ok() {}
    change(&proxy, ONE);
    assert_eq!(rest_of(&mut server).await, b"");
    assert_eq!(end(&proxy).await["exeat.ending"], "policy_changed");
}

#[tokio::test]
async fn who_still_waits_for_an_answer_gets_the_refusal() {
    let origin = RawOrigin::bind().await;
    let port = origin.port();
    for (rules, error) in [(ONE, "blocked-by-allowlist"), (ADDRESS, "blocked-by-denylist")] {
        for (request, sent) in [(get("b.test", port), 0), (half_a_post("b.test", port), 4)] {
            let proxy = proxy().await;
            let mut client = raw_connect(proxy.address).await;
            client.write_all(&request).await.unwrap();
            let (mut server, _) = origin.accept_request().await;
            server.read_exact(&mut vec![0; sent]).await.unwrap();
            change(&proxy, rules);
            let answer = read_answer(&mut client).await;
            assert_eq!((answer.status, answer.field("x-proxy-error")), (403, Some(error)));
            assert_eq!(answer.json()["host"], "b.test");
            assert_eq!(answer.field("connection"), (sent > 0).then_some("close"));
            assert_eq!(rest_of(&mut server).await, b"", "the origin's connection is closed");
            let end = end(&proxy).await;
            assert_eq!(end["exeat.ending"], "policy_changed");
            assert_eq!(end["exeat.bytes.sent"], sent);
        }
    }
}

#[tokio::test]
async fn nothing_reaches_an_origin_that_is_refused_while_its_name_is_looked_up() {
    let origin = RawOrigin::bind().await;
    for rules in [ONE, ADDRESS] {
        let dns = Zone::default()
            .name("b.test", &["127.0.0.1"])
            .slow("b.test", Duration::from_millis(1_500))
            .serve()
            .await;
        let proxy = ProxyBuilder::new(BOTH).dns(dns.address).private("*.test").start().await;
        let mut client = raw_connect(proxy.address).await;
        client.write_all(&get("b.test", origin.port())).await.unwrap();
        eventually("the lookup", || dns.names_asked().contains("b.test").then_some(())).await;
        change(&proxy, rules);
        assert_eq!(read_answer(&mut client).await.status, 403, "{rules}");
        assert_eq!(end(&proxy).await["exeat.ending"], "policy_changed");
        if rules == ADDRESS {
            // Which address it is was known only when it was dialled.
            assert_eq!(rest_of(&mut origin.accept().await).await, b"");
        }
    }
}

/// To a client of HTTP/1.0 the end of the connection is that of the answer: only a reset says
/// that it is not whole.
#[tokio::test]
async fn an_answer_that_ends_with_the_connection_is_reset() {
    let origin = RawOrigin::bind().await;
    let port = origin.port();
    let request = format!("GET http://b.test:{port}/ HTTP/1.0\r\nHost: b.test:{port}\r\n\r\n");
    for cut in ["policy", "origin"] {
        let proxy = proxy().await;
        let mut client = raw_connect(proxy.address).await;
        client.write_all(request.as_bytes()).await.unwrap();
        let (mut server, _) = origin.accept_request().await;
        let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n";
        server.write_all(answer).await.unwrap();
        assert!(read_head(&mut client).await.contains("connection: close\r\n"));
        client.read_exact(&mut [0; 5]).await.unwrap();
        match cut {
            "policy" => change(&proxy, ONE),
            _ => server.shutdown().await.unwrap(),
        }
        let error = timeout(PATIENCE, client.read(&mut [0; 9])).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{cut}");
    }
}

/// The deadline of a request that was cut short is not that of the next one.
#[tokio::test]
async fn a_deadline_begins_with_its_request() {
    let origin = RawOrigin::bind().await;
    let port = origin.port();
    let settings = "[timeouts]\nresponse_head = \"3s\"";
    let proxy = ProxyBuilder::new(BOTH).local("a.test").local("b.test").settings(settings);
    let proxy = proxy.start().await;
    let mut client = raw_connect(proxy.address).await;
    client.write_all(&get("b.test", port)).await.unwrap();
    let (server, _) = origin.accept_request().await;
    // Most of the deadline passes on purpose: the next request must have all of it again.
    tokio::time::sleep(Duration::from_secs(2)).await;
    change(&proxy, ONE);
    assert_eq!(read_answer(&mut client).await.status, 403);
    drop(server);
    let asked = tokio::time::Instant::now();
    client.write_all(&get("a.test", port)).await.unwrap();
    let (_server, _) = origin.accept_request().await;
    assert_eq!(read_answer(&mut client).await.status, 504);
    assert!(asked.elapsed() >= Duration::from_secs(3), "{:?}", asked.elapsed());
}
