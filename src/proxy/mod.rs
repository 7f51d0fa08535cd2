//! The data path: a client's connection in, a tunnel or a forwarded request out.
//!
//! The main path: [`self_test`] sees a refusal, [`Workers`] accept as long as there are
//! [`Places`], `connection` serves, `inbound` reads heads, `connect` and `forward` (and `socks`,
//! `transparent` and `captured`, without HTTP) ask the policy through `admit`, `opening` judges what a
//! tunnel carries, `tunnel` and `exchange` move the bytes, `standing` asks again when the policy changes,
//! `refusal` says no in the words of `verdict`. Nothing here decides who may go where.

mod admit;
mod backoff;
mod binding;
mod captured;
mod client;
mod connect;
mod connection;
mod context;
mod crew;
mod endpoint;
mod exchange;
mod fields;
mod first_bytes;
mod first_line;
mod forward;
mod health;
mod inbound;
mod limit;
mod listener;
mod meter;
mod mismatch;
mod opening;
#[cfg(test)]
mod opening_properties;
mod own_connections;
#[cfg_attr(not(target_os = "linux"), path = "no_pipes.rs")]
mod pipes;
mod places;
mod plain_head;
mod pump;
mod refusal;
mod relay;
mod reply;
mod rewrite;
mod self_test;
mod shared_buffer;
mod sniffer;
#[cfg(unix)]
mod socket_file;
mod socks;
mod spare;
mod standing;
mod standstill;
mod transparent;
mod tunnel;
mod turn_away;
mod unix_socket;
mod verdict;
mod workers;

pub use captured::{Captured, Destinations};
pub use context::{Context, UnixSockets};
#[cfg(unix)]
pub use endpoint::BoundPath;
pub use endpoint::Endpoint;
pub use listener::{Bound, ListenError};
pub use own_connections::OwnConnections;
pub use pipes::Pipes;
pub use places::Places;
pub use self_test::{SelfTestError, Tested, self_test};
pub use workers::{Listeners, Workers, WorkersError};
