//! A TCP port that can be dialled: 1 to 65535.

use std::{fmt, num::NonZeroU16};

/// A port number; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port(NonZeroU16);

/// Why a text is not a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// A leading zero, which parsers in other languages take for octal.
    #[error("port has a leading zero")]
    LeadingZero,
    /// Something other than digits.
    #[error("port is not a number")]
    NotDigits,
    /// Zero, or more than 65535.
    #[error("port is outside 1 to 65535")]
    Range,
}

impl Port {
    /// The default of `http:` URLs (RFC 9110 §4.2.1).
    pub const HTTP: Self = Self::known(80);
    /// The default of `https:` URLs (RFC 9110 §4.2.2).
    pub const HTTPS: Self = Self::known(443);

    /// Parses decimal digits, without sign, space or leading zero.
    ///
    /// # Errors
    ///
    /// Says which of these the text breaks.
    pub fn parse(text: &[u8]) -> Result<Self, PortError> {
        if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
            return Err(PortError::NotDigits);
        }
        if text.len() > 1 && text.starts_with(b"0") {
            return Err(PortError::LeadingZero);
        }
        let number = text.iter().try_fold(0_u16, |number, digit| {
            number.checked_mul(10)?.checked_add(u16::from(digit - b'0'))
        });
        number.and_then(Self::new).ok_or(PortError::Range)
    }

    /// What stands before the last colon, and the port behind it, read from its end. None is no
    /// verdict.
    #[inline]
    pub(super) fn split_last(text: &[u8]) -> Option<(&[u8], Self)> {
        let (mut number, mut scale, mut first) = (0_u32, 1_u32, 0);
        let mut rest = text;
        loop {
            let (byte, before) = rest.split_last()?;
            if *byte == b':' {
                let number = u16::try_from(number).ok().filter(|_| first != 0)?;
                return Some((before, Self::new(number)?));
            }
            first = byte.wrapping_sub(b'0');
            if first > 9 || scale > 10_000 {
                return None;
            }
            number += u32::from(first) * scale;
            scale *= 10;
            rest = before;
        }
    }

    /// The port of that number, unless it is zero.
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        NonZeroU16::new(number).map(Self)
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0.get()
    }

    const fn known(number: u16) -> Self {
        match NonZeroU16::new(number) {
            Some(number) => Self(number),
            None => Self(NonZeroU16::MIN),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_digits() {
        assert_eq!(Port::parse(b"443"), Ok(Port::HTTPS));
        assert_eq!(Port::parse(b"65535").map(Port::number), Ok(65535));
        for text in ["", "0", "00", "0443", "65536", "18446744073709552059", "+1", "-1", "4 3", "x"]
        {
            assert!(Port::parse(text.as_bytes()).is_err(), "{text}");
            assert_eq!(Port::split_last(format!("a:{text}").as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn read_from_the_end_as_from_the_beginning() {
        for number in 1..=u16::MAX {
            let text = format!("a:b:{number}");
            assert_eq!(
                Port::split_last(text.as_bytes()),
                Some((&b"a:b"[..], Port::new(number).unwrap()))
            );
        }
        for text in ["", "1", "12345", "123456", "65535443"] {
            assert_eq!(Port::split_last(text.as_bytes()), None, "{text}");
        }
    }
}
