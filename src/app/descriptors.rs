//! Descriptors: as many as the system lets this process have, and a word if they are too few.

use crate::settings::Limits;

/// What is open beside connections: standard streams, policy, audit, the runtime's own, DNS
/// sockets, connections that are turned away.
const OTHERS: u64 = 512;

/// Raises the soft limit to the hard one. Warns if what `[limits]` allows does not fit: then it is
/// the system that turns clients away, and not a place that we know of.
#[cfg(unix)]
pub(super) fn raise(limits: &Limits) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    // None: without limit.
    let limit = if raised.is_ok() { maximum } else { current };
    let needed = needed(limits);
    if let Some(limit) = limit
        && limit < needed
    {
        tracing::warn!(
            limit,
            needed,
            "`[limits]` allows more than this process may open: raise the hard limit of open \
             files (ulimit -Hn, LimitNOFILE=), or lower `connections`"
        );
    }
}

/// There is no such limit elsewhere.
#[cfg(not(unix))]
pub(super) fn raise(_: &Limits) {}

/// Each connection has two ends while it is served; kept connections to origins have one.
#[cfg(unix)]
fn needed(limits: &Limits) -> u64 {
    let sockets = limits.connections.saturating_mul(2).saturating_add(limits.idle_origins);
    u64::try_from(sockets).unwrap_or(u64::MAX).saturating_add(OTHERS)
}
