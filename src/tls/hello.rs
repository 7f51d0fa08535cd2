//! The body of a ClientHello (RFC 8446 §4.1.2): which host it asks for.
//!
//! Looked at are the structure, to the last byte, and the extensions that say or hide a name.
//! Whether versions, ciphers and keys make sense is the server's business.

use super::cursor::Cursor;
use crate::net::{DnsName, DnsNameError};

/// What a hello says about names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// The host of the `server_name` extension (RFC 6066 §3), if there is one.
    pub server_name: Option<DnsName>,
    /// Another hello with another name may be hidden inside (ECH, or ESNI before it). GREASE looks
    /// the same (RFC 9849 §6.2).
    pub ech: bool,
    /// A version is offered in which a server may ask for a second hello: TLS 1.3 or later.
    pub may_repeat: bool,
    /// Early data follows, in records that go before a second hello (RFC 8446 §4.2.10).
    pub early_data: bool,
}

/// Why bytes are no ClientHello, or one with two readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Compression methods, cipher suites or session id of an impossible length.
    #[error("has a field of an impossible length")]
    Field,
    /// A length that runs past its end.
    #[error("has a length that runs past the end")]
    Length,
    /// The server name is no host name (RFC 6066 §3: ASCII, no address literal).
    #[error("has a server name that {0}")]
    Name(#[from] DnsNameError),
    /// Another message than ClientHello comes first.
    #[error("is no ClientHello")]
    NotHello,
    /// A record that is no handshake record, before the hello is whole (RFC 8446 §5.1).
    #[error("is interrupted by another record")]
    Record,
    /// A record of length zero, or of more than 2^14 bytes (RFC 8446 §5.1).
    #[error("has a record of an illegal length")]
    RecordLength,
    /// The same extension twice (RFC 8446 §4.2).
    #[error("has an extension twice")]
    RepeatedExtension,
    /// A `server_name` extension that does not hold exactly one host name (RFC 6066 §3).
    #[error("has a server_name extension that does not hold exactly one host name")]
    ServerName,
    /// More than [`super::HelloReader::MAX_MESSAGE`].
    #[error("is too large")]
    TooLarge,
    /// Bytes after the last field, or another message in the same record.
    #[error("is followed by something else in its record")]
    Trailing,
    /// The server name ends in a dot (RFC 6066 §3).
    #[error("has a server name with a trailing dot")]
    TrailingDot,
    /// A record that is not of TLS, or of SSL 3.0.
    #[error("has a record version other than 3.x")]
    Version,
}

/// IANA, TLS Extension Type Values.
const SERVER_NAME: u16 = 0;
const EARLY_DATA: u16 = 42;
const SUPPORTED_VERSIONS: u16 = 43;
/// `encrypted_client_hello` (RFC 9849).
const ECH: u16 = 0xfe0d;
/// `encrypted_server_name` of the drafts before it.
const ESNI: u16 = 0xffce;

/// `NameType` (RFC 6066 §3).
const HOST_NAME: u8 = 0;

impl ClientHello {
    /// Reads the body of the message, without its four bytes of header.
    ///
    /// # Errors
    ///
    /// Says what has no reading, or two.
    pub fn parse(body: &[u8]) -> Result<Self, HelloError> {
        let mut body = Cursor::new(body);
        body.take(VERSION_AND_RANDOM)?;
        let session_id = body.vector8()?;
        let cipher_suites = body.vector16()?;
        let compression = body.vector8()?;
        let lengths_make_sense = session_id.len() <= 32
            && !cipher_suites.is_empty()
            && cipher_suites.len() % 2 == 0
            && !compression.is_empty();
        if !lengths_make_sense {
            return Err(HelloError::Field);
        }
        let mut hello =
            Self { server_name: None, ech: false, may_repeat: false, early_data: false };
        // TLS 1.2 hellos may do without extensions.
        if body.is_empty() {
            return Ok(hello);
        }
        let mut extensions = Cursor::new(body.vector16()?);
        if !body.is_empty() {
            return Err(HelloError::Trailing);
        }
        let mut kinds = Vec::new();
        while !extensions.is_empty() {
            let kind = extensions.u16()?;
            let data = extensions.vector16()?;
            kinds.push(kind);
            match kind {
                SERVER_NAME => hello.server_name = Some(server_name(data)?),
                ECH | ESNI => hello.ech = true,
                EARLY_DATA => hello.early_data = true,
                SUPPORTED_VERSIONS => hello.may_repeat = offers_more_than_tls12(data)?,
                _ => {}
            }
        }
        kinds.sort_unstable();
        if kinds.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(HelloError::RepeatedExtension);
        }
        Ok(hello)
    }
}

/// `legacy_version` and `random`.
const VERSION_AND_RANDOM: usize = 2 + 32;

/// Whether a list of versions (RFC 8446 §4.2.1) has one after TLS 1.2.
fn offers_more_than_tls12(data: &[u8]) -> Result<bool, HelloError> {
    const TLS12: u16 = 0x0303;
    let mut versions = Cursor::new(Cursor::new(data).vector8()?);
    while !versions.is_empty() {
        if versions.u16()? > TLS12 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The one name of a `ServerNameList`. Unknown types of names are refused: nobody defined any, so
/// what follows one has no length that all servers agree on.
fn server_name(data: &[u8]) -> Result<DnsName, HelloError> {
    let mut data = Cursor::new(data);
    let list = data.vector16().map_err(|_| HelloError::ServerName)?;
    let mut list_rest = Cursor::new(list);
    let kind = list_rest.u8().map_err(|_| HelloError::ServerName)?;
    let name = list_rest.vector16().map_err(|_| HelloError::ServerName)?;
    if kind != HOST_NAME || !list_rest.is_empty() || !data.is_empty() {
        return Err(HelloError::ServerName);
    }
    if name.ends_with(b".") {
        return Err(HelloError::TrailingDot);
    }
    Ok(DnsName::parse(name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body with these extensions.
    fn body(extensions: &[(u16, &[u8])]) -> Vec<u8> {
        let mut block = Vec::new();
        for (kind, data) in extensions {
            block.extend(kind.to_be_bytes());
            block.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            block.extend(*data);
        }
        let mut body = vec![3; 34];
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend(u16::try_from(block.len()).unwrap().to_be_bytes());
        body.extend(block);
        body
    }

    fn name(text: &[u8]) -> Vec<u8> {
        let length = u16::try_from(text.len()).unwrap();
        let mut data = (length + 3).to_be_bytes().to_vec();
        data.push(HOST_NAME);
        data.extend(length.to_be_bytes());
        data.extend(text);
        data
    }

    fn named(text: &[u8]) -> Result<Option<String>, HelloError> {
        let hello = ClientHello::parse(&body(&[(SERVER_NAME, &name(text))]))?;
        Ok(hello.server_name.map(|name| name.as_str().to_owned()))
    }

    #[test]
    fn the_name_is_canonical_or_refused() {
        assert_eq!(named(b"Example.COM"), Ok(Some("example.com".to_owned())));
        for (text, error) in [
            (&b"example.com."[..], HelloError::TrailingDot),
            (b"", HelloError::Name(DnsNameError::Empty)),
            (b"192.0.2.1", HelloError::Name(DnsNameError::Numeric)),
            (b"2001:db8::1", HelloError::Name(DnsNameError::Alphabet)),
            (b"example.com\0", HelloError::Name(DnsNameError::Alphabet)),
            (b"b\xfccher.test", HelloError::Name(DnsNameError::Alphabet)),
        ] {
            assert_eq!(named(text), Err(error), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn the_list_holds_one_name() {
        let two = [&[0, 8][..], &[0, 0, 1, b'a'], &[0, 0, 1, b'b']].concat();
        let other_type = [0, 4, 1, 0, 1, b'a'];
        let short_list = [0, 3, 0, 0, 1, b'a'];
        for data in [&two[..], &other_type, &short_list, &[], &[0, 0], &[0], &[0, 4, 0, 0, 9, 1]] {
            let hello = ClientHello::parse(&body(&[(SERVER_NAME, data)]));
            assert_eq!(hello, Err(HelloError::ServerName), "{data:?}");
        }
        let a = name(b"a.test");
        let twice = ClientHello::parse(&body(&[(SERVER_NAME, &a), (5, b""), (SERVER_NAME, &a)]));
        assert_eq!(twice, Err(HelloError::RepeatedExtension));
    }

    #[test]
    fn hidden_names_and_what_may_follow_show() {
        for (kind, data, expected) in [
            (ECH, &b"x"[..], (true, false, false)),
            (ESNI, b"x", (true, false, false)),
            (EARLY_DATA, b"", (false, true, false)),
            (SUPPORTED_VERSIONS, &[4, 3, 3, 3, 4], (false, false, true)),
            (SUPPORTED_VERSIONS, &[4, 3, 3, 3, 2], (false, false, false)),
        ] {
            let hello = ClientHello::parse(&body(&[(kind, data)])).unwrap();
            let said = (hello.ech, hello.early_data, hello.may_repeat);
            assert_eq!(said, expected, "{kind:#x}");
        }
    }

    #[test]
    fn every_byte_has_its_place() {
        let whole = body(&[(SERVER_NAME, &name(b"a.test")), (7, b"more")]);
        assert!(ClientHello::parse(&whole).is_ok());
        // 41 bytes are a hello without extensions.
        for length in (0..whole.len()).filter(|length| *length != 41) {
            assert!(ClientHello::parse(&whole[..length]).is_err(), "{length}");
        }
        assert!(ClientHello::parse(&whole[..41]).unwrap().server_name.is_none());
        let longer = [&whole[..], &[0]].concat();
        assert_eq!(ClientHello::parse(&longer), Err(HelloError::Trailing));
        for (at, value) in [(34, 33), (36, 3), (36, 0), (39, 0)] {
            let mut broken = whole.clone();
            broken[at] = value;
            assert!(ClientHello::parse(&broken).is_err(), "{at} {value}");
        }
    }
}
