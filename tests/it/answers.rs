//! What an origin sends cannot be taken for the answer to another request.

use tokio::io::AsyncWriteExt as _;

use crate::support::{
    Connection, Proxy, ProxyBuilder, RawOrigin, Recorder, Reply, eventually, exchange, raw_connect,
    read_answer,
};

async fn proxy() -> Proxy {
    ProxyBuilder::new("allowed_domains = [\"ok.test\"]").local("ok.test").start().await
}

fn request(method: &str, port: u16, path: &str) -> Vec<u8> {
    format!("{method} http://ok.test:{port}{path} HTTP/1.1\r\nHost: ok.test:{port}\r\n\r\n").into()
}

/// Asks twice on one connection; the first request is answered with these bytes.
async fn ask_twice(proxy: &Proxy, method: &str, answer: &[u8]) -> (Reply, bool) {
    let origin = Recorder::start().await;
    origin.answer_next(answer, false);
    let mut client = Connection::open(proxy.address).await;
    client.stream.write_all(&request(method, origin.port(), "/")).await.unwrap();
    let first = client.answer().await.unwrap();
    client.stream.write_all(&request("GET", origin.port(), "/sentinel")).await.unwrap();
    let second = client.answer().await.unwrap();
    assert_eq!((second.status, &*second.body), (200, b"sentinel".as_slice()), "{first:?}");
    let requests = origin.take();
    (first, requests[0].connection == requests[1].connection)
}

#[tokio::test]
async fn what_follows_an_answer_is_nobodys() {
    let proxy = proxy().await;
    let forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
    for (method, head) in [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n"),
        ("GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("HEAD", "HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ] {
        let (first, reused) = ask_twice(&proxy, method, head.as_bytes()).await;
        assert!(reused && first.status != 502, "{method} {head}: {first:?}");
        let (first, reused) = ask_twice(&proxy, method, format!("{head}{forged}").as_bytes()).await;
        assert!(!reused && first.status != 502, "{method} {head}: {first:?}");
    }
}

#[tokio::test]
async fn a_204_that_announces_a_body_has_none_and_is_the_last() {
    let proxy = proxy().await;
    for framing in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        for body in ["", "hello"] {
            let answer = format!("HTTP/1.1 204 No Content\r\n{framing}\r\n\r\n{body}");
            let (first, reused) = ask_twice(&proxy, "GET", answer.as_bytes()).await;
            assert_eq!((first.status, first.field("content-length")), (204, None));
            assert_eq!(first.field("transfer-encoding"), None);
            assert!(!reused, "{answer}");
        }
    }
}

#[tokio::test]
async fn what_comes_before_a_request_is_no_answer_to_it() {
    let (proxy, origin) = (proxy().await, RawOrigin::bind().await);
    let port = origin.port();
    let mut client = raw_connect(proxy.address).await;
    for _ in 0..20 {
        client.write_all(&request("GET", port, "/")).await.unwrap();
        let (mut server, _) = origin.accept_request().await;
        server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        assert_eq!(read_answer(&mut client).await.status, 200);
        // The connection is idle. Whether the proxy has noticed by the next request or not.
        server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged").await.unwrap();
        client.write_all(&request("GET", port, "/")).await.unwrap();
        let (mut fresh, _) = origin.accept_request().await;
        fresh.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue").await.unwrap();
        assert_eq!(read_answer(&mut client).await.text(), "true");
        drop(fresh);
        // Not kept: closed by its origin.
    }
}

#[tokio::test]
async fn answers_are_read_however_they_are_cut() {
    let proxy = proxy().await;
    let answer = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\
        Transfer-Encoding: chunked\r\nX: y\r\n\r\n5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nT: u\r\n\r\n";
    for size in [1, 2, 3, 7, 50] {
        let origin = RawOrigin::bind().await;
        let mut client = raw_connect(proxy.address).await;
        client.write_all(&request("GET", origin.port(), "/")).await.unwrap();
        let (mut server, _) = origin.accept_request().await;
        server.set_nodelay(true).unwrap();
        for piece in answer.chunks(size) {
            server.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let got = read_answer(&mut client).await;
        assert_eq!(
            (got.status, got.text(), got.field("x")),
            (200, "hello world".into(), Some("y"))
        );
    }
}

#[tokio::test]
async fn the_length_that_head_would_have_is_not_invented() {
    let (proxy, origin) = (proxy().await, Recorder::start().await);
    for (framing, length) in [
        ("Content-Length: 77\r\n", Some("77")),
        ("Transfer-Encoding: chunked\r\n", None),
        ("", None),
    ] {
        origin.answer_next(format!("HTTP/1.1 200 OK\r\n{framing}\r\n").as_bytes(), false);
        let mut client = raw_connect(proxy.address).await;
        client.write_all(&request("HEAD", origin.port(), "/")).await.unwrap();
        let head = crate::support::read_head(&mut client).await.to_lowercase();
        let found = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        assert_eq!(found, length, "{head}");
    }
}

#[tokio::test]
async fn interim_answers_have_a_limit() {
    let proxy = proxy().await;
    for (count, status) in [(100, 200), (101, 502)] {
        let origin = Recorder::start().await;
        let interim = "HTTP/1.1 102 Processing\r\n\r\n".repeat(count);
        let last = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        origin.answer_next(format!("{interim}{last}").as_bytes(), false);
        let answer = exchange(proxy.address, &request("GET", origin.port(), "/")).await;
        assert_eq!(answer.status, status, "{count}");
    }
}

#[tokio::test]
async fn heads_have_a_limit() {
    let (proxy, origin) = (proxy().await, Recorder::start().await);
    let answer = |bytes: usize, field: &str| {
        let rest = "\r\nContent-Length: 0\r\n\r\n";
        let begin = format!("HTTP/1.1 200 OK\r\n{field}");
        let fill = "y".repeat(bytes - begin.len() - rest.len());
        format!("{begin}{fill}{rest}")
    };
    let fields = |count: usize| format!("{}X: ", "X: y\r\n".repeat(count - 2));
    for (head, status) in [
        (answer(64 << 10, "X: "), 200),
        (answer((64 << 10) + 1, "X: "), 502),
        (answer(2_000, &fields(256)), 200),
        (answer(2_000, &fields(257)), 502),
    ] {
        origin.answer_next(head.as_bytes(), false);
        let answer = exchange(proxy.address, &request("GET", origin.port(), "/")).await;
        assert_eq!(answer.status, status, "{} bytes", head.len());
        let error = answer.field("proxy-status").unwrap_or_default();
        assert_eq!(error.contains("=http_response_header_section_size;"), status == 502, "{error}");
    }
}

#[tokio::test]
async fn a_malformed_answer_closes_its_connection() {
    let (proxy, origin) = (proxy().await, RawOrigin::bind().await);
    for answer in [
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0 \r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let mut client = raw_connect(proxy.address).await;
        client.write_all(&request("GET", origin.port(), "/")).await.unwrap();
        let (mut server, _) = origin.accept_request().await;
        server.write_all(answer.as_bytes()).await.unwrap();
        let got = read_answer(&mut client).await;
        assert_eq!(got.status, 502, "{answer}");
        assert!(got.field("proxy-status").unwrap().contains("http_protocol_error"));
        let mut rest = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut server, &mut rest).await.ok();
        assert!(rest.is_empty(), "{answer}");
    }
}

#[tokio::test]
async fn a_malformed_body_breaks_off() {
    let (proxy, origin) = (proxy().await, RawOrigin::bind().await);
    let mut client = Connection::open(proxy.address).await;
    client.stream.write_all(&request("GET", origin.port(), "/")).await.unwrap();
    let (mut server, _) = origin.accept_request().await;
    let begin = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    server.write_all(begin).await.unwrap();
    let seen = eventually("the begin", || {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        socket2::SockRef::from(&client.stream).peek(&mut byte).ok()
    });
    assert_eq!(seen.await, 1);
    server.write_all(b"5\nhello\n0\n\n").await.unwrap();
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.is_whole, &*answer.body), (200, false, b"hello".as_slice()));
    let ends = proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
    assert_eq!(ends[0]["exeat.ending"], "origin_failed");
}
