//! Why there is no connection to a unix socket.

/// Why a socket cannot be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    /// There is none that this process can see.
    #[error("is no socket that can be found")]
    NotThere,
    /// Nobody listens, or this process may not.
    #[error("refused the connection")]
    Refused,
    /// Whoever listens takes no connection.
    #[error("did not answer in time")]
    Timeout,
    /// The permit is for another one.
    #[error("is not the one that leave was given for")]
    OtherSocket,
}
