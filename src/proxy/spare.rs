//! A descriptor kept for the day when there is none left.
//!
//! At the limit of descriptors a connection that waits could neither be accepted nor refused, and
//! its client would hang. Giving this one up makes room to accept it and to say so.

#[cfg(unix)]
use std::os::fd::{AsFd as _, OwnedFd};

use tokio::net::{TcpListener, TcpStream};

/// One descriptor, if it could be had; a second one of the listener, which is always at hand.
#[derive(Debug)]
pub(super) struct Spare {
    #[cfg(unix)]
    descriptor: Option<OwnedFd>,
}

impl Spare {
    pub(super) fn new(listener: &TcpListener) -> Self {
        let mut spare = Self {
            #[cfg(unix)]
            descriptor: None,
        };
        spare.renew(listener);
        spare
    }

    /// Takes one again if there is none.
    #[cfg(unix)]
    pub(super) fn renew(&mut self, listener: &TcpListener) {
        if self.descriptor.is_none() {
            self.descriptor = listener.as_fd().try_clone_to_owned().ok();
        }
    }

    /// Gives the descriptor up for a connection that waits. Another thread may be faster; then
    /// there is none, and no spare descriptor either.
    #[cfg(unix)]
    pub(super) async fn accept(&mut self, listener: &TcpListener) -> Option<TcpStream> {
        self.descriptor.take()?;
        tokio::select! {
            biased;
            accepted = listener.accept() => accepted.ok().map(|(stream, _)| stream),
            () = std::future::ready(()) => None,
        }
    }

    #[cfg(not(unix))]
    pub(super) fn renew(&mut self, _: &TcpListener) {}

    #[cfg(not(unix))]
    pub(super) async fn accept(&mut self, _: &TcpListener) -> Option<TcpStream> {
        std::future::ready(None).await
    }
}
