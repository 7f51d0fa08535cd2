//! Whether a tunnel begins with the head of an HTTP/1 request, and which hosts that names.
//!
//! Told apart leniently, because servers forgive much: any token may be a method, white space and
//! control characters may stand between the words, lines may end in a line feed alone. What may be
//! such a head is then read as strictly as a request to the proxy itself.
//!
//! Nothing goes on of a line that begins with a registered method until the head has been judged.
//! One that begins with any other word goes on as far as it says nothing of HTTP, so that a client
//! which says `hello` and waits for an answer gets one; should it become a request line after all,
//! that is refused, and a line without its end does nothing.

use crate::{
    http1::{
        HeadLimits, Lines, is_token, last_line,
        request_head::{self, HeadError, MAX_METHOD},
        split_field,
    },
    net::{Authority, Host, Port, Target},
};

/// A head in the making. The bytes stay with the caller.
#[derive(Debug, Default)]
pub(super) struct PlainHead {
    line: FirstLine,
    /// How much of the caller's bytes the line has seen.
    seen: usize,
    /// Part of the line has gone on.
    parted: bool,
    /// The line is a request line.
    in_head: bool,
    /// How far the head's end has been looked for.
    looked_at: usize,
}

/// What the bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plain {
    /// A whole head, and the hosts it names.
    Head(Named),
    /// They may become a head; none of them may go on.
    Hold,
    /// No request of HTTP/1.
    Other,
    /// That many may go on; what follows them must be looked at.
    Release(usize),
}

/// Why a request has no reading, or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum PlainError {
    /// A head that the proxy itself would refuse.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Several `Host` fields, or one that is no authority.
    #[error("has more than one Host field, or one that is no host")]
    HostField,
    /// A request line that came in parts, after a word that is no registered method.
    #[error("has an unregistered method, and came in parts")]
    Parted,
    /// More bytes than accepted.
    #[error("is too large")]
    TooLarge,
    /// The client ended before the head did.
    #[error("has no end")]
    Unfinished,
}

/// The hosts in a head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// Of the target, if it is absolute or an authority.
    pub(super) target: Option<Host>,
    /// Of the `Host` field.
    pub(super) field: Option<Host>,
}

/// What is known of a line that may be a request line.
#[derive(Debug, Default)]
struct FirstLine {
    method: Vec<u8>,
    method_ended: bool,
    /// The beginning of the word under way.
    word: Vec<u8>,
    /// A later word began as an HTTP version or an absolute URL does.
    speaks_http: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Open,
    Other,
    Request,
}

impl PlainHead {
    /// Looks at bytes that begin where the last release ended. `ended`: no more will come.
    ///
    /// # Errors
    ///
    /// This is a request whose head has no reading, or two, or too many bytes.
    pub(super) fn look(
        &mut self,
        bytes: &[u8],
        ended: bool,
        limits: HeadLimits,
    ) -> Result<Plain, PlainError> {
        if self.in_head {
            return self.look_at_head(bytes, ended, limits);
        }
        // Servers skip empty lines before a request, and some skip white space.
        let blanks = bytes.iter().take_while(|byte| b"\r\n \t".contains(byte)).count();
        if self.line.is_new() && blanks > 0 {
            return Ok(Plain::Release(blanks));
        }
        let line = self.line.feed(bytes.get(self.seen..).unwrap_or_default());
        self.seen = bytes.len();
        match line {
            Line::Other => Ok(Plain::Other),
            Line::Open | Line::Request if self.parted && self.line.speaks_http => {
                Err(PlainError::Parted)
            }
            Line::Request => {
                self.in_head = true;
                self.look_at_head(bytes, ended, limits)
            }
            // Some servers take the end of the stream for the end of the line.
            Line::Open if ended && self.line.speaks_http => Err(PlainError::Unfinished),
            Line::Open if ended => Ok(Plain::Other),
            Line::Open if bytes.is_empty() => Ok(Plain::Hold),
            Line::Open if !self.line.speaks_http && !self.line.may_be_registered() => {
                self.parted = true;
                self.seen = 0;
                Ok(Plain::Release(bytes.len()))
            }
            Line::Open if bytes.len() >= limits.bytes => Err(PlainError::TooLarge),
            Line::Open => Ok(Plain::Hold),
        }
    }

    fn look_at_head(
        &mut self,
        bytes: &[u8],
        ended: bool,
        limits: HeadLimits,
    ) -> Result<Plain, PlainError> {
        match request_head::find_end(bytes, self.looked_at)? {
            Some(end) if end <= limits.bytes => {
                let head = bytes.get(..end).unwrap_or_default();
                request_head::check(head, limits)?;
                named(head).map(Plain::Head)
            }
            Some(_) => Err(PlainError::TooLarge),
            None if bytes.len() >= limits.bytes => Err(PlainError::TooLarge),
            None if ended => Err(PlainError::Unfinished),
            None => {
                self.looked_at = last_line(bytes);
                Ok(Plain::Hold)
            }
        }
    }
}

/// Methods of the IANA registry (RFC 9110 §16.1.1).
const REGISTERED: &[&str] = &[
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "POST",
    "PRI",
    "PROPFIND",
    "PROPPATCH",
    "PUT",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "TRACE",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

/// The longest beginning of a word that matters: `https://`.
const MAX_WORD: usize = 8;

impl FirstLine {
    fn is_new(&self) -> bool {
        self.method.is_empty()
    }

    /// Whether the first word is a registered method, or may become one.
    fn may_be_registered(&self) -> bool {
        let word = self.method.as_slice();
        REGISTERED.iter().any(|method| match self.method_ended {
            true => method.as_bytes() == word,
            false => method.as_bytes().starts_with(word),
        })
    }

    fn feed(&mut self, bytes: &[u8]) -> Line {
        for byte in bytes {
            match *byte {
                b'\n' if self.speaks_http => return Line::Request,
                b'\n' => return Line::Other,
                ..=b' ' | 0x7f if self.method.is_empty() => return Line::Other,
                b' ' | b'\t' | b'\r' => self.end_word(),
                // Other protocols have such bytes. Some servers take them for white space, but
                // those know which methods there are.
                ..=b' ' | 0x7f => {
                    self.end_word();
                    if !self.may_be_registered() {
                        return Line::Other;
                    }
                }
                byte if !self.method_ended => {
                    self.method.push(byte);
                    if !is_token(&[byte]) || self.method.len() > MAX_METHOD {
                        return Line::Other;
                    }
                }
                byte => self.grow_word(byte),
            }
        }
        Line::Open
    }

    fn end_word(&mut self) {
        self.method_ended = true;
        self.word.clear();
    }

    fn grow_word(&mut self, byte: u8) {
        if self.word.len() < MAX_WORD {
            self.word.push(byte.to_ascii_lowercase());
            self.speaks_http |= match self.word.as_slice() {
                b"http/" => true,
                // A URL makes a request without version (HTTP/0.9) only after GET.
                b"http://" | b"https://" => self.may_be_registered(),
                _ => false,
            };
        }
    }
}

/// The hosts of a head that has been checked.
fn named(head: &[u8]) -> Result<Named, PlainError> {
    let mut lines = Lines::of_head(head).map_err(HeadError::from)?;
    let request = lines.next().ok_or(HeadError::RequestLine)?.map_err(HeadError::from)?;
    let mut words = request.split(|byte| *byte == b' ');
    let target = match (words.next(), words.next()) {
        (Some(b"CONNECT"), Some(authority)) => {
            Some(Authority::parse_connect(authority).map_err(HeadError::from)?.host)
        }
        (_, Some([b'/' | b'*', ..]) | None) => None,
        (_, Some(absolute)) => {
            Some(Target::parse(absolute).map_err(HeadError::from)?.authority.host)
        }
    };
    let mut field = None;
    for line in lines {
        let (name, value) = line.and_then(split_field).map_err(HeadError::from)?;
        if !name.eq_ignore_ascii_case(b"host") {
            continue;
        }
        let host = Authority::parse_or(value, Port::HTTP);
        if field.replace(host.map_err(|_| PlainError::HostField)?.host).is_some() {
            return Err(PlainError::HostField);
        }
    }
    Ok(Named { target, field })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 200, line: 100, fields: 8 };

    /// The first answer that is final, and how much went on before it.
    fn look(bytes: &[u8], step: usize) -> (Result<Plain, PlainError>, usize) {
        let mut head = PlainHead::default();
        let (mut from, mut to) = (0, 0);
        loop {
            match head.look(&bytes[from..to], false, LIMITS) {
                Ok(Plain::Release(released)) => from += released,
                Ok(Plain::Hold) if to < bytes.len() => to = bytes.len().min(to + step),
                Ok(Plain::Hold) if from < to => return (Ok(Plain::Hold), from),
                Ok(Plain::Hold) => return (head.look(b"", true, LIMITS), from),
                end @ (Ok(Plain::Head(_) | Plain::Other) | Err(_)) => return (end, from),
            }
        }
    }

    fn host(text: &str) -> Option<Host> {
        Some(Host::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn heads_name_hosts() {
        for (head, target, field) in [
            ("GET / HTTP/1.1\r\nHost: A.test:8080\r\n\r\n", None, host("a.test")),
            (
                "\r\nGET http://b.test/ HTTP/1.1\r\nhost:a.test\r\n\r\n",
                host("b.test"),
                host("a.test"),
            ),
            (
                "CONNECT b.test:443 HTTP/1.1\r\nHost: b.test:443\r\n\r\n",
                host("b.test"),
                host("b.test"),
            ),
            ("OPTIONS * HTTP/1.0\r\nX: y\r\n\r\n", None, None),
        ] {
            for step in [1, 3, 1000] {
                let (answer, gone) = look(head.as_bytes(), step);
                assert_eq!(
                    answer,
                    Ok(Plain::Head(Named { target: target.clone(), field: field.clone() }))
                );
                assert!(head.as_bytes()[..gone].trim_ascii().is_empty(), "{head:?}");
            }
        }
        let unregistered = "FETCH / HTTP/1.1\r\nHost: a.test\r\n\r\n";
        assert!(matches!(look(unregistered.as_bytes(), 1000).0, Ok(Plain::Head(_))));
        assert_eq!(look(unregistered.as_bytes(), 10).0, Err(PlainError::Parted));
    }

    #[test]
    fn what_is_no_head_goes_on() {
        for bytes in [
            &b"SSH-2.0-x\r\n"[..],
            b"EHLO a.test\r\n",
            b"hello",
            b"hello world",
            b"x",
            b"GET key\r\n",
            b"0032git-upload-pack /a\0host=b\0",
            b"AMQP\0\0\x09\x01",
            b"OPTIONS rtsp://a.test/ RTSP/1.0\r\n",
            b"CONNECT {\"verbose\":false}\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"play http://a.test/\r\n",
            b"{\"a\":1}",
            b"a-word-that-is-longer-than-methods-are",
            b"\0\0\0\x08\x04\xd2\x16\x2f",
        ] {
            for step in [1, 4, 1000] {
                assert_eq!(look(bytes, step).0, Ok(Plain::Other), "{}", bytes.escape_ascii());
            }
        }
        assert_eq!(look(b"GET /half", 2), (Ok(Plain::Hold), 0));
        assert_eq!(look(b"P", 1), (Ok(Plain::Hold), 0));
    }

    #[test]
    fn lenient_spellings_are_refused() {
        for head in [
            "GET / HTTP/1.1\nHost: a.test\n\n",
            "GET\t/\tHTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET\r/\rhttp/1.1\r\nHost: a.test\r\n\r\n",
            "GET /\0 HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "get /\u{e9} HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET http://b.test/\r\n\r\n",
            "GET HTTPS://b.test/\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a.test\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            for step in [1, 3, 1000] {
                assert!(look(head.as_bytes(), step).0.is_err(), "{head:?} {step}");
            }
        }
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(200));
        assert_eq!(look(long.as_bytes(), 10).0, Err(PlainError::TooLarge));
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(200));
        assert_eq!(look(long.as_bytes(), 10).0, Err(PlainError::TooLarge));
        let mut head = PlainHead::default();
        assert_eq!(head.look(b"GET / HTTP/1.1", true, LIMITS), Err(PlainError::Unfinished));
        let mut head = PlainHead::default();
        assert_eq!(
            head.look(b"GET / HTTP/1.1\r\nHost: b", true, LIMITS),
            Err(PlainError::Unfinished)
        );
    }
}
