//! An HTTP/1.1 connection to an origin, lent to one request at a time.
//!
//! A connection whose request or answer has not been moved to its end must be dropped, which closes
//! it; only one that is through with both goes to the pool. So a half-read answer can never be
//! taken for the answer to the next request, nor a half-sent request hold up the next one. Nor can
//! what came while nothing was asked: a connection on which it has is not [open](Origin::is_open).

use std::{io, mem::MaybeUninit};

use bytes::{Bytes, BytesMut};
use socket2::SockRef;
use tokio::net::{TcpStream, tcp::WriteHalf};

use super::Inflow;
use crate::{net::Authority, policy::Peer};

/// A connection that can take a request. Dropping it closes it.
#[derive(Debug)]
pub struct Origin {
    stream: TcpStream,
    /// Read, and not yet understood.
    held: BytesMut,
    peer: Peer,
    authority: Authority,
}

impl Origin {
    /// Takes a connection that has been dialled for an authority.
    #[must_use]
    pub fn new(stream: TcpStream, peer: Peer, authority: Authority) -> Self {
        Self { stream, held: BytesMut::new(), peer, authority }
    }

    /// Where it leads.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// The destination it was dialled for.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Whether it can take a request, in this moment: it has not ended, and nothing has come that
    /// nobody asked for.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let nothing = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
        self.held.is_empty() && SockRef::from(&self.stream).peek(&mut byte).is_err_and(nothing)
    }

    /// Both directions.
    pub fn split(&mut self) -> (Inflow<'_>, WriteHalf<'_>) {
        let (from, to) = self.stream.split();
        (Inflow::new(from, &mut self.held), to)
    }

    /// The socket, and what was read from it and not yet understood.
    #[must_use]
    pub fn into_parts(self) -> (TcpStream, Bytes) {
        (self.stream, self.held.freeze())
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt as _, net::TcpListener};

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test's own client dials without a permit")]
    async fn pair() -> (Origin, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = listener.local_addr().unwrap();
        let stream = TcpStream::connect(peer).await.unwrap();
        let authority = Authority::parse_connect(b"a.test:80").unwrap();
        (Origin::new(stream, Peer::Origin(peer), authority), listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn what_nobody_asked_for_closes_it() {
        let (origin, mut server) = pair().await;
        assert!(origin.is_open());
        server.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        origin.stream.readable().await.unwrap();
        assert!(!origin.is_open());
    }

    #[tokio::test]
    async fn its_end_closes_it() {
        let (origin, server) = pair().await;
        drop(server);
        origin.stream.readable().await.unwrap();
        assert!(!origin.is_open());
    }
}
