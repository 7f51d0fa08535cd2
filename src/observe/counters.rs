//! Counters that only grow; shown by the health endpoint.

use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of one proxy.
#[derive(Debug, Default)]
pub struct Counters {
    /// Audit records that were dropped because the queue was full or the target failed.
    pub audit_dropped: Counter,
    /// How often each of `[limits]` was reached.
    pub limits: LimitCounters,
    /// How often each of `[timeouts]` was reached.
    pub timeouts: TimeoutCounters,
    /// Connections that could not be accepted, most often for want of a descriptor.
    pub accept_failures: Counter,
    /// Tunnels closed for what the client said first in them.
    pub sni_mismatches: Counter,
    /// System calls that the process was refused, because a proxy never makes them.
    pub calls_refused: Counter,
    /// Requests let through that no rule allows, because the policy only observes.
    pub observed: Counter,
    /// Policies taken into force after the first.
    pub reloads: Counter,
    /// Changed policies that could not be read or compiled.
    pub reload_failures: Counter,
}

/// What was turned away at a limit, by the name of the setting.
#[derive(Debug, Default)]
pub struct LimitCounters {
    /// Client connections.
    pub connections: Counter,
    /// Client connections of one address.
    pub connections_per_client: Counter,
    /// The limit of the system: connections of clients and to origins.
    pub descriptors: Counter,
    /// Connections to origins.
    pub dials: Counter,
    /// Request heads.
    pub head_bytes: Counter,
    /// Request heads.
    pub head_fields: Counter,
    /// DNS lookups.
    pub lookups: Counter,
    /// Request heads.
    pub request_line_bytes: Counter,
    /// Requests.
    pub requests: Counter,
    /// Tunnels.
    pub tunnels: Counter,
}

/// What took too long, by the name of the setting.
#[derive(Debug, Default)]
pub struct TimeoutCounters {
    /// Connections to origins.
    pub connect: Counter,
    /// DNS lookups.
    pub dns: Counter,
    /// How a client began in a tunnel.
    pub first_bytes: Counter,
    /// Tunnels and bodies.
    pub idle: Counter,
    /// Client connections without a request.
    pub idle_client: Counter,
    /// Request heads.
    pub request_head: Counter,
    /// Answers of origins.
    pub response_head: Counter,
}

/// One number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds several.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The number so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
