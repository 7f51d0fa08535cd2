//! The reader of SOCKS5: one verdict however the bytes are cut, no panic, and no other destination
//! than the one that a second reading finds.
//!
//! The first byte says in how large pieces the rest comes.

use std::net::IpAddr;

use exeat::{
    net::{Authority, Host, Port},
    socks5::{Handshake, Step, WrongSocks},
};

/// What a client says from the beginning of its connection.
pub fn socks5(input: &[u8]) {
    let Some((step, bytes)) = input.split_first() else { return };
    let (answers, whole) = heard(bytes, bytes.len());
    assert_eq!(heard(bytes, usize::from(*step)), (answers.clone(), whole.clone()));
    let asked = asked(bytes);
    match whole {
        Ok(Some(authority)) => {
            assert_eq!(asked.map(|(authority, _)| authority), Some(authority));
            assert!(matches!(answers.as_slice(), [[5, 0]] | [[5, 2], [1, 0]]), "{answers:?}");
        }
        // The second reading forgives what the first does not.
        Ok(None) => assert_eq!(asked, None),
        Err(_) => {}
    }
}

type Heard = (Vec<[u8; 2]>, Result<Option<Authority>, WrongSocks>);

fn heard(bytes: &[u8], step: usize) -> Heard {
    let mut handshake = Handshake::default();
    let (mut answers, mut from, mut to) = (Vec::new(), 0, 0);
    loop {
        match handshake.look(&bytes[from..to]) {
            Ok(Step::More) if to == bytes.len() => return (answers, Ok(None)),
            Ok(Step::More) => {
                assert!(to - from < Handshake::LONGEST);
                to = bytes.len().min(to + step.max(1));
            }
            Ok(Step::Answer { read, answer }) => {
                assert!(read > 0);
                from += read;
                answers.push(answer);
            }
            Ok(Step::Asked { read, authority }) => {
                assert!(read > 0 && from + read <= to);
                return (answers, Ok(Some(authority)));
            }
            Err(error) => return (answers, Err(error)),
        }
    }
}

/// Where a client wants to go, and what begins behind that, by the letter of RFC 1928.
pub(crate) fn asked(bytes: &[u8]) -> Option<(Authority, &[u8])> {
    let mut rest = bytes;
    let mut take = |count: usize| {
        let (taken, behind) = rest.split_at_checked(count)?;
        rest = behind;
        Some(taken)
    };
    let count = take(2)?[1];
    let methods = take(count.into())?;
    if !methods.contains(&0) {
        let user = take(2)?[1];
        take(user.into())?;
        let password = take(1)?[0];
        take(password.into())?;
    }
    let host = match take(4)? {
        [5, 1, 0, 1] => IpAddr::from(<[u8; 4]>::try_from(take(4)?).unwrap()).into(),
        [5, 1, 0, 4] => IpAddr::from(<[u8; 16]>::try_from(take(16)?).unwrap()).into(),
        [5, 1, 0, 3] => {
            let length = take(1)?[0];
            let name = take(length.into())?;
            Host::parse(name).ok()?
        }
        _ => return None,
    };
    let port = take(2)?;
    let port = Port::new(u16::from(port[0]) << 8 | u16::from(port[1]))?;
    Some((Authority { host, port }, rest))
}
