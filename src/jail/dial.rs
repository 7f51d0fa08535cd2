//! The way to a proxy, as its client: `exeat connect`, `why`, `health` and `doctor` take the same.
//!
//! Blocking. What is said on the connection is the caller's, and so are deadlines for it.

use std::{
    io,
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use crate::net::Authority;

/// Connects to the first of the proxy's addresses that answers; `patience` is for each of them.
///
/// # Errors
///
/// Its name has no address, or what the last address that was tried gave.
pub fn dial(proxy: &Authority, patience: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    for address in (proxy.host.to_bare_string().as_str(), proxy.port.number()).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
