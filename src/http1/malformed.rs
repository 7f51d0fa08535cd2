//! What is wrong with a head, whoever sent it.

/// Why a head has no reading, or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A Content-Length that is not one decimal number, or more than one of them.
    #[error("Content-Length is not one decimal number")]
    ContentLength,
    /// A control character.
    #[error("has a control character")]
    Control,
    /// A field line without a legal name and a colon right after it.
    #[error("has a malformed field line")]
    Field,
    /// A line that continues the one before (obs-fold).
    #[error("has a folded field line")]
    Folded,
    /// Both Content-Length and Transfer-Encoding.
    #[error("has both Content-Length and Transfer-Encoding")]
    LengthAndCoding,
    /// A carriage return or line feed on its own.
    #[error("has a line that does not end in CRLF")]
    LineEnd,
    /// More bytes than accepted.
    #[error("is too large")]
    TooLarge,
    /// More fields than accepted.
    #[error("has too many fields")]
    TooManyFields,
    /// A Transfer-Encoding other than `chunked`, alone and once, in HTTP/1.1.
    #[error("has a Transfer-Encoding other than `chunked`")]
    TransferEncoding,
}
