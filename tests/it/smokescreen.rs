//! What the tests of smokescreen, the egress proxy of Stripe, check and what holds here too.
//!
//! Left out: what exeat does otherwise (deny loses to a role's allow there; a bad address is skipped
//! there and refuses the whole answer here; raw Unicode hosts and `[name]:port` are converted there
//! and refused here; globs other than `*.x` are errors there) and what it does not have (roles,
//! report mode, hooks, MITM, CRLs, address ranges in the policy, a parent proxy, rate limits).

use std::{net::IpAddr, sync::Arc};

use exeat::{
    net::{Authority, Host, Port},
    policy::{Egress, Outcome, Policy, Review, Source},
};
use serde_json::Value;

use crate::support::{
    Answer, FullListener, Origin, Proxy, ProxyBuilder, RawOrigin, Zone, exchange, get,
};

fn policy(rules: &str, egress: Egress) -> Policy {
    let text = format!("[experimental_network]\nenabled = true\n{rules}\n");
    let review = Review::of(text.as_bytes(), &Arc::new(Source::file("requirements.toml")), 7);
    let Outcome::Ruleset(ruleset) = review.outcome else { panic!("{:?}", review.problems) };
    Policy::new(*ruleset, egress, 1)
}

fn verdict(policy: &Policy, target: &str) -> &'static str {
    let Ok(authority) = Authority::parse_connect(target.as_bytes()) else { return "bad_request" };
    policy.decide(&authority).map_or_else(|denial| denial.reason.as_str(), |_| "allow")
}

/// What is said of a name that resolves to an address.
fn vetted(policy: &Policy, name: &str, address: &str) -> &'static str {
    let authority = Authority::parse_connect(name.as_bytes()).unwrap();
    let permit = policy.decide(&authority).unwrap();
    let vetted = policy.vet(&permit, address.parse().unwrap());
    vetted.map_or_else(|denial| denial.reason.as_str(), |_| "allow")
}

#[test]
fn addresses_by_class() {
    let any = policy("allowed_domains = [\"*\"]", Egress::default());
    for (address, expected) in [
        ("8.8.8.8", "allow"),
        ("10.0.0.1", "not_allowed_local"),
        ("172.16.0.1", "not_allowed_local"),
        ("192.168.0.1", "not_allowed_local"),
        ("100.64.0.0", "not_allowed_local"),
        ("100.96.0.1", "not_allowed_local"),
        ("100.127.255.255", "not_allowed_local"),
        ("100.63.255.255", "allow"),
        ("100.128.0.0", "allow"),
        ("127.0.0.1", "not_allowed_local"),
        ("127.255.255.255", "not_allowed_local"),
        ("::1", "not_allowed_local"),
        ("169.254.169.254", "not_allowed_local"),
        ("255.255.255.255", "not_allowed_local"),
        ("ff02::1", "not_allowed_local"),
        ("64:ff9b::10.0.0.1", "not_allowed_local"),
        ("64:ff9b::192.0.2.1", "not_allowed_local"),
        ("64:ff9b::255.255.255.255", "not_allowed_local"),
        ("64:ff9b::8.8.8.8", "allow"),
        ("64:ff9c::8.8.8.8", "not_allowed_local"),
        ("2002:c000:201::1", "not_allowed_local"),
        ("2002:808:808::1", "not_allowed_local"),
        ("2001:0:808:808::1", "not_allowed_local"),
        ("2606:4700:4700::1111", "allow"),
        ("::ffff:8.8.8.8", "allow"),
        ("::ffff:10.0.0.1", "not_allowed_local"),
    ] {
        let literal =
            Authority { host: Host::from(address.parse::<IpAddr>().unwrap()), port: Port::HTTPS };
        assert_eq!(verdict(&any, &literal.to_string()), expected, "{address}");
        assert_eq!(vetted(&any, "name.test:443", address), expected, "{address} by name");
    }
}

#[test]
fn rules_about_addresses() {
    let ports = policy("allowed_domains = [\"10.0.0.1:321\"]", Egress::default());
    assert_eq!(verdict(&ports, "10.0.0.1:321"), "allow");
    assert_ne!(verdict(&ports, "10.0.0.1:1"), "allow");

    let range = Egress {
        private_ranges: vec!["10.1.0.0/16".parse().unwrap(), "127.0.1.0/24".parse().unwrap()],
        ..Egress::default()
    };
    let opened = policy("allowed_domains = [\"*\"]\ndenied_domains = [\"10.1.2.*\"]", range);
    for (address, expected) in [
        ("10.1.1.1", "allow"),
        ("10.1.2.1", "denied"),
        ("10.2.0.1", "not_allowed_local"),
        ("127.0.1.1", "allow"),
        ("127.0.0.1", "not_allowed_local"),
    ] {
        assert_eq!(vetted(&opened, "name.test:443", address), expected, "{address}");
    }

    // Private destinations on the whole: a deny still denies, and metadata stays refused.
    let rules =
        "allow_local_binding = true\nallowed_domains = [\"*\"]\ndenied_domains = [\"10.9.*\"]";
    let local = policy(rules, Egress::default());
    assert_eq!(vetted(&local, "name.test:443", "10.8.0.1"), "allow");
    assert_eq!(vetted(&local, "name.test:443", "10.9.0.1"), "denied");
    assert_eq!(vetted(&local, "name.test:443", "169.254.169.254"), "not_allowed_local");
}

#[test]
fn no_connection_to_itself() {
    let egress = |listener: &str| Egress {
        listeners: vec![listener.parse().unwrap()],
        own_addresses: vec!["192.168.1.7".parse().unwrap(), "fd00::7".parse().unwrap()],
        ..Egress::default()
    };
    let rules = "allow_local_binding = true\nallowed_domains = [\"*\"]";
    for (listener, target, address, expected) in [
        ("127.0.0.1:3128", "a.test:3128", "127.0.0.1", "not_allowed_local"),
        ("127.0.0.1:3128", "a.test:3129", "127.0.0.1", "allow"),
        ("0.0.0.0:3128", "a.test:3128", "192.168.1.7", "not_allowed_local"),
        ("0.0.0.0:3128", "a.test:3128", "192.168.1.8", "allow"),
        ("[::]:3128", "a.test:3128", "fd00::7", "not_allowed_local"),
        ("[::]:3128", "a.test:3129", "fd00::7", "allow"),
    ] {
        let policy = policy(rules, egress(listener));
        assert_eq!(vetted(&policy, target, address), expected, "{listener} {target} {address}");
    }
}

#[test]
fn names_are_matched_whatever_their_spelling() {
    let rules = "allowed_domains = [\"exact.test\", \"*.wild.test\", \"*.bücher.test\", \"*.both.test\"]\n\
                 denied_domains = [\"bad.both.test\", \"*.evil.wild.test\"]";
    let policy = policy(rules, Egress::default());
    for (target, expected) in [
        ("exact.test:443", "allow"),
        ("EXACT.Test:443", "allow"),
        ("exact.test.:443", "allow"),
        ("sub.exact.test:443", "not_allowed"),
        ("notexact.test:443", "not_allowed"),
        ("a.wild.test:443", "allow"),
        ("a.b.c.wild.test:443", "allow"),
        ("under_score.wild.test:443", "allow"),
        ("wild.test:443", "not_allowed"),
        ("other.com:443", "not_allowed"),
        ("A.xn--bcher-kva.test:443", "allow"),
        ("xn--bcher-kva.test:443", "not_allowed"),
        // Deny beats allow, in any case and with a trailing dot.
        ("bad.both.test:443", "denied"),
        ("BAD.Both.test.:443", "denied"),
        ("x.evil.wild.test:443", "denied"),
        (":443", "bad_request"),
        ("::443", "bad_request"),
        ("exact.test", "bad_request"),
        ("2001:db8::1:443", "bad_request"),
        ("exact.test:70000", "bad_request"),
        ("exact.test:-1", "bad_request"),
        ("exact.test:https", "bad_request"),
        ("[[exact.test]]:443", "bad_request"),
    ] {
        assert_eq!(verdict(&policy, target), expected, "{target}");
    }
}

async fn proxy(settings: &str) -> Proxy {
    ProxyBuilder::new("allowed_domains = [\"*.test\"]")
        .local("ok.test")
        .settings(settings)
        .start()
        .await
}

/// Asks for a destination as a plain request and as a tunnel.
async fn both_ways(proxy: &Proxy, host: &str, port: u16) -> [(&'static str, Answer); 2] {
    let connect = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
    [
        ("http", exchange(proxy.address, &get(host, port)).await),
        ("https_connect", exchange(proxy.address, connect.as_bytes()).await),
    ]
}

/// The two records of each of two requests, allowed and then ended so.
async fn ends(proxy: &Proxy, ending: &str) -> Vec<Value> {
    let allowed = proxy.audit(2, |record| record["network.policy.decision"] == "allow").await;
    assert_eq!(allowed.len(), 2);
    let ends = proxy.audit(2, |record| record["event.name"] == "exeat.end").await;
    assert!(ends.iter().all(|end| end["exeat.ending"] == ending), "{ends:?}");
    assert_eq!(ends.len(), 2);
    allowed
}

#[tokio::test]
async fn a_host_that_does_not_resolve() {
    let proxy = proxy("").await;
    for (_, answer) in both_ways(&proxy, "nowhere.test", 443).await {
        assert_eq!(answer.status, 502);
        assert!(answer.field("proxy-status").unwrap().contains("dns_error"));
    }
    let allowed = ends(&proxy, "dns_failed").await;
    assert_eq!(allowed[0]["network.transport.protocol"], "http");
    assert_eq!(allowed[1]["network.transport.protocol"], "https_connect");
}

#[tokio::test]
async fn an_origin_that_refuses() {
    let proxy = proxy("").await;
    let port = RawOrigin::bind().await.port();
    for (_, answer) in both_ways(&proxy, "ok.test", port).await {
        assert_eq!(answer.status, 502);
        assert!(answer.field("proxy-status").unwrap().contains("connection_refused"));
        assert_eq!(answer.field("x-proxy-error"), None);
    }
    ends(&proxy, "connect_failed").await;
}

#[tokio::test]
async fn an_origin_that_cannot_be_reached_in_time() {
    let proxy = proxy("[timeouts]\nconnect = \"300ms\"").await;
    let full = FullListener::bind();
    for (_, answer) in both_ways(&proxy, "ok.test", full.address.port()).await {
        assert_eq!(answer.status, 504);
        assert!(answer.field("proxy-status").unwrap().contains("connection_timeout"));
    }
    ends(&proxy, "connect_failed").await;
}

#[tokio::test]
async fn an_origin_that_does_not_answer_in_time() {
    let proxy = proxy("[timeouts]\nresponse_head = \"300ms\"").await;
    let origin = RawOrigin::bind().await;
    let answer = exchange(proxy.address, &get("ok.test", origin.port())).await;
    assert_eq!(answer.status, 504);
    assert!(answer.field("proxy-status").unwrap().contains("http_response_timeout"));
    let ends = proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
    assert_eq!(ends[0]["exeat.ending"], "response_timeout");
}

#[tokio::test]
async fn one_lookup_for_each_request() {
    let origin = Origin::start().await;
    let dns = Zone::default().rounds("once.test", &[&["127.0.0.1"]], 0).serve().await;
    let proxy = ProxyBuilder::new("allowed_domains = [\"once.test\"]")
        .private("once.test")
        .dns(dns.address)
        .start()
        .await;
    let [plain, tunnel] = both_ways(&proxy, "once.test", origin.port()).await;
    assert_eq!((plain.1.status, tunnel.1.status), (200, 200));
    assert_eq!((dns.count("once.test", "A"), dns.count("once.test", "AAAA")), (2, 2));
    let allowed = proxy.audit(2, |record| record["network.policy.decision"] == "allow").await;
    assert_eq!(allowed.len(), 2, "one decision each");
}

#[tokio::test]
async fn what_the_origin_says_and_sees() {
    let (origin, proxy) = (Origin::start().await, proxy("").await);
    origin.answer_field("X-Other", "kept");
    let answer = exchange(proxy.address, &get("OK.test", origin.port())).await;
    assert_eq!((answer.status, answer.field("x-other")), (200, Some("kept")));
    let host = format!("ok.test:{}", origin.port());
    assert!(origin.requests()[0]["fields"].to_string().contains(&format!("[\"host\",\"{host}\"]")));
}
