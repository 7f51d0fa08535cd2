//! What a TLS client says in the clear: the first messages of a handshake, read and not answered.
//!
//! [`HelloReader`] puts a ClientHello together from records, [`ClientHello`] is what it says, and
//! [`Following`] finds the second one that `HelloRetryRequest` brings. Functions of bytes: nothing
//! here waits, and nothing is repaired: what two servers could read differently is an error.
//!
//! By hand and not by rustls's `Acceptor`, which neither shows ECH nor a second hello, ignores
//! address literals in SNI, and refuses hellos for what it would not negotiate itself.

mod alert;
mod cursor;
mod following;
mod hello;
mod reader;

pub use alert::Alert;
pub use following::{Following, Next};
pub use hello::{ClientHello, HelloError};
pub use reader::{Beginning, HelloReader, WholeHello, beginning_of};
