//! The strict reading of a request head: one meaning, or none.
//!
//! HTTP libraries forgive bare line feeds, drop fragments of request targets and accept some
//! framings that another parser reads differently. This check runs over the raw bytes before the
//! library sees them. It finds out how the message is framed and refuses what has two readings
//! (RFC 9112 §2.2, §3, §5, §6); it does not build a request.

use std::str;

use http::Uri;

use crate::net::{Authority, AuthorityError, Target, TargetError};

/// How the body after a head is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// In chunks.
    Chunked,
    /// That many bytes; zero if there is no body.
    Length(u64),
    /// CONNECT or a request for WebSocket: what follows is HTTP only if it is not granted, and
    /// then the connection is closed. So nothing that follows may be read as HTTP.
    Switching(Switch),
}

/// What a connection is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Switch {
    /// A tunnel. Clients may send early, and as much as they like.
    Tunnel,
    /// WebSocket. Nothing legitimate comes before the answer (RFC 6455 §4.1).
    Websocket,
}

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeadError {
    /// The target of CONNECT is no authority.
    #[error("has a CONNECT target that is not host:port: {0}")]
    Authority(#[from] AuthorityError),
    /// CONNECT with a body (RFC 9110 §9.3.6).
    #[error("has a body, which CONNECT cannot have")]
    ConnectBody,
    /// A Content-Length that is not one decimal number, or more than one of them.
    #[error("Content-Length is not one decimal number")]
    ContentLength,
    /// A control character.
    #[error("has a control character")]
    Control,
    /// A field line without a legal name and a colon right after it.
    #[error("has a malformed field line")]
    Field,
    /// A line that continues the one before (obs-fold).
    #[error("has a folded field line")]
    Folded,
    /// Both Content-Length and Transfer-Encoding.
    #[error("has both Content-Length and Transfer-Encoding")]
    LengthAndCoding,
    /// A carriage return or line feed on its own.
    #[error("has a line that does not end in CRLF")]
    LineEnd,
    /// The first byte starts no request: another protocol.
    #[error(
        "is not HTTP: this is an HTTP proxy, to be named as http://, not https:// or socks5://"
    )]
    NotHttp,
    /// Not `METHOD SP target SP HTTP/digit.digit`.
    #[error("has a malformed request line")]
    RequestLine,
    /// The target is no absolute URL.
    #[error("has a request target that {0}")]
    Target(#[from] TargetError),
    /// More bytes than accepted.
    #[error("is too large")]
    TooLarge,
    /// More fields than accepted.
    #[error("has too many fields")]
    TooManyFields,
    /// A Transfer-Encoding other than `chunked`, alone and once, in HTTP/1.1.
    #[error("has a Transfer-Encoding other than `chunked`")]
    TransferEncoding,
    /// A version other than HTTP/1.0 and HTTP/1.1.
    #[error("is not HTTP/1.1 or HTTP/1.0")]
    Version,
}

/// Bounds of a head.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadLimits {
    /// In bytes, the empty line included.
    pub(super) bytes: usize,
    /// Field lines.
    pub(super) fields: usize,
}

/// What the request line means for framing.
#[derive(Debug, Clone, Copy)]
struct RequestLine {
    connect: bool,
    get: bool,
    http11: bool,
}

/// The fields that say where a message ends.
#[derive(Debug, Default)]
struct FramingFields {
    length: Option<u64>,
    chunked: bool,
    upgrade: Upgrade,
    connection_upgrade: bool,
}

/// What the `Upgrade` fields ask for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Upgrade {
    #[default]
    Nothing,
    /// Something that is not granted, or several things.
    Other,
    Websocket,
}

/// Lines between CRLFs; a carriage return or line feed on its own is an error.
struct Lines<'a> {
    rest: Option<&'a [u8]>,
}

/// Longer than any method in the IANA registry; one without end is an attack.
const MAX_METHOD: usize = 32;

/// Where a head ends, if it is all there; lines are looked at from `from` on.
///
/// # Errors
///
/// A line ends in something other than CRLF, which must be refused at once: the end of such a head
/// would never be found.
pub(super) fn find_end(bytes: &[u8], from: usize) -> Result<Option<usize>, HeadError> {
    // TLS and SOCKS clients wait for an answer that a request line would bring.
    if bytes.first().is_some_and(|byte| !is_token(&[*byte]) && !matches!(byte, b'\r' | b'\n')) {
        return Err(HeadError::NotHttp);
    }
    let mut line_start = from;
    loop {
        let rest = bytes.get(line_start..).unwrap_or_default();
        let Some(length) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
            return Ok(None);
        };
        match rest.get(length..) {
            Some([b'\r', b'\n', ..]) => line_start += length + 2,
            Some([b'\r']) => return Ok(None),
            Some(_) | None => return Err(HeadError::LineEnd),
        }
        if length == 0 {
            return Ok(Some(line_start));
        }
    }
}

/// Where the last unfinished line begins: from there [`find_end`] goes on.
pub(super) fn last_line(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

/// Checks a whole head, its empty line included, and says how the body is framed.
///
/// # Errors
///
/// What has no reading, or two.
pub(super) fn check(head: &[u8], limits: HeadLimits) -> Result<Framing, HeadError> {
    let head = head.strip_suffix(b"\r\n\r\n").ok_or(HeadError::LineEnd)?;
    let mut lines = Lines { rest: Some(head) };
    let request = check_request_line(lines.next().ok_or(HeadError::RequestLine)??)?;
    let mut framing = FramingFields::default();
    let mut count = 0;
    for line in lines {
        let (name, value) = split_field(line?)?;
        framing.note(name, value)?;
        count += 1;
        if count > limits.fields {
            return Err(HeadError::TooManyFields);
        }
    }
    framing.decide(request)
}

fn check_request_line(line: &[u8]) -> Result<RequestLine, HeadError> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(HeadError::RequestLine);
    };
    let http11 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(HeadError::Version);
        }
        _ => return Err(HeadError::RequestLine),
    };
    if !is_token(method) || method.len() > MAX_METHOD {
        return Err(HeadError::RequestLine);
    }
    let connect = method == b"CONNECT";
    check_target(target, connect)?;
    Ok(RequestLine { connect, get: method == b"GET", http11 })
}

/// The library drops fragments and has its own idea of an authority, so targets are read here,
/// as they came. Origin-form and `*` are legal HTTP and get their answer later.
fn check_target(target: &[u8], connect: bool) -> Result<(), HeadError> {
    match target {
        _ if connect => {
            Authority::parse_connect(target)?;
        }
        b"*" => {}
        [b'/', ..] => {
            if !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
                return Err(HeadError::RequestLine);
            }
        }
        absolute => {
            Target::parse(absolute)?;
            // The library refuses some octets that no URL may hold; so that it is explained, it is
            // asked here.
            if Uri::try_from(absolute).is_err() {
                return Err(HeadError::RequestLine);
            }
        }
    }
    Ok(())
}

/// The name and the trimmed value of a field line (RFC 9112 §5).
fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), HeadError> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(HeadError::Folded);
    }
    let colon = line.iter().position(|byte| *byte == b':').ok_or(HeadError::Field)?;
    let (name, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default();
    if !is_token(name) {
        return Err(HeadError::Field);
    }
    if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(HeadError::Control);
    }
    Ok((name, value.trim_ascii()))
}

impl FramingFields {
    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                return Err(HeadError::ContentLength);
            }
            self.length = Some(parse_length(value)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(HeadError::TransferEncoding);
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            let websocket = value.eq_ignore_ascii_case(b"websocket");
            self.upgrade = match self.upgrade {
                Upgrade::Nothing if websocket => Upgrade::Websocket,
                Upgrade::Nothing | Upgrade::Other | Upgrade::Websocket => Upgrade::Other,
            };
        } else if name.eq_ignore_ascii_case(b"connection") {
            let mut names = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            self.connection_upgrade |= names.any(|name| name.eq_ignore_ascii_case(b"upgrade"));
        }
        Ok(())
    }

    fn decide(self, request: RequestLine) -> Result<Framing, HeadError> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err(HeadError::LengthAndCoding),
            (_, true) if !request.http11 => Err(HeadError::TransferEncoding),
            (Some(1..), false) | (None, true) if request.connect => Err(HeadError::ConnectBody),
            (_, _) if request.connect => Ok(Framing::Switching(Switch::Tunnel)),
            (None, true) => Ok(Framing::Chunked),
            (None | Some(0), false) if self.asks_for_websocket(request) => {
                Ok(Framing::Switching(Switch::Websocket))
            }
            (length, false) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }

    /// Whether the request asks for WebSocket (RFC 6455 §4.1) and for nothing else. Other upgrades
    /// are not granted, so the request is an ordinary one.
    fn asks_for_websocket(&self, request: RequestLine) -> bool {
        request.get
            && request.http11
            && self.connection_upgrade
            && self.upgrade == Upgrade::Websocket
    }
}

/// At most what fits a signed number everywhere.
fn parse_length(value: &[u8]) -> Result<u64, HeadError> {
    let digits = str::from_utf8(value)
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let length = digits.and_then(|digits| digits.parse().ok());
    length.filter(|length| *length <= i64::MAX.unsigned_abs()).ok_or(HeadError::ContentLength)
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(text: &[u8]) -> bool {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(legal)
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], HeadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        let Some(at) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
            return Some(Ok(rest));
        };
        let (line, end) = rest.split_at(at);
        let Some(after) = end.strip_prefix(b"\r\n") else { return Some(Err(HeadError::LineEnd)) };
        self.rest = Some(after);
        Some(Ok(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 65_536, fields: 4 };

    fn framing(lines: &str) -> Result<Framing, HeadError> {
        let head = format!("{lines}\n\n").replace('\n', "\r\n");
        assert_eq!(find_end(head.as_bytes(), 0)?, Some(head.len()));
        check(head.as_bytes(), LIMITS)
    }

    #[test]
    fn framings() {
        for (lines, expected) in [
            ("GET http://a/ HTTP/1.1\nHost: a", Framing::Length(0)),
            ("GET http://a/ HTTP/1.0", Framing::Length(0)),
            ("POST http://a/ HTTP/1.1\nContent-Length: 12", Framing::Length(12)),
            ("POST http://a/ HTTP/1.1\ntRANSFER-eNCODING: Chunked", Framing::Chunked),
            ("POST http://a/ HTTP/1.1\nTransfer_Encoding: chunked", Framing::Length(0)),
            ("CONNECT a:443 HTTP/1.1", Framing::Switching(Switch::Tunnel)),
            ("CONNECT a:443 HTTP/1.1\nContent-Length: 0", Framing::Switching(Switch::Tunnel)),
            (
                "GET http://a/ HTTP/1.1\nUpgrade: websocket\nConnection: x, upgrade",
                Framing::Switching(Switch::Websocket),
            ),
            ("GET http://a/ HTTP/1.1\nUpgrade: websocket", Framing::Length(0)),
            ("GET http://a/ HTTP/1.0\nUpgrade: websocket\nConnection: upgrade", Framing::Length(0)),
            ("GET http://a/ HTTP/1.1\nUpgrade: h2c\nConnection: upgrade", Framing::Length(0)),
            ("POST http://a/ HTTP/1.1\nUpgrade: h2c\nContent-Length: 5", Framing::Length(5)),
        ] {
            assert_eq!(framing(lines), Ok(expected), "{lines}");
        }
    }

    #[test]
    fn refused() {
        for (lines, error) in [
            (
                "GET http://a/ HTTP/1.1\nContent-Length: 5\nTransfer-Encoding: chunked",
                HeadError::LengthAndCoding,
            ),
            (
                "GET http://a/ HTTP/1.1\nContent-Length: 5\nContent-Length: 5",
                HeadError::ContentLength,
            ),
            ("GET http://a/ HTTP/1.1\nContent-Length: 5, 5", HeadError::ContentLength),
            ("GET http://a/ HTTP/1.1\nContent-Length: +5", HeadError::ContentLength),
            ("GET http://a/ HTTP/1.1\nContent-Length:", HeadError::ContentLength),
            (
                "GET http://a/ HTTP/1.1\nContent-Length: 99999999999999999999",
                HeadError::ContentLength,
            ),
            (
                "GET http://a/ HTTP/1.1\nTransfer-Encoding: gzip, chunked",
                HeadError::TransferEncoding,
            ),
            ("GET http://a/ HTTP/1.1\nTransfer-Encoding:", HeadError::TransferEncoding),
            ("GET http://a/ HTTP/1.0\nTransfer-Encoding: chunked", HeadError::TransferEncoding),
            ("CONNECT a:443 HTTP/1.1\nContent-Length: 5", HeadError::ConnectBody),
            ("CONNECT a:443 HTTP/1.1\nTransfer-Encoding: chunked", HeadError::ConnectBody),
            ("GET http://a/ HTTP/1.1\n folded", HeadError::Folded),
            ("GET http://a/ HTTP/1.1\nX : y", HeadError::Field),
            ("GET http://a/ HTTP/1.1\nX", HeadError::Field),
            ("GET http://a/ HTTP/1.1\n: y", HeadError::Field),
            ("GET http://a/ HTTP/1.1\nX: a\0b", HeadError::Control),
            ("GET http://a/ HTTP/1.1\nX: a\rb", HeadError::LineEnd),
            ("GET  http://a/ HTTP/1.1", HeadError::RequestLine),
            ("GET http://a/", HeadError::RequestLine),
            ("GET http://\u{fc}/ HTTP/1.1", HeadError::Target(TargetError::Octet)),
            ("GET http://a/#b HTTP/1.1", HeadError::Target(TargetError::Fragment)),
            ("GET /a#b HTTP/1.1", HeadError::RequestLine),
            ("CONNECT a HTTP/1.1", HeadError::Authority(AuthorityError::NoPort)),
            ("GET http://a/ HTTP/2.0", HeadError::Version),
            ("GET http://a/ HTTP/1.10", HeadError::RequestLine),
            ("GET http://a/?\" HTTP/1.1", HeadError::RequestLine),
            ("GET http://a/ HTTP/1.1\na: 1\nb: 1\nc: 1\nd: 1\ne: 1", HeadError::TooManyFields),
        ] {
            assert_eq!(framing(lines), Err(error), "{lines}");
        }
    }

    #[test]
    fn line_ends_are_looked_at_as_they_come() {
        assert_eq!(find_end(b"GET / HTTP/1.1\r\nHost", 0), Ok(None));
        assert_eq!(last_line(b"GET / HTTP/1.1\r\nHost"), 16);
        assert_eq!(find_end(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nmore", 16), Ok(Some(27)));
        assert_eq!(find_end(b"GET / HTTP/1.1\nHost", 0), Err(HeadError::LineEnd));
        assert_eq!(find_end(b"\n", 0), Err(HeadError::LineEnd));
        assert_eq!(find_end(b"\x16\x03\x01", 0), Err(HeadError::NotHttp));
        assert_eq!(find_end(b"\x05\x01\x00", 0), Err(HeadError::NotHttp));
        assert_eq!(find_end(b"GET / HTTP/1.1\rHost", 0), Err(HeadError::LineEnd));
        assert_eq!(find_end(b"GET / HTTP/1.1\r", 0), Ok(None));
    }
}
