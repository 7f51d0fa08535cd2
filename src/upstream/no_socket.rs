//! Where the kernel has no place for what is open but not connected to, no unix socket is asked for.

use std::{net::TcpStream, time::Duration};

use crate::policy::{List, SocketPath, SocketPermit};

/// There is none.
#[derive(Debug)]
pub enum FoundSocket {}

/// Why a socket cannot be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    /// They are not looked for.
    #[error("is no socket that can be found")]
    NotThere,
    /// Not on this system.
    #[error("refused the connection")]
    Refused,
    /// Not on this system.
    #[error("did not answer in time")]
    Timeout,
    /// Not on this system.
    #[error("is not the one that leave was given for")]
    OtherSocket,
}

impl FoundSocket {
    /// Finds nothing.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn find(_: &SocketPath) -> Result<Self, SocketError> {
        Err(SocketError::NotThere)
    }

    /// Where it would be.
    #[must_use]
    pub fn path(&self) -> &SocketPath {
        match *self {}
    }

    /// Never called.
    ///
    /// # Errors
    ///
    /// Never.
    pub fn connect(&self, _: &SocketPermit, _: Duration) -> Result<TcpStream, SocketError> {
        match *self {}
    }
}

/// Nowhere.
#[must_use]
pub fn leads_to(_: &SocketPath, _: List, _: &SocketPath) -> bool {
    false
}
