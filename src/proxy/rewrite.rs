//! Heads as they go on: of a request to its origin, of an answer to its client.
//!
//! Nothing meant for this hop goes on, framing is written anew, and where there was one spelling
//! there is one afterwards. Pure: from what was read to bytes.

use std::io::Write as _;

use http::{Method, StatusCode};

use super::{fields, unix_socket};
use crate::{
    http1::{
        Field, Framed, SaidLength, Version,
        answer_head::{AnswerHead, Asked, Body, Head},
        request_head::{Framing, RequestHead, Switch},
    },
    net::{Authority, Port},
};

/// A request as its origin gets it.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) head: Vec<u8>,
    pub(super) asked: Asked,
    /// May be sent twice: it is safe and has no body (RFC 9110 §9.2.2).
    pub(super) is_replayable: bool,
}

/// What the client of an answer can take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manners {
    pub(super) version: Version,
    /// Another request may follow.
    pub(super) persists: bool,
}

/// How the body of an answer goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Onward {
    /// In chunks.
    Chunked,
    /// It ends with the connection.
    Close,
    /// As long as its head says, or there is none.
    Length,
}

/// The head that a request has at its origin: origin-form, our framing. `hops`: how many it has
/// left, if it is to be counted.
pub(super) fn request(
    head: &RequestHead<'_>,
    authority: &Authority,
    hops: Option<u32>,
) -> Outgoing {
    let switching = matches!(head.framing, Framing::Switching(Switch::Websocket));
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    let [start, rest] = origin_form(head);
    out.extend_from_slice(start);
    out.extend_from_slice(rest);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    fields::write(&mut out, b"host", authority.to_host_field(Port::HTTP).as_bytes());
    for Field { name, value } in fields::passed_on(&head.fields) {
        let rewritten = |field: &str| name.eq_ignore_ascii_case(field.as_bytes());
        if !(rewritten("host")
            || rewritten("expect")
            || rewritten(unix_socket::FIELD)
            || rewritten("max-forwards") && hops.is_some())
        {
            fields::write(&mut out, name, value);
        }
    }
    if let Some(hops) = hops {
        write!(out, "max-forwards: {hops}\r\n").ok();
    }
    fields::write(&mut out, b"via", fields::via(head.version));
    match head.framing {
        Framing::Chunked => fields::write(&mut out, b"transfer-encoding", b"chunked"),
        Framing::Length(0) | Framing::Switching(_) if !head.fields.has("content-length") => {}
        Framing::Length(length) => {
            write!(out, "content-length: {length}\r\n").ok();
        }
        Framing::Switching(_) => fields::write(&mut out, b"content-length", b"0"),
    }
    if switching {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Outgoing {
        head: out,
        asked: match switching {
            _ if head.method == Method::HEAD => Asked::Head,
            true => Asked::Upgrade,
            false => Asked::Ordinary,
        },
        is_replayable: head.method.is_safe() && head.framing == Framing::Length(0),
    }
}

/// Path and query of an absolute URL (RFC 9112 §3.2.1), in two pieces. Without a path it is `/`,
/// or `*` for OPTIONS (§3.2.4).
fn origin_form<'a>(head: &RequestHead<'a>) -> [&'a [u8]; 2] {
    let target = head.target;
    let after_scheme = target.windows(3).position(|window| window == b"://").map_or(0, |at| at + 3);
    let rest = target.get(after_scheme..).unwrap_or_default();
    let path = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
    match path.and_then(|at| rest.get(at..)) {
        None if head.method == Method::OPTIONS => [b"*", b""],
        None => [b"/", b""],
        Some(query @ [b'?', ..]) => [b"/", query],
        Some(path) => [path, b""],
    }
}

/// The head of an answer for a client, and how its body goes on.
pub(super) fn answer(head: &AnswerHead<'_>, manners: Manners) -> (Vec<u8>, Onward) {
    let onward = match (head.head, manners.version) {
        (Head::Final(Body::Chunked | Body::UntilClose), Version::Http11) => Onward::Chunked,
        (Head::Final(Body::Chunked | Body::UntilClose), Version::Http10) => Onward::Close,
        (Head::Final(Body::Length(_) | Body::Stray) | Head::Interim | Head::Switching, _) => {
            Onward::Length
        }
    };
    let mut out = Vec::with_capacity(512);
    write!(out, "HTTP/1.1 {} ", head.status).ok();
    out.extend_from_slice(phrase(head));
    out.extend_from_slice(b"\r\n");
    for field in fields::passed_on(&head.fields).filter(|field| !fields::is_verdict(field)) {
        fields::write(&mut out, field.name, field.value);
    }
    fields::write(&mut out, b"via", fields::via(head.version));
    match (onward, head.said) {
        (Onward::Chunked, _) => fields::write(&mut out, b"transfer-encoding", b"chunked"),
        // It has no body, whatever it says (RFC 9110 §8.6).
        (Onward::Length, SaidLength::Length(length))
            if head.status != 204 && head.head != Head::Switching =>
        {
            write!(out, "content-length: {length}\r\n").ok();
        }
        (Onward::Close | Onward::Length, _) => {}
    }
    if head.head == Head::Switching {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n");
    } else {
        let persists = manners.persists && onward != Onward::Close;
        write_persistence(&mut out, Manners { persists, ..manners });
    }
    out.extend_from_slice(b"\r\n");
    (out, onward)
}

/// Says that no other request may follow, if so.
pub(super) fn write_persistence(out: &mut Vec<u8>, manners: Manners) {
    if !manners.persists {
        fields::write(out, b"connection", b"close");
    }
}

/// The origin's words, or what the status means if it has none or speaks as this proxy does.
fn phrase<'a>(head: &AnswerHead<'a>) -> &'a [u8] {
    match head.reason {
        [] => {}
        phrase if fields::is_verdict_phrase(phrase) => {}
        phrase => return phrase,
    }
    let status = StatusCode::from_u16(head.status).ok();
    status.and_then(|status| status.canonical_reason()).unwrap_or("").as_bytes()
}

/// What follows the head of an answer; nothing of what must not.
pub(super) fn framed(body: Body) -> Framed {
    match body {
        Body::Chunked => Framed::Chunked(Default::default()),
        Body::Length(length) => Framed::Length(length),
        Body::Stray => Framed::Length(0),
        Body::UntilClose => Framed::UntilClose,
    }
}

/// Whether the origin's connection can take another request after this answer.
pub(super) fn leaves_open(head: &AnswerHead<'_>) -> bool {
    match head.head {
        Head::Final(Body::Chunked | Body::Length(_)) => {
            fields::persists(&head.fields, head.version)
        }
        Head::Final(Body::Stray | Body::UntilClose) | Head::Interim | Head::Switching => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::HeadLimits;

    const LIMITS: HeadLimits = HeadLimits { bytes: 65_536, line: 8_192, fields: 100 };
    const KEEPS: Manners = Manners { version: Version::Http11, persists: true };

    fn head(lines: &str) -> Vec<u8> {
        format!("{lines}\n\n").replace('\n', "\r\n").into_bytes()
    }

    fn rewritten(lines: &str, hops: Option<u32>) -> (String, Outgoing) {
        let bytes = head(lines);
        let head = RequestHead::read(&bytes, LIMITS).unwrap();
        let authority = Authority::parse_connect(b"a.test:80").unwrap();
        let outgoing = request(&head, &authority, hops);
        let text = String::from_utf8(outgoing.head.clone()).unwrap();
        (text.replace("\r\n", "\n").trim_end().to_owned(), outgoing)
    }

    fn passed_back(lines: &str, asked: Asked, manners: Manners) -> (String, Onward) {
        let bytes = head(lines);
        let (out, onward) = answer(&AnswerHead::read(&bytes, asked).unwrap(), manners);
        let text = String::from_utf8(out).unwrap();
        (text.replace("\r\n", "\n").trim_end().to_owned(), onward)
    }

    #[test]
    fn targets_become_paths() {
        for (line, expected) in [
            ("GET http://a.test HTTP/1.1", "GET / HTTP/1.1"),
            ("GET HTTP://a.test/b/?c HTTP/1.1", "GET /b/?c HTTP/1.1"),
            ("GET http://a.test?c=http://d/ HTTP/1.1", "GET /?c=http://d/ HTTP/1.1"),
            ("OPTIONS http://a.test HTTP/1.1", "OPTIONS * HTTP/1.1"),
            ("OPTIONS http://a.test/ HTTP/1.1", "OPTIONS / HTTP/1.1"),
        ] {
            let (text, _) = rewritten(line, None);
            assert_eq!(text.lines().next(), Some(expected), "{line}");
        }
    }

    #[test]
    fn framing_is_written_anew() {
        let common = "host: a.test\nX: y\nvia: 1.1 exeat";
        for (line, fields, ending) in [
            ("GET http://a.test/ HTTP/1.1", "", ""),
            ("GET http://a.test/ HTTP/1.1", "Content-Length: 00\n", "\ncontent-length: 0"),
            ("PUT http://a.test/ HTTP/1.1", "Content-Length: 07\n", "\ncontent-length: 7"),
            (
                "PUT http://a.test/ HTTP/1.1",
                "transfer-encoding: CHUNKED\n",
                "\ntransfer-encoding: chunked",
            ),
            (
                "GET http://a.test/ HTTP/1.1",
                "Connection: upgrade\nUpgrade: websocket\n",
                "\nconnection: upgrade\nupgrade: websocket",
            ),
        ] {
            let lines = format!("{line}\nHOST: a.test:80\n{fields}Expect: 100-continue\nX: y");
            let (text, _) = rewritten(&lines, None);
            let method = line.split(' ').next().unwrap();
            assert_eq!(text, format!("{method} / HTTP/1.1\n{common}{ending}"));
        }
    }

    #[test]
    fn what_may_be_sent_twice() {
        let twice = |lines| rewritten(lines, None).1.is_replayable;
        assert!(twice("HEAD http://a.test/ HTTP/1.1"));
        assert!(!twice("POST http://a.test/ HTTP/1.1"));
        assert!(!twice("GET http://a.test/ HTTP/1.1\nContent-Length: 1"));
    }

    #[test]
    fn hops_are_counted() {
        let (text, _) = rewritten("OPTIONS http://a.test/ HTTP/1.1\nMax-Forwards: 7", Some(6));
        assert_eq!(text, "OPTIONS / HTTP/1.1\nhost: a.test\nmax-forwards: 6\nvia: 1.1 exeat");
    }

    #[test]
    fn answers_pass_back() {
        let via = "via: 1.1 exeat";
        for (lines, asked, expected, onward) in [
            (
                "HTTP/1.1 200 Fine\nContent-Length: 03\nX: y\nX-Proxy-Error: z\nKeep-Alive: 1",
                Asked::Ordinary,
                format!("HTTP/1.1 200 Fine\nX: y\n{via}\ncontent-length: 3"),
                Onward::Length,
            ),
            (
                "HTTP/1.1 403 exeat: denied",
                Asked::Ordinary,
                format!("HTTP/1.1 403 Forbidden\n{via}\ntransfer-encoding: chunked"),
                Onward::Chunked,
            ),
            (
                "HTTP/1.1 204\nContent-Length: 3",
                Asked::Ordinary,
                format!("HTTP/1.1 204 No Content\n{via}"),
                Onward::Length,
            ),
            (
                "HTTP/1.1 304 Same\nContent-Length: 3",
                Asked::Ordinary,
                format!("HTTP/1.1 304 Same\n{via}\ncontent-length: 3"),
                Onward::Length,
            ),
            (
                "HTTP/1.1 200 OK\nTransfer-Encoding: chunked",
                Asked::Head,
                format!("HTTP/1.1 200 OK\n{via}"),
                Onward::Length,
            ),
        ] {
            assert_eq!(passed_back(lines, asked, KEEPS), (expected, onward), "{lines}");
        }
    }

    #[test]
    fn old_clients_get_no_chunks() {
        let old = Manners { version: Version::Http10, persists: false };
        let chunked = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked";
        let closing = "HTTP/1.1 200 OK\nvia: 1.1 exeat\nconnection: close".to_owned();
        assert_eq!(passed_back(chunked, Asked::Ordinary, old), (closing, Onward::Close));
        let (text, onward) =
            passed_back("HTTP/1.0 200 OK\nContent-Length: 1", Asked::Ordinary, old);
        assert!(text.ends_with("via: 1.0 exeat\ncontent-length: 1\nconnection: close"), "{text}");
        assert_eq!(onward, Onward::Length);
    }
}
