//! Heads and chunked bodies: what the strict check accepts, httparse reads in the same way.
//!
//! The first byte chooses: the head of a request, the head of an answer to one of three requests,
//! or a chunked body that is cut in two.

use exeat::http1::{
    Chunks, HeadLimits, Scanned,
    answer_head::{self, Asked, Body, Head},
    request_head::{self, Framing},
};

const LIMITS: HeadLimits = HeadLimits { bytes: 65_536, line: 65_536, fields: 100 };

pub fn http_head(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else { return };
    match choice % 5 {
        0 => request(bytes),
        1 => answer(bytes, Asked::Ordinary),
        2 => answer(bytes, Asked::Head),
        3 => answer(bytes, Asked::Upgrade),
        _ => chunks(bytes),
    }
}

fn request(bytes: &[u8]) {
    let Ok(Some(end)) = request_head::find_end(bytes, 0) else { return };
    let head = &bytes[..end];
    // Found in one piece or line by line.
    let first = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if first < end {
        assert_eq!(request_head::find_end(bytes, first), Ok(Some(end)));
    }
    let Ok(framing) = request_head::check(head, LIMITS) else { return };
    assert_eq!(request_head::check_first_line(head), Ok(()));
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut parsed = httparse::Request::new(&mut fields);
    assert_eq!(parsed.parse(head), Ok(httparse::Status::Complete(end)));
    let said = said(parsed.headers);
    match framing {
        Framing::Chunked => assert_eq!(said, (None, true)),
        Framing::Length(0) => assert!(matches!(said, (None | Some(0), false))),
        Framing::Length(length) => assert_eq!(said, (Some(length), false)),
        Framing::Switching(_) => assert!(matches!(said, (None | Some(0), false))),
    }
}

fn answer(bytes: &[u8], asked: Asked) {
    let Ok(Some(end)) = answer_head::end_of_head(bytes, 0) else { return };
    let head = &bytes[..end];
    let Ok(read) = answer_head::check(head, asked) else { return };
    let mut fields = [httparse::EMPTY_HEADER; 256];
    let mut parsed = httparse::Response::new(&mut fields);
    assert_eq!(parsed.parse(head), Ok(httparse::Status::Complete(end)));
    let status = parsed.code.unwrap();
    let said = said(parsed.headers);
    let bodiless = matches!(status, 204 | 304) || asked == Asked::Head;
    match read {
        Head::Interim => assert!(status < 200 && status != 101),
        Head::Switching => assert!(status == 101 && asked == Asked::Upgrade),
        Head::Final(Body::Stray) => assert!(status == 204 && said != (None, false)),
        Head::Final(Body::Length(0)) if bodiless => {}
        Head::Final(Body::Length(length)) => assert_eq!(said, (Some(length), false)),
        Head::Final(Body::Chunked) => assert_eq!(said, (None, true)),
        Head::Final(Body::UntilClose) => assert_eq!(said, (None, false)),
    }
}

/// What another parser finds: one length at most, or one coding.
fn said(fields: &[httparse::Header<'_>]) -> (Option<u64>, bool) {
    let values = |name: &str| -> Vec<&[u8]> {
        let of = |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(name);
        fields.iter().filter(of).map(|field| field.value).collect()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    assert!(lengths.len() + codings.len() <= 1);
    let length = lengths.first().map(|text| std::str::from_utf8(text).unwrap().parse().unwrap());
    let chunked = codings.iter().all(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    assert!(chunked);
    (length, !codings.is_empty())
}

fn chunks(bytes: &[u8]) {
    let Some((cut, body)) = bytes.split_first() else { return };
    let whole = Chunks::default().scan(body);
    let cut = usize::from(*cut).min(body.len());
    let mut scanner = Chunks::default();
    let pieces = match scanner.scan(&body[..cut]) {
        Ok(Scanned::More(length)) => scanner.scan(&body[cut..]).map(|scanned| match scanned {
            Scanned::More(more) => Scanned::More(length + more),
            Scanned::End(more) => Scanned::End(length + more),
        }),
        ended => ended,
    };
    assert_eq!(whole, pieces);
    // The sizes add up for another reader of sizes.
    let Ok(Scanned::End(end)) = whole else { return };
    let mut rest = &body[..end];
    loop {
        let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(rest) else {
            panic!("no chunk size in {rest:?}");
        };
        rest = &rest[line..];
        if size == 0 {
            let mut fields = [httparse::EMPTY_HEADER; 256];
            match httparse::parse_headers(rest, &mut fields) {
                Ok(httparse::Status::Complete((length, _))) => assert_eq!(length, rest.len()),
                // More trailers than fit, or an octet that only this reader minds.
                Ok(httparse::Status::Partial) => panic!("trailers go on in {rest:?}"),
                Err(_) => {}
            }
            return;
        }
        let size = usize::try_from(size).unwrap();
        assert_eq!(&rest[size..size + 2], b"\r\n");
        rest = &rest[size + 2..];
    }
}
