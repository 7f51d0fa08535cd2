//! The body of a message: which bytes are its payload, and where it ends. Followed as it comes,
//! never gathered.

use super::{ChunkError, Chunks, Scanned};

/// What is left of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framed {
    /// In chunks.
    Chunked(Chunks),
    /// That many bytes.
    Length(u64),
    /// All up to the end of the connection.
    UntilClose,
}

/// What some bytes of a body begin with: framing, then payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// So many bytes are framing, trailers included.
    pub skip: usize,
    /// So many bytes after them are payload.
    pub payload: usize,
    /// The body ends with them.
    pub end: bool,
}

impl Framed {
    /// Goes past the next part. Nothing in front and no payload: more bytes are needed.
    ///
    /// # Errors
    ///
    /// The body breaks its framing.
    pub fn part(&mut self, bytes: &[u8]) -> Result<Part, ChunkError> {
        match self {
            Self::Chunked(chunks) => chunks.part(bytes),
            Self::Length(left) => {
                let here = u64::try_from(bytes.len()).unwrap_or(u64::MAX).min(*left);
                *left -= here;
                let payload = usize::try_from(here).unwrap_or(bytes.len());
                Ok(Part { skip: 0, payload, end: *left == 0 })
            }
            Self::UntilClose => Ok(Part { skip: 0, payload: bytes.len(), end: false }),
        }
    }

    /// Goes past all of these bytes that belong to it.
    ///
    /// # Errors
    ///
    /// The body breaks its framing, and none of these bytes may go on.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<Scanned, ChunkError> {
        if let Self::Chunked(chunks) = self {
            return chunks.scan(bytes);
        }
        let Part { payload, end, .. } = self.part(bytes)?;
        Ok(if end { Scanned::End(payload) } else { Scanned::More(payload) })
    }

    /// Whether nothing is left of it, or there was never anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::Length(0)
    }

    /// How many bytes are left, if that is known.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }
}
