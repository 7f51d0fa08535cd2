//! Plain HTTP inside tunnels, on real sockets: no server, however lenient, gets a request for another
//! host than that of the tunnel.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    sni::{last_end, last_end_that, proxy, rest_of, send, some_of, tunnel},
    support::RawOrigin,
};

/// Each is a request to some server: Node.js 20, Python 3.11's `http.server`, thttpd, `HAProxy`, or one
/// that trims what Java or Unicode trims.
const LENIENT: &[&[u8]] = &[
    b"GET /\r\nHost: evil.test\r\n\r\n",
    b"GET key\r\nHost: evil.test\r\n\r\n",
    b"POST /\r\nHost: evil.test\r\n\r\n",
    b"PURGE /\r\nHost: evil.test\r\n\r\n",
    b"get / x\r\nHost: evil.test\r\n\r\n",
    b"GET http://evil.test/\r\n\r\n",
    b"CONNECT evil.test:1\r\nHost: evil.test\r\n\r\n",
    b"GET / RTSP/1.0\r\nHost: evil.test\r\n\r\n",
    b"OPTIONS rtsp://a/ RTSP/1.0\r\nHost: evil.test\r\n\r\n",
    b"DESCRIBE rtsp://a/ RTSP/1.0\r\nHost: evil.test\r\n\r\n",
    b"SOURCE / ICE/1.0\r\nHost: evil.test\r\n\r\n",
    b"GET / http/1.1\r\nHost: evil.test\r\n\r\n",
    b"GET / HTTP/1.1 \r\nHost: evil.test\r\n\r\n",
    b"GET /a b c HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    b"GET / HTTP/1.1\nHost: evil.test\n\n",
    b"GET / HTTP/1.1\rHost: evil.test\r\r",
    b"GET /\0 HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    b"G\xffT / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    b"(x) / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    b"\x01\x02 / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    b"a-method-that-is-longer-than-thirty-two-bytes / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    b"GET\x0b/\x0cHTTP/1.1\r\nHost: evil.test\r\n\r\n",
    b"FOO\xa0/\x85HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    b"FOO\xe2\x80\x83/\xe3\x80\x80HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    b"\x0bGET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    b"\x1cGET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    b"\xa0GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    b"\xef\xbb\xbfGET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    b"\0\0GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    b"\n \r\n\tGET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    b"\x80x\x01\x03 / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: y\r\n Host: ok.test\r\nHost: evil.test\r\n\r\n",
];

/// None of them is, and all of them wait for an answer.
const OTHERS: &[&[u8]] = &[
    b"SSH-2.0-OpenSSH_9.6 Debian\r\n",
    b"EHLO httpbin.test\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"PING\r\n",
    b"a1 LOGIN x y\r\n",
    b"USER x\r\n",
    b"NICK x\r\n",
    b"get key\r\n",
    b"CONNECT {\"verbose\":false}\r\n",
    b"CONNECT\naccept-version:1.2\nhost:evil.test\n\n\0",
    b"0032git-upload-pack /a\0host=evil.test\0",
    b"AMQP\0\0\x09\x01",
    b"\x10\x10\0\x04MQTT\x04\x02\0\x3c\0\x04abcd",
    b"\0\0\0\x08\x04\xd2\x16\x2f",
    b"\0\0\0\x14\0\x03\0\0user\0postgres\0\0",
    b"\x3a\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0\0\0\0\0",
    b"\x12\x34\0\x4f\x02\x02\0\x08HTTP/1.1\0\0\x01/",
    b"{\"method\":\"GET\"}",
    b"<stream:stream xmlns:stream='http://etherx.jabber.org/streams'>",
    b"hello",
];

#[tokio::test]
async fn no_lenient_server_gets_another_host() {
    let (origin, proxy) = (RawOrigin::bind().await, proxy("").await);
    for head in LENIENT {
        for piece in [1, 5, 1000] {
            let (mut client, mut server) = tunnel(&proxy, &origin).await;
            send(&mut client, head, piece).await;
            rest_of(&mut client).await;
            let got = rest_of(&mut server).await;
            let names = |got: &[u8]| got.windows(4).any(|word| word == b"evil");
            assert!(!names(&got), "{} in {piece}", got.escape_ascii());
            assert!(got.len() < head.len(), "{}", head.escape_ascii());
            drop(client);
            last_end_that(&proxy, |end| end["exeat.ending"] == "sni_mismatch").await;
        }
    }
}

#[tokio::test]
async fn other_protocols_are_not_delayed() {
    let (origin, proxy) = (RawOrigin::bind().await, proxy("").await);
    for bytes in OTHERS {
        for piece in [1, 1000] {
            let (mut client, mut server) = tunnel(&proxy, &origin).await;
            send(&mut client, bytes, piece).await;
            let mut got = vec![0; bytes.len()];
            server.read_exact(&mut got).await.unwrap();
            assert!(got == *bytes, "{}", got.escape_ascii());
            server.write_all(b"answer").await.unwrap();
            assert_eq!(some_of(&mut client).await, b"answer");
        }
    }
}

#[tokio::test]
async fn every_request_must_be_for_the_host() {
    let (origin, proxy) = (RawOrigin::bind().await, proxy("").await);
    let bodies: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 4\r\n\r\nbody",
        b"POST / HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 4\r\n\r\nbody\r\n",
        b"POST / HTTP/1.1\r\nHost: ok.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ok.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: ok.test\r\nUpgrade: tcp\r\nContent-Length: 4\r\n\r\nbody",
    ];
    for first in bodies {
        for piece in [1, 1000] {
            // With the answer between them, as clients send them; the right host passes.
            let (mut client, mut server) = tunnel(&proxy, &origin).await;
            for _ in 0..3 {
                exchange(&mut client, &mut server, first, piece).await;
            }
            for second in LENIENT {
                let (mut client, mut server) = tunnel(&proxy, &origin).await;
                exchange(&mut client, &mut server, first, piece).await;
                send(&mut client, second, piece).await;
                assert_eq!(rest_of(&mut client).await, b"", "an answer would confuse");
                let got = rest_of(&mut server).await;
                assert!(!got.windows(4).any(|word| word == b"evil"), "{}", got.escape_ascii());
            }
        }
    }
    // Ends come in any order.
    proxy.audit(1, |end| end["exeat.mismatch"] == "http_head_malformed").await;
    let (mut client, mut server) = tunnel(&proxy, &origin).await;
    let evil = b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n";
    client.write_all(&[bodies[1], evil].concat()).await.unwrap();
    assert_eq!(rest_of(&mut server).await, bodies[1]);
    assert!(rest_of(&mut client).await.starts_with(b"HTTP/1.1 403 exeat: "));
    drop(client);
    proxy.audit(1, |end| end["exeat.http.host"] == "evil.test").await;
}

#[tokio::test]
async fn bodies_stream() {
    let (origin, proxy) = (RawOrigin::bind().await, proxy("").await);
    let (mut client, mut server) = tunnel(&proxy, &origin).await;
    let block = vec![b'x'; 1 << 20];
    let sizes = [
        ("Content-Length: 3145728", String::new(), ""),
        ("Transfer-Encoding: chunked", format!("{:x}\r\n", block.len()), "\r\n"),
    ];
    for (field, before, after) in sizes {
        let head = format!("PUT / HTTP/1.1\r\nHost: ok.test\r\n{field}\r\n\r\n");
        exchange(&mut client, &mut server, head.as_bytes(), 1000).await;
        for _ in 0..3 {
            // Each block arrives before the next is sent.
            let bytes = [before.as_bytes(), &block, after.as_bytes()].concat();
            let mut got = vec![0; bytes.len()];
            tokio::try_join!(client.write_all(&bytes), server.read_exact(&mut got)).unwrap();
            assert!(got == bytes);
        }
        if !after.is_empty() {
            exchange(&mut client, &mut server, b"0\r\n\r\n", 1000).await;
        }
    }
    // A body that breaks its framing ends it, as everywhere.
    let chunked = b"PUT / HTTP/1.1\r\nHost: ok.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    exchange(&mut client, &mut server, chunked, 1000).await;
    client.write_all(b"+1\r\nx\r\n").await.unwrap();
    assert_eq!(rest_of(&mut server).await, b"");
    drop(client);
    last_end(&proxy, "http_head_malformed").await;
}

#[tokio::test]
async fn a_client_may_end_inside_or_behind_a_request() {
    let (origin, proxy) = (RawOrigin::bind().await, proxy("").await);
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 9\r\n\r\nhalf",
    ] {
        let (mut client, mut server) = tunnel(&proxy, &origin).await;
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(rest_of(&mut server).await, bytes);
        server.write_all(b"the answer").await.unwrap();
        drop(server);
        assert_eq!(rest_of(&mut client).await, b"the answer");
    }
}

/// After an `Upgrade` the connection may be anything, but what can be a request is still judged.
#[tokio::test]
async fn an_upgrade_ends_http_but_not_the_check() {
    let (origin, proxy) = (RawOrigin::bind().await, proxy("").await);
    let upgrade =
        b"GET / HTTP/1.1\r\nHost: ok.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let frame = b"\x81\x85\0\0\0\0hello";
    for piece in [1, 1000] {
        let (mut client, mut server) = tunnel(&proxy, &origin).await;
        exchange(&mut client, &mut server, upgrade, piece).await;
        for frame in [&b"\x89\x80\x01\x02\x03G"[..], frame, b"\x82\x83\x01\x01\x01\x03abc", frame] {
            exchange(&mut client, &mut server, frame, piece).await;
        }
        client.write_all(b"\x81\x81\0\0\0\0\n").await.unwrap();
        let mut got = [0; 7];
        server.read_exact(&mut got).await.unwrap();
        // It has proved to be no HTTP.
        exchange(&mut client, &mut server, b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n", piece)
            .await;
    }
    // A hello is for the host too, wherever it comes.
    let (mut client, mut server) = tunnel(&proxy, &origin).await;
    exchange(&mut client, &mut server, upgrade, 1000).await;
    client.write_all(&crate::sni::hello("evil-2.test")).await.unwrap();
    assert_eq!(rest_of(&mut server).await, b"");
    // And nothing can be judged behind a CONNECT.
    let (mut client, mut server) = tunnel(&proxy, &origin).await;
    client.write_all(b"CONNECT ok.test:443 HTTP/1.1\r\nHost: ok.test\r\n\r\n").await.unwrap();
    assert!(rest_of(&mut client).await.starts_with(b"HTTP/1.1 403 "));
    assert_eq!(rest_of(&mut server).await, b"");
}

/// Sends something whole, which arrives, and is answered.
async fn exchange(client: &mut TcpStream, server: &mut TcpStream, bytes: &[u8], piece: usize) {
    send(client, bytes, piece).await;
    let mut got = vec![0; bytes.len()];
    server.read_exact(&mut got).await.unwrap();
    assert!(got == bytes, "{}", got.escape_ascii());
    server.write_all(b"ok").await.unwrap();
    let mut answer = [0; 2];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"ok");
}
