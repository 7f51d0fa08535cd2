//! `--mode observe`: what no rule speaks about is let through and recorded, and nothing else is.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::json;

use crate::support::{Origin, Proxy, ProxyBuilder, exchange};

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
    assert!(!observing.log().contains("not recorded"));
    let blind = ProxyBuilder::new("").flag("--mode=observe").flag("--audit=off").start().await;
    assert!(blind.log().contains("observed requests are not recorded"), "{}", blind.log());
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

fn exeat(arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_exeat"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

const BASE: &str = "allowed_domains = [\"a.test\"]\ndenied_domains = [\"denied.test\"]";

/// The proxy of these tests, its policy apart.
fn proxy(policy: &str) -> ProxyBuilder {
    let names = ["a.test", "b.test", "denied.test", "cdn.example.com", "other.cdn.example.com"];
    let numbered: Vec<String> = (0..6).map(|n| format!("n{n}.cdn.example.com")).collect();
    let all = names.into_iter().chain(numbered.iter().map(String::as_str));
    all.fold(ProxyBuilder::whole(policy), |proxy, name| proxy.local(name))
}

async fn statuses(proxy: &Proxy, hosts: &[&str], port: u16) -> Vec<u16> {
    let mut statuses = Vec::new();
    for host in hosts {
        statuses.push(exchange(proxy.address, get(host, port).as_bytes()).await.status);
    }
    statuses
}

#[tokio::test]
async fn observe_then_suggest_then_enforce() {
    let origin = Origin::start().await;
    let port = origin.port();
    let base = format!("[experimental_network]\nenabled = true\n{BASE}\n");
    let observing = proxy(&base).flag("--mode=observe").start().await;
    let hosts = [
        "a.test",
        "b.test",
        "n0.cdn.example.com",
        "n1.cdn.example.com",
        "n2.cdn.example.com",
        "n3.cdn.example.com",
        "n4.cdn.example.com",
        "b.test",
        "denied.test",
    ];
    let [allowed @ .., denied] = &hosts;
    assert_eq!(statuses(&observing, allowed, port).await, [200; 8]);
    assert_eq!(statuses(&observing, &[denied], port).await, [403]);
    observing.audit(17, |_| true).await;

    let audit = observing.path("audit.jsonl");
    let audit = audit.to_str().unwrap();
    let (code, suggested, said) = exeat(&["suggest", "--audit", audit], "");
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let lines: Vec<&str> = suggested.lines().filter(|line| line.starts_with("    \"")).collect();
    let private = "; not public: needs `[egress] private` in exeat.toml too";
    let line = |pattern: &str, rest: &str| {
        let quoted = format!("\"{pattern}:{port}\",");
        let width = "\"*.cdn.example.com:\",".len() + port.to_string().len();
        format!("    {quoted:width$} # {rest}{private}")
    };
    assert_eq!(
        lines,
        [
            line("*.cdn.example.com", "5 requests for 5 names"),
            line("a.test", "1 request"),
            line("b.test", "2 requests"),
        ],
        "{suggested}"
    );
    assert!(
        suggested.contains(&format!("#   denied.test:{port}  denied  1 request\n")),
        "{suggested}"
    );

    // The same requests pass, and others do not.
    let enforcing = proxy(&suggested).start().await;
    assert_eq!(statuses(&enforcing, allowed, port).await, [200; 8]);
    let others = [denied, "n5.cdn.example.com", "cdn.example.com"];
    assert_eq!(statuses(&enforcing, &others, port).await, [403, 200, 403]);

    // What it changes, beside what there was.
    let old = observing.path("requirements.toml");
    let new = enforcing.path("requirements.toml");
    let paths = [old.to_str().unwrap(), new.to_str().unwrap()];
    let (code, changes, _) = exeat(&["diff", paths[0], paths[1]], "");
    assert_eq!(code, Some(1));
    let gains = format!("  gains b.test:{port}: was not_allowed, is allowed by b.test:{port} ");
    assert!(changes.contains(&gains), "{changes}");

    // Beside a policy only what it does not allow is listed.
    let (code, rest, _) = exeat(&["suggest", "--audit", audit, "--requirements", paths[0]], "");
    assert_eq!(code, Some(0));
    assert!(!rest.contains("\"a.test") && rest.contains(&format!("\"b.test:{port}\"")), "{rest}");
    let (_, nothing, _) = exeat(&["suggest", "--audit", audit, "--requirements", paths[1]], "");
    assert!(nothing.contains("allowed_domains = [\n]\n"), "{nothing}");
}

#[test]
fn nobody_writes_into_a_suggestion() {
    let audit = "{\"event.name\":\"exeat.decision\",\"timestamp\":\"x\\n[y]\",\"server.address\":\
        \"a.com\",\"server.port\":443,\"network.policy.decision\":\"allow\"}\n\
        {\"event.name\":\"exeat.decision\",\"server.address\":\"b.com\\\", \\\"*\",\"server.port\":1,\
        \"network.policy.decision\":\"allow\"}\nnonsense\n";
    let (code, suggested, said) = exeat(&["suggest", "--audit", "-"], audit);
    assert_eq!(code, Some(0));
    assert_eq!(said, "exeat: 2 lines of - are no audit records\n");
    let rest: Vec<&str> = suggested.lines().filter(|line| !line.starts_with('#')).collect();
    let list = "allowed_domains = [";
    assert_eq!(
        rest,
        ["", "[experimental_network]", "enabled = true", list, "    \"a.com\", # 1 request", "]"]
    );
    assert_eq!(exeat(&["suggest", "--audit", "/nonexistent"], "").0, Some(69));
    let broken = ["suggest", "--audit", "-", "--requirements", "/nonexistent"];
    assert_eq!(exeat(&broken, "").0, Some(78));
}
