//! `exeat run`: what a program is given so that it goes through the proxy.
//!
//! Variables make programs of good will use the proxy; they are no boundary. Nothing here decides
//! who may go where, and nothing here starts a proxy: that is `proxy`'s and `app`'s.

mod child;
mod tunnel;
mod variables;

pub use child::{Signals, exit_code, wait};
pub use tunnel::{Answer, Tunnel, TunnelError};
pub use variables::{Loopback, Variable, quote, variables};
