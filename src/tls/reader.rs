//! A ClientHello out of records, however they are cut.
//!
//! The invariant: the verdict depends on the bytes alone, not on the pieces they came in.

use super::{ClientHello, HelloError};

/// Puts one hello together. Remembers how far it has looked, so that bytes which trickle in cost
/// no more than those that come at once.
#[derive(Debug, Default)]
pub struct HelloReader {
    /// Where the next record begins.
    at: usize,
    /// Bytes of the message in the records before that.
    gathered: usize,
    /// Length of the message, its header included.
    length: Option<usize>,
}

/// A hello, and where it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeHello {
    /// What it says.
    pub hello: ClientHello,
    /// How many bytes its records take.
    pub end: usize,
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// Records that a [`HelloReader`] must read.
    Tls,
    /// A hello in the form of SSL 2.0, which cannot name a host (RFC 5246 E.2).
    Sslv2Hello,
    /// Neither.
    Other,
    /// Too few to tell.
    Undecided,
}

impl HelloReader {
    /// The largest hello, header included, in bytes: what Go and rustls accept. OpenSSL takes up to
    /// twice that, but no client fills it: large ones hold post-quantum keys of some kilobytes.
    pub const MAX_MESSAGE: usize = 64 << 10;

    /// The most bytes of records for one hello. A record of one byte takes six, so this is what
    /// keeps a client from having more held by cutting small.
    pub const MAX_BYTES: usize = 96 << 10;

    /// Goes on reading; `bytes` begin where the first record does and only grow from call to call.
    /// None: more is needed.
    ///
    /// # Errors
    ///
    /// Says why these bytes can become no hello.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Option<WholeHello>, HelloError> {
        while let Some(fragment) = fragment_at(bytes, self.at)? {
            self.at += HEADER + fragment.len();
            self.gathered += fragment.len();
            let read = bytes.get(..self.at).unwrap_or_default();
            if self.length.is_none() {
                self.length = message_length(read)?;
            }
            let Some(length) = self.length else { continue };
            if self.gathered > length {
                return Err(HelloError::Trailing);
            }
            if self.gathered == length {
                let message: Vec<u8> = Fragments(read).flatten().copied().collect();
                let body = message.get(HEADER_OF_MESSAGE..).unwrap_or_default();
                let hello = ClientHello::parse(body)?;
                return Ok(Some(WholeHello { hello, end: self.at }));
            }
        }
        if bytes.len() >= Self::MAX_BYTES { Err(HelloError::TooLarge) } else { Ok(None) }
    }
}

/// Says what a connection that begins with `bytes` will be.
///
/// A record of any type counts: servers read on after an alert (`BoringSSL` does after a warning),
/// so that what comes behind one may be a hello. Go reads every record version below 0x1000, so
/// handshakes and alerts of such versions are TLS too; but other protocols begin with a length of
/// 22 and little more, so with another version than 3.x what follows must fit as well: the type of
/// the message, or the length of the alert.
#[must_use]
pub fn beginning_of(bytes: &[u8]) -> Beginning {
    match bytes {
        [CHANGE_CIPHER_SPEC..=APPLICATION_DATA, MAJOR, ..] => Beginning::Tls,
        [] | [CHANGE_CIPHER_SPEC..=APPLICATION_DATA] => Beginning::Undecided,
        [HANDSHAKE, ..=0x0f, _, _, _, kind, ..] if *kind == CLIENT_HELLO => Beginning::Tls,
        [HANDSHAKE, ..=0x0f, rest @ ..] if rest.len() < 4 => Beginning::Undecided,
        [ALERT, ..=0x0f, _, 0, 2, ..] => Beginning::Tls,
        [ALERT, ..=0x0f] | [ALERT, ..=0x0f, _] | [ALERT, ..=0x0f, _, 0] => Beginning::Undecided,
        [0x80..=0xff, _, CLIENT_HELLO, MAJOR, ..] => Beginning::Sslv2Hello,
        [0x80..=0xff] | [0x80..=0xff, _] | [0x80..=0xff, _, CLIENT_HELLO] => Beginning::Undecided,
        _ => Beginning::Other,
    }
}

/// `ContentType` (RFC 8446 §5.1).
pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;
/// `HandshakeType` (RFC 8446 §4).
pub(super) const CLIENT_HELLO: u8 = 1;
/// Major version of SSL 3.0 and of every TLS.
pub(super) const MAJOR: u8 = 3;
/// Type, version and length of a record.
pub(super) const HEADER: usize = 5;
/// Type and length of a handshake message.
const HEADER_OF_MESSAGE: usize = 4;
/// RFC 8446 §5.1.
const MAX_FRAGMENT: usize = 1 << 14;

/// What whole handshake records carry.
struct Fragments<'a>(&'a [u8]);

impl<'a> Iterator for Fragments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let fragment = fragment_at(self.0, 0).ok()??;
        self.0 = self.0.get(HEADER + fragment.len()..)?;
        Some(fragment)
    }
}

/// The payload of the handshake record at a place, once all of it is there. What is wrong with its
/// header is said as soon as it shows.
fn fragment_at(bytes: &[u8], at: usize) -> Result<Option<&[u8]>, HelloError> {
    let record = bytes.get(at..).unwrap_or_default();
    if record.first().is_some_and(|kind| *kind != HANDSHAKE) {
        return Err(HelloError::Record);
    }
    if record.get(1).is_some_and(|major| *major != MAJOR) {
        return Err(HelloError::Version);
    }
    let &[_, _, _, high, low, ref rest @ ..] = record else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length == 0 || length > MAX_FRAGMENT {
        return Err(HelloError::RecordLength);
    }
    Ok(rest.get(..length))
}

/// What the header of the message says, once it is there.
fn message_length(records: &[u8]) -> Result<Option<usize>, HelloError> {
    let mut header = Fragments(records).flatten().copied();
    if header.next().is_some_and(|kind| kind != CLIENT_HELLO) {
        return Err(HelloError::NotHello);
    }
    let (Some(high), Some(middle), Some(low)) = (header.next(), header.next(), header.next())
    else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([0, high, middle, low]);
    let length = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(HEADER_OF_MESSAGE);
    if length > HelloReader::MAX_MESSAGE { Err(HelloError::TooLarge) } else { Ok(Some(length)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest hello there is.
    fn message() -> Vec<u8> {
        let mut message = vec![CLIENT_HELLO, 0, 0, 41];
        message.extend([3; 34]);
        message.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        message
    }

    fn record(payload: &[u8]) -> Vec<u8> {
        let [high, low] = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [&[HANDSHAKE, MAJOR, 1, high, low], payload].concat()
    }

    fn read(bytes: &[u8]) -> Result<Option<usize>, HelloError> {
        Ok(HelloReader::default().read(bytes)?.map(|whole| whole.end))
    }

    #[test]
    fn a_hello_may_take_many_records() {
        for size in [1, 3, 4, 5, 44, 45] {
            let records: Vec<u8> = message().chunks(size).flat_map(record).collect();
            let more = [&records[..], b"more"].concat();
            assert_eq!(read(&more), Ok(Some(records.len())), "{size}");
            let mut reader = HelloReader::default();
            for length in 0..records.len() {
                assert_eq!(reader.read(&records[..length]), Ok(None), "{size} {length}");
            }
            assert_eq!(reader.read(&records).unwrap().unwrap().end, records.len());
        }
    }

    #[test]
    fn refused() {
        let message = message();
        let (half, other_half) = message.split_at(20);
        for (bytes, error) in [
            (
                [record(half), vec![21, 3, 1, 0, 2, 1, 0], record(other_half)].concat(),
                HelloError::Record,
            ),
            (
                [record(half), vec![22, 3, 1, 0, 0], record(other_half)].concat(),
                HelloError::RecordLength,
            ),
            ([record(half), vec![22, 2]].concat(), HelloError::Version),
            ([&[21, 3, 1, 0, 2, 1, 90], &record(&message)[..]].concat(), HelloError::Record),
            (vec![21, 1, 0, 0, 2], HelloError::Record),
            (vec![22, 3, 1, 0x40, 1], HelloError::RecordLength),
            (record(&[&message[..], b"x"].concat()), HelloError::Trailing),
            (record(&[&message[..], &message].concat()), HelloError::Trailing),
            (record(&[2, 0, 0, 0]), HelloError::NotHello),
            (record(&[1, 0, 0, 0]), HelloError::Length),
            (record(&[1, 1, 0, 0]), HelloError::TooLarge),
            (record(&[1, 0xff, 0xff, 0xff, 0]), HelloError::TooLarge),
        ] {
            assert_eq!(read(&bytes), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_held_is_bounded() {
        // A hello as large as they come, in the smallest records.
        let records: Vec<u8> = [1, 0, 0xff, 0xf0]
            .into_iter()
            .chain(std::iter::repeat_n(0, 30_000))
            .flat_map(|byte| record(&[byte]))
            .collect();
        let mut reader = HelloReader::default();
        let held = (1..=records.len()).find(|length| reader.read(&records[..*length]).is_err());
        assert_eq!(held, Some(HelloReader::MAX_BYTES));
    }

    #[test]
    fn beginnings() {
        for (bytes, expected) in [
            (&b""[..], Beginning::Undecided),
            (b"\x16", Beginning::Undecided),
            (b"\x16\x03", Beginning::Tls),
            (b"\x16\x02\x00\x00\x2d", Beginning::Undecided),
            (b"\x16\x02\x00\x00\x2d\x01", Beginning::Tls),
            (b"\x16\x01\x00\x01\x85\xa6", Beginning::Other),
            (b"\x16\x10", Beginning::Other),
            (b"\x80", Beginning::Undecided),
            (b"\x80\x2e\x01\x03\x01", Beginning::Sslv2Hello),
            (b"\x80\x2e\x01\x03\x07", Beginning::Sslv2Hello),
            (b"\x80\x2e\x01\x03", Beginning::Sslv2Hello),
            (b"\x80\x2e\x01", Beginning::Undecided),
            (b"\x80\x00\x00\x28", Beginning::Other),
            (b"SSH-2.0", Beginning::Other),
            (b"\x14", Beginning::Undecided),
            (b"\x14\x03", Beginning::Tls),
            (b"\x14\x02\x00\x00\x01", Beginning::Other),
            (b"\x15", Beginning::Undecided),
            (b"\x15\x03\x01\x00\x02\x01\x5a", Beginning::Tls),
            (b"\x15\x0f\xff\x00", Beginning::Undecided),
            (b"\x15\x0f\xff\x00\x02", Beginning::Tls),
            (b"\x15\x0f\xff\x00\x03", Beginning::Other),
            (b"\x15\x10", Beginning::Other),
            (b"\x17", Beginning::Undecided),
            (b"\x17\x03\x03", Beginning::Tls),
            (b"\x18\x03\x03", Beginning::Other),
            (b"\0", Beginning::Other),
        ] {
            assert_eq!(beginning_of(bytes), expected, "{}", bytes.escape_ascii());
        }
    }
}
