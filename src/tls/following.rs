//! What a client sends after its hello, as far as it may hold a second one.
//!
//! A TLS 1.3 server may answer with `HelloRetryRequest`, and the client says hello again, in the
//! clear (RFC 8446 §4.1.4). Some servers, OpenSSL 3.0 among them, then take the name from the second
//! hello, so a first one alone proves nothing. Records are followed by their headers only, as far
//! as a second hello can come: `change_cipher_spec` and alerts may go before it, and early data if
//! the first hello announced it. What comes later is encrypted, a renegotiation of TLS 1.2
//! included.

use super::reader::{ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, CLIENT_HELLO, HANDSHAKE, HEADER};

/// Follows records from the end of a first hello on.
#[derive(Debug)]
pub struct Following {
    early_data: bool,
    /// After it, records of TLS 1.2 are encrypted.
    cipher_changed: bool,
    /// What is left of a record that does not matter.
    skipping: usize,
    /// How much may still be skipped.
    left: usize,
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Too few to tell.
    More,
    /// That many bytes do not matter; after them this must be asked again.
    Skip(usize),
    /// A second hello begins here, or it must: nothing else may come any more, so what comes is to
    /// be read as one.
    Hello,
    /// No second hello can come.
    Nothing,
}

/// How far a second hello is looked for, in bytes. Clients send `change_cipher_spec` once, and an
/// alert or two, before it (RFC 8446 D.4): when they alone take more, the tunnel must end. Servers that must skip early data skip as much
/// as they would have accepted: 16 KiB unless configured otherwise (OpenSSL), 14 KiB (`BoringSSL`).
const MAX_SKIPPED: usize = 64 << 10;

/// What OpenSSL accepts, in bytes; no server is known to accept more.
const LARGEST_HELLO: u32 = 131_396;

impl Following {
    /// Begins after a hello, which may have announced early data.
    #[must_use]
    pub fn new(early_data: bool) -> Self {
        Self { early_data, cipher_changed: false, skipping: 0, left: MAX_SKIPPED }
    }

    /// Looks at what comes next; `bytes` begin where the last answer left off.
    pub fn look(&mut self, bytes: &[u8]) -> Next {
        if bytes.is_empty() {
            return Next::More;
        }
        if self.skipping == 0 {
            match bytes {
                [CHANGE_CIPHER_SPEC, ..] => self.cipher_changed = true,
                [ALERT, ..] => {}
                [APPLICATION_DATA, ..] if self.early_data => {}
                [HANDSHAKE, ..] => return self.look_at_handshake(bytes),
                _ => return Next::Nothing,
            }
            let &[_, _, _, high, low, ..] = bytes else { return Next::More };
            self.skipping = HEADER + usize::from(u16::from_be_bytes([high, low]));
            match (self.left.checked_sub(self.skipping), bytes) {
                (Some(left), _) => self.left = left,
                // Early data that was accepted goes over into the data of the session.
                (None, [APPLICATION_DATA, ..]) => return Next::Nothing,
                // No client sends so many of them, and a hello that comes after them is still one.
                (None, _) => return Next::Hello,
            }
        }
        let here = self.skipping.min(bytes.len());
        self.skipping -= here;
        Next::Skip(here)
    }

    /// Whether a handshake record begins a hello, or is encrypted: so is the first one after
    /// `change_cipher_spec` when a session of TLS 1.2 is resumed. One such record in 30,000 has four
    /// random bytes that look like the header of a hello, and is taken for one.
    fn look_at_handshake(&self, record: &[u8]) -> Next {
        match record {
            [_, _, _, 0, 0, ..] => Next::Hello,
            [_, _, _, _, _, kind, ..] if *kind != CLIENT_HELLO => Next::Nothing,
            [_, _, _, _, _, _, ..] if !self.cipher_changed => Next::Hello,
            // Too short to be encrypted.
            [_, _, _, 0, 1..=3, _, ..] => Next::Hello,
            [_, _, _, _, _, _, high, middle, low, ..] => {
                match u32::from_be_bytes([0, *high, *middle, *low]) {
                    0..=LARGEST_HELLO => Next::Hello,
                    _ => Next::Nothing,
                }
            }
            _ => Next::More,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CCS: &[u8] = &[20, 3, 3, 0, 1, 1];

    /// Follows to a verdict; says also how much was skipped.
    fn follow(early_data: bool, bytes: &[u8], step: usize) -> (Next, usize) {
        let mut following = Following::new(early_data);
        let (mut from, mut to) = (0, 0);
        loop {
            match following.look(&bytes[from..to]) {
                Next::Skip(skipped) => from += skipped,
                Next::More if to == bytes.len() => return (Next::More, from),
                Next::More => to = bytes.len().min(to + step),
                end @ (Next::Hello | Next::Nothing) => return (end, from),
            }
        }
    }

    #[test]
    fn second_hellos_are_found() {
        let hello = &[22, 3, 3, 0, 9, 1, 0, 0, 5];
        let early = [&[23, 3, 3, 0x20, 0][..], &[7; 0x2000]].concat();
        let alert: &[u8] = &[21, 3, 3, 0, 2, 1, 90];
        for (early_data, bytes, expected) in [
            (false, hello.to_vec(), (Next::Hello, 0)),
            (false, [CCS, hello].concat(), (Next::Hello, 6)),
            (false, [CCS, alert, CCS, hello].concat(), (Next::Hello, 19)),
            (false, vec![22, 3, 3, 0, 0], (Next::Hello, 0)),
            (false, [CCS, &[22, 3, 3, 0, 1, 1]].concat(), (Next::Hello, 6)),
            // Finished of TLS 1.2, encrypted.
            (false, [CCS, &[22, 3, 3, 0, 40, 1, 7, 7, 7]].concat(), (Next::Nothing, 6)),
            (false, [CCS, &[22, 3, 3, 0, 40, 0, 0, 0, 0]].concat(), (Next::Nothing, 6)),
            (false, vec![22, 3, 3, 0, 70, 16], (Next::Nothing, 0)),
            (false, [CCS, &early].concat(), (Next::Nothing, 6)),
            (true, [&early[..], CCS, hello].concat(), (Next::Hello, early.len() + 6)),
            (true, early.repeat(9), (Next::Nothing, early.len() * 7)),
            (false, CCS.repeat(20_000), (Next::Hello, MAX_SKIPPED / CCS.len() * CCS.len())),
            (false, alert.repeat(20_000), (Next::Hello, MAX_SKIPPED / alert.len() * alert.len())),
            (true, [&early.repeat(7)[..], &CCS.repeat(20_000)].concat(), (Next::Hello, 65_533)),
            (false, b"GET".to_vec(), (Next::Nothing, 0)),
            (false, vec![22, 3, 3, 0, 9], (Next::More, 0)),
        ] {
            for step in [1, 2, 7, 10_000, 100_000] {
                assert_eq!(follow(early_data, &bytes, step), expected, "{step}");
            }
        }
    }
}
