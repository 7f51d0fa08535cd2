//! A chunked body: where its payload is and where it ends, by a strict scanner over RFC 9112 §7.1.
//!
//! It changes nothing and copies nothing. Chunk extensions and trailer fields pass if they are
//! visible text; a bare line end, a sign, a space or an overflowing size is refused, because other
//! parsers read those differently.

use super::{Part, is_token};

/// How far a body has been scanned; the default is before its first byte.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Chunks {
    state: State,
    /// Bytes of extensions and trailers so far; they are bounded like a head.
    overhead: usize,
}

/// What a piece of a body turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scanned {
    /// That many bytes are of the body, which goes on.
    More(usize),
    /// That many bytes are of the body, and it ends there.
    End(usize),
}

/// The body is not well-formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chunked body is malformed")]
pub struct ChunkError;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    #[default]
    SizeStart,
    /// Inside the digits of a size, and how many there were.
    Size(u64, u8),
    /// Inside a chunk extension.
    Extension(u64),
    /// After the CR of a size line.
    SizeLf(u64),
    /// Inside the data; that much is left.
    Data(u64),
    /// After the data.
    DataCr,
    DataLf,
    /// At the start of a trailer line, which ends the body if it is empty.
    TrailerStart,
    /// Inside the name of a trailer field.
    TrailerName,
    /// After its colon.
    TrailerValue,
    TrailerLf,
    /// After the CR of the last, empty line.
    EndLf,
}

/// No sender makes chunks that large, and larger sizes wrap in 32-bit parsers.
const MAX_CHUNK: u64 = 0xffff_ffff;

/// Leading zeros included: a size line without end is an attack.
const MAX_SIZE_DIGITS: u8 = 16;

/// Extensions and trailers of one body, in bytes.
const MAX_OVERHEAD: usize = 64 << 10;

impl Chunks {
    /// Scans the next bytes.
    ///
    /// # Errors
    ///
    /// The body breaks the grammar; nothing of this piece may be passed on.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Scanned, ChunkError> {
        let mut at = 0;
        while at < bytes.len() {
            let part = self.part(bytes.get(at..).unwrap_or_default())?;
            at += part.skip + part.payload;
            if part.end {
                return Ok(Scanned::End(at));
            }
        }
        Ok(Scanned::More(bytes.len()))
    }

    /// Goes past the framing in front of the next payload, and past as much of that as there is.
    ///
    /// # Errors
    ///
    /// The body breaks the grammar.
    pub(super) fn part(&mut self, bytes: &[u8]) -> Result<Part, ChunkError> {
        let mut skip = 0;
        while let Some(&byte) = bytes.get(skip) {
            if let State::Data(left) = self.state {
                let here = u64::try_from(bytes.len() - skip).unwrap_or(u64::MAX).min(left);
                self.state = if here == left { State::DataCr } else { State::Data(left - here) };
                let payload = usize::try_from(here).unwrap_or(bytes.len() - skip);
                return Ok(Part { skip, payload, end: false });
            }
            skip += 1;
            match self.step(byte)? {
                Some(state) => self.state = state,
                None => return Ok(Part { skip, payload: 0, end: true }),
            }
        }
        Ok(Part { skip, payload: 0, end: false })
    }

    /// The state after a byte; none at the end of the body.
    fn step(&mut self, byte: u8) -> Result<Option<State>, ChunkError> {
        let next = match (self.state, byte) {
            (State::SizeStart, digit) => State::Size(hex(digit).ok_or(ChunkError)?, 1),
            (State::Size(size, _), b'\r') => State::SizeLf(size),
            (State::Size(size, _), b';') => State::Extension(size),
            (State::Size(size, count), digit) if count < MAX_SIZE_DIGITS => {
                let digit = hex(digit).ok_or(ChunkError)?;
                let size = size.checked_mul(16).and_then(|size| size.checked_add(digit));
                State::Size(size.filter(|size| *size <= MAX_CHUNK).ok_or(ChunkError)?, count + 1)
            }
            (State::Extension(size), b'\r') => State::SizeLf(size),
            (State::Extension(size), byte) => {
                self.spend(byte)?;
                State::Extension(size)
            }
            (State::SizeLf(0), b'\n') => State::TrailerStart,
            (State::SizeLf(size), b'\n') => State::Data(size),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::SizeStart,
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerStart | State::TrailerName, byte) => {
                self.spend(byte)?;
                // Folded lines, spaces around the name and lines without a colon end here.
                if !is_token(&[byte]) {
                    return Err(ChunkError);
                }
                State::TrailerName
            }
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, byte) => {
                self.spend(byte)?;
                State::TrailerValue
            }
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => return Ok(None),
            (
                State::Size(..)
                | State::SizeLf(_)
                | State::Data(_)
                | State::DataCr
                | State::DataLf
                | State::TrailerLf
                | State::EndLf,
                _,
            ) => return Err(ChunkError),
        };
        Ok(Some(next))
    }

    /// Takes a byte of an extension or a trailer.
    fn spend(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.overhead += 1;
        let legal = !byte.is_ascii_control() || byte == b'\t';
        if legal && self.overhead <= MAX_OVERHEAD { Ok(()) } else { Err(ChunkError) }
    }
}

fn hex(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan_whole(body: &str) -> Result<Scanned, ChunkError> {
        Chunks::default().scan(body.as_bytes())
    }

    #[test]
    fn ends_are_found() {
        for (body, end) in [
            ("0\r\n\r\n", 5),
            ("5\r\nhello\r\n0\r\n\r\nGET", 15),
            ("0000000000000005\r\nhello\r\n0\r\n\r\n", 30),
            ("A;ext=\"1\"\r\n0123456789\r\n000\r\nTrailer: x\r\n\r\n", 42),
        ] {
            assert_eq!(scan_whole(body), Ok(Scanned::End(end)), "{body:?}");
        }
        assert_eq!(scan_whole("5\r\nhel"), Ok(Scanned::More(6)));
    }

    #[test]
    fn any_split_gives_the_same_end() {
        let body = b"5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n";
        for cut in 0..body.len() {
            let mut chunks = Chunks::default();
            let (head, tail) = body.split_at(cut);
            assert_eq!(chunks.scan(head), Ok(Scanned::More(cut)));
            assert_eq!(chunks.scan(tail), Ok(Scanned::End(tail.len())));
        }
    }

    #[test]
    fn refused() {
        for body in [
            "\r\n",
            "+5\r\nhello",
            " 5\r\nhello",
            "5 \r\nhello",
            "0x5\r\nhello",
            "5\nhello",
            "5\r\nhelloX",
            "5\r\nhello\n0\r\n\r\n",
            "10000000000000000\r\n",
            "00000000000000005\r\nhello\r\n0\r\n\r\n",
            "100000005\r\n",
            "0\r\nX-T : 1\r\n\r\n",
            "0\r\nX-T\r\n\r\n",
            "5;a\nb\r\nhello",
            "0\r\n folded\r\n\r\n",
            "0\r\nA: b\n\r\n",
            "g\r\n",
            "",
        ] {
            let scanned = scan_whole(body);
            assert_eq!(scanned.is_err(), !body.is_empty(), "{body:?} {scanned:?}");
        }
    }
}
