//! HTTP/1 messages, read strictly: what two parsers read differently is refused, never repaired.
//!
//! Lines, fields, lengths and chunks as RFC 9112 writes them, and with them the heads of requests
//! and of answers. Not a parser that builds messages: that is the HTTP library, which sees only
//! what has been checked here. Pure: functions of bytes.

pub mod answer_head;
mod body_fields;
mod chunks;
mod lines;
mod malformed;
pub mod request_head;
mod version;

pub use body_fields::{BodyFields, SaidLength};
pub use chunks::{ChunkError, Chunks, Scanned};
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
