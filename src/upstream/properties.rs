//! Properties of what stands between an origin and the HTTP library: the head check and the gate.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use proptest::{collection::vec, prelude::*, test_runner::Config};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use super::{Origin, RequestBody, SendError};
use crate::{
    http1::answer_head::{self, Asked, Body, Head},
    net::Authority,
};

fn config(cases: u32) -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(cases);
    Config { cases, failure_persistence: None, ..Config::default() }
}

/// Pieces of answer heads, right and wrong.
fn piece() -> impl Strategy<Value = &'static [u8]> {
    let pieces: &[&[u8]] = &[
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 404 Not Found\r\n",
        b"HTTP/1.1 204\r\n",
        b"HTTP/1.1 304 \r\n",
        b"HTTP/1.1 101 Switching\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 05\r\n",
        b"content-length:7\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Connection: close\r\n",
        b"Upgrade: websocket\r\n",
        b"X: y\r\n",
        b" folded\r\n",
        b"X : y\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"hello",
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b": ",
        b"\xff",
        b" ",
    ];
    prop::sample::select(pieces)
}

/// A well-formed answer and the body it carries.
fn answer() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let bytes = |most| vec(any::<u8>(), 0..most);
    prop_oneof![
        bytes(300).prop_map(|body| {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            ([head.into_bytes(), body.clone()].concat(), body)
        }),
        vec(vec(any::<u8>(), 1..60), 0..4).prop_map(|chunks| {
            let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for chunk in &chunks {
                answer.extend(format!("{:x};a=b\r\n", chunk.len()).bytes());
                answer.extend(chunk);
                answer.extend(b"\r\n");
            }
            answer.extend(b"0\r\nTrailer: x\r\n\r\n");
            (answer, chunks.concat())
        }),
        Just((b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), Vec::new())),
        Just((b"HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n".to_vec(), Vec::new())),
        bytes(50).prop_map(|body| {
            let head = format!(
                "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 404 No\r\ncontent-length:{}\r\n\r\n",
                body.len()
            );
            ([head.into_bytes(), body.clone()].concat(), body)
        }),
    ]
}

proptest! {
    #![proptest_config(config(20_000))]

    /// What the check accepts, another parser reads too, with the same status and framing.
    #[test]
    fn accepted_heads_have_one_reading(pieces in vec(piece(), 1..9), asked in asked()) {
        let mut bytes = pieces.concat();
        bytes.extend(b"\r\n\r\n");
        let Ok(Some(end)) = answer_head::end_of_head(&bytes, 0) else { return Ok(()) };
        let head = &bytes[..end];
        let Ok(read) = answer_head::check(head, asked) else { return Ok(()) };
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut fields);
        prop_assert_eq!(response.parse(head), Ok(httparse::Status::Complete(end)));
        let status = response.code.unwrap();
        let values = |name: &str| -> Vec<&[u8]> {
            let of = |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(name);
            response.headers.iter().filter(of).map(|field| field.value).collect()
        };
        let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
        prop_assert!(lengths.len() + codings.len() <= 1);
        match read {
            Head::Interim => prop_assert!(status < 200 && status != 101),
            Head::Switching => prop_assert!(status == 101 && asked == Asked::Upgrade),
            Head::Final(Body::Chunked) => prop_assert_eq!(codings.len(), 1),
            Head::Final(Body::Stray) => prop_assert_eq!(status, 204),
            Head::Final(Body::UntilClose) => prop_assert!(lengths.is_empty() && codings.is_empty()),
            Head::Final(Body::Length(0)) => {
                let none = matches!(status, 204 | 304) || asked == Asked::Head;
                prop_assert!(none || lengths == [b"0"]);
            }
            Head::Final(Body::Length(length)) => {
                let text = std::str::from_utf8(lengths[0]).unwrap();
                prop_assert_eq!(text.parse(), Ok(length));
            }
        }
    }
}

proptest! {
    #![proptest_config(config(64))]

    /// Well-formed answers on one connection come out as they are, however they are cut.
    #[test]
    fn answers_pass_unchanged(answers in vec(answer(), 1..5), segment in 1_usize..100) {
        let sent: Vec<Vec<u8>> = answers.iter().map(|(bytes, _)| bytes.clone()).collect();
        let got = ask_for_each(sent, segment, Duration::from_secs(60));
        for ((_, body), got) in answers.iter().zip(&got) {
            prop_assert_eq!(Ok(body), got.as_ref());
        }
        prop_assert_eq!(answers.len(), got.len());
    }

    /// Whatever an origin says first, what passes for the answer to a later request on the same
    /// connection was said after that request.
    #[test]
    fn no_answer_is_anothers(
        before in vec(piece(), 0..3),
        answer in answer(),
        after in vec(piece(), 0..9),
        segment in 1_usize..100,
    ) {
        let first = [before.concat(), answer.0, after.concat()].concat();
        let second = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond".to_vec();
        let got = ask_for_each(vec![first, second], segment, Duration::from_millis(30));
        if let Some(Ok(body)) = got.get(1) {
            prop_assert_eq!(body.as_slice(), b"second");
        }
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    prop_oneof![Just(Asked::Head), Just(Asked::Ordinary), Just(Asked::Upgrade)]
}

/// Sends a request for each answer, one after the other, as long as the connection can be used.
/// An origin that is not asked for that long hangs up.
fn ask_for_each(
    answers: Vec<Vec<u8>>,
    segment: usize,
    patience: Duration,
) -> Vec<Result<Vec<u8>, SendError>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (stream, peer, server) = pair().await;
        let count = answers.len();
        let serving = tokio::spawn(serve(server, answers, segment, patience));
        let authority = Authority::parse_connect(b"a.test:80").unwrap();
        let origin = Origin::new(stream, peer, authority, &TaskTracker::new()).await.unwrap();
        let mut origin = Some(origin);
        let mut got = Vec::new();
        for _ in 0..count {
            let Some(usable) = origin.take().filter(Origin::is_open) else { break };
            let sent = usable.send(Request::new(empty())).await;
            got.push(match sent {
                Err((error, _)) => Err(error),
                Ok((response, back)) => match response.into_body().collect().await {
                    Err(_) => Err(SendError::Protocol),
                    Ok(body) => {
                        origin = Some(back);
                        Ok(body.to_bytes().to_vec())
                    }
                },
            });
        }
        serving.abort();
        got
    })
}

/// Reads a request, says an answer, and so on; then says that nothing more comes.
async fn serve(
    mut server: TcpStream,
    answers: Vec<Vec<u8>>,
    segment: usize,
    patience: Duration,
) -> Option<()> {
    server.set_nodelay(true).ok()?;
    for answer in answers {
        // What is left unfinished ends with the connection.
        let Ok(read) = timeout(patience, read_head(&mut server)).await else { break };
        read?;
        for piece in answer.chunks(segment) {
            server.write_all(piece).await.ok()?;
            tokio::task::yield_now().await;
        }
    }
    server.shutdown().await.ok()
}

async fn read_head(stream: &mut TcpStream) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(())
}

fn empty() -> RequestBody {
    Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync()
}

#[expect(clippy::disallowed_methods, reason = "a test's own client dials without a permit")]
pub(super) async fn pair() -> (TcpStream, SocketAddr, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = listener.local_addr().unwrap();
    let client = TcpStream::connect(peer).await.unwrap();
    (client, peer, listener.accept().await.unwrap().0)
}
