//! The strict reading of a request head: one meaning, or none.
//!
//! HTTP libraries forgive bare line feeds, drop fragments of request targets and accept some
//! framings that another parser reads differently. Here what has two readings is refused (RFC 9112
//! §2.2, §3, §5, §6). Nothing is repaired and nothing copied: a head is the bytes it was read from.

use bytes::{Buf as _, BytesMut};
use http::{Method, Uri};

use super::{
    BodyFields, ChunkError, Chunks, Field, Fields, Framed, HeadLimits, Lines, Malformed,
    SaidLength, Version, is_token, last_line, lines, split_field,
};
use crate::net::{Authority, AuthorityError, Target, TargetError};

/// A head that has one reading.
#[derive(Debug, Clone)]
pub struct RequestHead<'a> {
    /// What is asked.
    pub method: Method,
    /// Of what, as it came; the form fits the method.
    pub target: &'a [u8],
    /// In which version.
    pub version: Version,
    /// With which fields.
    pub fields: Fields<'a>,
    /// What follows.
    pub framing: Framing,
}

/// Looks for the end of a head in what comes in.
#[derive(Debug, Default)]
pub struct RequestSearch {
    /// How much has been looked at.
    looked_at: usize,
    /// One empty line before the head has been skipped.
    skipped: bool,
}

/// How the body after a head is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
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
pub enum Switch {
    /// A tunnel. Clients may send early, and as much as they like.
    Tunnel,
    /// WebSocket. Nothing legitimate comes before the answer (RFC 6455 §4.1).
    Websocket,
}

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The target of CONNECT is no authority.
    #[error("has a CONNECT target that is not host:port: {0}")]
    Authority(#[from] AuthorityError),
    /// The chunked body breaks its framing.
    #[error("has a malformed chunked body")]
    Body(#[from] ChunkError),
    /// CONNECT with a body (RFC 9110 §9.3.6).
    #[error("has a body, which CONNECT cannot have")]
    ConnectBody,
    /// Malformed as any message may be.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The first byte starts no request: another protocol.
    #[error(
        "is not HTTP: this is an HTTP proxy, to be named as http://, not https:// or socks5://"
    )]
    NotHttp,
    /// A request line of more bytes than accepted.
    #[error("has a request line that is too long")]
    LineTooLong,
    /// Not `METHOD SP target SP HTTP/digit.digit`.
    #[error("has a malformed request line")]
    RequestLine,
    /// It began and did not come to its end in time (RFC 9110 §15.5.9).
    #[error("was not sent in time")]
    Slow,
    /// The target is no absolute URL.
    #[error("has a request target that {0}")]
    Target(#[from] TargetError),
    /// A version other than HTTP/1.0 and HTTP/1.1.
    #[error("is not HTTP/1.1 or HTTP/1.0")]
    Version,
}

/// What the request line means for framing.
#[derive(Debug, Clone, Copy)]
struct RequestLine<'a> {
    method: &'a [u8],
    target: &'a [u8],
    version: Version,
}

/// The fields that say where a message ends.
#[derive(Debug, Default)]
struct FramingFields {
    body: BodyFields,
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

/// Longer than any method in the IANA registry; one without end is an attack.
pub const MAX_METHOD: usize = 32;

/// Where a head ends, if it is all there; lines are looked at from `from` on.
///
/// # Errors
///
/// A line ends in something other than CRLF, which must be refused at once: the end of such a head
/// would never be found.
pub fn find_end(bytes: &[u8], from: usize) -> Result<Option<usize>, HeadError> {
    // TLS and SOCKS clients wait for an answer that a request line would bring.
    if bytes.first().is_some_and(|byte| !is_token(&[*byte]) && !matches!(byte, b'\r' | b'\n')) {
        return Err(HeadError::NotHttp);
    }
    Ok(lines::find_end(bytes, from)?)
}

/// Checks the request line of a head that is not all there yet, as soon as that line is: a client
/// that speaks something else waits for an answer, and never ends its head.
///
/// # Errors
///
/// As [`check`].
pub fn check_first_line(bytes: &[u8]) -> Result<(), HeadError> {
    match bytes.windows(2).position(|window| window == b"\r\n") {
        Some(end) => check_request_line(bytes.get(..end).unwrap_or_default()).map(drop),
        None => Ok(()),
    }
}

/// Checks a whole head, its empty line included, and says how the body is framed.
///
/// # Errors
///
/// What has no reading, or two.
pub fn check(head: &[u8], limits: HeadLimits) -> Result<Framing, HeadError> {
    walk(head, limits, |_| {}).map(|(_, framing)| framing)
}

impl<'a> RequestHead<'a> {
    /// Reads a whole head, its empty line included.
    ///
    /// # Errors
    ///
    /// What has no reading, or two.
    pub fn read(head: &'a [u8], limits: HeadLimits) -> Result<Self, HeadError> {
        let mut fields = Fields::new();
        let (line, framing) = walk(head, limits, |field| fields.push(field))?;
        let RequestLine { method, target, version } = line;
        let method = Method::from_bytes(method).map_err(|_| HeadError::RequestLine)?;
        Ok(Self { method, target, version, fields, framing })
    }
}

impl RequestSearch {
    /// How long the head is, once it is all there. `held` is what has come, perhaps less one empty
    /// line; nothing but more of it may come in between.
    ///
    /// # Errors
    ///
    /// It is none, too long, or will not become one.
    pub fn next(
        &mut self,
        held: &mut BytesMut,
        limits: HeadLimits,
    ) -> Result<Option<usize>, HeadError> {
        // One empty line before a request line is skipped (RFC 9112 §2.2).
        if !self.skipped && self.looked_at == 0 && held.starts_with(b"\r\n") {
            held.advance(2);
            self.skipped = true;
        }
        match find_end(held, self.looked_at)? {
            None if held.len() >= limits.bytes => Err(Malformed::TooLarge.into()),
            None => {
                if self.looked_at == 0 {
                    if held.len() > limits.line && last_line(held) == 0 {
                        return Err(HeadError::LineTooLong);
                    }
                    check_first_line(held)?;
                }
                self.looked_at = last_line(held);
                Ok(None)
            }
            Some(end) if end > limits.bytes => Err(Malformed::TooLarge.into()),
            end => Ok(end),
        }
    }
}

/// Checks a head, and shows each field.
fn walk<'a>(
    head: &'a [u8],
    limits: HeadLimits,
    mut show: impl FnMut(Field<'a>),
) -> Result<(RequestLine<'a>, Framing), HeadError> {
    let mut lines = Lines::of_head(head)?;
    let request_line = lines.next().ok_or(HeadError::RequestLine)??;
    if request_line.len() > limits.line {
        return Err(HeadError::LineTooLong);
    }
    let request = check_request_line(request_line)?;
    let mut framing = FramingFields::default();
    let mut count = 0;
    for line in lines {
        let (name, value) = split_field(line?)?;
        framing.note(name, value)?;
        show(Field { name, value });
        count += 1;
        if count > limits.fields {
            return Err(Malformed::TooManyFields.into());
        }
    }
    Ok((request, framing.decide(request)?))
}

fn check_request_line(line: &[u8]) -> Result<RequestLine<'_>, HeadError> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(HeadError::RequestLine);
    };
    let version = match (Version::parse(version), version) {
        (Some(version), _) => version,
        (None, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(HeadError::Version);
        }
        (None, _) => return Err(HeadError::RequestLine),
    };
    // Reserved for the preface of HTTP/2 (RFC 9113 §3.4), and a method in no version.
    if method == b"PRI" {
        return Err(HeadError::Version);
    }
    if !is_token(method) || method.len() > MAX_METHOD {
        return Err(HeadError::RequestLine);
    }
    check_target(target, method == b"CONNECT")?;
    Ok(RequestLine { method, target, version })
}

/// Origin-form and `*` are legal HTTP and get their answer later.
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
            // Some octets that are visible are in no URL.
            if Uri::try_from(absolute).is_err() {
                return Err(HeadError::RequestLine);
            }
        }
    }
    Ok(())
}

impl Framing {
    /// The body that follows; after what is to be no HTTP any more, none.
    #[must_use]
    pub fn body(self) -> Framed {
        match self {
            Self::Chunked => Framed::Chunked(Chunks::default()),
            Self::Length(length) => Framed::Length(length),
            Self::Switching(_) => Framed::Length(0),
        }
    }
}

impl RequestLine<'_> {
    fn connects(&self) -> bool {
        self.method == b"CONNECT"
    }
}

impl FramingFields {
    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        self.body.note(name, value)?;
        if name.eq_ignore_ascii_case(b"upgrade") {
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

    fn decide(self, request: RequestLine<'_>) -> Result<Framing, HeadError> {
        match self.body.said(request.version)? {
            SaidLength::Length(1..) | SaidLength::Chunked if request.connects() => {
                Err(HeadError::ConnectBody)
            }
            _ if request.connects() => Ok(Framing::Switching(Switch::Tunnel)),
            SaidLength::Chunked => Ok(Framing::Chunked),
            SaidLength::Nothing | SaidLength::Length(0) if self.asks_for_websocket(request) => {
                Ok(Framing::Switching(Switch::Websocket))
            }
            SaidLength::Nothing => Ok(Framing::Length(0)),
            SaidLength::Length(length) => Ok(Framing::Length(length)),
        }
    }

    /// Whether the request asks for WebSocket (RFC 6455 §4.1) and for nothing else. Other upgrades
    /// are not granted, so the request is an ordinary one.
    fn asks_for_websocket(&self, request: RequestLine<'_>) -> bool {
        request.method == b"GET"
            && request.version == Version::Http11
            && self.connection_upgrade
            && self.upgrade == Upgrade::Websocket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 65_536, line: 8_192, fields: 4 };

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
                HeadError::Malformed(Malformed::LengthAndCoding),
            ),
            (
                "GET http://a/ HTTP/1.1\nContent-Length: 5\nContent-Length: 5",
                HeadError::Malformed(Malformed::ContentLength),
            ),
            (
                "GET http://a/ HTTP/1.1\nContent-Length: 5, 5",
                HeadError::Malformed(Malformed::ContentLength),
            ),
            (
                "GET http://a/ HTTP/1.1\nContent-Length: +5",
                HeadError::Malformed(Malformed::ContentLength),
            ),
            (
                "GET http://a/ HTTP/1.1\nContent-Length:",
                HeadError::Malformed(Malformed::ContentLength),
            ),
            (
                "GET http://a/ HTTP/1.1\nContent-Length: 99999999999999999999",
                HeadError::Malformed(Malformed::ContentLength),
            ),
            (
                "GET http://a/ HTTP/1.1\nTransfer-Encoding: gzip, chunked",
                HeadError::Malformed(Malformed::TransferEncoding),
            ),
            (
                "GET http://a/ HTTP/1.1\nTransfer-Encoding:",
                HeadError::Malformed(Malformed::TransferEncoding),
            ),
            (
                "GET http://a/ HTTP/1.0\nTransfer-Encoding: chunked",
                HeadError::Malformed(Malformed::TransferEncoding),
            ),
            ("CONNECT a:443 HTTP/1.1\nContent-Length: 5", HeadError::ConnectBody),
            ("CONNECT a:443 HTTP/1.1\nTransfer-Encoding: chunked", HeadError::ConnectBody),
            ("GET http://a/ HTTP/1.1\n folded", HeadError::Malformed(Malformed::Folded)),
            ("GET http://a/ HTTP/1.1\nX : y", HeadError::Malformed(Malformed::Field)),
            ("GET http://a/ HTTP/1.1\nX", HeadError::Malformed(Malformed::Field)),
            ("GET http://a/ HTTP/1.1\n: y", HeadError::Malformed(Malformed::Field)),
            ("GET http://a/ HTTP/1.1\nX: a\0b", HeadError::Malformed(Malformed::Control)),
            ("GET http://a/ HTTP/1.1\nX: a\rb", HeadError::Malformed(Malformed::LineEnd)),
            ("GET  http://a/ HTTP/1.1", HeadError::RequestLine),
            ("GET http://a/", HeadError::RequestLine),
            ("GET http://\u{fc}/ HTTP/1.1", HeadError::Target(TargetError::Octet)),
            ("GET http://a/#b HTTP/1.1", HeadError::Target(TargetError::Fragment)),
            ("GET /a#b HTTP/1.1", HeadError::RequestLine),
            ("CONNECT a HTTP/1.1", HeadError::Authority(AuthorityError::NoPort)),
            ("GET http://a/ HTTP/2.0", HeadError::Version),
            ("PRI * HTTP/2.0", HeadError::Version),
            ("PRI http://a/ HTTP/1.1", HeadError::Version),
            ("GET http://a/ HTTP/1.10", HeadError::RequestLine),
            ("GET http://a/?\" HTTP/1.1", HeadError::RequestLine),
            (
                "GET http://a/ HTTP/1.1\na: 1\nb: 1\nc: 1\nd: 1\ne: 1",
                Malformed::TooManyFields.into(),
            ),
        ] {
            assert_eq!(framing(lines), Err(error), "{lines}");
        }
    }

    #[test]
    fn other_protocols_are_told_at_once() {
        assert_eq!(find_end(b"\x16\x03\x01", 0), Err(HeadError::NotHttp));
        assert_eq!(find_end(b"\x05\x01\x00", 0), Err(HeadError::NotHttp));
        assert_eq!(find_end(b"GET / HTTP/1.1\r\nHost", 0), Ok(None));
    }
}
