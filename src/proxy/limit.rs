//! The limits at which a client is turned away with 503, and what it is told.

use serde_json::json;

use crate::observe::{Counter, Counters};

/// What there is too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// Connections of the client's address.
    ClientConnections,
    /// Connections of all clients.
    Connections,
    /// Open sockets and files of the process.
    Descriptors,
    /// Connections to origins that are being established.
    Dials,
    /// DNS lookups under way.
    Lookups,
    /// Requests under way.
    Requests,
    /// Tunnels.
    Tunnels,
}

impl Limit {
    /// What there is too much of, in words.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::ClientConnections => "connections from your address",
            Self::Connections => "connections",
            Self::Descriptors => "open sockets",
            Self::Dials => "connections being established",
            Self::Lookups => "DNS lookups",
            Self::Requests => "requests",
            Self::Tunnels => "tunnels",
        }
    }

    /// The body of the answer.
    pub(super) fn body(self) -> String {
        let cure = match self.setting() {
            Some(key) => format!("raise `[limits] {key}` in exeat.toml"),
            None => "raise the limit of open files (ulimit -n, LimitNOFILE=)".to_owned(),
        };
        json!({
            "status": "failed",
            "reason": "limit_reached",
            "limit": self.setting().unwrap_or("descriptors"),
            "message": format!(
                "too many {} at this moment: try again in a second; if it stays so, ask the \
                 operator to {cure}",
                self.what()
            ),
        })
        .to_string()
    }

    /// Its key in `[limits]`; descriptors are limited by the system.
    fn setting(self) -> Option<&'static str> {
        match self {
            Self::ClientConnections => Some("connections_per_client"),
            Self::Connections => Some("connections"),
            Self::Descriptors => None,
            Self::Dials => Some("dials"),
            Self::Lookups => Some("lookups"),
            Self::Requests => Some("requests"),
            Self::Tunnels => Some("tunnels"),
        }
    }

    /// What counts that it was reached.
    pub(super) fn counter(self, counters: &Counters) -> &Counter {
        let limits = &counters.limits;
        match self {
            Self::ClientConnections => &limits.connections_per_client,
            Self::Connections => &limits.connections,
            Self::Descriptors => &limits.descriptors,
            Self::Dials => &limits.dials,
            Self::Lookups => &limits.lookups,
            Self::Requests => &limits.requests,
            Self::Tunnels => &limits.tunnels,
        }
    }
}
