//! `--mode observe`: what no rule speaks about is let through and recorded, and nothing else is.

use serde_json::json;

use crate::support::{Origin, ProxyBuilder, exchange};

fn get(host: &str, port: u16) -> String {
    format!(
        "GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
    )
}

#[tokio::test]
async fn what_no_rule_speaks_about_is_let_through_and_recorded() {
    let origin = Origin::start().await;
    let port = origin.port();
    let proxy = ProxyBuilder::new("allowed_domains = [\"a.test\"]\ndenied_domains = [\"c.test\"]")
        .local("a.test")
        .local("b.test")
        .local("c.test")
        .host("inside.test", "127.0.0.1")
        .flag("--mode=observe")
        .start()
        .await;
    let literal = "127.0.0.1";
    for (host, status) in
        [("a.test", 200), ("b.test", 200), ("c.test", 403), ("inside.test", 403), (literal, 403)]
    {
        let answer = exchange(proxy.address, get(host, port).as_bytes()).await;
        assert_eq!(answer.status, status, "{host}");
    }
    let decisions = proxy.audit(5, |record| record["event.name"] == "exeat.decision").await;
    let said: Vec<_> = decisions
        .iter()
        .map(|record| {
            [
                "server.address",
                "network.policy.decision",
                "network.policy.reason",
                "network.policy.source",
                "network.policy.override",
            ]
            .map(|field| record[field].clone())
        })
        .collect();
    let baseline = json!("baseline_policy");
    let row = |host: &str, decision: &str, reason: &str, source: &serde_json::Value, over| {
        [json!(host), json!(decision), json!(reason), source.clone(), over]
    };
    let null = serde_json::Value::Null;
    assert_eq!(
        said,
        [
            row("a.test", "allow", "allow", &baseline, null.clone()),
            row("b.test", "allow", "not_allowed", &json!("observe_mode"), json!(true)),
            row("c.test", "deny", "denied", &baseline, null.clone()),
            row("inside.test", "deny", "not_allowed_local", &baseline, null.clone()),
            row(literal, "deny", "not_allowed_local", &baseline, null),
        ]
    );
    let ends = proxy.audit(2, |record| record["event.name"] == "exeat.end").await;
    assert!(ends.iter().all(|end| end["exeat.ending"] == "complete"));
    assert!(
        ends.iter()
            .any(|end| end["server.address"] == "b.test" && end["exeat.rule.line"].is_null())
    );
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn it_is_said_loudly() {
    let observing = ProxyBuilder::new("").flag("--mode=observe").start().await;
    assert!(observing.log().contains("OBSERVE MODE"), "{}", observing.log());
    let ready =
        |log: &str| log.lines().find(|line| line.contains("listening on")).unwrap().to_owned();
    assert!(ready(&observing.log()).ends_with("OBSERVING, not enforcing"));
    let health = observing.health().await;
    assert_eq!((&health["mode"], &health["policy"]["observed"]), (&json!("observe"), &json!(0)));
    let enforcing = ProxyBuilder::new("").start().await;
    assert!(!enforcing.log().contains("OBSERV"), "{}", enforcing.log());
    assert_eq!(enforcing.health().await["mode"], "enforce");
}

#[tokio::test]
async fn a_deny_that_comes_later_ends_what_was_observed() {
    let origin = Origin::start().await;
    let port = origin.port();
    let proxy = ProxyBuilder::new("").local("b.test").flag("--mode=observe").start().await;
    assert_eq!(exchange(proxy.address, get("b.test", port).as_bytes()).await.status, 200);
    proxy.replace_policy("denied_domains = [\"b.test\"]");
    crate::support::eventually("the new policy", || {
        proxy.log().contains("policy reloaded").then_some(())
    })
    .await;
    assert_eq!(exchange(proxy.address, get("b.test", port).as_bytes()).await.status, 403);
    let health = proxy.health().await;
    assert_eq!((&health["mode"], &health["policy"]["observed"]), (&json!("observe"), &json!(1)));
}
