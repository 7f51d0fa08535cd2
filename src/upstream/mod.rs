//! Connections to origins: vetting what DNS says, dialling it, keeping it for the next request.
//!
//! No permit, no socket: everything here that opens or hands out a connection takes a [`Permit`]
//! and addresses that the policy has vetted.
//!
//! [`Permit`]: crate::policy::Permit

mod answer_gate;
mod dial;
mod inflow;
mod origin;
mod pool;
#[cfg(test)]
mod properties;
mod vet;

pub use answer_gate::AnswerGate;
pub use dial::{DialError, dial, is_at_the_limit, tune};
pub use inflow::{pass, poll_fill};
pub use origin::{Origin, RequestBody, SendError};
pub use pool::Pool;
pub use vet::{Candidates, VetError, candidates};
