//! Where the kernel has no place for what is open but not connected to, no unix socket is asked for.

use std::{net::TcpStream, time::Duration};

use super::SocketError;
use crate::policy::{List, SocketPath, SocketPermit};

/// There is none.
#[derive(Debug)]
pub enum FoundSocket {}

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
