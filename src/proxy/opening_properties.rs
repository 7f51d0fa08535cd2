//! What a client may say in a tunnel, for any bytes: a reader that forgives what servers forgive never
//! finds a request for another host in what went on.

use proptest::{collection::vec, prelude::*, sample::select, test_runner::Config};

use super::{
    mismatch::Mismatch,
    opening::tests::{feed, hello, opening, rules},
    plain_head::PlainError,
};

/// Pieces of what clients say first, right and wrong.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let pieces = vec![
        hello(Some("ok.test"), b"", 1),
        hello(Some("ok.test"), &[0, 42, 0, 0, 0xfe, 0x0d, 0, 1, 0], 3),
        hello(Some("a.test"), b"", 2),
        hello(Some("evil.test"), b"", 1),
        hello(None, b"", 1),
        vec![20, 3, 3, 0, 1, 1],
        vec![21, 3, 3, 0, 2, 1, 90],
        vec![23, 3, 3, 0, 3, 1, 2, 3],
        vec![22, 3, 3, 0, 3, 16, 2, 3],
        vec![22, 3],
        b"GET ".to_vec(),
        b"fetch ".to_vec(),
        b"/ HTTP/1.1\r\n".to_vec(),
        b"http://evil.test/".to_vec(),
        b"Host: ok.test\r\n".to_vec(),
        b"Host: evil.test\r\n".to_vec(),
        b"\r\n".to_vec(),
        b"\n".to_vec(),
        b"\0".to_vec(),
        b"hello".to_vec(),
    ];
    prop_oneof![
        4 => select(pieces),
        1 => vec(any::<u8>(), 1..20),
    ]
}

/// A request, right in most of its parts.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let part = |right: &'static str, wrong: &'static [&'static [u8]]| {
        prop_oneof![
            6 => Just(right.as_bytes().to_vec()),
            1 => select(wrong).prop_map(<[u8]>::to_vec),
        ]
    };
    let space: &[&[u8]] =
        &[b"\t", b"\x0b", b"\x0c", b"\x1c", b"\x85", b"\xa0", b"\0", b"\r", b"  ", b""];
    let end: &[&[u8]] = &[b"\n", b"\r", b"", b"\r\r\n", b" \r\n", b"\x85"];
    (
        part(
            "",
            &[
                b"\r\n",
                b"\n",
                b"\0",
                b"\x0b",
                b"\xa0",
                b"\xef\xbb\xbf",
                b" ",
                b"x\r\n",
                b"\x81\x80",
            ],
        ),
        part(
            "GET",
            &[b"POST", b"get", b"PURGE", b"FETCH", b"G\xffT", b"(x)", b"\x01", b"x y", b"PROXY"],
        ),
        part(" ", space),
        part(
            "/",
            &[b"http://evil.test/", b"http://ok.test/", b"*", b"key", b"/a b", b"evil.test:80"],
        ),
        part(" ", space),
        part(
            "HTTP/1.1",
            &[b"http/1.1", b"HTTP/1.0", b"HTTP/0.9", b"RTSP/1.0", b"x", b"", b"HTTP/1.1 x"],
        ),
        part("\r\n", end),
        part(
            "Host: ok.test\r\n",
            &[
                b"Host: evil.test\r\n",
                b"",
                b"Host: ok.test\r\nHost: evil.test\r\n",
                b"X: y\r\n\tHost: evil.test\r\n",
                b"Host : evil.test\r\n",
                b"X: y\nHost: evil.test\r\n",
            ],
        ),
        part("", &[b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n", b"Upgrade: x\r\n"]),
        part("\r\n", end),
        part("", &[b"body", b"4\r\nbody\r\n0\r\n\r\n", b"GET /"]),
    )
        .prop_map(|(a, b, c, d, e, f, g, h, i, j, k)| [a, b, c, d, e, f, g, h, i, j, k].concat())
}

proptest! {
    #![proptest_config(Config { cases: 5_000, failure_persistence: None, ..Config::default() })]

    /// The verdict is about bytes, not about the pieces they come in.
    #[test]
    fn pieces_do_not_matter(
        pieces in vec(piece(), 1..6),
        port in select(vec![443_u16, 8443]),
        step in 1_usize..60,
    ) {
        let bytes = pieces.concat();
        let authority = format!("ok.test:{port}");
        let (_, whole) = feed(&mut opening(&authority, &rules()), &bytes, usize::MAX);
        let (gone, cut) = feed(&mut opening(&authority, &rules()), &bytes, step);
        match (&whole, &cut) {
            (None, None) => {}
            (Some(_), Some(_)) => prop_assert!(gone.len() < bytes.len()),
            // An unfinished line with an unknown method has gone on; then its head is refused,
            // whatever it names.
            (None, Some(mismatch)) => {
                prop_assert_eq!(mismatch, &Mismatch::HttpHead(PlainError::Parted));
            }
            (Some(_), None) => prop_assert!(false, "{} passes in pieces", bytes.escape_ascii()),
        }
    }

    /// Whatever comes is judged, and never held at the end.
    #[test]
    fn nonsense_is_judged(bytes in vec(any::<u8>(), 0..300), step in 1_usize..60) {
        feed(&mut opening("ok.test:443", &rules()), &bytes, step);
        let tls = [&[22, 3, 1], &bytes[..]].concat();
        feed(&mut opening("ok.test:8443", &rules()), &tls, step);
    }

    #[test]
    fn no_request_for_another_host_goes_on(
        requests in vec(request(), 1..4),
        step in prop_oneof![1_usize..60, Just(usize::MAX)],
    ) {
        let bytes = requests.concat();
        let (gone, _) = feed(&mut opening("ok.test:80", &rules()), &bytes, step);
        for host in hosts(&gone) {
            prop_assert_eq!(host, b"ok.test", "{}", bytes.escape_ascii());
        }
    }
}

#[test]
fn the_reader_forgives() {
    for head in [
        &b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n"[..],
        b"\x0bG\xffT\xa0/\x85HTTP/1.1\nHost : evil.test\n\n",
        b"get /\r\nhost:evil.test\r\n\r\n",
        b"GET http://evil.test/\r\n",
    ] {
        assert_eq!(hosts(head), [b"evil.test"], "{}", head.escape_ascii());
    }
    let two = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbodyGET / HTTP/1.1\r\n\r\n";
    assert_eq!(hosts(two), [&b"a"[..], b""]);
    assert!(hosts(b"x\r\nGET / HTTP/1.1\r\nHost: evil.test\r\n\r\n").is_empty());
}

/// The hosts of the requests that a forgiving server finds: all that are named, or an empty one.
fn hosts(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut hosts) = (bytes, Vec::new());
    while let Some((line, after)) = cut_line(rest) {
        let words: Vec<&[u8]> = line.split(is_space).filter(|word| !word.is_empty()).collect();
        let starts = |word: &[u8], with: &[u8]| {
            word.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
        };
        let (method, target) = match words.as_slice() {
            [] => {
                rest = after;
                continue;
            }
            [method, target, version, ..]
                if [version, words.last().unwrap()].iter().any(|word| starts(word, b"HTTP/")) =>
            {
                (*method, *target)
            }
            [method, target, ..] => (*method, *target),
            [_] => break,
        };
        let has_version = words.iter().skip(2).any(|word| starts(word, b"HTTP/"));
        let is_url = target.windows(3).any(|three| three == b"://");
        let is_known =
            [&b"GET"[..], b"POST", b"PURGE"].iter().any(|known| known.eq_ignore_ascii_case(method));
        let is_versionless = is_known && (target.starts_with(b"/") || is_url || method == b"GET");
        if !has_version && !is_versionless {
            break;
        }
        let mut named = Vec::new();
        if is_url {
            let authority = target.splitn(4, |byte| *byte == b'/').nth(2).unwrap_or_default();
            named.push(authority.to_vec());
        }
        let (mut length, mut chunked) = (0, false);
        rest = after;
        let is_whole = loop {
            let Some((line, after)) = cut_line(rest) else { break false };
            rest = after;
            let line = line.trim_ascii();
            if line.is_empty() {
                break true;
            }
            let mut parts = line.splitn(2, |byte| *byte == b':').map(<[u8]>::trim_ascii);
            let (name, value) = (parts.next().unwrap(), parts.next().unwrap_or_default());
            match name.to_ascii_lowercase().as_slice() {
                b"host" => named.push(value.to_vec()),
                b"content-length" => {
                    length = std::str::from_utf8(value).unwrap().parse().unwrap_or(0);
                }
                b"transfer-encoding" => chunked = true,
                _ => {}
            }
        };
        if is_whole && named.is_empty() {
            named.push(Vec::new());
        }
        hosts.append(&mut named);
        let end = b"0\r\n\r\n";
        let body = match chunked {
            true => rest.windows(end.len()).position(|five| five == end).map(|at| at + end.len()),
            false => Some(length),
        };
        match body.and_then(|length| rest.get(length..)) {
            Some(next) if is_whole => rest = next,
            _ => break,
        }
    }
    hosts
}

fn cut_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// What Unicode calls white space below U+0100.
fn is_space(byte: &u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | 0x1c..=b' ' | 0x85 | 0xa0)
}
