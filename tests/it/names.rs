//! Names: resolved after the decision and once, every address vetted, the vetted one dialled.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{
    DnsServer, Origin, ProxyBuilder, RawOrigin, Zone, connect_tunnel, exchange, get,
};

const ALLOW: &str =
    "allowed_domains = [\"*.example\"]\ndenied_domains = [\"127.0.0.9\", \"9.9.*\"]";

#[tokio::test]
async fn an_unlisted_name_is_never_looked_up() {
    let dns = Zone::default().name("listed.example", &["127.0.0.1"]).serve().await;
    let proxy = ProxyBuilder::new(ALLOW).dns(dns.address).start().await;
    assert_eq!(exchange(proxy.address, &get("secret.test", 80)).await.status, 403);
    assert_eq!(exchange(proxy.address, &get("listed.example", 80)).await.status, 403);
    // The listed one was asked for, so the server would have seen the other too.
    assert_eq!(dns.names_asked().into_iter().collect::<Vec<_>>(), ["listed.example"]);
}

#[tokio::test]
async fn private_and_mixed_answers_are_refused() {
    let public = "93.184.216.34";
    let dns = Zone::default()
        .name("private.example", &["10.0.0.1"])
        .name("mixed.example", &[public, "127.0.0.1"])
        .name("mixed6.example", &[public, "::1"])
        .name("mapped.example", &["::ffff:10.0.0.1"])
        .name("nat64.example", &["64:ff9b::a00:1"])
        .name("metadata.example", &["169.254.169.254"])
        .name("denied.example", &["127.0.0.9"])
        .name("glob.example", &["9.9.9.9"])
        .serve()
        .await;
    let proxy = ProxyBuilder::new(ALLOW).dns(dns.address).start().await;
    for (name, reason) in [
        ("private.example", "not_allowed_local"),
        ("mixed.example", "not_allowed_local"),
        ("mixed6.example", "not_allowed_local"),
        ("mapped.example", "not_allowed_local"),
        ("nat64.example", "not_allowed_local"),
        ("metadata.example", "not_allowed_local"),
        ("denied.example", "denied"),
        ("glob.example", "denied"),
    ] {
        let answer = exchange(proxy.address, &get(name, 80)).await;
        assert_eq!(
            (answer.status, answer.json()["reason"].as_str()),
            (403, Some(reason)),
            "{name}"
        );
        assert!(!answer.text().contains("10.0.0.1"), "no resolved address leaks");
    }
    let denials = proxy.audit(8, |record| record["network.policy.decision"] == "deny").await;
    assert_eq!(denials.len(), 8);
}

#[tokio::test]
async fn the_vetted_address_is_the_one_that_is_dialled() {
    // The name moves to another address with every question; its TTL is zero.
    let origin = Origin::start().await;
    let dns = Zone::default()
        .rounds("moving.example", &[&["127.0.0.1"], &["10.0.0.1"], &["127.0.0.1"]], 0)
        .serve()
        .await;
    let proxy = ProxyBuilder::new(ALLOW)
        .dns(dns.address)
        .private("127.0.0.0/8")
        .settings("[limits]\nidle_origins = 1\n[timeouts]\nidle_origin = \"0s\"")
        .start()
        .await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(exchange(proxy.address, &get("moving.example", origin.port())).await.status);
    }
    assert_eq!(statuses, [200, 403, 200]);
    assert_eq!(dns.count("moving.example", "A"), 3, "one lookup a request, none to dial");
}

#[tokio::test]
async fn answers_are_kept_for_their_ttl() {
    let origin = Origin::start().await;
    let dns = Zone::default().name("kept.example", &["127.0.0.1"]).serve().await;
    let proxy = ProxyBuilder::new(ALLOW)
        .dns(dns.address)
        .private("*.example")
        .settings("[timeouts]\nidle_origin = \"0s\"")
        .start()
        .await;
    for _ in 0..3 {
        assert_eq!(exchange(proxy.address, &get("kept.example", origin.port())).await.status, 200);
    }
    assert_eq!(origin.connections(), 3);
    assert_eq!(dns.count("kept.example", "A"), 1);
}

#[tokio::test]
async fn dns_failures_are_not_policy() {
    let dns = Zone::default().failing("broken.example").name("empty.example", &[]).serve().await;
    let proxy = ProxyBuilder::new(ALLOW)
        .dns(dns.address)
        .settings("[timeouts]\ndns = \"500ms\"")
        .start()
        .await;
    for name in ["missing.example", "broken.example", "empty.example"] {
        let answer = exchange(proxy.address, &get(name, 80)).await;
        assert_eq!(answer.status, 502, "{name} {}", answer.phrase);
        assert!(answer.field("proxy-status").unwrap().contains("error=dns_error"), "{name}");
        assert_eq!(answer.field("x-proxy-error"), None);
        assert_eq!(answer.json()["reason"], "dns_failure");
    }
    let ends = proxy.audit(3, |record| record["exeat.ending"] == "dns_failed").await;
    assert_eq!(ends.len(), 3);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_a_timeout() {
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let proxy = ProxyBuilder::new(ALLOW)
        .dns(silent.local_addr().unwrap())
        .settings("[timeouts]\ndns = \"300ms\"")
        .start()
        .await;
    let answer = exchange(proxy.address, &get("slow.example", 80)).await;
    assert_eq!(answer.status, 504);
    assert!(answer.field("proxy-status").unwrap().contains("error=dns_timeout"));
}

#[tokio::test]
async fn the_slow_family_does_not_hold_up_the_fast_one() {
    let origin = Origin::start().await;
    let dns = Zone::default()
        .name("slow6.example", &["127.0.0.1", "::1"])
        .slow_v6("slow6.example", Duration::from_secs(20))
        .serve()
        .await;
    let proxy = ProxyBuilder::new(ALLOW)
        .dns(dns.address)
        .private("*.example")
        .settings("[timeouts]\ndns = \"25s\"")
        .start()
        .await;
    let answer = exchange(proxy.address, &get("slow6.example", origin.port())).await;
    assert_eq!(answer.status, 200);
    let ends = proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
    assert!(ends[0]["exeat.duration_seconds"].as_f64().unwrap() < 15.0, "{ends:?}");
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_refuses() {
    // Nothing listens on that port of ::1, so the IPv4 address must be reached.
    let origin = RawOrigin::bind().await;
    let dns = Zone::default().name("both.example", &["::1", "127.0.0.1"]).serve().await;
    let proxy = ProxyBuilder::new(ALLOW).dns(dns.address).private("*.example").start().await;
    let mut client =
        connect_tunnel(proxy.address, &format!("both.example:{}", origin.port())).await;
    let mut server = origin.accept().await;
    client.write_all(b"x").await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'x');
}

#[tokio::test]
async fn localhost_and_static_hosts_never_go_to_dns() {
    let origin = Origin::start().await;
    let dns: DnsServer = Zone::default().serve().await;
    let proxy = ProxyBuilder::new("allowed_domains = [\"localhost\", \"static.example\"]")
        .dns(dns.address)
        .local("static.example")
        .start()
        .await;
    for host in ["localhost", "static.example"] {
        assert_eq!(exchange(proxy.address, &get(host, origin.port())).await.status, 200, "{host}");
    }
    assert!(dns.names_asked().is_empty());
}

#[tokio::test]
async fn the_proxy_is_not_its_own_destination() {
    let proxy = ProxyBuilder::new("allow_local_binding = true\nallowed_domains = [\"*\"]")
        .host("self.test", "127.0.0.1")
        .start()
        .await;
    let port = proxy.address.port();
    for host in ["127.0.0.1", "localhost", "self.test", "0.0.0.0", "[::ffff:127.0.0.1]"] {
        let answer = exchange(proxy.address, &get(host, port)).await;
        assert_eq!(answer.status, 403, "{host} {}", answer.phrase);
    }
}
