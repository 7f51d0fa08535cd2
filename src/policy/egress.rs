//! The operator's part of a decision: exceptions for private destinations, what is ourselves, and
//! whether what no rule allows is refused or only noted.
//!
//! Comes from flags, `exeat.toml` and the listeners, not from the policy file; a policy that writes
//! `allow_local_binding = false` overrules the exceptions.

use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv6Net};

use super::Pattern;

/// What the operator says about destinations.
#[derive(Debug, Clone, Default)]
pub struct Egress {
    /// What happens to a host that no rule speaks about.
    pub mode: Mode,
    /// Names that may resolve to private addresses (`[egress] private`).
    pub private_names: Vec<Pattern>,
    /// Ranges that may be dialled although they are private (`[egress] private`).
    pub private_ranges: Vec<IpNet>,
    /// NAT64 prefixes of the network (`[dns] nat64`, RFC 6052).
    pub nat64: Vec<Ipv6Net>,
    /// Where this proxy listens.
    pub listeners: Vec<SocketAddr>,
    /// The addresses of this machine, for listeners on every address.
    pub own_addresses: Vec<IpAddr>,
}

/// What happens to a host that no rule speaks about. Nothing else depends on it: what is denied,
/// local or allowed on other ports only is refused in either mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// It is refused.
    #[default]
    Enforce,
    /// It is let through, and known by its permit: to learn what a policy would have to allow.
    Observe,
}

impl Mode {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

impl Egress {
    /// Whether a connection to `destination` would arrive at this proxy.
    #[must_use]
    pub fn is_own_listener(&self, destination: SocketAddr) -> bool {
        let to = destination.ip().to_canonical();
        self.listeners.iter().any(|listener| {
            let at = listener.ip().to_canonical();
            let reached = at == to
                // Dialling 0.0.0.0 or :: reaches the loopback of this machine.
                || (to.is_unspecified() && (at.is_loopback() || at.is_unspecified()))
                || (at.is_unspecified() && (to.is_loopback() || self.own_addresses.contains(&to)));
            listener.port() == destination.port() && reached
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_listeners() {
        let on = |listener: &str| Egress {
            listeners: vec![listener.parse().unwrap()],
            own_addresses: vec!["192.168.1.7".parse().unwrap()],
            ..Egress::default()
        };
        for (listener, destination, expected) in [
            ("127.0.0.1:3128", "127.0.0.1:3128", true),
            ("127.0.0.1:3128", "[::ffff:127.0.0.1]:3128", true),
            ("127.0.0.1:3128", "0.0.0.0:3128", true),
            ("127.0.0.1:3128", "127.0.0.1:3129", false),
            ("127.0.0.1:3128", "192.168.1.7:3128", false),
            ("0.0.0.0:3128", "192.168.1.7:3128", true),
            ("0.0.0.0:3128", "127.9.9.9:3128", true),
            ("[::]:3128", "192.168.1.7:3128", true),
            ("0.0.0.0:3128", "192.168.1.8:3128", false),
        ] {
            let own = on(listener).is_own_listener(destination.parse().unwrap());
            assert_eq!(own, expected, "{listener} {destination}");
        }
    }
}
