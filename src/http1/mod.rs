//! The grammar of HTTP/1 messages that both sides of the proxy share, read strictly.
//!
//! Lines, fields, lengths and chunks as RFC 9112 writes them; what two parsers read differently is
//! refused, never repaired. Not a parser of messages: request heads are read in `proxy`, heads of
//! answers in `upstream`. Pure: functions of bytes.

mod body_fields;
mod chunks;
mod lines;
mod malformed;
mod version;

pub use body_fields::{BodyFields, SaidLength};
pub use chunks::{ChunkError, Chunks, Scanned};
pub use lines::{Lines, find_end, is_token, last_line, split_field};
pub use malformed::Malformed;
pub use version::Version;

/// Bounds of a head.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// In bytes, the empty line included.
    pub bytes: usize,
    /// Field lines.
    pub fields: usize,
}
