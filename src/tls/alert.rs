//! The alerts a refused client gets, in a record of their own.

/// Why a handshake is refused (RFC 8446 §6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alert {
    /// Access control decided not to proceed.
    AccessDenied,
    /// The message cannot be decoded.
    DecodeError,
    /// A name is missing where one must be (RFC 8446 §9.2).
    MissingExtension,
    /// A message that has no place here.
    UnexpectedMessage,
    /// The name is not one that is served here (RFC 6066 §3).
    UnrecognizedName,
}

impl Alert {
    /// The whole record, in plain text. Before a version is agreed on, 3.3 is what every client
    /// accepts (RFC 8446 §5.1).
    #[must_use]
    pub fn record(self) -> [u8; 7] {
        const ALERT: u8 = 21;
        const FATAL: u8 = 2;
        let description = match self {
            Self::AccessDenied => 49,
            Self::DecodeError => 50,
            Self::MissingExtension => 109,
            Self::UnexpectedMessage => 10,
            Self::UnrecognizedName => 112,
        };
        [ALERT, 3, 3, 0, 2, FATAL, description]
    }
}
