//! SOCKS5 (RFC 1928), with user names and passwords (RFC 1929), read strictly.
//!
//! What a client says before its tunnel begins, and what it is told. Only CONNECT is spoken: the other
//! commands would have the proxy listen for others, or move datagrams that name no host. Pure:
//! functions of bytes.

mod handshake;
mod reply;

pub use handshake::{Foreign, Handshake, Step, WrongSocks};
pub use reply::Reply;

/// The first byte of every message but that of credentials.
const VERSION: u8 = 5;
