//! The two versions that are spoken.

/// HTTP/1.0 or HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// No chunks.
    Http10,
    /// Everything.
    Http11,
}

impl Version {
    /// Reads `HTTP/1.0` or `HTTP/1.1`, as written (RFC 9112 §2.3).
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        match text {
            b"HTTP/1.0" => Some(Self::Http10),
            b"HTTP/1.1" => Some(Self::Http11),
            _ => None,
        }
    }
}
