//! The audit: one line a decision, one an end, and never a word too much.

use std::{fs, process::Command};

use crate::support::{Origin, ProxyBuilder, exchange};

#[tokio::test]
async fn one_line_a_decision_and_one_an_end() {
    let origin = Origin::start().await;
    let port = origin.port();
    let proxy = ProxyBuilder::new("allowed_domains = [\"a.test\"]\ndenied_domains = [\"b.test\"]")
        .local("a.test")
        .start()
        .await;
    let request = |host: &str| {
        format!(
            "GET http://{host}:{port}/secret-path?token=secret-query HTTP/1.1\r\n\
             Host: {host}:{port}\r\nAuthorization: Bearer secret-token\r\n\
             Proxy-Authorization: Basic secret-basic\r\n\r\n"
        )
    };
    exchange(proxy.address, request("a.test").as_bytes()).await;
    exchange(proxy.address, request("b.test").as_bytes()).await;
    let records = proxy.audit(3, |_| true).await;
    assert_eq!(records.len(), 3);
    let (allowed, ended, denied) = (&records[0], &records[1], &records[2]);
    assert_eq!(allowed["event.name"], "exeat.decision");
    assert_eq!(allowed["network.policy.decision"], "allow");
    assert_eq!(allowed["network.policy.source"], "baseline_policy");
    assert_eq!(allowed["network.transport.protocol"], "http");
    assert_eq!(allowed["server.address"], "a.test");
    assert_eq!(allowed["server.port"], port);
    assert_eq!(allowed["client.address"], "127.0.0.1");
    assert_eq!(allowed["exeat.rule.pattern"], "a.test");
    assert_eq!(allowed["exeat.rule.line"], 3);
    assert_eq!(allowed["exeat.policy.generation"], 1);
    assert_eq!(ended["event.name"], "exeat.end");
    assert_eq!(ended["exeat.request.id"], allowed["exeat.request.id"]);
    assert_eq!(ended["exeat.ending"], "complete");
    assert_eq!(ended["http.response.status_code"], 200);
    assert!(ended["exeat.bytes.received"].as_u64().unwrap() > 0);
    assert_eq!(denied["network.policy.decision"], "deny");
    assert_eq!(denied["network.policy.reason"], "denied");
    let text = fs::read_to_string(proxy.path("audit.jsonl")).unwrap();
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn the_file_is_reopened_on_sighup() {
    let proxy = ProxyBuilder::new("allowed_domains = [\"a.test\"]").start().await;
    let refused = b"GET http://x.test/ HTTP/1.1\r\nHost: x.test\r\n\r\n";
    exchange(proxy.address, refused).await;
    proxy.audit(1, |_| true).await;
    fs::rename(proxy.path("audit.jsonl"), proxy.path("audit.jsonl.1")).unwrap();
    proxy.signal("HUP");
    crate::support::eventually("the new file", || proxy.path("audit.jsonl").exists().then_some(()))
        .await;
    exchange(proxy.address, refused).await;
    assert_eq!(proxy.audit(1, |_| true).await.len(), 1);
    assert_eq!(fs::read_to_string(proxy.path("audit.jsonl.1")).unwrap().lines().count(), 1);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_target_that_fails_never_stops_traffic() {
    // Every write to /dev/full fails.
    let origin = Origin::start().await;
    let proxy = ProxyBuilder::new("allowed_domains = [\"a.test\"]")
        .local("a.test")
        .flag("--audit=/dev/full")
        .start()
        .await;
    let port = origin.port();
    let request = format!("GET http://a.test:{port}/ HTTP/1.1\r\nHost: a.test:{port}\r\n\r\n");
    for _ in 0..10 {
        assert_eq!(exchange(proxy.address, request.as_bytes()).await.status, 200);
    }
    let deadline = tokio::time::Instant::now() + crate::support::PATIENCE;
    while proxy.health().await["audit"]["dropped"].as_u64().unwrap() < 20 {
        assert!(tokio::time::Instant::now() < deadline, "dropped records are counted");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_reader_that_stalls_never_stops_traffic() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Held open for reading, but never read.
    let _reader = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let proxy = ProxyBuilder::new("allowed_domains = [\"a.test\"]")
        .flag(&format!("--audit={}", pipe.display()))
        .settings("[audit]\nqueue = 10")
        .start()
        .await;
    let refused = b"GET http://x.test/ HTTP/1.1\r\nHost: x.test\r\n\r\n";
    for _ in 0..500 {
        assert_eq!(exchange(proxy.address, refused).await.status, 403);
    }
    assert!(proxy.health().await["audit"]["dropped"].as_u64().unwrap() > 100);
}
