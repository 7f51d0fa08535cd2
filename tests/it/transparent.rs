//! Connections that nftables redirects, in a network namespace of the test's own: by name, by address, and
//! to nobody. The clients know no proxy.

use std::{net::SocketAddr, process::Command};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::support::{
    Origin, PATIENCE, Proxy, ProxyBuilder, TlsOrigin, add_addresses, connect_to, exchange,
    in_own_network, raw_connect, read_answer, skip_optional,
};

/// Whose connections are not redirected.
const PROXY_USER: u32 = 65_534;

/// Where they are redirected to.
const PORT: u16 = 15_001;

#[test]
fn redirected_connections_are_judged() {
    if in_own_network("transparent::redirected_connections_are_judged") {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(inside());
    }
}

/// A redirect that does not leave out the proxy's user.
#[test]
fn what_is_led_in_a_circle_is_reset() {
    if !in_own_network("transparent::what_is_led_in_a_circle_is_reset") {
        return;
    }
    if !network(PROXY_USER + 1) {
        return skip_optional("nf_tables, ip or python3 for a redirect");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = TcpListener::bind("192.0.2.20:0").await.unwrap();
        let listen = format!("[listen]\ntransparent = [\"127.0.0.1:{PORT}\"]");
        let proxy = ProxyBuilder::new("allowed_domains = [\"192.0.2.20\"]")
            .settings(&listen)
            .user(PROXY_USER)
            .start()
            .await;
        for count in 1..=20 {
            let mut client = raw_connect(server.local_addr().unwrap()).await;
            is_reset(&mut client).await;
            let decisions =
                proxy.audit(count, |it| it["event.name"] == "exeat.decision").await.len();
            // Now and then one goes round again before its dialler knows of it.
            assert!(decisions < 10 * count, "{decisions} for {count}");
        }
        assert!(proxy.log().contains("leave out the user"), "{}", proxy.log());
        drop(proxy);
        a_parent_that_is_led_back().await;
    });
}

/// What it would be asked for is no name that a client has said.
async fn a_parent_that_is_led_back() {
    let parent = TcpListener::bind("192.0.2.20:0").await.unwrap();
    let url = format!("http://{}", parent.local_addr().unwrap());
    let proxy = ProxyBuilder::new("allowed_domains = [\"ok.test\"]")
        .settings(&format!("[parent]\nurl = {url:?}\nask = \"name\""))
        .settings(&format!("[listen]\ntransparent = [\"127.0.0.1:{PORT}\"]"))
        .user(PROXY_USER)
        .start()
        .await;
    for count in 1..=20 {
        assert_eq!(exchange(proxy.address, &connect_to("ok.test")).await.status, 502);
        let records = proxy.audit(2 * count, |_| true).await;
        assert_eq!(records.len(), 2 * count, "{records:?}");
    }
    assert!(proxy.log().contains("leave out the user"), "{}", proxy.log());
}

/// Addresses that stand for other machines, and the redirect of all but that user's connections; false
/// if they cannot be had.
fn network(but: u32) -> bool {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/redirect.py");
    let mut redirect = Command::new("python3");
    redirect.args([script, &but.to_string(), &PORT.to_string()]);
    add_addresses(&["192.0.2.10/32", "192.0.2.20/32", "2001:db8::10/128"])
        && redirect.status().is_ok_and(|status| status.success())
}

async fn inside() {
    if !network(PROXY_USER) {
        return skip_optional("nf_tables, ip or python3 for a redirect");
    }
    let (plain, tls) = (Origin::start().await, TlsOrigin::start(&["ok.test", "no.test"]).await);
    plain.file("/", "hello");
    tls.origin.file("/", "hello over TLS");
    let builder = ["ok.test", "no.test"].iter().fold(
        ProxyBuilder::new("allowed_domains = [\"ok.test\", \"192.0.2.20\"]"),
        |builder, name| builder.local(name),
    );
    let proxy = builder
        .settings("[timeouts]\nfirst_bytes = \"500ms\"")
        .settings(&format!("[listen]\ntransparent = [\"127.0.0.1:{PORT}\", \"[::1]:{PORT}\"]"))
        .user(PROXY_USER)
        .start()
        .await;
    by_host_field(&proxy, &plain).await;
    by_server_name(&proxy, &tls).await;
    by_address(&proxy).await;
    what_names_nobody(&proxy, &plain).await;
    meant_for_nobody(&proxy).await;
}

async fn by_host_field(proxy: &Proxy, plain: &Origin) {
    let port = plain.port();
    let get = |host: &str| {
        format!("GET / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n").into_bytes()
    };
    for address in ["192.0.2.10", "[2001:db8::10]"] {
        let to = format!("{address}:{port}").parse().unwrap();
        // One byte at a time, and all at once.
        for piece in [1, 1000] {
            let mut client = raw_connect(to).await;
            client.set_nodelay(true).unwrap();
            for piece in get("OK.test").chunks(piece) {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            assert_eq!(read_answer(&mut client).await.text(), "hello");
        }
        let answer = exchange(to, &get("no.test")).await;
        assert_eq!(answer.status, 403);
        assert_eq!(answer.phrase, "exeat: no.test not in allowed_domains, requirements.toml:3");
        assert_eq!(answer.field("x-proxy-error"), Some("blocked-by-allowlist"));
        assert_eq!(answer.json()["reason"], "not_allowed");
    }
    let asked = plain.requests();
    assert_eq!(asked.len(), 4);
    let ends = proxy
        .audit(4, |it| it["event.name"] == "exeat.end" && it["exeat.ending"] == "complete")
        .await;
    assert_eq!(ends[0]["network.transport.protocol"], "captured_tcp");
    assert_eq!(ends[0]["server.address"], "ok.test");
    // It is this machine's, whatever address it takes.
    assert_eq!(ends[0]["client.address"], "127.0.0.1");
    // A second request for another host, behind one that is allowed.
    let mut client = raw_connect(format!("192.0.2.10:{port}").parse().unwrap()).await;
    let first = format!("GET / HTTP/1.1\r\nHost: ok.test:{port}\r\n\r\n");
    client.write_all(first.as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut client).await.text(), "hello");
    client.write_all(&get("no.test")).await.unwrap();
    timeout(PATIENCE, client.read_to_end(&mut Vec::new())).await.unwrap().ok();
    proxy.audit(1, |it| it["exeat.ending"] == "sni_mismatch").await;
    assert_eq!(plain.requests().len(), 5);
}

async fn by_server_name(proxy: &Proxy, tls: &TlsOrigin) {
    let authority = proxy.path("authority.pem");
    std::fs::write(&authority, &tls.authority_pem).unwrap();
    let port = tls.origin.port();
    for address in ["192.0.2.10", "[2001:db8::10]"] {
        for (host, expected) in [("ok.test", "hello over TLS"), ("no.test", "")] {
            let mut command = Command::new("curl");
            command
                .args(["--silent", "--max-time", "30", "--noproxy", "*", "--cacert"])
                .arg(&authority)
                .args(["--resolve", &format!("{host}:{port}:{address}")])
                .arg(format!("https://{host}:{port}/"));
            let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
            let Ok(output) = output else { return skip_optional("curl is not installed") };
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{host} {address}");
        }
    }
    assert_eq!(tls.origin.requests().len(), 2);
    proxy.audit(2, |it| it["server.address"] == "no.test" && it["server.port"] == port).await;
}

/// A server that speaks first is heard at once: its address is allowed.
async fn by_address(proxy: &Proxy) {
    let server = TcpListener::bind("192.0.2.20:0").await.unwrap();
    let mut client = raw_connect(server.local_addr().unwrap()).await;
    let (mut accepted, _) = timeout(PATIENCE, server.accept()).await.unwrap().unwrap();
    accepted.write_all(b"220 hello\r\n").await.unwrap();
    client.read_exact(&mut [0; 11]).await.unwrap();
    client.write_all(b"HELO\r\n").await.unwrap();
    accepted.read_exact(&mut [0; 6]).await.unwrap();
    drop((client, accepted));
    let ends = proxy
        .audit(1, |it| it["server.address"] == "192.0.2.20" && it["event.name"] == "exeat.end")
        .await;
    assert_eq!(ends[0]["network.peer.address"], "192.0.2.20");
}

async fn what_names_nobody(proxy: &Proxy, plain: &Origin) {
    let before = plain.connections();
    let to = format!("192.0.2.10:{}", plain.port()).parse().unwrap();
    for said in [&b"SSH-2.0-client\r\n"[..], b""] {
        let mut client = raw_connect(to).await;
        client.write_all(said).await.unwrap();
        is_reset(&mut client).await;
    }
    let refused = proxy
        .audit(2, |it| {
            it["server.address"] == "192.0.2.10" && it["network.policy.decision"] == "deny"
        })
        .await;
    assert_eq!(refused[0]["network.policy.reason"], "not_allowed_local");
    assert_eq!(proxy.health().await["timeouts"]["first_bytes"], 1);
    // A request without a host, in words; a hello without a name, in an alert.
    let answer = exchange(to, b"GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(answer.status, 403);
    let mut client = raw_connect(to).await;
    client.write_all(b"\x16\x03\x01\0\x01\xff").await.unwrap();
    let mut alert = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut alert)).await.unwrap().unwrap();
    assert_eq!(alert, [21, 3, 3, 0, 2, 2, 49]);
    proxy.audit(4, |it| it["server.address"] == "192.0.2.10").await;
    assert_eq!(plain.connections(), before);
}

/// Who connects to the port itself is reset, and never served by it again.
async fn meant_for_nobody(proxy: &Proxy) {
    let records = || std::fs::read_to_string(proxy.path("audit.jsonl")).unwrap().lines().count();
    let before = records();
    for address in ["127.0.0.1", "[::1]"] {
        serves_nobody(format!("{address}:{PORT}").parse().unwrap()).await;
    }
    assert_eq!(records(), before);
    // Nor is it a destination, by whatever way.
    for target in ["127.0.0.1", "ok.test"] {
        let target = format!("{target}:{PORT}");
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        assert_eq!(exchange(proxy.address, request.as_bytes()).await.status, 403, "{target}");
    }
}

/// It may be reset before the client knows that it is connected.
#[expect(clippy::disallowed_methods, reason = "a client dials its proxy without a permit")]
async fn serves_nobody(at: SocketAddr) {
    let Ok(mut client) = TcpStream::connect(at).await else { return };
    client.write_all(b"GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n").await.ok();
    is_reset(&mut client).await;
}

async fn is_reset(client: &mut TcpStream) {
    let mut heard = Vec::new();
    let ended = timeout(PATIENCE, client.read_to_end(&mut heard)).await.unwrap();
    // Once its own write was told of it, the read only sees the end.
    assert!(ended.is_err() || heard.is_empty(), "{heard:?}");
}

/// Without any redirect there is nothing that it could be meant for.
#[tokio::test]
async fn connections_to_the_port_itself_are_reset() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = ProxyBuilder::new("allowed_domains = [\"ok.test\"]")
        .local("ok.test")
        .flag(&format!("--transparent={free}"))
        .start()
        .await;
    assert!(proxy.log().contains(&format!(" and transparently at {free}")), "{}", proxy.log());
    for _ in 0..20 {
        serves_nobody(free).await;
    }
    assert_eq!(std::fs::read_to_string(proxy.path("audit.jsonl")).unwrap(), "");
}
