//! A parent proxy: what leaves, leaves through it, and nothing that may not leave reaches it.

use std::{
    fs::{self, Permissions},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinHandle,
};

use crate::{
    socks::{asked, by_name, tunnel},
    support::{
        FullListener, Origin, ProxyBuilder, RawOrigin, Zone, connect_to, connect_tunnel,
        eventually, exchange, get, raw_connect, read_answer, skip_optional,
    },
};

const RULES: &str = "allowed_domains = [\"ok.test\", \"in.test\", \"localhost\", \"11.77.0.9\"]\n\
                     denied_domains = [\"evil.test\"]";

/// A child whose parent is asked for what `ask` says.
fn child(parent: SocketAddr, ask: &str) -> ProxyBuilder {
    with_url(&format!("http://{parent}"), ask)
}

fn with_url(url: &str, ask: &str) -> ProxyBuilder {
    ProxyBuilder::new(RULES).settings(&format!("[parent]\nurl = {url:?}\nask = {ask:?}"))
}

/// A parent that answers each CONNECT with what it is given, and keeps what it was asked.
fn scripted(parent: RawOrigin, answers: Vec<Vec<u8>>) -> JoinHandle<Vec<String>> {
    tokio::spawn(async move {
        let mut heads = Vec::new();
        for answer in answers {
            let (mut stream, head) = parent.accept_request().await;
            heads.push(head);
            stream.write_all(&answer).await.unwrap();
            stream.shutdown().await.ok();
            // Whatever the child still says: closing before would reset what it has to read.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok();
        }
        heads
    })
}

fn ended(record: &Value) -> bool {
    record["event.name"] == "exeat.end"
}

#[tokio::test]
async fn another_exeat_is_the_parent() {
    let origin = Origin::start().await;
    let raw = RawOrigin::bind().await;
    let parent =
        ProxyBuilder::new("allowed_domains = [\"ok.test\"]").local("ok.test").start().await;
    let child = child(parent.address, "name").start().await;
    assert!(child.log().contains(&format!("; by the parent proxy {}", parent.url())));

    let mut stream = raw_connect(child.address).await;
    for _ in 0..3 {
        stream.write_all(&get("ok.test", origin.port())).await.unwrap();
        assert_eq!(read_answer(&mut stream).await.status, 200);
    }
    assert_eq!((origin.requests().len(), origin.connections()), (3, 1));

    let mut tunnel = connect_tunnel(child.address, &format!("ok.test:{}", raw.port())).await;
    let mut accepted = raw.accept().await;
    accepted.write_all(b"220 hello\r\n").await.unwrap();
    let mut said = [0; 11];
    tunnel.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"220 hello\r\n");
    tunnel.write_all(b"QUIT\r\n").await.unwrap();
    tunnel.shutdown().await.unwrap();
    let mut heard = String::new();
    accepted.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "QUIT\r\n");
    drop((accepted, tunnel));

    for record in child.audit(4, ended).await {
        assert_eq!(record["exeat.parent.address"], "127.0.0.1");
        assert_eq!(record["exeat.parent.port"], parent.address.port());
        assert_eq!(record["network.peer.address"], Value::Null);
    }
    // Its kept connection ends with the child.
    drop(child);
    let asked = parent.audit(2, ended).await;
    assert!(asked.iter().all(|record| record["server.address"] == "ok.test"));
    assert!(asked.iter().all(|record| record["http.request.method"] == "CONNECT"));
}

#[tokio::test]
async fn what_comes_by_socks_goes_by_it_too() {
    let parent = RawOrigin::bind().await;
    let proxy = child(parent.address, "address")
        .host("ok.test", "11.77.0.1")
        .flag("--socks=127.0.0.1:0")
        .settings("[timeouts]\nconnect = \"300ms\"")
        .start()
        .await;
    let heads = scripted(parent, vec![b"HTTP/1.1 200 OK\r\n\r\n220 early\r\n".to_vec()]);
    let mut open = tunnel(&proxy, &by_name(b"ok.test", 25), usize::MAX).await;
    let mut said = String::new();
    open.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "220 early\r\n");
    drop(open);
    let heads = heads.await.unwrap();
    assert_eq!(heads, ["CONNECT 11.77.0.1:25 HTTP/1.1\r\nHost: 11.77.0.1:25\r\n\r\n"]);
    let record = &proxy.audit(1, ended).await[0];
    assert_eq!(record["network.transport.protocol"], "socks5_tcp");
    assert_eq!(record["network.peer.address"], "11.77.0.1");
    assert_eq!(record["exeat.parent.address"], "127.0.0.1");
    // It is gone: that says nothing about the host. What the policy refuses is refused as ever.
    assert_eq!(asked(proxy.socks(), &by_name(b"ok.test", 25)).await, 4);
    assert_eq!(asked(proxy.socks(), &by_name(b"evil.test", 25)).await, 2);
}

#[tokio::test]
async fn its_answers_have_numbers_in_socks() {
    let silent = RawOrigin::bind().await;
    let proxy = child(silent.address, "name")
        .flag("--socks=127.0.0.1:0")
        .settings("[timeouts]\nconnect = \"300ms\"")
        .start()
        .await;
    assert_eq!(asked(proxy.socks(), &by_name(b"ok.test", 25)).await, 6);
    for (status, code) in [("403", 2), ("451", 2), ("407", 4), ("502", 4), ("504", 6), ("x", 4)] {
        let parent = RawOrigin::bind().await;
        let proxy = child(parent.address, "name").flag("--socks=127.0.0.1:0").start().await;
        let answer = format!("HTTP/1.1 {status} No\r\n\r\n").into_bytes();
        let heads = scripted(parent, vec![answer]);
        assert_eq!(asked(proxy.socks(), &by_name(b"ok.test", 25)).await, code, "{status}");
        assert!(heads.await.unwrap()[0].starts_with("CONNECT ok.test:25 "));
        proxy.audit(1, |record| record["exeat.ending"] == "parent_failed").await;
    }
}

#[tokio::test]
async fn what_may_not_leave_does_not_reach_it() {
    for ask in ["name", "address"] {
        let parent = RawOrigin::bind().await;
        let child = child(parent.address, ask)
            .host("in.test", "10.0.0.1")
            .host("metadata.test", "169.254.169.254")
            .start()
            .await;
        let mut refused =
            vec!["evil.test", "other.test", "10.0.0.1", "127.0.0.1", "169.254.169.254"];
        if ask == "address" {
            refused.push("in.test");
        }
        for host in refused {
            assert_eq!(exchange(child.address, &get(host, 80)).await.status, 403, "{host}");
            assert_eq!(exchange(child.address, &connect_to(host)).await.status, 403, "{host}");
        }
        drop(child);
        let accepted = parent.listener.into_std().unwrap().accept();
        assert_eq!(accepted.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}

#[tokio::test]
async fn it_is_asked_for_the_vetted_address() {
    let parent = RawOrigin::bind().await;
    let proxy = child(parent.address, "address").host("ok.test", "11.77.0.1");
    let proxy = proxy.start().await;
    let heads = scripted(parent, vec![b"HTTP/1.1 200 OK\r\n\r\n220 early\r\n".to_vec(); 2]);
    let mut tunnel = connect_tunnel(proxy.address, "ok.test:25").await;
    let mut said = String::new();
    tunnel.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "220 early\r\n");
    drop(tunnel);
    let mut tunnel = connect_tunnel(proxy.address, "11.77.0.9:25").await;
    tunnel.read_to_string(&mut said).await.unwrap();
    drop(tunnel);
    let heads = heads.await.unwrap();
    let head = |target| format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    assert_eq!(heads, [head("11.77.0.1:25"), head("11.77.0.9:25")]);
    let record = &proxy.audit(2, ended).await[0];
    assert_eq!(record["network.peer.address"], "11.77.0.1");
    assert_eq!(record["network.peer.port"], 25);
    assert_eq!(record["exeat.parent.address"], "127.0.0.1");
}

/// A host may have addresses that a parent reaches, and others.
#[tokio::test]
async fn each_address_is_tried_while_it_may_help() {
    let dns = Zone::default()
        .name("ok.test", &["2600::1", "11.77.0.1", "11.77.0.2", "11.77.0.3"])
        .serve()
        .await;
    for (answers, asked, status) in [
        (vec!["502 No", "503 No", "200 OK"], vec!["11.77.0.1", "11.77.0.2", "11.77.0.3"], 200),
        (vec!["502 No", "504 No", "503 No"], vec!["11.77.0.1", "11.77.0.2", "11.77.0.3"], 502),
        (vec!["403 No"], vec!["11.77.0.1"], 403),
    ] {
        let parent = RawOrigin::bind().await;
        let proxy = child(parent.address, "address").dns(dns.address).start().await;
        let answers =
            answers.iter().map(|line| format!("HTTP/1.1 {line}\r\n\r\n").into()).collect();
        let heads = scripted(parent, answers);
        let answer = exchange(proxy.address, &connect_to("ok.test")).await;
        assert_eq!(answer.status, status);
        let heads = heads.await.unwrap();
        let targets: Vec<&str> =
            heads.iter().map(|head| head.split([' ', ':']).nth(1).unwrap()).collect();
        assert_eq!(targets, asked);
    }
}

#[tokio::test]
async fn credentials_go_to_the_parent_and_nowhere_else() {
    for from_file in [true, false] {
        let parent = RawOrigin::bind().await;
        let url = format!("http://us%40r:hid%2fden@{}", parent.address);
        let builder = match from_file {
            true => with_url(&url, "name"),
            false => ProxyBuilder::new(RULES)
                .settings("[parent]\nask = \"name\"")
                .variable("EXEAT_PARENT", &url),
        };
        let proxy = builder.start().await;
        let heads = scripted(
            parent,
            vec![b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\n".to_vec()],
        );
        let request = "CONNECT ok.test:443 HTTP/1.1\r\nHost: ok.test:443\r\n\
                       Proxy-Authorization: Basic Y2xpZW50OnNlY3JldA==\r\n\r\n";
        let answer = exchange(proxy.address, request.as_bytes()).await;
        assert_eq!((answer.status, answer.field("proxy-authenticate")), (502, None));
        assert_eq!(
            heads.await.unwrap(),
            ["CONNECT ok.test:443 HTTP/1.1\r\nHost: ok.test:443\r\n\
              Proxy-Authorization: Basic dXNAcjpoaWQvZGVu\r\n\r\n"]
        );
        proxy.audit(1, ended).await;
        let audit = fs::read_to_string(proxy.path("audit.jsonl")).unwrap();
        let health = proxy.health().await.to_string();
        for shown in [proxy.log(), audit, health, format!("{answer:?}")] {
            for secret in ["hid", "us%40r", "us@r", "dXNAcjp", "Y2xpZW50"] {
                assert!(!shown.contains(secret), "{secret}: {shown}");
            }
        }
    }
}

#[tokio::test]
async fn what_a_parent_answers_instead() {
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    let interim = format!("{}HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 102 Wait\r\n\r\n".repeat(200));
    for (answer, status, error, reason) in [
        ("HTTP/1.1 403 secret\r\n\r\n", 403, "http_request_denied", "parent_refused"),
        ("HTTP/1.0 451 secret\r\n\r\nsecret", 403, "http_request_denied", "parent_refused"),
        ("HTTP/1.1 407 secret\r\n\r\n", 502, "proxy_configuration_error", "parent_credentials"),
        ("HTTP/1.1 404 secret\r\n\r\n", 502, "destination_unavailable", "parent_failure"),
        (
            "HTTP/1.1 302 secret\r\nLocation: http://secret/\r\n\r\n",
            502,
            "destination_unavailable",
            "parent_failure",
        ),
        ("HTTP/1.1 503 secret\r\n\r\n", 502, "destination_unavailable", "parent_failure"),
        ("HTTP/1.1 504 secret\r\n\r\n", 504, "connection_timeout", "parent_failure"),
        ("", 502, "http_protocol_error", "parent_failure"),
        ("HTTP/1.1 200 OK\r\n", 502, "http_protocol_error", "parent_failure"),
        ("HTTP/1.1 200 OK\n\n", 502, "http_protocol_error", "parent_failure"),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", 502, "http_protocol_error", "parent_failure"),
        ("HTTP/2 200\r\n\r\n", 502, "http_protocol_error", "parent_failure"),
        (
            "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
            502,
            "http_protocol_error",
            "parent_failure",
        ),
        ("SSH-2.0-secret\r\n\r\n", 502, "http_protocol_error", "parent_failure"),
        (&large, 502, "http_protocol_error", "parent_failure"),
        (&interim, 502, "http_protocol_error", "parent_failure"),
    ] {
        let shown = answer.get(..40).unwrap_or(answer);
        let parent = RawOrigin::bind().await;
        let proxy = child(parent.address, "name").start().await;
        let heads = scripted(parent, vec![answer.into(), answer.into()]);
        for request in [connect_to("ok.test"), get("ok.test", 80)] {
            let said = exchange(proxy.address, &request).await;
            assert_eq!((said.status, &said.json()["reason"]), (status, &json!(reason)), "{shown}");
            let proxy_status = said.field("proxy-status").unwrap();
            assert!(proxy_status.contains(&format!("error={error};")), "{shown}: {proxy_status}");
            assert!(
                said.phrase.contains("exeat: ok.test cannot be reached: the parent"),
                "{said:?}"
            );
            assert!(!format!("{said:?}").contains("secret"), "{said:?}");
            let refused = (status == 403).then_some("blocked-by-policy");
            assert_eq!(said.field("x-proxy-error"), refused);
        }
        let heads = heads.await.unwrap();
        assert!(heads[1].starts_with("CONNECT ok.test:80 "), "{heads:?}");
        for record in proxy.audit(2, ended).await {
            assert_eq!(record["exeat.ending"], "parent_failed", "{shown}");
        }
    }
}

/// In pieces, after others, with what RFC 9110 §9.3.6 has a client ignore.
#[tokio::test]
async fn an_answer_may_come_as_it_likes() {
    for answer in [
        "HTTP/1.1 2|00 OK\r|\nVia: x\r\n\r|\nhello",
        "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 100 Go\r\n|\r\nHTTP/1.0 299 Fine\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello",
    ] {
        let parent = RawOrigin::bind().await;
        let proxy = child(parent.address, "name").start().await;
        let answering = tokio::spawn(async move {
            let (mut stream, _) = parent.accept_request().await;
            stream.set_nodelay(true).unwrap();
            for part in answer.split('|') {
                stream.write_all(part.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
            stream.shutdown().await.unwrap();
            let mut heard = String::new();
            stream.read_to_string(&mut heard).await.unwrap();
            heard
        });
        let mut tunnel = connect_tunnel(proxy.address, "ok.test:25").await;
        tunnel.write_all(b"bye\r\n").await.unwrap();
        tunnel.shutdown().await.unwrap();
        let mut said = String::new();
        tunnel.read_to_string(&mut said).await.unwrap();
        assert_eq!((said.as_str(), answering.await.unwrap().as_str()), ("hello", "bye\r\n"));
    }
}

#[tokio::test]
async fn a_parent_that_is_not_there_or_does_not_answer() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let full = FullListener::bind();
    let silent = RawOrigin::bind().await;
    for (url, status, error) in [
        (format!("http://{closed}"), 502, "connection_refused"),
        (format!("http://{}", full.address), 504, "connection_timeout"),
        (format!("http://{}", silent.address), 504, "connection_timeout"),
        ("http://nowhere.test:1".to_owned(), 502, "dns_error"),
    ] {
        let builder = with_url(&url, "name").settings("[timeouts]\nconnect = \"300ms\"");
        let proxy = builder.start().await;
        let answer = exchange(proxy.address, &connect_to("ok.test")).await;
        assert_eq!(answer.status, status, "{url}");
        assert!(answer.field("proxy-status").unwrap().contains(error), "{url}: {answer:?}");
        let connect = proxy.health().await["timeouts"]["connect"].clone();
        let is_timeout = error == "connection_timeout" && url.contains(&silent.address.to_string());
        assert!(!is_timeout || connect == 1, "{connect}");
    }
}

#[tokio::test]
async fn exceptions_are_dialled_without_it() {
    let origin = Origin::start().await;
    let parent = RawOrigin::bind().await;
    let here = |builder: ProxyBuilder| builder.local("ok.test").host("in.test", "127.0.0.1");
    let url = format!("http://{}", parent.address);
    let builders = [
        with_url(&url, "name").settings("except = [\"ok.*\"]"),
        with_url(&url, "name").variable("NO_PROXY", "x.test, .ok.test"),
        with_url(&url, "address").variable("no_proxy", "test"),
        // What leads to this machine is dialled from it.
        with_url(&url, "address"),
    ];
    for builder in builders {
        let proxy = here(builder).start().await;
        for host in ["ok.test", "localhost"] {
            let answer = exchange(proxy.address, &get(host, origin.port())).await;
            assert_eq!(answer.status, 200, "{host} {}", answer.text());
        }
        for record in proxy.audit(2, ended).await {
            assert_eq!(record["network.peer.address"], "127.0.0.1");
            assert_eq!(record["exeat.parent.address"], Value::Null);
        }
    }
    let accepted = parent.listener.into_std().unwrap().accept();
    assert_eq!(accepted.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

/// Starts what must not start.
fn start(rules: &str, arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let files = ProxyBuilder::new(rules).files();
    let mut command = Command::new(env!("CARGO_BIN_EXE_exeat"));
    command
        .env_clear()
        .current_dir(files.path())
        .args(["serve", "--requirements", "requirements.toml", "--audit", "off"])
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn what_cannot_be_a_parent_stops_the_start() {
    let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let own = format!("http://u:hidden@{at}");
    let listen = at.to_string();
    let local = format!("http://localhost:{}", at.port());
    let forbidden = "allow_upstream_proxy = false";
    let named = "allow_upstream_proxy = true";
    for (rules, arguments, variables, code, said) in [
        (
            forbidden,
            vec!["--parent", "http://u:hidden@p.test:1"],
            vec![],
            78,
            "http://p.test:1 may not be used: the policy forbids",
        ),
        (
            forbidden,
            vec![],
            vec![("EXEAT_PARENT", "http://u:hidden@p.test:1")],
            78,
            "allow_upstream_proxy = false",
        ),
        (
            "",
            vec!["--parent", "ftp://u:hidden@p.test:1"],
            vec![],
            64,
            "--parent: the scheme is not http://",
        ),
        (
            "",
            vec!["--parent", "https://u:hidden@p.test:1"],
            vec![],
            64,
            "https:// is not supported",
        ),
        (
            "",
            vec![],
            vec![("EXEAT_PARENT", "http://u:hidden@p.test:x")],
            78,
            "EXEAT_PARENT is `...`",
        ),
        ("", vec!["--listen", &listen, "--parent", &own], vec![], 78, "is this proxy itself"),
        ("", vec!["--listen", &listen, "--parent", &local], vec![], 78, "is this proxy itself"),
        (
            "",
            vec!["--listen", "127.0.0.1:0", "--socks", &listen, "--parent", &own],
            vec![],
            78,
            "is this proxy itself",
        ),
        (
            "",
            vec!["--listen", "127.0.0.1:0", "--transparent", &listen, "--parent", &local],
            vec![],
            78,
            "is this proxy itself",
        ),
        (
            named,
            vec![],
            vec![("all_proxy", "socks5://u:hidden@p.test:1")],
            78,
            "all_proxy names no parent proxy: the scheme",
        ),
        ("", vec!["--settings", "wrong.toml"], vec![], 78, "cannot read settings"),
    ] {
        let (ended, stderr) = start(rules, &arguments, &variables);
        assert_eq!((ended, stderr.contains(said)), (Some(code), true), "{said}: {stderr}");
        assert!(!stderr.contains("hidden"), "{stderr}");
    }
    // A settings file is drawn, and what is drawn has no password.
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("wrong.toml");
    fs::write(&path, "[parent]\nurl = \"ftp://u:hidden@p.test:1\"\n").unwrap();
    let (code, stderr) = start("", &["--settings", path.to_str().unwrap()], &[]);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("url = *****") && !stderr.contains("hidden"), "{stderr}");
}

#[tokio::test]
async fn the_policy_says_whether_the_environment_may_name_one() {
    let origin = Origin::start().await;
    let parent =
        ProxyBuilder::new("allowed_domains = [\"ok.test\"]").local("ok.test").start().await;
    for (rule, goes_by_it) in [
        ("allow_upstream_proxy = true\n", true),
        ("", false),
        ("allow_upstream_proxy = false\n", false),
    ] {
        let builder = ProxyBuilder::new(&format!("{rule}{RULES}"));
        let proxy = builder
            .local("ok.test")
            .settings("[parent]\nask = \"name\"")
            .variable("HTTPS_PROXY", &parent.url())
            .variable("http_proxy", "http://127.0.0.1:9")
            .start()
            .await;
        let answer = exchange(proxy.address, &get("ok.test", origin.port())).await;
        assert_eq!(answer.status, 200);
        let said = format!("; by the parent proxy {}, as HTTPS_PROXY says", parent.url());
        assert_eq!(proxy.log().contains(&said), goes_by_it, "{rule} {}", proxy.log());
        let record = &proxy.audit(1, ended).await[0];
        assert_eq!(record["exeat.parent.port"] == parent.address.port(), goes_by_it, "{record}");
    }
}

#[tokio::test]
async fn a_parent_found_to_be_itself_is_a_loop() {
    let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://own.test:{}", at.port());
    let builder = || with_url(&url, "name").host("own.test", "127.0.0.1");
    for builder in [builder().listen(at), builder().flag(&format!("--socks={at}"))] {
        let proxy = builder.start().await;
        let answer = exchange(proxy.address, &connect_to("ok.test")).await;
        assert_eq!(answer.status, 502);
        let proxy_status = answer.field("proxy-status").unwrap();
        assert!(proxy_status.contains("proxy_loop_detected"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_new_policy_ends_what_goes_by_it() {
    let forbids = format!("allow_upstream_proxy = false\n{RULES}");
    let takes_away = "allowed_domains = [\"other.test\"]";
    for (rules, refused) in [(forbids.as_str(), "proxy_disabled"), (takes_away, "not_allowed")] {
        let parent = RawOrigin::bind().await;
        let proxy = child(parent.address, "name").start().await;
        let parent = tokio::spawn(async move {
            let (mut stream, _) = parent.accept_request().await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            stream.read_to_end(&mut Vec::new()).await.ok();
        });
        let mut tunnel = connect_tunnel(proxy.address, "ok.test:25").await;
        proxy.replace_policy(rules);
        tunnel.read_to_end(&mut Vec::new()).await.ok();
        parent.await.unwrap();
        let answer = exchange(proxy.address, &connect_to("ok.test")).await;
        assert_eq!((answer.status, &answer.json()["reason"]), (403, &json!(refused)), "{answer:?}");
        if refused == "proxy_disabled" {
            assert!(answer.phrase.contains("which forbids the parent proxy"), "{answer:?}");
            assert!(proxy.log().contains("no longer lets anything leave through the parent"));
        }
    }
}

#[tokio::test]
async fn what_run_starts_goes_by_it_too() {
    let origin = Origin::start().await;
    let parent =
        ProxyBuilder::new("allowed_domains = [\"ok.test\"]").local("ok.test").start().await;
    let files = ProxyBuilder::new(RULES).settings("[parent]\nask = \"name\"").files();
    let url = parent.url().replace("://", "://user:hidden@");
    for by_flag in [true, false] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_exeat"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.current_dir(files.path()).args(["run", "--requirements", "requirements.toml"]);
        command.args(["--settings", "exeat.toml"]);
        match by_flag {
            true => command.args(["--parent", &url]),
            false => command.env("EXEAT_PARENT", &url).env("HTTPS_PROXY", &url),
        };
        let program = format!(
            "env | grep -c hidden; exec {} why ok.test:{}",
            env!("CARGO_BIN_EXE_exeat"),
            origin.port()
        );
        command.args(["--", "sh", "-c", &program]);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(output.stdout.starts_with(b"0\n"), "{output:?}");
    }
    let asked = parent.audit(2, ended).await;
    assert!(asked.iter().all(|record| record["server.port"] == origin.port()));
}

/// A squid that wants a password, and lets through to one port. Ended when dropped.
struct Squid {
    child: Child,
    address: SocketAddr,
    _files: TempDir,
}

impl Drop for Squid {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Squid {
    /// None where there is no squid.
    async fn start(port: u16) -> Option<Self> {
        let files = tempfile::tempdir().unwrap();
        // It gives up being root, and reads them afterwards.
        fs::set_permissions(files.path(), Permissions::from_mode(0o755)).unwrap();
        let path = |name: &str| files.path().join(name).display().to_string();
        let asker = "#!/bin/sh\nwhile read -r user password; do\n\
                     [ \"$user $password\" = 'user right' ] && echo OK || echo ERR\ndone\n";
        fs::write(path("asker"), asker).unwrap();
        fs::set_permissions(path("asker"), Permissions::from_mode(0o755)).unwrap();
        fs::write(path("hosts"), "127.0.0.1 ok.test\n").unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let conf = format!(
            "http_port {address}\nvisible_hostname squid.test\npid_filename none\ncache deny all\n\
             access_log none\ncache_log /dev/null\ncache_store_log none\nshutdown_lifetime 0\n\
             dns_nameservers 127.0.0.1\ndns_timeout 1 second\nhosts_file {}\n\
             auth_param basic program {}\nauth_param basic children 1\n\
             acl known proxy_auth REQUIRED\nacl wanted port {port}\n\
             http_access deny !known\nhttp_access deny !wanted\nhttp_access allow all\n",
            path("hosts"),
            path("asker"),
        );
        fs::write(path("squid.conf"), conf).unwrap();
        let mut command = Command::new("squid");
        command.args(["-N", "-f", &path("squid.conf")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut squid = match command.spawn() {
            Ok(child) => Self { child, address, _files: files },
            Err(error) => {
                skip_optional(&format!("no squid ({error})"));
                return None;
            }
        };
        eventually("squid listens", || {
            assert_eq!(squid.child.try_wait().unwrap(), None, "squid ended");
            std::net::TcpStream::connect(address).ok()
        })
        .await;
        Some(squid)
    }
}

/// The one that most others would have.
#[tokio::test(flavor = "multi_thread")]
async fn squid_is_the_parent() {
    let origin = Origin::start().await;
    let Some(squid) = Squid::start(origin.port()).await else { return };
    let url = format!("http://user:right@{}", squid.address);
    let proxy = with_url(&url, "name").start().await;
    let answer = exchange(proxy.address, &get("ok.test", origin.port())).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(origin.requests().len(), 1);
    let fields = origin.requests()[0]["fields"].to_string();
    assert!(!fields.contains("squid"), "a tunnel, which squid does not look into: {fields}");

    // Squid knows no such host, and may not go there.
    for (host, port, status) in [("in.test", origin.port(), 502), ("ok.test", 1, 403)] {
        let answer = exchange(proxy.address, &get(host, port)).await;
        assert_eq!(answer.status, status, "{host} {}", answer.text());
    }
    let url = format!("http://user:wrong@{}", squid.address);
    let proxy = with_url(&url, "name").start().await;
    let answer = exchange(proxy.address, &get("ok.test", origin.port())).await;
    assert_eq!((answer.status, &answer.json()["reason"]), (502, &json!("parent_credentials")));
}
