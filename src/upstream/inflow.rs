//! What comes out of a socket, held until it has been checked, for both gates: that of clients in
//! `proxy` and that of origins here. What is checked, and how, is theirs.

use std::{
    io,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::{io::ReadBuf, net::TcpStream};

/// Read at a time, in bytes.
const READ_BYTES: usize = 16 << 10;

/// Reads some more into what is held; false at the end of the stream.
///
/// # Errors
///
/// Those of the socket.
pub fn poll_fill(
    stream: &TcpStream,
    held: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<bool>> {
    loop {
        // No buffer is held while a connection is idle.
        if held.is_empty() {
            *held = BytesMut::new();
        }
        ready!(stream.poll_read_ready(cx))?;
        held.reserve(READ_BYTES);
        match stream.try_read_buf(held) {
            Ok(0) => return Poll::Ready(Ok(false)),
            Ok(_) => return Poll::Ready(Ok(true)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}

/// Passes on as much of what is cleared as there is room for.
pub fn pass(held: &mut BytesMut, cleared: &mut usize, out: &mut ReadBuf<'_>) {
    let length = (*cleared).min(out.remaining());
    out.put_slice(held.get(..length).unwrap_or_default());
    held.advance(length);
    *cleared -= length;
}
