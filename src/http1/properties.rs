//! Properties of strict reading: heads have one meaning, and messages end where they end, however
//! they are cut.

use bytes::{Buf as _, BytesMut};
use proptest::{collection::vec, prelude::*, test_runner::Config};

use super::{
    Chunks, Framed, HeadLimits, Scanned,
    answer_head::{self, AnswerHead, AnswerSearch, Asked, Body, Head},
    request_head::{self, Framing, RequestHead, RequestSearch},
};

const LIMITS: HeadLimits = HeadLimits { bytes: 4096, line: 2048, fields: 16 };

fn config() -> Config {
    Config { cases: 20_000, failure_persistence: None, ..Config::default() }
}

/// Pieces of request heads, right and wrong.
fn request_piece() -> impl Strategy<Value = &'static [u8]> {
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

/// Pieces of answer heads, right and wrong.
fn answer_piece() -> impl Strategy<Value = &'static [u8]> {
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

/// A message and the payload of its body.
type Message = (Vec<u8>, Vec<u8>);

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

/// A message that begins with that line.
fn message(line: &'static str) -> impl Strategy<Value = Message> {
    let of_length = vec(any::<u8>(), 0..300).prop_map(move |body| {
        let head = format!("{line}\r\nContent-Length: {}\r\n\r\n", body.len());
        ([head.into_bytes(), body.clone()].concat(), body)
    });
    let in_chunks = vec(vec(any::<u8>(), 1..40), 0..4).prop_map(move |chunks| {
        let head = format!("{line}\r\nTransfer-Encoding: chunked\r\n\r\n");
        ([head.into_bytes(), chunked(&chunks)].concat(), chunks.concat())
    });
    prop_oneof![of_length, in_chunks]
}

fn request() -> impl Strategy<Value = Message> {
    let without = b"\r\nGET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n";
    prop_oneof![message("POST http://a.test/ HTTP/1.1"), Just((without.to_vec(), Vec::new()))]
}

fn answer() -> impl Strategy<Value = Message> {
    let early = |(message, body): Message| {
        ([&b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n"[..], &message].concat(), body)
    };
    prop_oneof![
        message("HTTP/1.1 200 OK"),
        message("HTTP/1.1 404 No").prop_map(early),
        Just((b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), Vec::new())),
        Just((b"HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n".to_vec(), Vec::new())),
    ]
}

/// What another parser finds of one field.
fn values<'h>(fields: &'h [httparse::Header<'_>], name: &str) -> Vec<&'h [u8]> {
    let of = |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(name);
    fields.iter().filter(of).map(|field| field.value).collect()
}

/// The payloads of messages that come in segments; `head` takes a head off what is held, and says
/// what follows it.
fn payloads(
    sent: &[u8],
    segment: usize,
    mut head: impl FnMut(&mut BytesMut) -> Option<Framed>,
) -> Vec<Vec<u8>> {
    let (mut held, mut payloads) = (BytesMut::new(), Vec::new());
    let mut body: Option<Framed> = None;
    let mut segments = sent.chunks(segment);
    loop {
        let Some(framed) = &mut body else {
            body = head(&mut held);
            if body.is_some() {
                payloads.push(Vec::new());
                continue;
            }
            let Some(segment) = segments.next() else { return payloads };
            held.extend_from_slice(segment);
            continue;
        };
        let mut end = framed.is_empty();
        let mut more = false;
        if !end {
            let part = framed.part(&held).unwrap();
            held.advance(part.skip);
            let payload = held.split_to(part.payload);
            payloads.last_mut().unwrap().extend_from_slice(&payload);
            end = part.end;
            more = part.payload == 0;
        }
        if end {
            body = None;
        } else if more {
            held.extend_from_slice(segments.next().unwrap());
        }
    }
}

proptest! {
    #![proptest_config(config())]

    /// What is accepted, another parser reads too, with the same fields and framing.
    #[test]
    fn accepted_requests_have_one_reading(pieces in vec(request_piece(), 1..9)) {
        let mut bytes = pieces.concat();
        bytes.extend(b"\r\n\r\n");
        let Ok(Some(end)) = request_head::find_end(&bytes, 0) else { return Ok(()) };
        let head = &bytes[..end];
        let Ok(read) = RequestHead::read(head, LIMITS) else { return Ok(()) };
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut fields);
        let parsed = request.parse(head);
        prop_assert_eq!(parsed, Ok(httparse::Status::Complete(end)));
        prop_assert_eq!(request.method, Some(read.method.as_str()));
        prop_assert_eq!(request.path.map(str::as_bytes), Some(read.target));
        let both = request.headers.iter().zip(read.fields.iter());
        for (theirs, ours) in both {
            prop_assert_eq!((theirs.name.as_bytes(), theirs.value), (ours.name, ours.value));
        }
        prop_assert_eq!(request.headers.len(), read.fields.iter().count());
        let lengths = values(request.headers, "content-length");
        let codings = values(request.headers, "transfer-encoding");
        prop_assert!(lengths.len() + codings.len() <= 1);
        match read.framing {
            Framing::Chunked => prop_assert_eq!(codings.len(), 1),
            Framing::Length(0) => prop_assert!(codings.is_empty()),
            Framing::Length(length) => {
                let text = std::str::from_utf8(lengths[0]).unwrap();
                prop_assert_eq!(text.parse(), Ok(length));
            }
            Framing::Switching(_) => prop_assert!(codings.is_empty()),
        }
    }

    /// So it is with answers, status and reason.
    #[test]
    fn accepted_answers_have_one_reading(pieces in vec(answer_piece(), 1..9), asked in asked()) {
        let mut bytes = pieces.concat();
        bytes.extend(b"\r\n\r\n");
        let Ok(Some(end)) = answer_head::end_of_head(&bytes, 0) else { return Ok(()) };
        let head = &bytes[..end];
        let Ok(read) = AnswerHead::read(head, asked) else { return Ok(()) };
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut fields);
        prop_assert_eq!(response.parse(head), Ok(httparse::Status::Complete(end)));
        let status = response.code.unwrap();
        prop_assert_eq!(status, read.status);
        let both = response.headers.iter().zip(read.fields.iter());
        for (theirs, ours) in both {
            prop_assert_eq!((theirs.name.as_bytes(), theirs.value), (ours.name, ours.value));
        }
        let lengths = values(response.headers, "content-length");
        let codings = values(response.headers, "transfer-encoding");
        prop_assert!(lengths.len() + codings.len() <= 1);
        match read.head {
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

    /// Nothing panics, whatever the bytes.
    #[test]
    fn nonsense_is_refused_not_feared(bytes in vec(any::<u8>(), 0..200)) {
        let mut held = BytesMut::from(&bytes[..]);
        if let Ok(Some(end)) = RequestSearch::default().next(&mut held, LIMITS) {
            RequestHead::read(&held[..end], LIMITS).ok();
        }
        AnswerSearch::default().next(&mut BytesMut::from(&bytes[..]), Asked::Ordinary).ok();
        Chunks::default().scan(&bytes).ok();
    }

    /// Requests come out as they are, however they are cut.
    #[test]
    fn requests_come_out_as_they_are(sent in vec(request(), 1..5), segment in 1_usize..200) {
        let (bytes, bodies): (Vec<_>, Vec<_>) = sent.into_iter().unzip();
        let mut search = RequestSearch::default();
        let got = payloads(&bytes.concat(), segment, |held| {
            let end = search.next(held, LIMITS).unwrap()?;
            search = RequestSearch::default();
            Some(RequestHead::read(&held.split_to(end), LIMITS).unwrap().framing.body())
        });
        prop_assert_eq!(got, bodies);
    }

    /// So do answers, without what comes before them.
    #[test]
    fn answers_come_out_as_they_are(sent in vec(answer(), 1..5), segment in 1_usize..200) {
        let (bytes, bodies): (Vec<_>, Vec<_>) = sent.into_iter().unzip();
        let mut search = AnswerSearch::default();
        let got = payloads(&bytes.concat(), segment, |held| {
            let end = search.next(held, Asked::Ordinary).unwrap()?;
            search = AnswerSearch::default();
            match AnswerHead::read(&held.split_to(end), Asked::Ordinary).unwrap().head {
                Head::Final(Body::Chunked) => Some(Framed::Chunked(Chunks::default())),
                Head::Final(Body::Length(length)) => Some(Framed::Length(length)),
                Head::Final(Body::Stray | Body::UntilClose) | Head::Interim | Head::Switching => None,
            }
        });
        prop_assert_eq!(got, bodies);
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    prop_oneof![Just(Asked::Head), Just(Asked::Ordinary), Just(Asked::Upgrade)]
}
