//! What comes out of a socket, held until it has been checked, for both gates: that of clients in
//! `proxy` and that of origins here. What is checked, and how, is theirs.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::{io::ReadBuf, net::TcpStream};
use tokio_util::io::poll_read_buf;

/// Read at a time, in bytes.
const READ_BYTES: usize = 16 << 10;

/// Reads some more into what is held; false at the end of the stream.
///
/// # Errors
///
/// Those of the socket.
pub fn poll_fill(
    stream: &mut TcpStream,
    held: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<bool>> {
    // No buffer is held while a connection is idle.
    if held.is_empty() {
        *held = BytesMut::new();
    }
    ready!(stream.poll_read_ready(cx))?;
    held.reserve(READ_BYTES);
    // Unlike `try_read`, it knows that a short read was all there is, and does not ask twice.
    let read = ready!(poll_read_buf(Pin::new(stream), cx, held))?;
    Poll::Ready(Ok(read > 0))
}

/// Passes on as much of what is cleared as there is room for.
pub fn pass(held: &mut BytesMut, cleared: &mut usize, out: &mut ReadBuf<'_>) {
    let length = (*cleared).min(out.remaining());
    out.put_slice(held.get(..length).unwrap_or_default());
    held.advance(length);
    *cleared -= length;
    if held.is_empty() {
        *held = BytesMut::new();
    }
}
