//! `exeat run`: what a program is given so that it goes through the proxy, and what keeps it from
//! going around.
//!
//! Variables make programs of good will use the proxy; they are no boundary. The jail is one
//! (Linux, without root or helper programs): a network namespace in which there is nothing but
//! loopback and sockets that the proxy outside accepts on, and a mount namespace in which unix
//! sockets of the machine, which cross network namespaces, are covered. Nothing here decides who may
//! go where, and nothing here starts a proxy: that is `proxy`'s and `app`'s.

#[cfg(target_os = "linux")]
mod bound;
#[cfg_attr(not(target_os = "linux"), path = "no_cell.rs")]
mod cell;
mod child;
mod descriptors;
mod dial;
mod fault;
#[cfg(target_os = "linux")]
mod handover;
#[cfg(target_os = "linux")]
mod hide;
#[cfg(target_os = "linux")]
mod inherited;
#[cfg(target_os = "linux")]
mod inside;
#[cfg(target_os = "linux")]
mod kernel;
#[cfg(target_os = "linux")]
mod mounts;
mod names;
#[cfg(target_os = "linux")]
mod namespaces;
#[cfg(target_os = "linux")]
mod netlink;
mod probes;
mod publish;
#[cfg(target_os = "linux")]
mod redirect;
#[cfg(target_os = "linux")]
mod resolver;
#[cfg(target_os = "linux")]
mod search;
#[cfg(target_os = "linux")]
mod sockets;
mod tunnel;
mod variables;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

pub use cell::Cell;
pub use child::{Signals, exit_code, wait};
pub use descriptors::Descriptors;
pub use dial::dial;
pub use fault::{Cause, Fault};
#[cfg(target_os = "linux")]
pub use inside::{enter, restrict_to};
pub use names::Names;
pub use probes::{Probe, probe_network, probe_sockets};
pub use publish::{Outlets, OwnPort, Plugs, Published, publishable};
pub use tunnel::{Answer, Tunnel, TunnelError};
pub use variables::{Loopback, Variable, quote, variables};

/// Sockets in a jail, for the proxy outside.
#[derive(Debug)]
pub struct Within {
    /// For its clients.
    pub http: TcpListener,
    /// For connections that were meant for other hosts, and for questions about names. Without,
    /// they come to nothing.
    pub captured: Option<(TcpListener, UdpSocket)>,
    /// For connections to servers in it; none if they were not asked for.
    pub plugs: Plugs,
    /// What the jail lacks.
    pub missing: Vec<Fault>,
}

/// Where the proxy is in a jail. The network is new: the port is free.
pub const CELL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3128);

/// Whether a program can be kept to one port where there is no jail.
///
/// # Errors
///
/// Why not.
pub fn can_restrict() -> Result<(), String> {
    #[cfg(target_os = "linux")]
    return crate::confine::can_restrict_ports();
    #[cfg(not(target_os = "linux"))]
    Err("only Linux can".into())
}
