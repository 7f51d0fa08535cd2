//! A descriptor kept for the day when there is none left.
//!
//! At the limit of descriptors a connection that waits could neither be accepted nor refused, and
//! its client would hang. Giving this one up makes room to accept it and to say so.

#[cfg(unix)]
use std::os::fd::{AsFd as _, OwnedFd};

use tokio::net::TcpStream;

use super::endpoint::Listener;

/// One descriptor, if it could be had; a second one of the listener, which is always at hand.
#[derive(Debug)]
pub(super) struct Spare {
    #[cfg(unix)]
    descriptor: Option<OwnedFd>,
}

/// Who waits when a connection could not be accepted.
#[derive(Debug)]
pub(super) enum Waiting {
    /// Nobody. The kernel takes a descriptor before it looks, so at the limit accepting fails then too.
    Nobody,
    /// A client, whose connection is here.
    Accepted(TcpStream),
    /// That could not be found out.
    Perhaps,
}

impl Spare {
    pub(super) fn new(listener: &Listener) -> Self {
        let mut spare = Self {
            #[cfg(unix)]
            descriptor: None,
        };
        spare.renew(listener);
        spare
    }

    /// Takes one again if there is none.
    #[cfg(unix)]
    pub(super) fn renew(&mut self, listener: &Listener) {
        if self.descriptor.is_none() {
            self.descriptor = listener.as_fd().try_clone_to_owned().ok();
        }
    }

    /// Gives the descriptor up for a connection that waits. Another thread may be faster to take
    /// it; then there is no spare one any more.
    #[cfg(unix)]
    pub(super) async fn accept(&mut self, listener: &Listener) -> Waiting {
        if self.descriptor.take().is_none() {
            return Waiting::Perhaps;
        }
        tokio::select! {
            biased;
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => Waiting::Accepted(stream),
                Err(_) => Waiting::Perhaps,
            },
            () = std::future::ready(()) => {
                self.renew(listener);
                Waiting::Nobody
            }
        }
    }

    #[cfg(not(unix))]
    pub(super) fn renew(&mut self, _: &Listener) {}

    #[cfg(not(unix))]
    pub(super) async fn accept(&mut self, _: &Listener) -> Waiting {
        std::future::ready(Waiting::Perhaps).await
    }
}
