//! The messages of a client, one after the other, up to the request.
//!
//! The invariant: how the bytes are cut makes no difference, and what follows a message is not
//! looked at. Every check is made as soon as its byte is there, so that a client which speaks
//! something else is not waited for.

use std::net::IpAddr;

use super::VERSION;
use crate::net::{Authority, Host, HostError, Port};

/// How far a client has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Handshake {
    stage: Stage,
}

/// What is to be done with the bytes that were looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Wait for more of them.
    More,
    /// `read` of them are a message; the client waits for this answer.
    Answer {
        /// How many bytes have been read.
        read: usize,
        /// What the client is told.
        answer: [u8; 2],
    },
    /// The client wants a tunnel. What stands behind the message is its beginning.
    Asked {
        /// How many bytes have been read.
        read: usize,
        /// To which destination.
        authority: Authority,
    },
}

/// Why a client gets no tunnel, whatever the policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrongSocks {
    /// An address type that is none of three.
    #[error("has an address type other than IPv4, IPv6 and name")]
    AddressType,
    /// BIND, UDP ASSOCIATE, or a number that nobody knows.
    #[error("has a command other than CONNECT")]
    Command,
    /// Credentials in another version than 1 (RFC 1929 §2).
    #[error("has credentials of an unknown version")]
    Credentials,
    /// Another protocol begins.
    #[error("is not SOCKS5: this is a SOCKS5 proxy, to be named as socks5h://")]
    Foreign(Foreign),
    /// The name is no host.
    #[error("has a host that {0}")]
    Host(#[from] HostError),
    /// Only ways to authenticate that are not spoken here.
    #[error("offers neither no authentication nor user name and password")]
    Methods,
    /// Port 0.
    #[error("has port 0")]
    Port,
    /// A reserved byte that is not zero.
    #[error("has a reserved byte that is not zero")]
    Reserved,
    /// A request of another version than the greeting.
    #[error("has another version than the greeting")]
    Version,
}

/// What begins with a byte that is not SOCKS5's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// A request of HTTP/1, by its first letter.
    Http,
    /// SOCKS4, also with names (`SOCKS4a`).
    Socks4,
    /// A record of TLS.
    Tls,
    /// Anything else.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    /// Which ways to authenticate the client knows.
    #[default]
    Greeting,
    /// User name and password.
    Credentials,
    /// Where it wants to go.
    Request,
}

// RFC 1928 §3.
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const NONE_ACCEPTABLE: u8 = 0xff;

// RFC 1929 §2.
const CREDENTIALS_VERSION: u8 = 1;
const ACCEPTED: u8 = 0;
const REJECTED: u8 = 1;

// RFC 1928 §4 and §5.
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

impl Handshake {
    /// The longest message, in bytes: a name and a password of 255 each.
    pub const LONGEST: usize = 3 + 2 * 255;

    /// What a client is told whose greeting offers no way to authenticate that is known here.
    pub const NO_METHOD: [u8; 2] = [VERSION, NONE_ACCEPTABLE];

    /// What a client is told whose credentials cannot be read.
    pub const NO_CREDENTIALS: [u8; 2] = [CREDENTIALS_VERSION, REJECTED];

    /// Looks at all bytes that have come and were not read yet. Never waits for more than
    /// [`LONGEST`](Self::LONGEST).
    ///
    /// # Errors
    ///
    /// The client must be told why, and the connection closed.
    pub fn look(&mut self, bytes: &[u8]) -> Result<Step, WrongSocks> {
        match self.stage {
            Stage::Greeting => {
                let Some((read, method)) = greeting(bytes)? else { return Ok(Step::More) };
                self.stage = match method {
                    USER_AND_PASSWORD => Stage::Credentials,
                    _ => Stage::Request,
                };
                Ok(Step::Answer { read, answer: [VERSION, method] })
            }
            Stage::Credentials => {
                let Some(read) = credentials(bytes)? else { return Ok(Step::More) };
                self.stage = Stage::Request;
                Ok(Step::Answer { read, answer: [CREDENTIALS_VERSION, ACCEPTED] })
            }
            Stage::Request => Ok(match request(bytes)? {
                Some((read, authority)) => Step::Asked { read, authority },
                None => Step::More,
            }),
        }
    }
}

impl Foreign {
    fn of(first: u8) -> Self {
        match first {
            4 => Self::Socks4,
            22 => Self::Tls,
            letter if letter.is_ascii_alphabetic() => Self::Http,
            _ => Self::Unknown,
        }
    }
}

/// Its length, and the way to authenticate that is chosen: none, if the client can do without.
fn greeting(bytes: &[u8]) -> Result<Option<(usize, u8)>, WrongSocks> {
    let Some((version, rest)) = bytes.split_first() else { return Ok(None) };
    if *version != VERSION {
        return Err(WrongSocks::Foreign(Foreign::of(*version)));
    }
    let Some((methods, rest)) = counted(rest) else { return Ok(None) };
    let chosen = [NO_AUTHENTICATION, USER_AND_PASSWORD].into_iter().find(|it| methods.contains(it));
    let chosen = chosen.ok_or(WrongSocks::Methods)?;
    Ok(Some((bytes.len() - rest.len(), chosen)))
}

/// Their length. Nothing depends on what they say, and nobody is told: credentials for the proxy mean
/// nothing yet. RFC 1929 wants a byte at least of each; curl has none for the password of `user:@`.
fn credentials(bytes: &[u8]) -> Result<Option<usize>, WrongSocks> {
    let Some((version, rest)) = bytes.split_first() else { return Ok(None) };
    if *version != CREDENTIALS_VERSION {
        return Err(WrongSocks::Credentials);
    }
    let behind = counted(rest).and_then(|(_user, rest)| counted(rest));
    Ok(behind.map(|(_password, rest)| bytes.len() - rest.len()))
}

/// Its length, and where to.
fn request(bytes: &[u8]) -> Result<Option<(usize, Authority)>, WrongSocks> {
    let Some((version, rest)) = bytes.split_first() else { return Ok(None) };
    if *version != VERSION {
        return Err(WrongSocks::Version);
    }
    let Some((command, rest)) = rest.split_first() else { return Ok(None) };
    if *command != CONNECT {
        return Err(WrongSocks::Command);
    }
    let Some((reserved, rest)) = rest.split_first() else { return Ok(None) };
    if *reserved != 0 {
        return Err(WrongSocks::Reserved);
    }
    let Some((kind, rest)) = rest.split_first() else { return Ok(None) };
    let address = match *kind {
        IPV4 => rest.split_first_chunk::<4>().map(|(it, rest)| (IpAddr::from(*it).into(), rest)),
        IPV6 => rest.split_first_chunk::<16>().map(|(it, rest)| (IpAddr::from(*it).into(), rest)),
        NAME => match counted(rest) {
            Some((name, rest)) => Some((host(name)?, rest)),
            None => None,
        },
        _ => return Err(WrongSocks::AddressType),
    };
    let Some((host, rest)) = address else { return Ok(None) };
    let Some((port, rest)) = rest.split_first_chunk() else { return Ok(None) };
    let port = Port::new(u16::from_be_bytes(*port)).ok_or(WrongSocks::Port)?;
    Ok(Some((bytes.len() - rest.len(), Authority { host, port })))
}

/// So many bytes as the first one says, and what stands behind them.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

/// A name as an authority has it, or an IPv4 address. Brackets are a matter of URLs: an IPv6 address
/// has a type of its own here.
fn host(name: &[u8]) -> Result<Host, HostError> {
    match name.first() {
        Some(b'[') => Err(HostError::Brackets),
        _ => Host::parse(name),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    type Heard = (Vec<[u8; 2]>, Result<Option<(Authority, Vec<u8>)>, WrongSocks>);

    /// What came of a client's bytes that come in pieces of that size: what it was told, where it
    /// wants to go and what begins behind that.
    fn heard(bytes: &[u8], piece: usize) -> Heard {
        let mut handshake = Handshake::default();
        let (mut answers, mut from, mut to) = (Vec::new(), 0, 0);
        loop {
            match handshake.look(&bytes[from..to]) {
                Ok(Step::More) if to == bytes.len() => return (answers, Ok(None)),
                Ok(Step::More) => {
                    assert!(to - from < Handshake::LONGEST);
                    to = bytes.len().min(to + piece);
                }
                Ok(Step::Answer { read, answer }) => {
                    assert!(0 < read && read <= to - from);
                    from += read;
                    answers.push(answer);
                }
                Ok(Step::Asked { read, authority }) => {
                    assert!(0 < read && read <= to - from);
                    return (answers, Ok(Some((authority, bytes[from + read..].to_vec()))));
                }
                Err(error) => return (answers, Err(error)),
            }
        }
    }

    fn wrong(bytes: &[u8]) -> WrongSocks {
        heard(bytes, usize::MAX >> 1).1.unwrap_err()
    }

    fn with_name(name: &[u8]) -> Vec<u8> {
        let length = u8::try_from(name.len()).unwrap();
        [&[5, 1, 0, 5, 1, 0, NAME, length], name, &[1, 187]].concat()
    }

    #[test]
    fn destinations() {
        for (address, expected) in [
            (&b"\x03\x07ok.test"[..], "ok.test:443"),
            (b"\x03\x08OK.test.", "ok.test:443"),
            (b"\x03\x0810.0.0.1", "10.0.0.1:443"),
            (b"\x01\x0a\0\0\x01", "10.0.0.1:443"),
            (b"\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", "[::1]:443"),
            // IPv4-mapped.
            (b"\x04\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\x01", "127.0.0.1:443"),
        ] {
            let bytes = [b"\x05\x01\0\x05\x01\0", address, b"\x01\xbbearly"].concat();
            let (answers, asked) = heard(&bytes, 1);
            assert_eq!(answers, [[5, 0]]);
            let (authority, behind) = asked.unwrap().unwrap();
            assert_eq!(authority.to_string(), expected);
            assert!(b"early".starts_with(&behind));
        }
    }

    #[test]
    fn no_destinations() {
        for name in [
            &b""[..],
            b"\0",
            b"evil.test\0.ok.test",
            b"ok.test:443",
            b"[::1]",
            b"::1",
            b"[ok.test]",
            b"user@ok.test",
            b"fe80::1%lo",
            b"b\xc3\xbccher.test",
            b"0x7f.1",
            b"10.0.0.",
            b"http://ok.test/",
            b".",
            b" ok.test",
        ] {
            let error = wrong(&with_name(name));
            assert!(matches!(error, WrongSocks::Host(_)), "{} {error:?}", name.escape_ascii());
        }
        let too_long = [&[b'a'; 63][..], b".", &[b'b'; 191]].concat();
        assert!(matches!(wrong(&with_name(&too_long)), WrongSocks::Host(_)));
    }

    #[test]
    fn what_is_not_spoken() {
        for (bytes, expected) in [
            (&b"\x04\x01"[..], WrongSocks::Foreign(Foreign::Socks4)),
            (b"GET / HTTP/1.1\r\n", WrongSocks::Foreign(Foreign::Http)),
            (b"\x16\x03\x01", WrongSocks::Foreign(Foreign::Tls)),
            (b"\0", WrongSocks::Foreign(Foreign::Unknown)),
            (b"\x05\0", WrongSocks::Methods),
            (b"\x05\x01\x01", WrongSocks::Methods),
            (b"\x05\x02\x01\xff", WrongSocks::Methods),
            (b"\x05\x01\x02\x05", WrongSocks::Credentials),
            (b"\x05\x01\0\x04", WrongSocks::Version),
            (b"\x05\x01\0\x05\0", WrongSocks::Command),
            (b"\x05\x01\0\x05\x02", WrongSocks::Command),
            (b"\x05\x01\0\x05\x03", WrongSocks::Command),
            (b"\x05\x01\0\x05\x01\x01", WrongSocks::Reserved),
            (b"\x05\x01\0\x05\x01\0\x02", WrongSocks::AddressType),
            (b"\x05\x01\0\x05\x01\0\x01\x7f\0\0\x01\0\0", WrongSocks::Port),
        ] {
            assert_eq!(wrong(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn credentials_are_asked_for_only_if_the_client_cannot_do_without() {
        let request = b"\x05\x01\0\x03\x07ok.test\x01\xbb";
        let said = |greeting: &[u8], credentials: &[u8]| {
            let (answers, asked) = heard(&[greeting, credentials, request].concat(), 3);
            assert_eq!(asked.unwrap().unwrap().0.to_string(), "ok.test:443");
            answers
        };
        assert_eq!(said(b"\x05\x02\x02\0", b""), [[5, 0]]);
        assert_eq!(said(b"\x05\x01\x02", b"\x01\x01u\x01p"), [[5, 2], [1, 0]]);
        assert_eq!(said(b"\x05\x01\x02", b"\x01\x01u\0"), [[5, 2], [1, 0]]);
    }

    /// Bytes that come far, and others.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let message = |first| {
            (option::weighted(0.9, Just(first)), vec(any::<u8>(), 0..6))
                .prop_map(|(first, rest)| first.into_iter().chain(rest).collect::<Vec<u8>>())
        };
        let greeting = prop_oneof![Just(vec![5, 1, 0]), Just(vec![5, 1, 2]), message(5)];
        let credentials = prop_oneof![Just(vec![]), Just(vec![1, 1, 7, 1, 7]), message(1)];
        let head = prop_oneof![9 => Just(vec![5, 1, 0]), 1 => message(5)];
        let address = prop_oneof![
            Just(b"\x03\x07ok.test".to_vec()),
            Just(vec![1, 127, 0, 0, 1]),
            message(4),
            message(3)
        ];
        (greeting, credentials, head, address, vec(any::<u8>(), 0..20)).prop_map(
            |(greeting, credentials, head, address, rest)| {
                [greeting, credentials, head, address, rest].concat()
            },
        )
    }

    proptest! {
        #[test]
        fn cuts_make_no_difference(bytes in bytes(), piece in 1_usize..8) {
            let (answers, asked) = heard(&bytes, bytes.len().max(1));
            let (in_pieces, asked_in_pieces) = heard(&bytes, piece);
            prop_assert_eq!(answers, in_pieces);
            match (asked, asked_in_pieces) {
                // Of what stands behind, less may have come.
                (Ok(Some((one, _))), Ok(Some((other, _)))) => prop_assert_eq!(one, other),
                (one, other) => prop_assert_eq!(one, other),
            }
        }
    }
}
