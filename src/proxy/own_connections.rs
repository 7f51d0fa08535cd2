//! Connections that the proxy has dialled, by both their addresses: one that arrives at its own
//! transparent listener was led in a circle, and would be dialled again without end.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::net::TcpStream;

/// Those that there are. Never more than tunnels and requests under way.
#[derive(Debug, Clone, Default)]
pub struct OwnConnections(Arc<Mutex<HashSet<Pair>>>);

/// From where to where.
type Pair = (SocketAddr, SocketAddr);

/// One of them; dropped when it is none any more.
#[derive(Debug)]
pub(super) struct Own(OwnConnections, Pair);

impl OwnConnections {
    /// Takes one in.
    pub(super) fn note(&self, stream: &TcpStream) -> Option<Own> {
        let pair = pair(stream.local_addr().ok()?, stream.peer_addr().ok()?);
        self.lock().insert(pair);
        Some(Own(self.clone(), pair))
    }

    /// Whether one goes from there to there.
    pub(super) fn holds(&self, from: SocketAddr, to: SocketAddr) -> bool {
        self.lock().contains(&pair(from, to))
    }

    /// No code that can panic runs under the lock, so a poisoned one is sound.
    fn lock(&self) -> MutexGuard<'_, HashSet<Pair>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

fn pair(from: SocketAddr, to: SocketAddr) -> Pair {
    (canonical(from), canonical(to))
}

/// One address, one value.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
