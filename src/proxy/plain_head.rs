//! The head of an HTTP/1 request in a tunnel, and which hosts it names.
//!
//! What may be such a head for any server (`first_line`) is read as strictly as a request to the
//! proxy itself, and is refused if it has no reading, or two. Before it stand empty lines at most.
//!
//! Nothing goes on of a line that begins with a known method until the head has been judged. One
//! that begins with any other word goes on as far as it is no request line, so that a client which
//! says `hello` and waits for an answer gets one; should it become a request line after all, that
//! is refused, and a line without its end does nothing.

use super::first_line::{FirstLine, Line};
use crate::{
    http1::{
        HeadLimits, Lines, last_line,
        request_head::{self, Framing, HeadError},
        split_field,
    },
    net::{Authority, Host, Port, Target},
};

/// A head in the making. The bytes stay with the caller.
#[derive(Debug, Default)]
pub(super) struct PlainHead {
    before: Before,
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
    /// A whole head.
    Head(WholeHead),
    /// They may become a head; none of them may go on.
    Hold,
    /// No request of HTTP/1.
    Other,
    /// That many may go on; what follows them must be looked at.
    Release(usize),
}

/// A head that has one reading.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WholeHead {
    /// The hosts it names.
    pub(super) named: Named,
    /// What follows it.
    pub(super) framing: Framing,
    /// How many bytes it takes.
    pub(super) end: usize,
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
    /// Something else than empty lines stands before the head.
    #[error("has other bytes than empty lines before it")]
    Leading,
    /// CONNECT, behind which nothing can be judged.
    #[error("asks for a tunnel inside the tunnel")]
    Nested,
    /// A request line that came in parts, after a word that is no known method.
    #[error("has an unknown method, and came in parts")]
    Parted,
    /// A header of the PROXY protocol, behind which anything may begin.
    #[error("is hidden behind the PROXY protocol")]
    Proxied,
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

/// What came before the line; it has gone on.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing but empty lines (RFC 9112 §2.2).
    #[default]
    Lines,
    /// One of them lacks its line feed.
    Cr,
    /// Bytes that some server skips.
    Junk,
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
        let blanks = bytes.iter().take_while(|byte| !byte.is_ascii_graphic());
        let count = blanks.clone().count();
        if self.line.is_new() && count > 0 {
            self.before = blanks.fold(self.before, Before::and);
            return Ok(Plain::Release(count));
        }
        let line = self.line.feed(bytes.get(self.seen..).unwrap_or_default());
        self.seen = bytes.len();
        match line {
            Line::Proxied => Err(PlainError::Proxied),
            Line::Request if self.parted => Err(PlainError::Parted),
            Line::Request if self.before != Before::Lines => Err(PlainError::Leading),
            Line::Request => {
                self.in_head = true;
                self.look_at_head(bytes, ended, limits)
            }
            // The end of the header of version 2.
            Line::Other if self.before == Before::Junk && self.line.is(b"QUIT") => {
                Err(PlainError::Proxied)
            }
            Line::Other => Ok(Plain::Other),
            Line::Open if ended => Ok(Plain::Other),
            Line::Open if bytes.is_empty() => Ok(Plain::Hold),
            Line::Open if self.before == Before::Lines && self.line.may_be_known() => {
                match bytes.len() >= limits.bytes {
                    true => Err(PlainError::TooLarge),
                    false => Ok(Plain::Hold),
                }
            }
            Line::Open => {
                self.parted = true;
                self.seen = 0;
                Ok(Plain::Release(bytes.len()))
            }
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
                let framing = request_head::check(head, limits)?;
                Ok(Plain::Head(WholeHead { named: named(head)?, framing, end }))
            }
            Some(_) => Err(PlainError::TooLarge),
            None if bytes.len() >= limits.bytes => Err(PlainError::TooLarge),
            None if ended => Err(PlainError::Unfinished),
            None => {
                if self.looked_at == 0 {
                    request_head::check_first_line(bytes)?;
                }
                self.looked_at = last_line(bytes);
                Ok(Plain::Hold)
            }
        }
    }
}

impl Before {
    fn and(self, byte: &u8) -> Self {
        match (self, byte) {
            (Self::Lines, b'\r') => Self::Cr,
            (Self::Cr, b'\n') => Self::Lines,
            (Self::Lines | Self::Cr | Self::Junk, _) => Self::Junk,
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
                let Ok(Plain::Head(whole)) = answer else { panic!("{head:?}: {answer:?}") };
                assert_eq!(whole.named, Named { target: target.clone(), field: field.clone() });
                assert_eq!(gone + whole.end, head.len());
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
            b"0032git-upload-pack /a\0host=b\0",
            b"AMQP\0\0\x09\x01",
            b"CONNECT {\"verbose\":false}\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"get key\r\n",
            b"{\"a\":1}",
            b"\0\0\0\x08\x04\xd2\x16\x2f",
            b"\x89\x80\x01\x02\x03G",
        ] {
            for step in [1, 4, 1000] {
                assert_eq!(look(bytes, step).0, Ok(Plain::Other), "{}", bytes.escape_ascii());
            }
        }
        for word in ["P", "GET", "GET "] {
            assert_eq!(look(word.as_bytes(), 2), (Ok(Plain::Hold), 0));
        }
        // What cannot be a head that passes is not held.
        assert_eq!(look(b"\0GE", 1).1, 3);
        assert_eq!(look(b"ge", 1).1, 2);
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
            "GET /\r\n",
            "GET key\r\n",
            "OPTIONS rtsp://a.test/ RTSP/1.0\r\n",
            " GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "\r\n\rGET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "\0\u{a0}GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
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
