//! SOCKS5, byte for byte: what opens a tunnel, what is refused and with which number, and what is not
//! SOCKS5 at all. Clients as people run them are in `clients/socks.rs`.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    FullListener, PATIENCE, Proxy, ProxyBuilder, RawOrigin, Zone, eventually, exchange, raw_connect,
};

const RULES: &str = "allowed_domains = [\"ok.test\", \"port.test:8443\", \"192.0.2.7\"]\n\
                     denied_domains = [\"evil.test\"]";

/// That authentication is not needed.
const GREETING: &[u8] = &[5, 1, 0];
const NO_AUTHENTICATION: &[u8] = &[5, 0];

fn builder() -> ProxyBuilder {
    let names = ["ok.test", "evil.test", "port.test", "no.test"];
    names
        .iter()
        .fold(ProxyBuilder::new(RULES), |builder, name| builder.local(name))
        .flag("--socks=127.0.0.1:0")
}

/// A CONNECT to a name.
pub(crate) fn by_name(name: &[u8], port: u16) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    [&[5, 1, 0, 3, length], name, &port.to_be_bytes()].concat()
}

/// A CONNECT to an address.
fn by_address(address: &str, port: u16) -> Vec<u8> {
    let (kind, octets) = match address.parse().unwrap() {
        std::net::IpAddr::V4(v4) => (1, v4.octets().to_vec()),
        std::net::IpAddr::V6(v6) => (4, v6.octets().to_vec()),
    };
    [&[5, 1, 0, kind], &octets[..], &port.to_be_bytes()].concat()
}

/// Sends bytes that a proxy answers and closes after; all that it said.
async fn said(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = raw_connect(to).await;
    stream.write_all(bytes).await.unwrap();
    rest(&mut stream).await
}

async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("an end").unwrap();
    rest
}

/// The number a request is answered with; the connection is closed unless it is 0.
pub(crate) async fn asked(to: SocketAddr, request: &[u8]) -> u8 {
    let answer = said(to, &[GREETING, request].concat()).await;
    assert_eq!(&answer[..2], NO_AUTHENTICATION);
    assert_eq!(answer.len(), 12, "{answer:?}");
    assert_eq!((answer[2], &answer[4..]), (5, &[0, 1, 0, 0, 0, 0, 0, 0][..]));
    answer[3]
}

/// Opens a tunnel, bytes in pieces of that size.
pub(crate) async fn tunnel(proxy: &Proxy, request: &[u8], piece: usize) -> TcpStream {
    let mut stream = raw_connect(proxy.socks()).await;
    stream.set_nodelay(true).unwrap();
    for (message, answer) in
        [(GREETING, NO_AUTHENTICATION), (request, &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0][..])]
    {
        for piece in message.chunks(piece) {
            stream.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut heard = vec![0; answer.len()];
        timeout(PATIENCE, stream.read_exact(&mut heard)).await.unwrap().unwrap();
        assert_eq!(heard, answer);
    }
    stream
}

#[tokio::test]
async fn tunnels_are_those_of_connect() {
    let origin = RawOrigin::bind().await;
    let proxy = builder().start().await;
    for piece in [1, 2, 3, 7, usize::MAX] {
        let mut client = tunnel(&proxy, &by_name(b"OK.test", origin.port()), piece).await;
        let mut server = origin.accept().await;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut server).await, b"question");
        server.write_all(b"late answer").await.unwrap();
        drop(server);
        assert_eq!(rest(&mut client).await, b"late answer");
    }
    let ends = proxy.audit(5, |record| record["event.name"] == "exeat.end").await;
    for end in ends {
        assert_eq!(end["exeat.ending"], "complete");
        assert_eq!(end["network.transport.protocol"], "socks5_tcp");
        assert_eq!(end["http.request.method"], "CONNECT");
        assert_eq!(end["server.address"], "ok.test");
        assert_eq!(end["exeat.bytes.sent"], 8);
        assert_eq!(end["exeat.bytes.received"], 11);
    }
}

/// A client that does not wait for answers, down to the first bytes of the tunnel and the end.
#[tokio::test]
async fn what_comes_along_reaches_the_origin_once() {
    let origin = RawOrigin::bind().await;
    let proxy = builder().start().await;
    let bytes = [GREETING, &by_name(b"ok.test", origin.port()), b"early"].concat();
    for piece in [1, 5, bytes.len()] {
        let mut client = raw_connect(proxy.socks()).await;
        client.set_nodelay(true).unwrap();
        for piece in bytes.chunks(piece) {
            client.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        client.write_all(b" and late").await.unwrap();
        client.shutdown().await.unwrap();
        let mut server = origin.accept().await;
        assert_eq!(rest(&mut server).await, b"early and late");
        drop(server);
        assert_eq!(rest(&mut client).await, [5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    }
}

#[tokio::test]
async fn credentials_are_taken_mean_nothing_and_stand_nowhere() {
    let origin = RawOrigin::bind().await;
    let proxy = builder().start().await;
    let request = by_name(b"ok.test", origin.port());
    let name = [b'u'; 255];
    let long = [&[1, 255], &name[..], &[255], &name].concat();
    for credentials in [&b"\x01\x06secret\x06secret"[..], b"\x01\x06secret\0", &long] {
        let bytes = [&[5, 1, 2], credentials, &request].concat();
        let mut client = raw_connect(proxy.socks()).await;
        client.write_all(&bytes).await.unwrap();
        drop(origin.accept().await);
        assert_eq!(rest(&mut client).await, [5, 2, 1, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    }
    // Whoever can do without need not say them.
    let mut client = raw_connect(proxy.socks()).await;
    client.write_all(&[&[5, 3, 1, 2, 0], &request[..]].concat()).await.unwrap();
    drop(origin.accept().await);
    assert_eq!(rest(&mut client).await[..2], [5, 0]);
    drop(client);
    // They open nothing.
    let bytes = [&b"\x05\x01\x02\x01\x06secret\x06secret"[..], &by_name(b"no.test", 1)].concat();
    assert_eq!(said(proxy.socks(), &bytes).await[..6], [5, 2, 1, 0, 5, 2]);
    proxy.audit(9, |record| record["server.address"].is_string()).await;
    let audit = std::fs::read_to_string(proxy.path("audit.jsonl")).unwrap();
    assert!(!audit.contains("secret") && !proxy.log().contains("secret"), "{audit}");
}

/// By the policy, before anybody is asked for an address.
#[tokio::test]
async fn refusals_are_number_two_and_recorded() {
    let dns = Zone::default().serve().await;
    let proxy = builder().dns(dns.address).start().await;
    for (request, host, reason) in [
        (by_name(b"evil.test", 443), "evil.test", "denied"),
        (by_name(b"www.no.test", 443), "www.no.test", "not_allowed"),
        (by_name(b"port.test", 443), "port.test", "port_not_allowed"),
        (by_name(b"localhost", 443), "localhost", "not_allowed_local"),
        (by_name(b"127.0.0.1", 22), "127.0.0.1", "not_allowed_local"),
        (by_address("127.0.0.1", 22), "127.0.0.1", "not_allowed_local"),
        (by_address("::1", 22), "::1", "not_allowed_local"),
        (by_address("::ffff:127.0.0.1", 22), "127.0.0.1", "not_allowed_local"),
        (by_address("169.254.169.254", 80), "169.254.169.254", "not_allowed_local"),
        (by_address("198.51.100.1", 80), "198.51.100.1", "not_allowed_local"),
    ] {
        assert_eq!(asked(proxy.socks(), &request).await, 2, "{host}");
        let found = proxy
            .audit(1, |record| {
                record["server.address"] == host && record["network.policy.reason"] == reason
            })
            .await;
        assert_eq!(found[0]["network.policy.decision"], "deny");
        assert_eq!(found[0]["network.transport.protocol"], "socks5_tcp");
    }
    assert!(dns.names_asked().is_empty(), "{:?}", dns.names_asked());
}

#[tokio::test]
async fn faults_on_the_way_have_numbers_of_their_own() {
    let closed = RawOrigin::bind().await;
    let port = closed.port();
    drop(closed);
    let full = FullListener::bind();
    let dns = Zone::default().failing("failing.test").serve().await;
    let proxy =
        ProxyBuilder::new("allowed_domains = [\"ok.test\", \"gone.test\", \"failing.test\"]")
            .local("ok.test")
            .dns(dns.address)
            .settings("[timeouts]\nconnect = \"300ms\"")
            .flag("--socks=127.0.0.1:0")
            .start()
            .await;
    for (name, port, code, ending) in [
        ("ok.test", port, 5, "connect_failed"),
        ("ok.test", full.address.port(), 6, "connect_failed"),
        ("gone.test", 443, 4, "dns_failed"),
        ("failing.test", 443, 4, "dns_failed"),
    ] {
        assert_eq!(asked(proxy.socks(), &by_name(name.as_bytes(), port)).await, code, "{name}");
        proxy.audit(1, |it| it["server.address"] == name && it["exeat.ending"] == ending).await;
    }
    assert_eq!(proxy.health().await["timeouts"]["connect"], 1);
}

#[tokio::test]
async fn what_is_not_a_request_is_told_so() {
    let proxy = builder().start().await;
    let nul = by_name(b"ok.test\0.evil.test", 443);
    for (request, code) in [
        // BIND and UDP ASSOCIATE, also with an address that would be refused.
        (&b"\x05\x02\0\x01\x7f\0\0\x01\0\x50"[..], 7),
        (b"\x05\x03\0\x01\0\0\0\0\0\0", 7),
        (b"\x05\x03\0\x03\x07ok.test\x01\xbb", 7),
        (b"\x05\0\0\x01\x7f\0\0\x01\0\x50", 7),
        (b"\x05\xff\0\x01\x7f\0\0\x01\0\x50", 7),
        (b"\x05\x01\0\x02ok", 8),
        (b"\x05\x01\0\0", 8),
        (b"\x05\x01\x01\x03\x07ok.test\x01\xbb", 1),
        (b"\x04\x01\0\x03\x07ok.test\x01\xbb", 1),
        (b"\x05\x01\0\x03\x07ok.test\0\0", 1),
        (b"\x05\x01\0\x03\0\x01\xbb", 1),
        (b"\x05\x01\0\x03\x01\0\x01\xbb", 1),
        (&nul, 1),
        (b"\x05\x01\0\x03\x05[::1]\x01\xbb", 1),
        (b"\x05\x01\0\x03\x03::1\x01\xbb", 1),
        (b"\x05\x01\0\x03\x0bok.test:443\x01\xbb", 1),
    ] {
        assert_eq!(asked(proxy.socks(), request).await, code, "{}", request.escape_ascii());
    }
    // In 255 bytes there is no name; in what follows no second request.
    let long = [&by_name(&[b'a'; 255], 443)[..], GREETING, &by_name(b"ok.test", 443)].concat();
    assert_eq!(asked(proxy.socks(), &long).await, 1);
    assert_eq!(std::fs::read_to_string(proxy.path("audit.jsonl")).unwrap(), "");
}

#[tokio::test]
async fn other_protocols_are_told_so() {
    let proxy = builder().start().await;
    let socks = proxy.socks();
    let rejected = [0, 0x5b, 0, 0, 0, 0, 0, 0];
    assert_eq!(said(socks, b"\x04\x01\x01\xbb\x7f\0\0\x01user\0").await, rejected);
    assert_eq!(said(socks, b"\x04\x01\x01\xbb\0\0\0\x01\0ok.test\0").await, rejected);
    for request in [&b"CONNECT ok.test:443 HTTP/1.1\r\nHost: ok.test:443\r\n\r\n"[..], b"GET / "] {
        let answer = exchange(socks, request).await;
        assert_eq!(answer.status, 400);
        assert!(answer.phrase.contains("SOCKS5"), "{}", answer.phrase);
    }
    // A fatal alert: unexpected message.
    assert_eq!(said(socks, b"\x16\x03\x01\0\x05hello").await, [21, 3, 3, 0, 2, 2, 10]);
    for bytes in [&b"\0"[..], b"\x06", b"\xff\xff", b"\r\n\r\n"] {
        assert_eq!(said(socks, bytes).await, b"");
    }
    // Ways to authenticate that are not known here, or none.
    for greeting in [&b"\x05\0"[..], b"\x05\x01\x01", b"\x05\x03\x01\x03\xfe", b"\x05\x01\xff"] {
        assert_eq!(said(socks, greeting).await, [5, 0xff]);
    }
    assert_eq!(said(socks, b"\x05\x01\x02\x05\x01u\x01p").await, [5, 2, 1, 1]);
    // And the HTTP port does not speak SOCKS.
    assert_eq!(exchange(proxy.address, GREETING).await.status, 400);
    assert_eq!(std::fs::read_to_string(proxy.path("audit.jsonl")).unwrap(), "");
}

#[tokio::test]
async fn what_stops_half_way_is_closed() {
    let proxy = builder()
        .settings("[timeouts]\nidle_client = \"300ms\"\nrequest_head = \"300ms\"")
        .start()
        .await;
    assert_eq!(said(proxy.socks(), b"").await, b"");
    for begun in
        [&b"\x05"[..], b"\x05\xff\0", b"\x05\x01\0", b"\x05\x01\0\x05\x01\0\x03\x20ok.test"]
    {
        let answer = said(proxy.socks(), begun).await;
        assert!(answer.is_empty() || answer == NO_AUTHENTICATION, "{answer:?}");
    }
    let timeouts = &proxy.health().await["timeouts"];
    assert_eq!((&timeouts["idle_client"], &timeouts["request_head"]), (&1.into(), &4.into()));
    // Nobody lengthens the time by dripping: here a greeting of 255 methods.
    let mut client = raw_connect(proxy.socks()).await;
    client.write_all(&[5, 255]).await.unwrap();
    let (mut from, mut to) = client.split();
    let dripping = async {
        while to.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut heard = Vec::new();
    tokio::select! {
        () = dripping => {}
        _ = timeout(PATIENCE, from.read_to_end(&mut heard)) => {}
    }
    assert_eq!(heard, b"");
    assert_eq!(proxy.health().await["timeouts"]["request_head"], 5);
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_dialling() {
    let full = FullListener::bind();
    let proxy = builder().settings("[timeouts]\nconnect = \"60s\"").start().await;
    let mut client = raw_connect(proxy.socks()).await;
    client
        .write_all(&[GREETING, &by_name(b"ok.test", full.address.port())].concat())
        .await
        .unwrap();
    proxy.audit(1, |record| record["event.name"] == "exeat.decision").await;
    drop(client);
    let ends = proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
    assert_eq!(ends[0]["exeat.ending"], "client_gone");
    assert!(ends[0]["exeat.duration_seconds"].as_f64().unwrap() < 55.0);
}

/// As after a CONNECT: plain HTTP for another host, and on port 443 what is no TLS.
#[tokio::test]
async fn what_is_said_in_the_tunnel_is_judged() {
    let origin = RawOrigin::bind().await;
    let proxy = builder().start().await;
    let head = b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n";
    let mut client = tunnel(&proxy, &by_name(b"ok.test", origin.port()), usize::MAX).await;
    let mut server = origin.accept().await;
    client.write_all(head).await.unwrap();
    assert!(rest(&mut client).await.starts_with(b"HTTP/1.1 403 "));
    assert_eq!(rest(&mut server).await, b"");
    // The same if it comes along with the request.
    let bytes = [GREETING, &by_name(b"ok.test", origin.port()), head].concat();
    let answer = said(proxy.socks(), &bytes).await;
    assert!(answer[12..].starts_with(b"HTTP/1.1 403 "), "{answer:?}");
    assert_eq!(rest(&mut origin.accept().await).await, b"");
    let ends = proxy.audit(2, |record| record["event.name"] == "exeat.end").await;
    for end in ends {
        assert_eq!(end["exeat.ending"], "sni_mismatch");
        assert_eq!(end["exeat.http.host"], "evil.test");
    }
}

#[tokio::test]
async fn limits_are_those_of_all_clients() {
    let origin = RawOrigin::bind().await;
    let proxy = builder().settings("[limits]\nconnections = 2\ntunnels = 1").start().await;
    let open = tunnel(&proxy, &by_name(b"ok.test", origin.port()), usize::MAX).await;
    let _server = origin.accept().await;
    assert_eq!(asked(proxy.socks(), &by_name(b"ok.test", origin.port())).await, 1);
    proxy.audit(1, |record| record["exeat.ending"] == "limit_reached").await;
    // The connection that was refused may linger for a moment.
    let mut held = raw_connect(proxy.socks()).await;
    held.write_all(b"\x05").await.unwrap();
    eventually("the second place is taken", || {
        // A third is answered before it has said anything.
        let third = std::net::TcpStream::connect(proxy.socks()).unwrap();
        third.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
        let mut answer = [0; 12];
        std::io::Read::read_exact(&mut &third, &mut answer).ok()?;
        assert_eq!(answer, [5, 0, 5, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
        Some(())
    })
    .await;
    drop((open, held));
}

#[tokio::test]
async fn a_new_policy_and_the_end_close_its_tunnels() {
    let origin = RawOrigin::bind().await;
    let mut proxy = builder().flag("--drain=100ms").start().await;
    let mut client = tunnel(&proxy, &by_name(b"ok.test", origin.port()), usize::MAX).await;
    let _server = origin.accept().await;
    proxy.replace_policy("allowed_domains = [\"other.test\"]");
    proxy.signal("HUP");
    assert_eq!(rest(&mut client).await, b"");
    proxy.audit(1, |record| record["exeat.ending"] == "policy_changed").await;
    let mut silent = raw_connect(proxy.socks()).await;
    proxy.replace_policy("allowed_domains = [\"ok.test\"]");
    proxy.signal("HUP");
    eventually("the policy is back", || proxy.log().matches("policy reloaded").nth(1).map(drop))
        .await;
    let mut client = tunnel(&proxy, &by_name(b"ok.test", origin.port()), usize::MAX).await;
    let _server = origin.accept().await;
    proxy.signal("TERM");
    assert_eq!(rest(&mut silent).await, b"");
    assert!(proxy.ended().await.success());
    // Reset, or closed.
    client.read_to_end(&mut Vec::new()).await.ok();
}

/// The port of the policy, which flags and settings overrule.
#[tokio::test]
async fn it_listens_where_it_is_told_to_and_not_otherwise() {
    let free = RawOrigin::bind().await;
    let port = free.port();
    drop(free);
    let with_port = format!("allowed_domains = [\"ok.test\"]\nsocks_port = {port}");
    let proxy = ProxyBuilder::new(&with_port).start().await;
    assert_eq!(proxy.socks(), SocketAddr::from(([127, 0, 0, 1], port)));
    assert_eq!(asked(proxy.socks(), &by_name(b"no.test", 1)).await, 2);
    drop(proxy);
    for proxy in [
        ProxyBuilder::new(&with_port).flag("--socks=off").start().await,
        ProxyBuilder::new(&with_port).settings("[listen]\nsocks = \"off\"").start().await,
        ProxyBuilder::new("allowed_domains = []").start().await,
    ] {
        assert!(!proxy.log().contains("socks5h://"), "{}", proxy.log());
    }
    let settings = "[listen]\nsocks = \"127.0.0.1:0\"";
    let proxy = ProxyBuilder::new(&with_port).settings(settings).start().await;
    assert_ne!(proxy.socks().port(), port);
}

/// Not even where somebody may dial loopback.
#[tokio::test]
async fn it_is_never_a_destination() {
    let proxy = ProxyBuilder::new("allowed_domains = [\"127.0.0.1\"]\nallow_local_binding = true")
        .flag("--socks=127.0.0.1:0")
        .start()
        .await;
    for port in [proxy.socks().port(), proxy.address.port()] {
        assert_eq!(asked(proxy.socks(), &by_address("127.0.0.1", port)).await, 2);
        let target = format!("127.0.0.1:{port}");
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        assert_eq!(exchange(proxy.address, request.as_bytes()).await.status, 403);
    }
}
