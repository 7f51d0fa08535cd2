//! Every limit and every deadline: what a client is told, what is counted, and that it goes on
//! afterwards.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    Answer, Origin, PATIENCE, Proxy, ProxyBuilder, RawOrigin, Zone, connect_tunnel, eventually,
    exchange, get, raw_connect, read_answer,
};

fn allowing(name: &str) -> ProxyBuilder {
    ProxyBuilder::new(&format!("allowed_domains = [{name:?}]")).local(name)
}

async fn counted(proxy: &Proxy, section: &str, key: &str) -> u64 {
    proxy.health().await[section][key].as_u64().unwrap()
}

async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    rest
}

/// The answer at a limit: 503, when to come again, and which limit it is.
fn assert_limited(answer: &Answer, limit: &str) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.phrase.starts_with("exeat: too many "), "{}", answer.phrase);
    assert_eq!(answer.field("retry-after"), Some("1"));
    let status = answer.field("proxy-status").unwrap();
    assert!(status.starts_with("exeat; error=connection_limit_reached; details=\""), "{status}");
    let body = answer.json();
    assert_eq!(body["reason"], "limit_reached");
    assert_eq!(body["limit"], limit);
}

#[tokio::test]
async fn a_head_that_is_too_large_says_how() {
    let proxy = ProxyBuilder::new("")
        .settings("[limits]\nrequest_line_bytes = 512\nhead_bytes = 2048\nhead_fields = 4")
        .start()
        .await;
    let long = "x".repeat(600);
    let field = |count: usize| "X: y\r\n".repeat(count);
    for (head, status, key) in [
        (format!("GET http://a.test/{long} HTTP/1.1\r\n\r\n"), 414, "request_line_bytes"),
        // Refused before its end has come.
        (format!("GET http://a.test/{long}"), 414, "request_line_bytes"),
        (format!("GET http://a.test/ HTTP/1.1\r\nX: {}\r\n", "y".repeat(2048)), 431, "head_bytes"),
        (format!("GET http://a.test/ HTTP/1.1\r\n{}\r\n", field(5)), 431, "head_fields"),
    ] {
        let before = counted(&proxy, "limits", key).await;
        let mut stream = raw_connect(proxy.address).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert_eq!(answer.status, status, "{key}");
        assert_eq!(answer.field("connection"), Some("close"), "{key}");
        assert_eq!(rest(&mut stream).await, b"", "{key}");
        assert_eq!(counted(&proxy, "limits", key).await, before + 1, "{key}");
    }
}

#[tokio::test]
async fn a_head_that_began_and_does_not_end_is_answered_408() {
    let origin = Origin::start().await;
    let proxy = allowing("a.test").settings("[timeouts]\nrequest_head = \"100ms\"").start().await;
    // The first head of a connection, and a later one.
    for before in [0, 1] {
        let mut stream = raw_connect(proxy.address).await;
        for _ in 0..before {
            stream.write_all(&get("a.test", origin.port())).await.unwrap();
            assert_eq!(read_answer(&mut stream).await.status, 200);
        }
        stream.write_all(b"GET http://a.test/ HT").await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert_eq!(answer.status, 408);
        assert_eq!(answer.field("connection"), Some("close"));
        assert_eq!(rest(&mut stream).await, b"");
    }
    counts_to(&proxy, "timeouts", "request_head", 2).await;
}

#[tokio::test]
async fn dripping_bytes_do_not_lengthen_the_time_of_a_head() {
    let proxy =
        ProxyBuilder::new("").settings("[timeouts]\nrequest_head = \"300ms\"").start().await;
    let (mut reading, mut writing) = raw_connect(proxy.address).await.into_split();
    let dripping = tokio::spawn(async move {
        writing.write_all(b"GET http://a.test/").await.unwrap();
        // Until the proxy has closed the connection; well within the limit of a request line.
        for _ in 0..30_000 {
            if writing.write_all(b"x").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut answer = [0; 13];
    timeout(PATIENCE, reading.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer[8..], b" 408 ");
    dripping.abort();
}

#[tokio::test]
async fn an_idle_client_is_closed_without_a_word() {
    let origin = Origin::start().await;
    let proxy = allowing("a.test").settings("[timeouts]\nidle_client = \"100ms\"").start().await;
    let mut silent = raw_connect(proxy.address).await;
    assert_eq!(rest(&mut silent).await, b"");
    let mut kept = raw_connect(proxy.address).await;
    kept.write_all(&get("a.test", origin.port())).await.unwrap();
    assert_eq!(read_answer(&mut kept).await.status, 200);
    assert_eq!(rest(&mut kept).await, b"");
    counts_to(&proxy, "timeouts", "idle_client", 2).await;
}

#[tokio::test]
async fn a_client_that_waits_for_its_answer_is_not_idle() {
    let origin = RawOrigin::bind().await;
    let proxy = allowing("a.test").settings("[timeouts]\nidle_client = \"100ms\"").start().await;
    let mut waiting = raw_connect(proxy.address).await;
    waiting.write_all(&get("a.test", origin.port())).await.unwrap();
    let (mut at_origin, _) = origin.accept_request().await;
    // Another one comes later, and its time passes.
    for _ in 0..2 {
        assert_eq!(rest(&mut raw_connect(proxy.address).await).await, b"");
    }
    at_origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no").await.unwrap();
    assert_eq!(rest(&mut raw_connect(proxy.address).await).await, b"");
    at_origin.write_all(b"k").await.unwrap();
    assert_eq!(read_answer(&mut waiting).await.text(), "ok");
    assert_eq!(rest(&mut waiting).await, b"", "it is idle now");
}

#[tokio::test]
async fn beyond_the_connections_there_is_an_answer_and_room_again_at_once() {
    let origin = Origin::start().await;
    let proxy = allowing("a.test").settings("[limits]\nconnections = 2").start().await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = raw_connect(proxy.address).await;
        stream.write_all(&get("a.test", origin.port())).await.unwrap();
        assert_eq!(read_answer(&mut stream).await.status, 200);
        held.push(stream);
    }
    // With and without a request, which is not read.
    for request in [&b""[..], &get("a.test", origin.port())] {
        let mut turned_away = raw_connect(proxy.address).await;
        turned_away.write_all(request).await.unwrap();
        let answer = read_answer(&mut turned_away).await;
        assert_limited(&answer, "connections");
        assert_eq!(answer.field("connection"), Some("close"));
        assert_eq!(rest(&mut turned_away).await, b"");
    }
    assert_eq!(origin.requests().len(), 2);
    held.pop();
    recovered(&proxy, &get("a.test", origin.port())).await;
    assert_eq!(origin.requests().len(), 3);
    held.clear();
    counts_at_least(&proxy, "limits", "connections", 2).await;
}

/// More are turned away than may linger, and none of them reads or leaves before all have come.
#[tokio::test]
async fn turning_away_cannot_be_exhausted() {
    let proxy = ProxyBuilder::new("").settings("[limits]\nconnections = 1").start().await;
    let mut held = raw_connect(proxy.address).await;
    let health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    held.write_all(health).await.unwrap();
    assert_eq!(read_answer(&mut held).await.status, 200);
    let mut others = Vec::new();
    for _ in 0..600 {
        others.push(raw_connect(proxy.address).await);
    }
    for other in &mut others {
        assert_limited(&read_answer(other).await, "connections");
        assert_eq!(rest(other).await, b"");
    }
    held.write_all(health).await.unwrap();
    let health = read_answer(&mut held).await.json();
    assert!(health["limits"]["connections"].as_u64().unwrap() >= 600, "{health}");
    drop(held);
    recovered(&proxy, health_request()).await;
}

#[tokio::test]
async fn beyond_the_tunnels_connect_is_refused_and_recorded() {
    let origin = RawOrigin::bind().await;
    let authority = format!("a.test:{}", origin.port());
    let proxy = allowing("a.test").settings("[limits]\ntunnels = 1").start().await;
    let tunnel = connect_tunnel(proxy.address, &authority).await;
    let open = format!("CONNECT {authority} HTTP/1.1\r\n\r\n");
    let websocket = format!(
        "GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\nConnection: upgrade\r\n\
         Upgrade: websocket\r\n\r\n"
    );
    for request in [&open, &websocket] {
        let answer = exchange(proxy.address, request.as_bytes()).await;
        assert_limited(&answer, "tunnels");
        assert_eq!(answer.field("connection"), Some("close"));
    }
    counts_to(&proxy, "limits", "tunnels", 2).await;
    let ends = proxy.audit(2, |record| record["exeat.ending"] == "limit_reached").await;
    assert_eq!(ends.len(), 2);
    // A refusal of the policy is one, also when all is full.
    let denied = exchange(proxy.address, b"CONNECT b.test:443 HTTP/1.1\r\n\r\n").await;
    assert_eq!(denied.status, 403);
    drop(tunnel);
    drop(origin.accept().await);
    recovered(&proxy, open.as_bytes()).await;
}

#[tokio::test]
async fn beyond_the_requests_there_is_still_health() {
    let origin = RawOrigin::bind().await;
    let request = get("a.test", origin.port());
    let proxy = allowing("a.test").settings("[limits]\nrequests = 1").start().await;
    let mut first = raw_connect(proxy.address).await;
    first.write_all(&request).await.unwrap();
    let (mut at_origin, _) = origin.accept_request().await;
    let mut second = raw_connect(proxy.address).await;
    for _ in 0..2 {
        // The connection goes on.
        second.write_all(&request).await.unwrap();
        assert_limited(&read_answer(&mut second).await, "requests");
    }
    counts_to(&proxy, "limits", "requests", 2).await;
    let refused = proxy.audit(2, |record| record["network.policy.reason"] == "limit_reached").await;
    assert_eq!(refused[0]["network.policy.source"], "proxy_state");
    // Its place is taken to the end of the answer.
    at_origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no").await.unwrap();
    let mut head = [0; 12];
    timeout(PATIENCE, first.read_exact(&mut head)).await.unwrap().unwrap();
    second.write_all(&request).await.unwrap();
    assert_limited(&read_answer(&mut second).await, "requests");
    at_origin.write_all(b"k").await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = origin.accept_request().await;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    });
    drop(at_origin);
    recovered(&proxy, &request).await;
}

#[tokio::test]
async fn beyond_the_lookups_what_is_known_is_still_served() {
    let origin = Origin::start().await;
    let server = Zone::default()
        // Both families: that there is no address of one is not always remembered.
        .name("known.test", &["127.0.0.1", "::1"])
        .name("slow.test", &["127.0.0.1"])
        .name("other.test", &["127.0.0.1"])
        .slow("slow.test", Duration::from_secs(3600))
        .serve()
        .await;
    let proxy = ProxyBuilder::new("allowed_domains = [\"*.test\"]")
        .private("*.test")
        .local("static.test")
        .dns(server.address)
        .settings("[limits]\nlookups = 1\n[timeouts]\ndns = \"2s\"")
        .start()
        .await;
    assert_eq!(exchange(proxy.address, &get("known.test", origin.port())).await.status, 200);
    let mut slow = raw_connect(proxy.address).await;
    slow.write_all(&get("slow.test", origin.port())).await.unwrap();
    eventually("the question for slow.test", || {
        server.names_asked().contains("slow.test").then_some(())
    })
    .await;
    let answer = exchange(proxy.address, &get("other.test", origin.port())).await;
    assert_limited(&answer, "lookups");
    // CONNECT dials anew, where a request would find a kept connection.
    for name in ["known.test", "static.test"] {
        connect_tunnel(proxy.address, &format!("{name}:{}", origin.port())).await;
    }
    let answer = read_answer(&mut slow).await;
    assert_eq!(answer.status, 504);
    assert!(answer.field("proxy-status").unwrap().contains("error=dns_timeout"));
    assert_eq!(exchange(proxy.address, &get("other.test", origin.port())).await.status, 200);
    counts_to(&proxy, "limits", "lookups", 1).await;
    counts_to(&proxy, "timeouts", "dns", 1).await;
}

/// A socket whose queue is full: on Linux, attempts to connect to it wait for ever.
async fn deaf() -> (Socket, TcpStream, u16) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let first = raw_connect(address).await;
    (socket, first, address.port())
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn beyond_the_dials_nobody_waits_for_another() {
    let (_socket, _first, port) = deaf().await;
    let proxy = allowing("a.test")
        .settings("[limits]\ndials = 1\n[timeouts]\nconnect = \"1s\"")
        .start()
        .await;
    let (one, other) = (get("a.test", port), get("a.test", port));
    let (one, other) = tokio::join!(exchange(proxy.address, &one), exchange(proxy.address, &other));
    let (limited, late) = if one.status == 503 { (one, other) } else { (other, one) };
    assert_limited(&limited, "dials");
    assert_eq!(late.status, 504);
    assert!(late.field("proxy-status").unwrap().contains("error=connection_timeout"));
    counts_to(&proxy, "limits", "dials", 1).await;
    counts_to(&proxy, "timeouts", "connect", 1).await;
}

#[tokio::test]
async fn tunnels_that_stand_still_and_hellos_that_do_not_come_are_counted() {
    let origin = RawOrigin::bind().await;
    let authority = format!("a.test:{}", origin.port());
    let proxy = allowing("a.test")
        .settings("[timeouts]\nfirst_bytes = \"100ms\"\nidle = \"1s\"")
        .start()
        .await;
    let mut slow = connect_tunnel(proxy.address, &authority).await;
    slow.write_all(b"\x16\x03\x01").await.unwrap();
    assert_eq!(rest(&mut slow).await, b"");
    counts_to(&proxy, "timeouts", "first_bytes", 1).await;
    let mut still = connect_tunnel(proxy.address, &authority).await;
    assert_eq!(rest(&mut still).await, b"");
    counts_to(&proxy, "timeouts", "idle", 1).await;
}

/// Asks again until there is another answer than 503, which must come soon.
async fn recovered(proxy: &Proxy, request: &[u8]) {
    let again = async {
        loop {
            let answer = exchange(proxy.address, request).await;
            if answer.status != 503 {
                return answer.status;
            }
        }
    };
    assert_eq!(timeout(PATIENCE, again).await.unwrap(), 200);
}

fn health_request() -> &'static [u8] {
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
}

/// Waits until it has been counted so often, and not more often.
async fn counts_to(proxy: &Proxy, section: &str, key: &str, count: u64) {
    assert_eq!(counts_at_least(proxy, section, key, count).await, count, "{key}");
}

async fn counts_at_least(proxy: &Proxy, section: &str, key: &str, count: u64) -> u64 {
    let counting = async {
        loop {
            let answer = exchange(proxy.address, health_request()).await;
            // Places may still be on their way back.
            if answer.status == 200 {
                let counted = answer.json()[section][key].as_u64().unwrap();
                if counted >= count {
                    return counted;
                }
            }
        }
    };
    timeout(PATIENCE, counting).await.unwrap()
}

#[cfg(unix)]
mod descriptors {
    use super::*;

    #[tokio::test]
    async fn too_few_for_what_was_asked_for_are_told_at_the_start() {
        let proxy = ProxyBuilder::new("")
            .settings("[limits]\nconnections = 1000")
            .descriptors(300)
            .start()
            .await;
        let log = proxy.log();
        assert!(log.contains("allows more than this process may open"), "{log}");
        assert!(log.contains("limit=300"), "{log}");
    }

    /// Connections that are turned away are told by the limit that has a name, not by the system's.
    #[tokio::test]
    async fn defaults_are_lowered_to_what_there_is() {
        let proxy = ProxyBuilder::new("").descriptors(96).start().await;
        let log = proxy.log();
        assert!(!log.contains("WARN"), "{log}");
        let ready = log.lines().find(|line| line.contains("listening on")).unwrap();
        assert!(ready.contains("at most 31 connections"), "{ready}");
        let mut held = Vec::new();
        for _ in 0..31 {
            let mut stream = raw_connect(proxy.address).await;
            stream.write_all(health_request_kept()).await.unwrap();
            assert_eq!(read_answer(&mut stream).await.status, 200);
            held.push(stream);
        }
        let mut stream = raw_connect(proxy.address).await;
        assert_limited(&read_answer(&mut stream).await, "connections");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn all_that_the_system_gives_are_taken() {
        let proxy = ProxyBuilder::new("")
            .settings("[limits]\nconnections = 20\nidle_origins = 1")
            .soft_descriptors(200)
            .start()
            .await;
        assert!(!proxy.log().contains("allows more"), "{}", proxy.log());
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", proxy.pid())).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
        assert_eq!(numbers[0], numbers[1], "soft and hard");
    }

    #[tokio::test]
    async fn without_any_left_clients_are_told_and_later_served() {
        let origin = Origin::start().await;
        let proxy = allowing("a.test")
            .settings("[limits]\nconnections = 1000")
            .descriptors(64)
            .start()
            .await;
        let request = get("a.test", origin.port());
        let mut held = Vec::new();
        // Every client is answered: at first served, then turned away.
        let turned_away = loop {
            let mut stream = raw_connect(proxy.address).await;
            stream.write_all(health_request_kept()).await.unwrap();
            let answer = read_answer(&mut stream).await;
            match answer.status {
                200 => held.push(stream),
                _ => break answer,
            }
            assert!(held.len() < 64);
        };
        assert_limited(&turned_away, "descriptors");
        for _ in 0..200 {
            let mut stream = raw_connect(proxy.address).await;
            assert_limited(&read_answer(&mut stream).await, "descriptors");
            assert_eq!(rest(&mut stream).await, b"");
        }
        // One that is served has no socket to go further.
        let served = &mut held[0];
        served.write_all(&request).await.unwrap();
        let answer = read_answer(served).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert_eq!(answer.field("retry-after"), Some("1"));
        served.write_all(health_request_kept()).await.unwrap();
        let health = read_answer(served).await.json();
        assert!(health["limits"]["descriptors"].as_u64().unwrap() >= 202, "{health}");
        assert!(health["connections"]["accept_failures"].as_u64().unwrap() >= 201, "{health}");
        let warnings = proxy.log().matches("cannot accept").count();
        assert!((1..20).contains(&warnings), "{warnings} lines about more than 200 failures");
        drop(held);
        recovered(&proxy, &request).await;
    }

    fn health_request_kept() -> &'static [u8] {
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    }
}

/// In a network namespace of its own, where an address that is not loopback leads nowhere else.
#[cfg(target_os = "linux")]
mod one_address {
    use std::process::Command;

    /// `$0`: the program, `$1`: a directory. Prints the status of each connection.
    const SCRIPT: &str = r#"
        set -eu
        ip link set lo up
        ip addr add 192.0.2.1/32 dev lo
        exec 4< <(exec "$0" serve --listen 0.0.0.0:3128 --allow-non-loopback --audit off \
            --insecure-policy-permissions --requirements "$1/r.toml" --settings "$1/s.toml" 2>&1)
        trap "kill $!" EXIT
        while read -r -u4 line; do case $line in *"listening on"*) break;; esac; done
        ask() {
            printf 'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n' >&"$1" || true
            read -r _ status _ <&"$1"
            echo "$2 $status"
        }
        exec 5<>/dev/tcp/192.0.2.1/3128; ask 5 first
        exec 6<>/dev/tcp/192.0.2.1/3128; ask 6 second
        exec 7<>/dev/tcp/127.0.0.1/3128; ask 7 loopback
        exec 8<>/dev/tcp/127.0.0.1/3128; ask 8 loopback
        exec 5>&- 6>&-
        while exec 9<>/dev/tcp/192.0.2.1/3128; do
            again=$(ask 9 again)
            case $again in *503) ;; *) break;; esac
        done
        echo "$again"
    "#;

    #[test]
    fn has_so_many_connections_and_loopback_more() {
        let may = Command::new("unshare").args(["-rn", "ip", "link"]).output();
        if !may.is_ok_and(|ran| ran.status.success()) {
            println!("skipped: no network namespace may be made here");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let write = |name, text| std::fs::write(directory.path().join(name), text).unwrap();
        write("r.toml", "[experimental_network]\nenabled = true\n");
        write("s.toml", "[limits]\nconnections_per_client = 1\n[dns]\nservers = []\n");
        let ran = Command::new("unshare")
            .args(["-rn", "bash", "-c", SCRIPT, env!("CARGO_BIN_EXE_exeat")])
            .arg(directory.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        let wanted = "first 200\nsecond 503\nloopback 200\nloopback 200\nagain 200\n";
        assert_eq!(said, wanted, "{}", String::from_utf8_lossy(&ran.stderr));
    }
}
