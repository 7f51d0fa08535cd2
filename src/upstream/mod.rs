//! Connections to origins: vetting what DNS says, dialling it, keeping it for the next request.
//!
//! No permit, no socket: everything here that opens or hands out a connection takes a [`Permit`]
//! and addresses that the policy has vetted, or a name that it has entrusted to a parent proxy, or
//! leave for the very socket.
//!
//! [`Permit`]: crate::policy::Permit

mod dial;
mod inflow;
mod origin;
mod parent;
mod pool;
#[cfg_attr(not(target_os = "linux"), path = "no_socket.rs")]
mod socket;
mod socket_error;
mod vet;

pub use dial::{DialError, dial, is_at_the_limit, tune};
pub use inflow::Inflow;
pub use origin::Origin;
pub use parent::{Errand, Failed, Parent, ParentError};
pub use pool::Pool;
pub use socket::{FoundSocket, leads_to};
pub use socket_error::SocketError;
pub use vet::{Candidates, VetError, candidates};
