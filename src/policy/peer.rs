//! Where a connection that was made for a permit leads, so that another policy can judge it.

use std::net::SocketAddr;

use super::{Denial, Permit, Policy};

/// The other end of a connection to an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The origin, at an address that was vetted.
    Origin(SocketAddr),
    /// A parent proxy, which leads to the origin.
    Parent {
        /// Where the parent is.
        at: SocketAddr,
        /// The vetted address that it was asked for; none, if it was asked by name.
        origin: Option<SocketAddr>,
    },
}

impl Peer {
    /// The address of the origin, as far as it is known here.
    #[must_use]
    pub fn origin(self) -> Option<SocketAddr> {
        match self {
            Self::Origin(address) => Some(address),
            Self::Parent { origin, .. } => origin,
        }
    }

    /// Where the parent proxy is, if there is one between.
    #[must_use]
    pub fn parent(self) -> Option<SocketAddr> {
        match self {
            Self::Origin(_) => None,
            Self::Parent { at, .. } => Some(at),
        }
    }
}

impl Policy {
    /// Judges a connection that was made for such a permit, perhaps under another policy.
    ///
    /// # Errors
    ///
    /// The denial, if none like it could be made now.
    pub fn judge(&self, permit: &Permit, peer: Peer) -> Result<(), Denial> {
        match peer.origin() {
            Some(address) => self.vet(permit, address.ip()).map(|_| ()),
            None => self.entrust(permit).map(|_| ()),
        }
    }
}
