//! What every connection of a proxy shares.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ipnet::IpNet;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    captured::Destinations, own_connections::OwnConnections, pipes::Pipes, places::Places,
};
use crate::{
    dns::Resolver,
    http1::HeadLimits,
    observe::{Audit, Counters},
    policy::Policy,
    settings::{Limits, Timeouts, Tls},
    upstream::{Parent, Pool},
};

/// The parts a proxy is made of, put together in `app`.
pub struct Context {
    /// The policy in force; tunnels wake up when it changes.
    pub policy: watch::Receiver<Arc<Policy>>,
    /// Names to addresses.
    pub resolver: Resolver,
    /// Through which everything leaves.
    pub parent: Option<Parent>,
    /// Idle connections to origins.
    pub pool: Pool,
    /// Where decisions are recorded.
    pub audit: Audit,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// Who may use the proxy.
    pub clients: Vec<IpNet>,
    /// The addresses of this machine.
    pub own_addresses: Vec<IpAddr>,
    /// What it has dialled, if that could come back to it.
    pub own_connections: Option<OwnConnections>,
    /// Bounds.
    pub limits: Limits,
    /// What they leave free.
    pub places: Places,
    /// For bytes that go through tunnels without being copied.
    pub pipes: Pipes,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// How tunnels may begin.
    pub tls: Arc<Tls>,
    /// Every task; the owner waits for them.
    pub tasks: TaskTracker,
    /// Finish what is under way and take nothing new.
    pub drain: CancellationToken,
    /// Stop now.
    pub abort: CancellationToken,
    /// Whom the addresses stand for that clients ask for; themselves but in a jail.
    pub destinations: Option<Destinations>,
    /// Whether unix sockets can be asked for.
    pub unix_sockets: UnixSockets,
    /// How many requests there were.
    pub requests: AtomicU64,
}

/// Whether this process can open unix sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnixSockets {
    /// It gave that up, because the policy at its start allowed none.
    Closed,
    /// It can.
    Open,
}

impl Context {
    /// The policy of this moment: load it once per request.
    pub(super) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.borrow())
    }

    pub(super) fn head_limits(&self) -> HeadLimits {
        let Limits { head_bytes, request_line_bytes, head_fields, .. } = self.limits;
        HeadLimits { bytes: head_bytes, line: request_line_bytes, fields: head_fields }
    }

    pub(super) fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }
}
