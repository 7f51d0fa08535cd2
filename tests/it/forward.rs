//! Requests in absolute-form: rewritten, judged one by one, pooled.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{
    Answer, Origin, Proxy, ProxyBuilder, RawOrigin, exchange, raw_connect, read_answer,
};

async fn proxy() -> Proxy {
    ProxyBuilder::new("allowed_domains = [\"*.test\"]\ndenied_domains = [\"bad.test\"]")
        .local("ok.test")
        .local("bad.test")
        .start()
        .await
}

fn get(origin: &Origin, path: &str, more: &str) -> Vec<u8> {
    let port = origin.port();
    format!("GET http://ok.test:{port}{path} HTTP/1.1\r\nHost: ok.test:{port}\r\n{more}\r\n").into()
}

fn fields_of(request: &serde_json::Value) -> Vec<(String, String)> {
    request["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| (field[0].as_str().unwrap().into(), field[1].as_str().unwrap().into()))
        .collect()
}

#[tokio::test]
async fn the_origin_sees_its_own_form() {
    let (origin, proxy) = (Origin::start().await, proxy().await);
    let request = get(
        &origin,
        "/a?b=c",
        "Proxy-Authorization: Basic c2VjcmV0\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n\
         Connection: X-Hop\r\nX-Hop: 1\r\nX-Forwarded-For: 1.2.3.4\r\nAccept: */*\r\n",
    );
    let answer = exchange(proxy.address, &request).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.field("via"), Some("1.1 exeat"));
    let request = &origin.requests()[0];
    assert_eq!(request["target"], "/a?b=c");
    let mut fields = fields_of(request);
    fields.sort();
    let expected = [
        ("accept", "*/*"),
        ("host", &*format!("ok.test:{}", origin.port())),
        ("via", "1.1 exeat"),
        ("x-forwarded-for", "1.2.3.4"),
    ];
    assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn empty_paths() {
    let (origin, proxy) = (Origin::start().await, proxy().await);
    for (method, path, expected) in
        [("GET", "", "/"), ("GET", "?x=1", "/?x=1"), ("GET", "/?", "/?"), ("OPTIONS", "/", "/")]
    {
        let port = origin.port();
        let request = format!(
            "{method} http://ok.test:{port}{path} HTTP/1.1\r\nHost: ok.test:{port}\r\n\r\n"
        );
        assert_eq!(exchange(proxy.address, request.as_bytes()).await.status, 200);
        assert_eq!(origin.requests().last().unwrap()["target"], expected, "{method} {path:?}");
    }
}

#[tokio::test]
async fn every_request_on_a_connection_is_judged() {
    let (origin, proxy) = (Origin::start().await, proxy().await);
    let mut client = raw_connect(proxy.address).await;
    for _ in 0..3 {
        client.write_all(&get(&origin, "/", "")).await.unwrap();
        assert_eq!(read_answer(&mut client).await.status, 200);
        let port = origin.port();
        let bad = format!("GET http://bad.test:{port}/ HTTP/1.1\r\nHost: bad.test:{port}\r\n\r\n");
        client.write_all(bad.as_bytes()).await.unwrap();
        let refused = read_answer(&mut client).await;
        assert_eq!((refused.status, refused.field("connection")), (403, None));
        assert_eq!(refused.json()["rule"]["pattern"], "bad.test");
    }
    assert_eq!(origin.requests().len(), 3);
    assert_eq!(origin.connections(), 1, "the origin's connection is used again");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (origin, proxy) = (Origin::start().await, proxy().await);
    let mut client = raw_connect(proxy.address).await;
    let mut both = get(&origin, "/1", "");
    both.extend(get(&origin, "/2", ""));
    both.extend(b"GET http://ok.test/ HTTP/1.1\nHost: ok.test\n\n");
    client.write_all(&both).await.unwrap();
    for path in ["/1", "/2"] {
        let answer: Answer = read_answer(&mut client).await;
        assert_eq!(answer.json()["target"], path);
    }
    let last = read_answer(&mut client).await;
    assert_eq!((last.status, last.field("connection")), (400, Some("close")));
    assert_eq!(client.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn bodies_go_both_ways_with_our_own_framing() {
    let (origin, proxy) = (Origin::start().await, proxy().await);
    let port = origin.port();
    let head = format!("POST http://ok.test:{port}/ HTTP/1.1\r\nHost: ok.test:{port}\r\n");
    let fixed = format!("{head}Content-Length: 5\r\n\r\nhello");
    let chunked =
        format!("{head}Transfer-Encoding: chunked\r\n\r\n2;ext=1\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n");
    let expecting = format!("{head}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    for request in [fixed, chunked] {
        let answer = exchange(proxy.address, request.as_bytes()).await;
        assert_eq!(answer.json()["body"], "hello");
    }
    let mut client = raw_connect(proxy.address).await;
    client.write_all(expecting.as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut client).await.status, 100);
    client.write_all(b"hello").await.unwrap();
    assert_eq!(read_answer(&mut client).await.json()["body"], "hello");
    let ends = proxy.audit(3, |record| record["event.name"] == "exeat.end").await;
    assert!(ends.iter().all(|end| end["exeat.bytes.sent"] == 5), "{ends:?}");
}

#[tokio::test]
async fn a_refused_body_is_not_the_next_request() {
    let (origin, proxy) = (Origin::start().await, proxy().await);
    let smuggled = String::from_utf8(get(&origin, "/smuggled", "")).unwrap();
    let request = format!(
        "POST http://bad.test/ HTTP/1.1\r\nHost: bad.test\r\nContent-Length: {}\r\n\r\n{smuggled}",
        smuggled.len()
    );
    let mut client = raw_connect(proxy.address).await;
    client.write_all(request.as_bytes()).await.unwrap();
    let mut everything = String::new();
    client.read_to_string(&mut everything).await.unwrap();
    assert_eq!(everything.matches("HTTP/1.1 ").count(), 1, "{everything}");
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn requests_with_two_readings_are_refused() {
    let (origin, proxy) = (Origin::start().await, proxy().await);
    let port = origin.port();
    let line = format!("GET http://ok.test:{port}/ HTTP/1.1\r\nHost: ok.test:{port}\r\n");
    for (request, status) in [
        (format!("{line}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), 400),
        (format!("{line}Content-Length: 5\r\nContent-Length: 6\r\n\r\n"), 400),
        (format!("{line}X: a\r\n b\r\n\r\n"), 400),
        (format!("{line}X : a\r\n\r\n"), 400),
        (line.replace('\r', "") + "\n", 400),
        (format!("{line}Host: other.test\r\n\r\n"), 400),
        (format!("GET http://ok.test:{port}/ HTTP/1.1\r\n\r\n"), 400),
        (format!("GET http://ok.test:{port}/ HTTP/1.1\r\nHost: other.test\r\n\r\n"), 400),
        (format!("GET http://ok.test:{port}/ HTTP/1.1\r\nHost: ok.test\r\n\r\n"), 400),
        (format!("GET http://ok.test:{port}/#a HTTP/1.1\r\nHost: ok.test:{port}\r\n\r\n"), 400),
        ("GET https://ok.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n".into(), 400),
        ("OPTIONS * HTTP/1.1\r\nHost: ok.test\r\n\r\n".into(), 400),
        ("\x16\x03\x01\x02\x00\x01".into(), 400),
        ("\x05\x01\x00".into(), 400),
        ("GET ftp://ok.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n".into(), 400),
        (format!("GET http://ok.test:{port}/ HTTP/2.0\r\nHost: ok.test\r\n\r\n"), 505),
        (format!("{line}{}\r\n", "X: y\r\n".repeat(101)), 431),
        (format!("{line}X: {}\r\n\r\n", "y".repeat(70_000)), 431),
        (format!("{line}x-unix-socket: /run/docker.sock\r\n\r\n"), 403),
    ] {
        let answer = exchange(proxy.address, request.as_bytes()).await;
        let shown: String = request.chars().take(120).collect();
        assert_eq!(answer.status, status, "{shown:?} {}", answer.phrase);
    }
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn a_kept_connection_that_the_origin_closed_is_replaced() {
    let proxy = proxy().await;
    let origin = RawOrigin::bind().await;
    let port = origin.port();
    let request = format!("GET http://ok.test:{port}/ HTTP/1.1\r\nHost: ok.test:{port}\r\n\r\n");
    let mut client = raw_connect(proxy.address).await;
    for round in 0..3 {
        client.write_all(request.as_bytes()).await.unwrap();
        let (mut server, _) = origin.accept_request().await;
        server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        assert_eq!(read_answer(&mut client).await.status, 200, "round {round}");
        // Closed without a word, as origins do with idle connections.
    }
}

#[tokio::test]
async fn broken_origins() {
    let proxy = proxy().await;
    for answer in ["", "garbage\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\n\r\n"] {
        let origin = RawOrigin::bind().await;
        let port = origin.port();
        let request =
            format!("GET http://ok.test:{port}/ HTTP/1.1\r\nHost: ok.test:{port}\r\n\r\n");
        let serving = tokio::spawn(async move {
            let (mut server, _) = origin.accept_request().await;
            server.write_all(answer.as_bytes()).await.unwrap();
        });
        let got = exchange(proxy.address, request.as_bytes()).await;
        serving.await.unwrap();
        assert_eq!(got.status, 502, "{answer:?}");
        assert!(got.field("proxy-status").unwrap().contains("http_protocol_error"));
        assert_eq!(got.field("x-proxy-error"), None, "not a matter of policy");
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_not_complete() {
    let proxy = proxy().await;
    let origin = RawOrigin::bind().await;
    let port = origin.port();
    let request = format!("GET http://ok.test:{port}/ HTTP/1.1\r\nHost: ok.test:{port}\r\n\r\n");
    let mut client = raw_connect(proxy.address).await;
    client.write_all(request.as_bytes()).await.unwrap();
    let (mut server, _) = origin.accept_request().await;
    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await.unwrap();
    drop(server);
    let mut everything = Vec::new();
    client.read_to_end(&mut everything).await.unwrap();
    assert!(everything.ends_with(b"half"));
    let ends = proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
    assert_eq!(ends[0]["exeat.ending"], "origin_failed");
}

#[tokio::test]
async fn a_body_that_stands_still_ends() {
    let proxy = ProxyBuilder::new("allowed_domains = [\"ok.test\"]")
        .local("ok.test")
        .settings("[timeouts]\nidle = \"200ms\"")
        .start()
        .await;
    let origin = RawOrigin::bind().await;
    let port = origin.port();
    let head = format!("http://ok.test:{port}/ HTTP/1.1\r\nHost: ok.test:{port}\r\n");

    // The origin's, on its way to the client.
    let mut client = raw_connect(proxy.address).await;
    client.write_all(format!("GET {head}\r\n").as_bytes()).await.unwrap();
    let (mut server, _) = origin.accept_request().await;
    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await.unwrap();
    let mut everything = Vec::new();
    client.read_to_end(&mut everything).await.unwrap();
    assert!(everything.ends_with(b"half"));
    let ends = proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
    assert_eq!(ends[0]["exeat.ending"], "idle_timeout");
    assert_eq!(ends[0]["exeat.bytes.received"], 4);

    // The client's, on its way to the origin, which must not take the half for the whole.
    let mut client = raw_connect(proxy.address).await;
    client
        .write_all(format!("POST {head}Content-Length: 10\r\n\r\nhalf").as_bytes())
        .await
        .unwrap();
    let (mut server, _) = origin.accept_request().await;
    let mut upload = Vec::new();
    server.read_to_end(&mut upload).await.unwrap();
    assert_eq!(upload, b"half");
    let ends = proxy.audit(2, |record| record["event.name"] == "exeat.end").await;
    assert_eq!(ends[1]["exeat.ending"], "idle_timeout");
    assert_eq!(ends[1]["exeat.bytes.sent"], 4);
}

#[tokio::test]
async fn an_upload_is_counted_though_its_client_leaves() {
    let (proxy, origin) = (proxy().await, RawOrigin::bind().await);
    let port = origin.port();
    let head = format!("POST http://ok.test:{port}/ HTTP/1.1\r\nHost: ok.test:{port}\r\n");
    let mut client = raw_connect(proxy.address).await;
    client.write_all(format!("{head}Content-Length: 10\r\n\r\nhalf").as_bytes()).await.unwrap();
    let (mut server, _) = origin.accept_request().await;
    server.read_exact(&mut [0; 4]).await.unwrap();
    drop(client);
    let ends = proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
    assert_eq!(ends[0]["exeat.ending"], "client_gone");
    assert_eq!(ends[0]["exeat.bytes.sent"], 4);
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_request() {
    let proxy = proxy().await;
    let origin = RawOrigin::bind().await;
    let port = origin.port();
    let request = format!("GET http://ok.test:{port}/ HTTP/1.1\r\nHost: ok.test:{port}\r\n\r\n");
    let mut client = raw_connect(proxy.address).await;
    client.write_all(request.as_bytes()).await.unwrap();
    let (mut server, _) = origin.accept_request().await;
    drop(client);
    let mut rest = Vec::new();
    server.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "the origin's connection is closed");
    let ends = proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
    assert_eq!(ends[0]["exeat.ending"], "client_gone");
}

const UPGRADE: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[tokio::test]
async fn websocket_upgrades_pass() {
    let proxy = proxy().await;
    let origin = RawOrigin::bind().await;
    let port = origin.port();
    let request =
        format!("GET http://ok.test:{port}/ws HTTP/1.1\r\nHost: ok.test:{port}\r\n{UPGRADE}\r\n");
    let mut client = raw_connect(proxy.address).await;
    client.write_all(request.as_bytes()).await.unwrap();
    let (mut server, seen) = origin.accept_request().await;
    let seen = seen.to_lowercase();
    assert!(seen.contains("upgrade: websocket") && seen.contains("connection: upgrade"), "{seen}");
    server
        .write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nfirst",
        )
        .await
        .unwrap();
    let answer = read_answer(&mut client).await;
    assert_eq!((answer.status, answer.field("upgrade")), (101, Some("websocket")));
    assert_eq!(answer.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let mut first = [0; 5];
    client.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"first");
    client.write_all(b"frame").await.unwrap();
    client.shutdown().await.unwrap();
    let mut frame = String::new();
    server.read_to_string(&mut frame).await.unwrap();
    assert_eq!(frame, "frame");
}

#[tokio::test]
async fn a_refused_upgrade_closes_and_h2c_is_dropped() {
    let (origin, proxy) = (Origin::start().await, proxy().await);
    let answer = exchange(proxy.address, &get(&origin, "/", UPGRADE)).await;
    assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n";
    assert_eq!(exchange(proxy.address, &get(&origin, "/", h2c)).await.status, 200);
    let seen = fields_of(origin.requests().last().unwrap());
    assert!(!seen.iter().any(|(name, _)| name == "upgrade" || name == "http2-settings"));
}

#[tokio::test]
async fn connection_bound_authentication_is_not_shared() {
    let (origin, proxy) = (Origin::start().await, proxy().await);
    origin.answer_field("WWW-Authenticate", "NTLM TlRMTVNTUAAC");
    let mut first = raw_connect(proxy.address).await;
    let mut second = raw_connect(proxy.address).await;
    for _ in 0..3 {
        for client in [&mut first, &mut second] {
            client.write_all(&get(&origin, "/", "")).await.unwrap();
            assert_eq!(read_answer(client).await.status, 200);
        }
    }
    assert_eq!(origin.connections(), 2, "each client keeps its own");
}

#[tokio::test]
async fn an_answer_without_length_ends_with_the_connection() {
    let proxy = proxy().await;
    let origin = RawOrigin::bind().await;
    let port = origin.port();
    let serving = tokio::spawn(async move {
        let (mut server, _) = origin.accept_request().await;
        server.write_all(b"HTTP/1.0 200 Fine indeed\r\nKeep-Alive: 1\r\n\r\nall").await.unwrap();
    });
    let request = format!("GET http://ok.test:{port}/ HTTP/1.1\r\nHost: ok.test:{port}\r\n\r\n");
    let answer = exchange(proxy.address, request.as_bytes()).await;
    serving.await.unwrap();
    assert_eq!((answer.status, answer.phrase.as_str()), (200, "Fine indeed"));
    assert_eq!(answer.text(), "all");
    assert_eq!((answer.field("keep-alive"), answer.field("via")), (None, Some("1.0 exeat")));
}

#[tokio::test]
async fn trace_goes_nowhere() {
    let (origin, proxy) = (Origin::start().await, proxy().await);
    for more in ["", "Max-Forwards: 0\r\n", "Max-Forwards: 9\r\n"] {
        let trace = String::from_utf8(get(&origin, "/", more)).unwrap().replacen("GET", "TRACE", 1);
        let answer = exchange(proxy.address, trace.as_bytes()).await;
        assert_eq!((answer.status, answer.field("connection")), (405, Some("close")));
        assert_eq!(answer.field("x-proxy-error"), Some("blocked-by-method-policy"));
        assert!(!answer.field("allow").unwrap().contains("TRACE"));
    }
    assert!(origin.requests().is_empty());
    let denials = proxy.audit(3, |record| record["network.policy.decision"] == "deny").await;
    assert_eq!(denials[0]["network.policy.reason"], "method_not_allowed");
}

#[tokio::test]
async fn options_goes_as_far_as_it_may() {
    let (origin, proxy) = (Origin::start().await, proxy().await);
    let ask = async |host: &str, hops: &str| {
        let head = format!("OPTIONS http://{host}/ HTTP/1.1\r\nHost: {host}\r\n");
        exchange(proxy.address, format!("{head}Max-Forwards: {hops}\r\n\r\n").as_bytes()).await
    };
    let host = format!("ok.test:{}", origin.port());
    for (hops, left) in [("1", "0"), ("5", "4"), ("007", "6"), ("99999999999999", "4294967294")] {
        assert_eq!(ask(&host, hops).await.status, 200);
        let seen = fields_of(origin.requests().last().unwrap());
        assert!(seen.contains(&("max-forwards".into(), left.into())), "{hops}: {seen:?}");
    }
    // Answered here, and only if the policy allows it at all.
    let answer = ask(&host, "0").await;
    assert_eq!((answer.status, answer.field("content-length")), (200, Some("0")));
    assert!(answer.field("allow").unwrap().contains("OPTIONS"));
    assert_eq!(ask("bad.test", "0").await.status, 403);
    for wrong in ["-1", "", "1, 2", "x", "1\r\nMax-Forwards: 1"] {
        assert_eq!(ask(&host, wrong).await.status, 400, "{wrong}");
    }
    assert_eq!(origin.requests().len(), 4);
    // Other methods may ignore it.
    let answer = exchange(proxy.address, &get(&origin, "/", "Max-Forwards: 0\r\n")).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn expectations_are_met_here_or_not_at_all() {
    let (origin, proxy) = (Origin::start().await, proxy().await);
    for wrong in ["200-ok", "100-continue, x", "y 100-continue", "", "100-continue\r\nExpect: x"] {
        let get = get(&origin, "/", &format!("Expect: {wrong}\r\n"));
        let answer = exchange(proxy.address, &get).await;
        assert_eq!((answer.status, answer.field("connection")), (417, Some("close")), "{wrong}");
    }
    assert!(origin.requests().is_empty());
    let answer = exchange(proxy.address, &get(&origin, "/", "Expect: 100-Continue\r\n")).await;
    assert_eq!(answer.status, 200);
    assert!(!fields_of(&origin.requests()[0]).iter().any(|(name, _)| name == "expect"));
}

#[tokio::test]
async fn a_body_that_does_not_come_in_time_is_408() {
    for deadline in ["idle", "response_head"] {
        let proxy = ProxyBuilder::new("allowed_domains = [\"ok.test\"]")
            .local("ok.test")
            .settings(&format!("[timeouts]\n{deadline} = \"300ms\""))
            .start()
            .await;
        let origin = RawOrigin::bind().await;
        let host = format!("ok.test:{}", origin.port());
        let mut client = raw_connect(proxy.address).await;
        let head = format!("POST http://{host}/ HTTP/1.1\r\nHost: {host}\r\n");
        client.write_all(format!("{head}Content-Length: 9\r\n\r\nhalf").as_bytes()).await.unwrap();
        let (_server, _) = origin.accept_request().await;
        let answer = read_answer(&mut client).await;
        assert_eq!((answer.status, answer.field("connection")), (408, Some("close")), "{deadline}");
        let ends = proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
        assert_eq!(ends[0]["exeat.ending"], "idle_timeout");
    }
}

#[tokio::test]
async fn an_upload_that_moves_has_all_the_time_it_needs() {
    let proxy = ProxyBuilder::new("allowed_domains = [\"ok.test\"]")
        .local("ok.test")
        .settings("[timeouts]\nresponse_head = \"2s\"")
        .start()
        .await;
    let origin = RawOrigin::bind().await;
    let host = format!("ok.test:{}", origin.port());
    let mut client = raw_connect(proxy.address).await;
    let head =
        format!("POST http://{host}/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: 10\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    let (mut server, _) = origin.accept_request().await;
    for _ in 0..10 {
        // Slow on purpose: the whole takes longer than the deadline, each piece a fraction of it.
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        client.write_all(b"x").await.unwrap();
        server.read_exact(&mut [0]).await.unwrap();
    }
    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert_eq!(read_answer(&mut client).await.status, 200);
}

/// It is the origin that everything waits for, not the client.
#[tokio::test]
async fn an_upload_that_the_origin_does_not_take_is_504() {
    let settings = "[timeouts]\nresponse_head = \"1s\"";
    let proxy = ProxyBuilder::new("allowed_domains = [\"ok.test\"]").local("ok.test");
    let proxy = proxy.settings(settings).start().await;
    let origin = RawOrigin::bind().await;
    let port = origin.port();
    let client = raw_connect(proxy.address).await;
    let (mut answers, mut body) = client.into_split();
    let uploading = tokio::spawn(async move {
        let head = format!(
            "POST http://ok.test:{port}/ HTTP/1.1\r\nHost: ok.test:{port}\r\n\
             Content-Length: 100000000\r\n\r\n"
        );
        body.write_all(head.as_bytes()).await.ok();
        body.write_all(&vec![0; 100_000_000]).await.ok();
        body
    });
    let (_server, _) = origin.accept_request().await;
    let mut answer = Vec::new();
    while !answer.windows(4).any(|window| window == b"\r\n\r\n") {
        assert_ne!(answers.read_buf(&mut answer).await.unwrap(), 0);
    }
    assert!(answer.starts_with(b"HTTP/1.1 504 "), "{}", answer.escape_ascii());
    uploading.abort();
    let end = proxy.audit(1, |record| record["event.name"] == "exeat.end").await.remove(0);
    assert_eq!(end["exeat.ending"], "response_timeout");
}
