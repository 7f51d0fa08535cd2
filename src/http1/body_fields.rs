//! The fields that say where a message ends (RFC 9112 §6).

use std::str;

use super::{Malformed, Version};

/// What has been read of them so far.
#[derive(Debug, Default)]
pub struct BodyFields {
    length: Option<u64>,
    chunked: bool,
}

/// What they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaidLength {
    /// A chunked body.
    Chunked,
    /// That many bytes.
    Length(u64),
    /// Nothing.
    Nothing,
}

impl BodyFields {
    /// Looks at a field; most have nothing to say.
    ///
    /// # Errors
    ///
    /// A second Content-Length or one that is no number, or a transfer coding that is not
    /// `chunked` alone and once.
    pub fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                return Err(Malformed::ContentLength);
            }
            self.length = Some(parse_length(value)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::TransferEncoding);
            }
            self.chunked = true;
        }
        Ok(())
    }

    /// What they say in a message of that version.
    ///
    /// # Errors
    ///
    /// Two things at once, or chunks in HTTP/1.0.
    pub fn said(&self, version: Version) -> Result<SaidLength, Malformed> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err(Malformed::LengthAndCoding),
            (None, true) if version == Version::Http10 => Err(Malformed::TransferEncoding),
            (None, true) => Ok(SaidLength::Chunked),
            (Some(length), false) => Ok(SaidLength::Length(length)),
            (None, false) => Ok(SaidLength::Nothing),
        }
    }
}

/// At most what fits a signed number everywhere.
fn parse_length(value: &[u8]) -> Result<u64, Malformed> {
    let digits = str::from_utf8(value)
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let length = digits.and_then(|digits| digits.parse().ok());
    length.filter(|length| *length <= i64::MAX.unsigned_abs()).ok_or(Malformed::ContentLength)
}
