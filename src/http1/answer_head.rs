//! The strict reading of the head of an answer: one meaning, or none.
//!
//! HTTP libraries forgive empty lines before the status line, bare line feeds, lengths said
//! twice, a coding they do not know (and then read to the end of the connection) and any number of
//! interim answers. Each of these another parser reads differently, and then the next answer on
//! the connection begins elsewhere for it. Here they are refused (RFC 9112 §4, §5, §6).

use bytes::{Buf as _, BytesMut};

use super::{
    BodyFields, Field, Fields, HeadLimits, Lines, Malformed, SaidLength, Version, last_line, lines,
    split_field,
};

/// A head that has one reading.
#[derive(Debug)]
pub struct AnswerHead<'a> {
    /// In which version.
    pub version: Version,
    /// 100 and above, of three digits.
    pub status: u16,
    /// The words after it, perhaps none.
    pub reason: &'a [u8],
    /// With which fields.
    pub fields: Fields<'a>,
    /// What its fields say about a body, whether there is one or not.
    pub said: SaidLength,
    /// What it is.
    pub head: Head,
}

/// Looks for the head of an answer in what comes in, past interim ones.
#[derive(Debug, Default)]
pub struct AnswerSearch {
    /// How much has been looked at.
    looked_at: usize,
    interim: usize,
}

/// What was asked, as far as it says what an answer may look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// HEAD: an answer without a body, whatever its fields say.
    Head,
    /// To switch protocols.
    Upgrade,
    /// Anything else.
    Ordinary,
}

/// What a head turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// 1xx: another head follows.
    Interim,
    /// The answer, and how its body is framed.
    Final(Body),
    /// 101: from here on it is not HTTP.
    Switching,
}

/// How the body of an answer is framed (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// In chunks.
    Chunked,
    /// That many bytes.
    Length(u64),
    /// There is none, but the fields of a 204 announce one: a sender that is so confused may send
    /// it, so nothing after the head is an answer.
    Stray,
    /// Up to the end of the connection.
    UntilClose,
}

/// Why an answer is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The body breaks its framing.
    #[error("the body of the answer is malformed")]
    Chunks(#[from] super::ChunkError),
    /// The connection ended inside a head.
    #[error("the head of the answer breaks off")]
    CutOff,
    /// Malformed as any message may be.
    #[error("the answer {0}")]
    Malformed(#[from] Malformed),
    /// Not `HTTP/1.x SP 3DIGIT`, with or without a reason.
    #[error("the answer has a malformed status line")]
    StatusLine,
    /// 101, though no other protocol was asked for.
    #[error("the answer switches to a protocol that nobody asked for")]
    Switching,
    /// More than [`MAX_INTERIM`] interim answers.
    #[error("the answer is preceded by too many interim ones")]
    TooManyInterim,
}

/// The head of an answer, in bytes and in fields.
///
/// As many bytes as a request may have unless configured otherwise. Origins keep within it: the
/// servers and gateways most of them stand behind pass 8 to 32 KiB (nginx, `HAProxy`, Node), and
/// Squid has taken no more than 64 KiB from any. Clients would take 256 KiB and more (browsers,
/// curl), but this much is held for every request under way at once, and it is the origin that
/// chooses how much of it.
pub const LIMITS: HeadLimits = HeadLimits { bytes: 64 << 10, line: 64 << 10, fields: 256 };

/// Interim answers to one request. `WebDAV` servers send a 102 every few seconds.
pub const MAX_INTERIM: usize = 100;

/// Where the head ends, if it is all there; lines are looked at from `from` on.
///
/// # Errors
///
/// It is none, and will not become one.
pub fn end_of_head(bytes: &[u8], from: usize) -> Result<Option<usize>, AnswerError> {
    match lines::find_end(bytes, from)? {
        None if bytes.len() >= LIMITS.bytes => Err(Malformed::TooLarge.into()),
        Some(end) if end > LIMITS.bytes => Err(Malformed::TooLarge.into()),
        end => Ok(end),
    }
}

/// Checks a whole head, its empty line included.
///
/// # Errors
///
/// What has no reading, or two, or was not asked for.
pub fn check(head: &[u8], asked: Asked) -> Result<Head, AnswerError> {
    AnswerHead::read(head, asked).map(|answer| answer.head)
}

impl<'a> AnswerHead<'a> {
    /// Reads a whole head, its empty line included.
    ///
    /// # Errors
    ///
    /// What has no reading, or two, or was not asked for.
    pub fn read(head: &'a [u8], asked: Asked) -> Result<Self, AnswerError> {
        let mut lines = Lines::of_head(head)?;
        let status_line = lines.next().ok_or(AnswerError::StatusLine)??;
        let (version, status, reason) = split_status_line(status_line)?;
        let mut fields = Fields::new();
        let mut body = BodyFields::default();
        let mut count = 0;
        for line in lines {
            let (name, value) = split_field(line?)?;
            body.note(name, value)?;
            fields.push(Field { name, value });
            count += 1;
            if count > LIMITS.fields {
                return Err(Malformed::TooManyFields.into());
            }
        }
        let said = body.said(version)?;
        Ok(Self { version, status, reason, fields, said, head: kind(status, asked, said)? })
    }
}

impl AnswerSearch {
    /// How long the head of the final answer is, once it is all there. `held` is what has come;
    /// interim answers are taken out of it.
    ///
    /// # Errors
    ///
    /// It is none, will not become one, or too many come before it.
    pub fn next(
        &mut self,
        held: &mut BytesMut,
        asked: Asked,
    ) -> Result<Option<usize>, AnswerError> {
        while let Some(end) = end_of_head(held, self.looked_at)? {
            self.looked_at = 0;
            let head = held.get(..end).unwrap_or_default();
            // `HTTP/1.1 1`: everything else is read where it is needed.
            if head.get(9) != Some(&b'1') || check(head, asked)? != Head::Interim {
                return Ok(Some(end));
            }
            held.advance(end);
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(AnswerError::TooManyInterim);
            }
        }
        self.looked_at = last_line(held);
        Ok(None)
    }
}

fn kind(status: u16, asked: Asked, said: SaidLength) -> Result<Head, AnswerError> {
    match (status, asked) {
        (101, Asked::Upgrade) => Ok(Head::Switching),
        (101, Asked::Head | Asked::Ordinary) => Err(AnswerError::Switching),
        (..200, _) => Ok(Head::Interim),
        (204, _) => Ok(Head::Final(match said {
            SaidLength::Nothing | SaidLength::Length(0) => Body::Length(0),
            SaidLength::Chunked | SaidLength::Length(_) => Body::Stray,
        })),
        (304, _) | (_, Asked::Head) => Ok(Head::Final(Body::Length(0))),
        (_, Asked::Ordinary | Asked::Upgrade) => Ok(Head::Final(match said {
            SaidLength::Chunked => Body::Chunked,
            SaidLength::Length(length) => Body::Length(length),
            SaidLength::Nothing => Body::UntilClose,
        })),
    }
}

/// Version, status and reason. A missing reason, and a missing space before it, is forgiven: it has one
/// reading, and servers send it so (RFC 9112 §4 wants the space).
fn split_status_line(line: &[u8]) -> Result<(Version, u16, &[u8]), AnswerError> {
    let (version, rest) = line.split_at_checked(8).ok_or(AnswerError::StatusLine)?;
    let version = Version::parse(version).ok_or(AnswerError::StatusLine)?;
    let (code, reason) = match rest {
        [b' ', code @ ..] => code.split_at_checked(3).ok_or(AnswerError::StatusLine)?,
        _ => return Err(AnswerError::StatusLine),
    };
    let status = std::str::from_utf8(code)
        .ok()
        .filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|code| code.parse().ok());
    let legal_reason = match reason {
        [] => true,
        [b' ', text @ ..] => text.iter().all(|byte| !byte.is_ascii_control() || *byte == b'\t'),
        _ => false,
    };
    // RFC 9110 §15 ends at 599, but sites answer 999, and it is framed like any other.
    match status {
        Some(status @ 100..) if legal_reason => Ok((version, status, reason.trim_ascii())),
        _ => Err(AnswerError::StatusLine),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str, asked: Asked) -> Result<Head, AnswerError> {
        let head = format!("{lines}\n\n").replace('\n', "\r\n");
        assert_eq!(end_of_head(head.as_bytes(), 0)?, Some(head.len()));
        check(head.as_bytes(), asked)
    }

    #[test]
    fn framings() {
        use Asked::{Head as AskedHead, Ordinary, Upgrade};
        let last = |body| Ok(Head::Final(body));
        for (lines, asked, expected) in [
            ("HTTP/1.1 200 OK\nContent-Length: 3", Ordinary, last(Body::Length(3))),
            ("HTTP/1.1 200 OK\nContent-Length: 3", AskedHead, last(Body::Length(0))),
            ("HTTP/1.1 200 OK\nTransfer-Encoding: Chunked", Ordinary, last(Body::Chunked)),
            ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", AskedHead, last(Body::Length(0))),
            ("HTTP/1.1 200 OK", Ordinary, last(Body::UntilClose)),
            ("HTTP/1.0 200", Ordinary, last(Body::UntilClose)),
            ("HTTP/1.1 200 ", Ordinary, last(Body::UntilClose)),
            ("HTTP/1.1 999 Denied", Ordinary, last(Body::UntilClose)),
            ("HTTP/1.1 200 R\u{e9}ussi", Ordinary, last(Body::UntilClose)),
            ("HTTP/1.1 204 No\nContent-Length: 0", Ordinary, last(Body::Length(0))),
            ("HTTP/1.1 204 No\nContent-Length: 5", Ordinary, last(Body::Stray)),
            ("HTTP/1.1 204 No\nTransfer-Encoding: chunked", Ordinary, last(Body::Stray)),
            ("HTTP/1.1 304 Same\nContent-Length: 5", Ordinary, last(Body::Length(0))),
            ("HTTP/1.1 100 Go on", Ordinary, Ok(Head::Interim)),
            ("HTTP/1.1 103 Early\nLink: x", Upgrade, Ok(Head::Interim)),
            ("HTTP/1.1 101 Switch\nUpgrade: websocket", Upgrade, Ok(Head::Switching)),
            ("HTTP/1.1 101 Switch\nUpgrade: websocket", Ordinary, Err(AnswerError::Switching)),
        ] {
            assert_eq!(read(lines, asked), expected, "{lines} {asked:?}");
        }
    }

    #[test]
    fn refused() {
        use AnswerError::StatusLine;
        let malformed = AnswerError::Malformed;
        for (lines, error) in [
            (
                "HTTP/1.1 200 OK\nContent-Length: 3\nContent-Length: 3",
                malformed(Malformed::ContentLength),
            ),
            ("HTTP/1.1 200 OK\nContent-Length: 3, 3", malformed(Malformed::ContentLength)),
            ("HTTP/1.1 200 OK\nContent-Length: -1", malformed(Malformed::ContentLength)),
            ("HTTP/1.1 200 OK\nContent-Length:", malformed(Malformed::ContentLength)),
            (
                "HTTP/1.1 200 OK\nContent-Length: 3\nTransfer-Encoding: chunked",
                malformed(Malformed::LengthAndCoding),
            ),
            (
                "HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked",
                malformed(Malformed::TransferEncoding),
            ),
            (
                "HTTP/1.1 200 OK\nTransfer-Encoding: identity",
                malformed(Malformed::TransferEncoding),
            ),
            ("HTTP/1.0 200 OK\nTransfer-Encoding: chunked", malformed(Malformed::TransferEncoding)),
            ("HTTP/1.1 200 OK\nX : y", malformed(Malformed::Field)),
            ("HTTP/1.1 200 OK\nX", malformed(Malformed::Field)),
            ("HTTP/1.1 200 OK\n folded", malformed(Malformed::Folded)),
            ("HTTP/1.1 200 OK\nX: a\0b", malformed(Malformed::Control)),
            ("HTTP/1.1 200 OK\nX: a\rb", malformed(Malformed::LineEnd)),
            ("HTTP/1.1 200 O\0K", StatusLine),
            ("HTTP/1.1  200 OK", StatusLine),
            ("HTTP/1.1 2000 OK", StatusLine),
            ("HTTP/1.1 20 OK", StatusLine),
            ("HTTP/1.1 +20 OK", StatusLine),
            ("HTTP/1.1 099 OK", StatusLine),
            ("HTTP/1.1\t200 OK", StatusLine),
            ("HTTP/1.1 200\tOK", StatusLine),
            ("HTTP/1.2 200 OK", StatusLine),
            ("http/1.1 200 OK", StatusLine),
            ("ICY 200 OK", StatusLine),
            (" HTTP/1.1 200 OK", StatusLine),
        ] {
            assert_eq!(read(lines, Asked::Ordinary), Err(error), "{lines}");
        }
    }

    #[test]
    fn an_empty_line_is_no_head() {
        assert_eq!(end_of_head(b"\r\nHTTP/1.1 200 OK", 0), Ok(Some(2)));
        assert_eq!(check(b"\r\n", Asked::Ordinary), Err(Malformed::LineEnd.into()));
    }

    #[test]
    fn heads_have_a_limit() {
        let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(LIMITS.bytes));
        assert_eq!(end_of_head(long.as_bytes(), 0), Err(Malformed::TooLarge.into()));
        let many = format!("HTTP/1.1 200 OK{}", "\nX: y".repeat(LIMITS.fields + 1));
        assert_eq!(read(&many, Asked::Ordinary), Err(Malformed::TooManyFields.into()));
    }
}
