//! Counters that only grow; shown by the health endpoint.

use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of one proxy.
#[derive(Debug, Default)]
pub struct Counters {
    /// Audit records that were dropped because the queue was full or the target failed.
    pub audit_dropped: Counter,
    /// Connections turned away at the limit.
    pub connections_refused: Counter,
    /// Tunnels closed for what the client said first in them.
    pub sni_mismatches: Counter,
    /// System calls that the process was refused, because a proxy never makes them.
    pub calls_refused: Counter,
    /// Policies taken into force after the first.
    pub reloads: Counter,
    /// Changed policies that could not be read or compiled.
    pub reload_failures: Counter,
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
