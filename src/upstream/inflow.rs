//! What comes out of a socket, held until somebody has understood it: for clients in `proxy` and
//! for origins. What it means is theirs.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::{io::Interest, net::tcp::ReadHalf};
use tokio_util::io::poll_read_buf;

/// The reading side of a socket, and what has been read.
#[derive(Debug)]
pub struct Inflow<'a> {
    from: ReadHalf<'a>,
    /// Read, and not yet understood.
    pub held: &'a mut BytesMut,
}

impl<'a> Inflow<'a> {
    /// Of a socket of which that much is held.
    #[must_use]
    pub fn new(from: ReadHalf<'a>, held: &'a mut BytesMut) -> Self {
        Self { from, held }
    }

    /// Returns when the connection is reset, or was: of nothing else is known while it is not read.
    pub async fn broken(&self) {
        self.from.ready(Interest::ERROR).await.ok();
    }

    /// Reads some more, at most about `bytes` at a time; false at the end of the stream.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<io::Result<bool>> {
        // No buffer is held while a connection is idle.
        if self.held.is_empty() {
            *self.held = BytesMut::new();
        }
        ready!(self.from.as_ref().poll_read_ready(cx))?;
        self.held.reserve(bytes);
        // Unlike `try_read`, it knows that a short read was all there is, and does not ask twice.
        let read = ready!(poll_read_buf(Pin::new(&mut self.from), cx, self.held))?;
        Poll::Ready(Ok(read > 0))
    }
}
