//! Properties of what stands before the HTTP library: the head check, the chunk scanner, the gate.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*, test_runner::Config};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::gate::{Gate, Report};
use crate::http1::{
    Chunks, HeadLimits, Scanned,
    request_head::{self as head, Framing},
};
use crate::settings::{Environment, Flags, Settings, SettingsFile, Timeouts};

const LIMITS: HeadLimits = HeadLimits { bytes: 4096, line: 2048, fields: 16 };

pub(super) fn config(cases: u32) -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(cases);
    Config { cases, failure_persistence: None, ..Config::default() }
}

/// Pieces of request heads, right and wrong.
fn piece() -> impl Strategy<Value = &'static [u8]> {
    let pieces: &[&[u8]] = &[
        b"GET http://a.test/ HTTP/1.1\r\n",
        b"CONNECT a.test:443 HTTP/1.1\r\n",
        b"POST http://a.test/x?y HTTP/1.0\r\n",
        b"Host: a.test\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 05\r\n",
        b"content-length:7\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Upgrade: websocket\r\n",
        b"X: y\r\n",
        b" folded\r\n",
        b"X : y\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b": ",
        b"\xff",
        b"a",
    ];
    prop::sample::select(pieces)
}

/// A well-formed request.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let chunks = vec(vec(any::<u8>(), 1..40), 0..4);
    prop_oneof![
        Just(b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec()),
        vec(any::<u8>(), 0..300).prop_map(|body| {
            let length = body.len();
            let head = format!("POST http://a.test/ HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
            [head.into_bytes(), body].concat()
        }),
        chunks.prop_map(|chunks| {
            let head = "POST http://a.test/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
            [head.as_bytes().to_vec(), chunked(&chunks)].concat()
        }),
    ]
}

fn chunked(chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::new();
    for chunk in chunks {
        body.extend(format!("{:X};x=1\r\n", chunk.len()).into_bytes());
        body.extend(chunk);
        body.extend(b"\r\n");
    }
    body.extend(b"0\r\nTrailer: x\r\n\r\n");
    body
}

proptest! {
    #![proptest_config(config(20_000))]

    /// What the check accepts, another parser reads too, with the same fields and framing.
    #[test]
    fn accepted_heads_have_one_reading(pieces in vec(piece(), 1..9)) {
        let mut bytes = pieces.concat();
        bytes.extend(b"\r\n\r\n");
        let Ok(Some(end)) = head::find_end(&bytes, 0) else { return Ok(()) };
        let head = &bytes[..end];
        let Ok(framing) = head::check(head, LIMITS) else { return Ok(()) };
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut fields);
        let parsed = request.parse(head);
        prop_assert_eq!(parsed, Ok(httparse::Status::Complete(end)));
        let values = |name: &str| -> Vec<Vec<u8>> {
            let of = |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(name);
            request.headers.iter().filter(of).map(|field| field.value.to_vec()).collect()
        };
        let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
        prop_assert!(lengths.len() + codings.len() <= 1);
        match framing {
            Framing::Chunked => prop_assert_eq!(codings.len(), 1),
            Framing::Length(0) => prop_assert!(codings.is_empty()),
            Framing::Length(length) => {
                let text = std::str::from_utf8(&lengths[0]).unwrap();
                prop_assert_eq!(text.parse(), Ok(length));
            }
            Framing::Switching(_) => prop_assert!(codings.is_empty()),
        }
    }

    /// The scanner finds the end of a body wherever the body is cut.
    #[test]
    fn chunked_bodies_end_where_they_end(
        chunks in vec(vec(any::<u8>(), 1..40), 0..5),
        cuts in vec(any::<prop::sample::Index>(), 0..5),
        tail in vec(any::<u8>(), 0..5),
    ) {
        let body = chunked(&chunks);
        let all = [body.clone(), tail].concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len())).collect();
        cuts.sort_unstable();
        let mut scanner = Chunks::default();
        let mut at = 0;
        for cut in cuts {
            prop_assert_eq!(scanner.scan(&all[at..cut]), Ok(Scanned::More(cut - at)));
            at = cut;
        }
        prop_assert_eq!(scanner.scan(&all[at..]), Ok(Scanned::End(body.len() - at)));
    }

    /// Neither panics, whatever the bytes.
    #[test]
    fn nonsense_is_refused_not_feared(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(Some(end)) = head::find_end(&bytes, 0) {
            head::check(&bytes[..end], LIMITS).ok();
        }
        Chunks::default().scan(&bytes).ok();
    }
}

proptest! {
    #![proptest_config(config(64))]

    /// Well-formed requests pass the gate unchanged, however they are cut and read.
    #[test]
    fn the_gate_changes_nothing(
        requests in vec(request(), 1..5),
        segment in 1_usize..200,
        read in 1_usize..200,
    ) {
        let sent = requests.concat();
        let (passed, refused) = through_a_gate(&sent, segment, read);
        prop_assert!(!refused);
        prop_assert!(passed == sent, "{} bytes of {}", passed.len(), sent.len());
    }

    /// After a refused head nothing of the client's passes any more.
    #[test]
    fn nothing_passes_after_a_refusal(
        requests in vec(request(), 0..3),
        segment in 1_usize..200,
        more in vec(any::<u8>(), 0..100),
    ) {
        let good = requests.concat();
        let bad = b"GET http://a.test/ HTTP/1.1\r\nX : y\r\n\r\n".to_vec();
        let (passed, refused) = through_a_gate(&[good.clone(), bad, more].concat(), segment, 64);
        prop_assert!(refused);
        prop_assert_eq!(passed, [good, b"GET / HTTP/1.0\r\n\r\n".to_vec()].concat());
    }
}

/// What a reader gets of bytes that a client sends in segments, and whether a head was refused.
fn through_a_gate(sent: &[u8], segment: usize, read: usize) -> (Vec<u8>, bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, server) = pair().await;
        let segments: Vec<Vec<u8>> = sent.chunks(segment).map(<[u8]>::to_vec).collect();
        let sending = tokio::spawn(async move {
            let mut client = client;
            client.set_nodelay(true).unwrap();
            for segment in segments {
                // A gate that refuses stops reading; what is left does not matter.
                if client.write_all(&segment).await.is_err() {
                    return client;
                }
                tokio::task::yield_now().await;
            }
            client.shutdown().await.ok();
            client
        });
        let report = Arc::new(Report::default());
        let mut gate = Gate::new(server, LIMITS, &timeouts(), Arc::clone(&report));
        let mut passed = Vec::new();
        let mut buffer = vec![0; read];
        let refused = |report: &Report| (1..10).any(|head| report.refusal_of(head).is_some());
        loop {
            // A gate that has refused waits for ever once its stand-in is read.
            if refused(&report) && passed.ends_with(b"GET / HTTP/1.0\r\n\r\n") {
                break;
            }
            match gate.read(&mut buffer).await.unwrap() {
                0 => break,
                length => passed.extend_from_slice(&buffer[..length]),
            }
        }
        sending.abort();
        (passed, refused(&report))
    })
}

fn timeouts() -> Timeouts {
    let file = SettingsFile::default();
    Settings::resolve(Flags::default(), Environment::default(), file).timeouts
}

#[expect(clippy::disallowed_methods, reason = "a test's own client dials without a permit")]
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}
