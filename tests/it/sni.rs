//! How a tunnel may begin, on real sockets: nothing of what is refused reaches the origin.

use std::time::Duration;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    hellos::{Row, rows},
    support::{Proxy, ProxyBuilder, RawOrigin, connect_tunnel, eventually},
};

/// Long enough for the delays in the corpus, on a busy machine too.
const PATIENT: &str = "[timeouts]\nfirst_bytes = \"3s\"";

const ALLOWED: &str = "allowed_domains = [\"ok.test\", \"example.com\"]";

/// Every CONNECT row through a proxy, on port 443, to an origin that keeps what it gets.
#[tokio::test]
async fn served_rows() {
    let Some(origin) = https_origin(1).await else { return };
    let rows: Vec<Row> = rows().into_iter().filter(|row| row.connect).collect();
    let address = origin.address.ip().to_string();
    // The literals of the corpus are public ones: the origin's own stands in for them.
    let rules = format!(
        "allowed_domains = [\"example.com\", \"*.example.com\", \"{address}\"]\n\
         denied_domains = [\"*.exfil.example.com\"]"
    );
    let mut builder = ProxyBuilder::new(&rules).settings(PATIENT).private("**.example.com");
    let mut named = std::collections::BTreeSet::new();
    for row in &rows {
        let name = row.host.trim_end_matches('.');
        if !row.is_literal() && named.insert(name) {
            builder = builder.host(name, &address);
        }
    }
    let proxy = builder.start().await;
    let (mut passed, mut closed) = (0, 0);
    for row in &rows {
        let host = if row.is_literal() { &address } else { &row.host };
        let mut client = connect_tunnel(proxy.address, &format!("{host}:{}", row.port)).await;
        let mut server = origin.accept().await;
        for (delay, segment) in &row.segments {
            // As the row has it: what is tested is a client that takes its time.
            tokio::time::sleep(*delay).await;
            // A tunnel that was refused after the first segment takes no second one.
            client.write_all(segment).await.ok();
        }
        if row.passes {
            let mut got = vec![0; row.bytes.len()];
            server.read_exact(&mut got).await.unwrap();
            assert!(got == row.bytes, "{}", row.id);
            passed += 1;
        } else {
            let answer = rest_of(&mut client).await;
            let got = rest_of(&mut server).await;
            let first_hello = if row.id == "TS-104" { 236 } else { 0 };
            assert_eq!(got.len(), first_hello, "{}: {}", row.id, got.escape_ascii());
            let is_alert = matches!(answer[..], [21, 3, 3, 0, 2, 2, 49 | 50 | 109 | 112]);
            assert!(is_alert || answer.is_empty(), "{}: {answer:?}", row.id);
            assert!(is_alert || !row.is_hello || row.segments.len() == 2 || row.bytes.len() < 50);
            closed += 1;
        }
    }
    let refused = |record: &Value| record["exeat.ending"] == "sni_mismatch";
    let ends = proxy.audit(closed, refused).await;
    assert_eq!(ends.len(), closed);
    assert!(ends.iter().all(|end| end["exeat.mismatch"].is_string()));
    assert_eq!(proxy.health().await["tunnels"]["sni_mismatches"], closed);
    assert!(passed > 15 && closed > 55, "{passed} passed, {closed} closed");
}

#[tokio::test]
async fn the_refusal_is_told_and_recorded() {
    let (origin, proxy) = (RawOrigin::bind().await, proxy("").await);
    for (hello, alert, mismatch, name) in [
        (hello("evil-2.test"), 112, "server_name", Some("evil-2.test")),
        (hello("EXAMPLE.com"), 112, "server_name", Some("example.com")),
        (hello("192.168.1.1"), 112, "hello_malformed", None),
        (hello("example.co."), 112, "hello_malformed", None),
        (without_name(), 109, "no_server_name", None),
        (vec![22, 3, 1, 0, 4, 1, 0, 0, 0], 50, "hello_malformed", None),
        (vec![0x80, 0x1f, 1, 3, 1, 0, 6], 109, "no_server_name", None),
    ] {
        let (mut client, mut server) = tunnel(&proxy, &origin).await;
        client.write_all(&hello).await.unwrap();
        assert_eq!(rest_of(&mut client).await, [21, 3, 3, 0, 2, 2, alert]);
        assert_eq!(rest_of(&mut server).await, b"");
        drop(client);
        let end = last_end_that(&proxy, |end| {
            end["exeat.mismatch"] == mismatch && end["tls.client.server_name"].as_str() == name
        })
        .await;
        assert_eq!(
            (&end["exeat.ending"], &end["exeat.bytes.sent"]),
            (&"sni_mismatch".into(), &0.into())
        );
    }
}

#[tokio::test]
async fn equal_names_pass_and_nothing_is_said_about_them() {
    let origin = RawOrigin::bind().await;
    let proxy = ProxyBuilder::new("allowed_domains = [\"**.example.com\"]")
        .local("example.com")
        .start()
        .await;
    let port = origin.port();
    for host in ["example.com", "EXAMPLE.COM."] {
        let mut client = connect_tunnel(proxy.address, &format!("{host}:{port}")).await;
        let mut server = origin.accept().await;
        let hello = hello("Example.com");
        client.write_all(&hello).await.unwrap();
        let mut got = vec![0; hello.len()];
        server.read_exact(&mut got).await.unwrap();
        assert!(got == hello, "byte for byte, in the case the client used");
        client.shutdown().await.unwrap();
        drop(server);
        let end = last_end_that(&proxy, |end| end["exeat.ending"] == "complete").await;
        assert!(end["tls.client.server_name"].is_null() && end["exeat.tls.ech"].is_null());
    }
}

#[tokio::test]
async fn a_hello_that_trickles_is_put_together() {
    let (origin, proxy) = (RawOrigin::bind().await, example_proxy("").await);
    let (mut client, mut server) = example_tunnel(&proxy, &origin).await;
    client.set_nodelay(true).unwrap();
    let hello = hello("example.com");
    for byte in &hello {
        client.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut got = vec![0; hello.len()];
    server.read_exact(&mut got).await.unwrap();
    assert!(got == hello);
}

#[tokio::test]
async fn a_client_that_stops_half_way_is_cut_off() {
    let (origin, proxy) =
        (RawOrigin::bind().await, proxy("[timeouts]\nfirst_bytes = \"200ms\"").await);
    for bytes in [&hello("example.com")[..40], &[22], b"GET / HTTP/1.1\r\nHost: ok"] {
        let (mut client, mut server) = tunnel(&proxy, &origin).await;
        client.write_all(bytes).await.unwrap();
        assert_eq!(rest_of(&mut client).await, b"");
        assert_eq!(rest_of(&mut server).await, b"");
        drop(client);
        last_end(&proxy, "slow").await;
    }
    // Nothing is asked of a client that says nothing, or one that only waits for an answer: slow on
    // purpose, longer than the deadline.
    let (mut client, mut server) = tunnel(&proxy, &origin).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    client.write_all(b"hello").await.unwrap();
    assert_eq!(some_of(&mut server).await, b"hello");
    tokio::time::sleep(Duration::from_millis(500)).await;
    client.write_all(b" world\n").await.unwrap();
    assert_eq!(some_of(&mut server).await, b" world\n");
}

#[tokio::test]
async fn a_client_that_ends_half_way_is_cut_off() {
    let (origin, proxy) = (RawOrigin::bind().await, proxy("").await);
    for (bytes, mismatch) in [
        (&hello("example.com")[..40], "hello_malformed"),
        (b"GET / HTTP/1.1", "http_head_malformed"),
        (b"GET / HTTP/1.1\r\nHost: evil.test\r\n", "http_head_malformed"),
    ] {
        let (mut client, mut server) = tunnel(&proxy, &origin).await;
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        rest_of(&mut client).await;
        assert_eq!(rest_of(&mut server).await, b"");
        last_end(&proxy, mismatch).await;
    }
}

#[tokio::test]
async fn a_second_hello_must_say_the_same() {
    let (origin, proxy) = (RawOrigin::bind().await, example_proxy("").await);
    let hello = hello("example.com");
    let ccs = [20, 3, 3, 0, 1, 1];
    for (second, passes) in
        [(hello.clone(), true), (self::hello("evil-2.test"), false), (without_name(), false)]
    {
        for between in [&b""[..], &ccs] {
            let (mut client, mut server) = example_tunnel(&proxy, &origin).await;
            client.write_all(&hello).await.unwrap();
            let mut got = vec![0; hello.len()];
            server.read_exact(&mut got).await.unwrap();
            // HelloRetryRequest would come here; to the proxy any answer is the same.
            server.write_all(b"again").await.unwrap();
            assert_eq!(some_of(&mut client).await, b"again");
            client.write_all(&[between, &second].concat()).await.unwrap();
            if passes {
                let mut got = vec![0; between.len() + second.len()];
                server.read_exact(&mut got).await.unwrap();
                client.write_all(b"and more").await.unwrap();
                assert_eq!(some_of(&mut server).await, b"and more");
            } else {
                assert_eq!(rest_of(&mut server).await, between);
                assert_eq!(rest_of(&mut client).await, [21, 3, 3, 0, 2, 2, 112]);
                drop(client);
                last_end(&proxy, "second_server_name").await;
            }
        }
    }
}

#[tokio::test]
async fn hidden_names_are_recorded_or_refused() {
    let origin = RawOrigin::bind().await;
    let hello = corpus("TS-131");
    let proxy = example_proxy("").await;
    let (mut client, mut server) = example_tunnel(&proxy, &origin).await;
    client.write_all(&hello).await.unwrap();
    client.shutdown().await.unwrap();
    assert!(rest_of(&mut server).await == hello);
    drop(server);
    last_end_that(&proxy, |end| end["exeat.tls.ech"] == true).await;

    let proxy = example_proxy("[tls]\nech = \"refuse\"").await;
    let (mut client, mut server) = example_tunnel(&proxy, &origin).await;
    client.write_all(&hello).await.unwrap();
    assert_eq!(rest_of(&mut client).await, [21, 3, 3, 0, 2, 2, 49]);
    assert_eq!(rest_of(&mut server).await, b"");
    assert_eq!(last_end(&proxy, "ech").await["exeat.tls.ech"], true);
}

#[tokio::test]
async fn a_second_hello_cannot_hide_behind_many_records() {
    let origin = RawOrigin::bind().await;
    let proxy = example_proxy("").await;
    for record in [&[20, 3, 3, 0, 1, 1][..], &[21, 3, 3, 0, 2, 1, 90]] {
        let (mut client, mut server) = example_tunnel(&proxy, &origin).await;
        let (first, records) = (hello("example.com"), record.repeat(20_000));
        let bytes = [&first[..], &records, &hello("evil-2.test")].concat();
        let sending = send(&mut client, &bytes, 10_000);
        let (got, ()) = tokio::join!(rest_of(&mut server), sending);
        assert!(got.len() <= first.len() + (64 << 10), "{}", got.len());
        last_end(&proxy, "hello_malformed").await;
    }
}

#[tokio::test]
async fn other_allowed_names_pass_if_so_configured() {
    let origin = RawOrigin::bind().await;
    let proxy = proxy("[tls]\nsni = \"allowed\"").await;
    let (mut client, mut server) = tunnel(&proxy, &origin).await;
    let hello = hello("example.com");
    client.write_all(&hello).await.unwrap();
    let mut got = vec![0; hello.len()];
    server.read_exact(&mut got).await.unwrap();
    // What was allowed is judged again, like the tunnel itself.
    proxy.replace_policy("allowed_domains = [\"ok.test\"]");
    proxy.signal("HUP");
    assert_eq!(rest_of(&mut client).await, b"");
    let end = last_end_that(&proxy, |end| end["exeat.ending"] == "policy_changed").await;
    assert_eq!(end["tls.client.server_name"], "example.com");

    for name in ["example.com", "evil-2.test"] {
        let (mut client, mut server) = tunnel(&proxy, &origin).await;
        client.write_all(&self::hello(name)).await.unwrap();
        assert_eq!(rest_of(&mut client).await, [21, 3, 3, 0, 2, 2, 112]);
        assert_eq!(rest_of(&mut server).await, b"");
    }
    let (mut client, mut server) = tunnel(&proxy, &origin).await;
    client.write_all(&without_name()).await.unwrap();
    assert!(!some_of(&mut server).await.is_empty(), "no name is no other name");
}

#[tokio::test]
async fn in_a_tunnel_to_an_address_the_policy_is_asked() {
    let origin = RawOrigin::bind().await;
    let rules = "allowed_domains = [\"127.0.0.1\", \"example.com\"]";
    let proxy = ProxyBuilder::new(rules).start().await;
    for (hello, passes) in
        [(without_name(), true), (hello("example.com"), true), (hello("evil-2.test"), false)]
    {
        let mut client = connect_tunnel(proxy.address, &origin.address.to_string()).await;
        let mut server = origin.accept().await;
        client.write_all(&hello).await.unwrap();
        if passes {
            let mut got = vec![0; hello.len()];
            server.read_exact(&mut got).await.unwrap();
        } else {
            assert_eq!(rest_of(&mut client).await, [21, 3, 3, 0, 2, 2, 112]);
            assert_eq!(rest_of(&mut server).await, b"");
        }
    }
}

#[tokio::test]
async fn switched_off_nothing_is_looked_at() {
    let origin = RawOrigin::bind().await;
    let proxy = proxy("[tls]\nsni = \"off\"").await;
    let http = b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n";
    for bytes in [hello("evil-2.test"), without_name(), http.to_vec(), b"GET".to_vec()] {
        let (mut client, mut server) = tunnel(&proxy, &origin).await;
        client.write_all(&bytes).await.unwrap();
        client.shutdown().await.unwrap();
        assert!(rest_of(&mut server).await == bytes);
    }
}

#[tokio::test]
async fn plain_heads_must_name_the_host_of_the_tunnel() {
    let (origin, proxy) = (RawOrigin::bind().await, proxy("").await);
    for head in [
        "GET / HTTP/1.1\r\nHost: OK.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: ok.test:1\r\nX: y\r\n\r\nbody",
        "GET http://ok.test/x HTTP/1.1\r\nHost: ok.test\r\n\r\n",
        "PUT /x HTTP/1.0\r\nHost: ok.test\r\nContent-Length: 3\r\n\r\nabc",
    ] {
        for piece in [1, 7, 1000] {
            let (mut client, mut server) = tunnel(&proxy, &origin).await;
            send(&mut client, head.as_bytes(), piece).await;
            let mut got = vec![0; head.len()];
            server.read_exact(&mut got).await.unwrap();
            assert_eq!(String::from_utf8(got).unwrap(), head);
        }
    }
    for (head, mismatch, named) in [
        ("GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n", "http_host", Some("evil.test")),
        (
            "GET / HTTP/1.1\r\nHost: ok.test.evil.test\r\n\r\n",
            "http_host",
            Some("ok.test.evil.test"),
        ),
        ("GET http://evil.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n", "http_host", Some("evil.test")),
        ("GET / HTTP/1.0\r\n\r\n", "http_host", None),
        ("CONNECT evil.test:443 HTTP/1.1\r\nHost: ok.test\r\n\r\n", "http_host", Some("evil.test")),
        ("GET / HTTP/1.1\r\nHost: ok.test\r\nHost: evil.test\r\n\r\n", "http_head_malformed", None),
        ("GET / HTTP/1.1\nHost: ok.test\n\n", "http_head_malformed", None),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http_head_malformed", None),
    ] {
        for piece in [1, 7, 1000] {
            let (mut client, mut server) = tunnel(&proxy, &origin).await;
            send(&mut client, head.as_bytes(), piece).await;
            let answer = String::from_utf8(rest_of(&mut client).await).unwrap();
            assert!(answer.starts_with("HTTP/1.1 403 exeat: "), "{head:?} {answer:?}");
            assert!(answer.contains("\r\nx-proxy-error: blocked-by-policy\r\n"), "{answer:?}");
            assert_eq!(rest_of(&mut server).await, b"", "{head:?}");
            drop(client);
            last_end_that(&proxy, |end| {
                end["exeat.mismatch"] == mismatch && end["exeat.http.host"].as_str() == named
            })
            .await;
        }
    }
}

#[tokio::test]
async fn early_bytes_are_judged_too() {
    let (origin, proxy) = (RawOrigin::bind().await, proxy("").await);
    let port = origin.port();
    let mut client = crate::support::raw_connect(proxy.address).await;
    let connect = format!("CONNECT ok.test:{port} HTTP/1.1\r\nHost: ok.test:{port}\r\n\r\n");
    client.write_all(&[connect.as_bytes(), &hello("evil-2.test")].concat()).await.unwrap();
    let mut server = origin.accept().await;
    let answer = rest_of(&mut client).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    assert!(answer.ends_with(&[21, 3, 3, 0, 2, 2, 112]), "{}", answer.escape_ascii());
    assert_eq!(rest_of(&mut server).await, b"");
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_at_once() {
    let (origin, proxy) = (RawOrigin::bind().await, proxy("").await);
    for (greeting, answer) in [
        (&b"SSH-2.0-server\r\n"[..], &b"SSH-2.0-client\r\n"[..]),
        (b"220 mail.test ESMTP\r\n", b"EHLO x.test\r\n"),
        (b"RFB 003.008\n", b"RFB 003.008\n"),
    ] {
        let (mut client, mut server) = tunnel(&proxy, &origin).await;
        server.write_all(greeting).await.unwrap();
        assert_eq!(some_of(&mut client).await, greeting);
        client.write_all(answer).await.unwrap();
        assert_eq!(some_of(&mut server).await, answer);
        server.write_all(b"more").await.unwrap();
        assert_eq!(some_of(&mut client).await, b"more");
    }
    // A client that has begun to speak does not keep the server from being heard.
    let (mut client, mut server) = tunnel(&proxy, &origin).await;
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    server.write_all(b"hello").await.unwrap();
    assert_eq!(some_of(&mut client).await, b"hello");
}

#[tokio::test]
async fn on_port_443_only_named_hosts_speak_in_clear() {
    let Some(origin) = https_origin(2).await else { return };
    let address = origin.address.ip().to_string();
    let start = |settings: &'static str| {
        let builder = ProxyBuilder::new("allowed_domains = [\"ssh.github.com\", \"ok.test\"]");
        let builder = builder.host("ssh.github.com", &address).host("ok.test", &address);
        builder.private("ssh.github.com").private("ok.test").settings(settings).start()
    };
    let proxy = start("").await;
    let exchange = async |proxy: &Proxy, host: &str| {
        let mut client = connect_tunnel(proxy.address, &format!("{host}:443")).await;
        let mut server = origin.accept().await;
        server.write_all(b"SSH-2.0-server\r\n").await.unwrap();
        assert_eq!(some_of(&mut client).await, b"SSH-2.0-server\r\n");
        client.write_all(b"SSH-2.0-client\r\n").await.unwrap();
        client.shutdown().await.unwrap();
        let got = rest_of(&mut server).await;
        drop(server);
        rest_of(&mut client).await;
        got
    };
    assert_eq!(exchange(&proxy, "ssh.github.com").await, b"SSH-2.0-client\r\n");
    assert_eq!(exchange(&proxy, "ok.test").await, b"");
    last_end(&proxy, "not_tls").await;
    // HTTP in clear is no exception to which host it must be for.
    let mut client = connect_tunnel(proxy.address, "ssh.github.com:443").await;
    let mut server = origin.accept().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n").await.unwrap();
    assert!(rest_of(&mut client).await.starts_with(b"HTTP/1.1 403 "));
    assert_eq!(rest_of(&mut server).await, b"");

    let proxy = start("[tls]\ncleartext = [\"*.test\"]").await;
    assert_eq!(exchange(&proxy, "ok.test").await, b"SSH-2.0-client\r\n");
    assert_eq!(exchange(&proxy, "ssh.github.com").await, b"");
    let proxy = start("[tls]\nrequire = false").await;
    assert_eq!(exchange(&proxy, "ok.test").await, b"SSH-2.0-client\r\n");
    let proxy = start("[tls]\nsni = \"off\"").await;
    assert_eq!(exchange(&proxy, "ok.test").await, b"");
}

/// An origin on port 443 of a loopback address of its own, where the machine lets a test have one.
async fn https_origin(number: u8) -> Option<RawOrigin> {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let address = std::net::Ipv4Addr::new(127, 100 + number, high, low);
    match TcpListener::bind((address, 443)).await {
        Ok(listener) => {
            let address = listener.local_addr().unwrap();
            Some(RawOrigin { listener, address })
        }
        Err(error) => {
            skipped(&error);
            None
        }
    }
}

#[expect(clippy::print_stderr, reason = "a test says what it did not do")]
fn skipped(error: &std::io::Error) {
    eprintln!("skipped: no origin on port 443: {error}");
}

pub(crate) async fn proxy(settings: &str) -> Proxy {
    ProxyBuilder::new(ALLOWED).local("ok.test").settings(settings).start().await
}

async fn example_proxy(settings: &str) -> Proxy {
    ProxyBuilder::new(ALLOWED).local("example.com").settings(settings).start().await
}

pub(crate) async fn tunnel(proxy: &Proxy, origin: &RawOrigin) -> (TcpStream, TcpStream) {
    let client = connect_tunnel(proxy.address, &format!("ok.test:{}", origin.port())).await;
    (client, origin.accept().await)
}

async fn example_tunnel(proxy: &Proxy, origin: &RawOrigin) -> (TcpStream, TcpStream) {
    let client = connect_tunnel(proxy.address, &format!("example.com:{}", origin.port())).await;
    (client, origin.accept().await)
}

pub(crate) async fn send(client: &mut TcpStream, bytes: &[u8], piece: usize) {
    client.set_nodelay(true).unwrap();
    for piece in bytes.chunks(piece) {
        // A refused client may be cut off before it has said all.
        client.write_all(piece).await.ok();
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn rest_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.ok();
    rest
}

/// What comes next, at most a page of it.
pub(crate) async fn some_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut some = vec![0; 4096];
    let length = stream.read(&mut some).await.unwrap();
    some.truncate(length);
    some
}

/// The end of the last tunnel that was closed for that.
pub(crate) async fn last_end(proxy: &Proxy, mismatch: &str) -> Value {
    last_end_that(proxy, |end| end["exeat.mismatch"] == mismatch).await
}

/// The end of the last tunnel, once it is as expected.
pub(crate) async fn last_end_that(proxy: &Proxy, expected: impl Fn(&Value) -> bool) -> Value {
    let path = proxy.path("audit.jsonl");
    eventually("the end of the tunnel", || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
        let records: Vec<Value> =
            whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        // The end of an earlier one may be recorded later.
        let newest =
            records.iter().filter_map(|record| record["exeat.request.id"].as_u64()).max()?;
        let of_newest = |record: &&Value| record["exeat.request.id"] == newest;
        let mut ends = records.iter().filter(of_newest);
        ends.find(|end| end["event.name"] == "exeat.end" && expected(end)).cloned()
    })
    .await
}

fn corpus(id: &str) -> Vec<u8> {
    rows().into_iter().find(|row| row.id == id).unwrap().bytes
}

/// A hello with another name of eleven letters.
pub(crate) fn hello(name: &str) -> Vec<u8> {
    let mut hello = corpus("TS-001");
    let at = hello.windows(11).position(|window| window == b"example.com").unwrap();
    hello[at..at + 11].copy_from_slice(name.as_bytes());
    hello
}

fn without_name() -> Vec<u8> {
    corpus("TS-059")
}
