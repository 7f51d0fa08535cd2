//! The body of a request in a tunnel: where it ends. It is followed as it goes on, never gathered.

use crate::http1::{ChunkError, Chunks, Scanned, request_head::Framing};

/// What is left of a body.
#[derive(Debug)]
pub(super) enum PlainBody {
    Chunked(Chunks),
    /// That many bytes.
    Length(u64),
}

impl PlainBody {
    /// What follows a head, if it is more than nothing.
    pub(super) fn after(framing: Framing) -> Option<Self> {
        match framing {
            Framing::Chunked => Some(Self::Chunked(Chunks::default())),
            Framing::Length(0) | Framing::Switching(_) => None,
            Framing::Length(length) => Some(Self::Length(length)),
        }
    }

    /// How many of the bytes belong to it.
    ///
    /// # Errors
    ///
    /// It breaks its framing, and none of these bytes may go on.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Result<Scanned, ChunkError> {
        match self {
            Self::Chunked(chunks) => chunks.scan(bytes),
            Self::Length(left) => {
                let here = u64::try_from(bytes.len()).unwrap_or(u64::MAX).min(*left);
                *left -= here;
                let here = usize::try_from(here).unwrap_or(bytes.len());
                Ok(if *left == 0 { Scanned::End(here) } else { Scanned::More(here) })
            }
        }
    }
}
