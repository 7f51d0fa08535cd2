//! HTTP/1 messages, read strictly: what two parsers read differently is refused, never repaired.
//!
//! Lines, fields, lengths and chunks as RFC 9112 writes them, and with them the heads of requests
//! and of answers. Read, not built: how a message goes on is the business of `proxy`. Pure:
//! functions of bytes.

pub mod answer_head;
mod body_fields;
mod chunks;
mod fields;
mod framed;
mod lines;
mod malformed;
#[cfg(test)]
mod properties;
pub mod request_head;
mod version;

pub use body_fields::{BodyFields, SaidLength};
pub use chunks::{ChunkError, Chunks, Scanned};
pub use fields::{Field, Fields};
pub use framed::{Framed, Part};
pub use lines::{Lines, is_token, last_line, split_field};
pub use malformed::Malformed;
pub use version::Version;

/// Bounds of a head.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// In bytes, the empty line included.
    pub bytes: usize,
    /// Bytes of the request line, without its end; answers have no such bound.
    pub line: usize,
    /// Field lines.
    pub fields: usize,
}
