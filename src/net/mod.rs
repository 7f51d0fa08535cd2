//! The words of the network, parsed once: host names, addresses, ports, authorities.
//!
//! Text from the wire becomes one of these types or is refused; it is never repaired. The value is
//! then what is matched, resolved, dialled, compared and logged, so that two readings of one host
//! cannot exist. Pure: functions of values, nothing here knows about sockets, files or time.

mod authority;
mod block;
mod dns_name;
mod host;
mod ip_class;
mod name_text;
mod port;
mod target;

pub use authority::{Authority, AuthorityError};
pub(crate) use block::Block;
pub use dns_name::{DnsName, DnsNameError, to_a_labels};
pub use host::{Host, HostError};
pub use ip_class::{IpClass, SpecialRange};
pub use port::{Port, PortError};
pub use target::{Scheme, Target, TargetError};
