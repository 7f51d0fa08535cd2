//! The gate between a client's socket and the HTTP library: only what has been checked passes.
//!
//! It reads request heads whole, checks them strictly ([`super::head`]), and follows each body to
//! its end, so that it always knows where the next head begins. A head that is refused never
//! reaches the library: in its place the gate hands on a harmless one and reports the refusal, and
//! the service answers that one with the error. After CONNECT or an upgrade it steps aside.

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

use super::{
    chunks::{Chunks, Progress},
    head::{self, Framing, HeadError, HeadLimits},
};

/// A client's socket behind the check.
#[derive(Debug)]
pub(super) struct Gate {
    stream: TcpStream,
    stage: Stage,
    limits: HeadLimits,
    /// What was read and not yet passed on.
    held: BytesMut,
    /// How much of `held` may be passed on.
    cleared: usize,
    /// How much of the head in `held` has been looked at.
    looked_at: usize,
    heads: u64,
    report: Arc<Report>,
    ended: bool,
    linger: Linger,
}

/// Which head was refused, and why; shared with the service.
#[derive(Debug, Default)]
pub(super) struct Report {
    refused: OnceLock<(u64, HeadError)>,
}

#[derive(Debug)]
enum Stage {
    /// Gathering a head.
    Head,
    /// Passing a body of that many bytes more.
    Length(u64),
    /// Passing a chunked body.
    Chunked(Chunks),
    /// Passing everything.
    Opaque,
    /// A head was refused: nothing more is read.
    Refused,
}

/// Closing in a way that lets the last answer arrive (RFC 9112 §9.6).
#[derive(Debug)]
enum Linger {
    NotYet,
    Draining(Pin<Box<Sleep>>),
    Done,
}

/// What stands in for a refused head. It has no effect: the service answers it with the refusal.
const STAND_IN: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// Read at a time, in bytes.
const READ_BYTES: usize = 16 << 10;

/// How long a closing connection is read from, so that a reset does not destroy the answer.
const LINGER: Duration = Duration::from_millis(500);

impl Report {
    /// The refusal of the head with that number, counted from 1.
    pub(super) fn refusal_of(&self, head: u64) -> Option<HeadError> {
        self.refused.get().filter(|(refused, _)| *refused == head).map(|(_, error)| *error)
    }
}

impl Gate {
    pub(super) fn new(stream: TcpStream, limits: HeadLimits, report: Arc<Report>) -> Self {
        Self {
            stream,
            stage: Stage::Head,
            limits,
            held: BytesMut::new(),
            cleared: 0,
            looked_at: 0,
            heads: 0,
            report,
            ended: false,
            linger: Linger::NotYet,
        }
    }

    /// The socket, and what was read from it but not passed on.
    pub(super) fn into_parts(self) -> (TcpStream, Bytes) {
        (self.stream, self.held.freeze())
    }

    /// Clears as much of what is held as belongs to the message under way.
    fn clear(&mut self) -> io::Result<()> {
        match &mut self.stage {
            Stage::Head => self.clear_head(),
            Stage::Length(left) => {
                let held = u64::try_from(self.held.len()).unwrap_or(u64::MAX);
                let here = held.min(*left);
                *left -= here;
                self.cleared = usize::try_from(here).unwrap_or(self.held.len());
                if *left == 0 {
                    self.stage = Stage::Head;
                }
            }
            Stage::Chunked(chunks) => match chunks.scan(&self.held) {
                Ok(Progress::More(length)) => self.cleared = length,
                Ok(Progress::End(length)) => {
                    self.cleared = length;
                    self.stage = Stage::Head;
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            },
            Stage::Opaque => self.cleared = self.held.len(),
            Stage::Refused => {}
        }
        Ok(())
    }

    fn clear_head(&mut self) {
        // One empty line before a request line is skipped (RFC 9112 §2.2).
        if self.looked_at == 0 && self.held.starts_with(b"\r\n") {
            self.held.advance(2);
        }
        let framing = match head::find_end(&self.held, self.looked_at) {
            Ok(None) if self.held.len() >= self.limits.bytes => Err(HeadError::TooLarge),
            Ok(None) => {
                self.looked_at = head::last_line(&self.held);
                return;
            }
            Ok(Some(end)) if end > self.limits.bytes => Err(HeadError::TooLarge),
            Ok(Some(end)) => {
                self.cleared = end;
                head::check(self.held.get(..end).unwrap_or_default(), self.limits)
            }
            Err(error) => Err(error),
        };
        self.heads += 1;
        self.looked_at = 0;
        self.stage = match framing {
            Ok(Framing::Length(0)) => Stage::Head,
            Ok(Framing::Length(length)) => Stage::Length(length),
            Ok(Framing::Chunked) => Stage::Chunked(Chunks::new()),
            Ok(Framing::Opaque) => Stage::Opaque,
            Err(error) => {
                self.report.refused.get_or_init(|| (self.heads, error));
                self.held = BytesMut::from(STAND_IN);
                self.cleared = STAND_IN.len();
                Stage::Refused
            }
        };
    }

    /// Reads some more into `held`; false at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            // No buffer is held while a connection is idle.
            if self.held.is_empty() {
                self.held = BytesMut::new();
            }
            ready!(self.stream.poll_read_ready(cx))?;
            self.held.reserve(READ_BYTES);
            match self.stream.try_read_buf(&mut self.held) {
                Ok(0) => return Poll::Ready(Ok(false)),
                Ok(_) => return Poll::Ready(Ok(true)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn pass(&mut self, out: &mut ReadBuf<'_>) {
        let length = self.cleared.min(out.remaining());
        out.put_slice(self.held.get(..length).unwrap_or_default());
        self.held.advance(length);
        self.cleared -= length;
    }

    /// Whether `out` can be filled straight from the socket without reading into the next head.
    fn may_bypass(&self, out: &ReadBuf<'_>) -> bool {
        let room = u64::try_from(out.remaining()).unwrap_or(u64::MAX);
        self.held.is_empty()
            && match &self.stage {
                Stage::Opaque => true,
                Stage::Length(left) => *left >= room,
                Stage::Head | Stage::Chunked(_) | Stage::Refused => false,
            }
    }

    fn poll_bypass(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, out))?;
        let read = out.filled().len() - before;
        self.ended |= read == 0;
        if let Stage::Length(left) = &mut self.stage {
            *left -= u64::try_from(read).unwrap_or(*left).min(*left);
            if *left == 0 {
                self.stage = Stage::Head;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Gate {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        loop {
            if gate.cleared == 0 && !gate.held.is_empty() {
                gate.clear()?;
            }
            if gate.cleared > 0 {
                gate.pass(out);
                return Poll::Ready(Ok(()));
            }
            if gate.ended {
                return Poll::Ready(Ok(()));
            }
            if matches!(gate.stage, Stage::Refused) {
                // The answer closes the connection; nothing will wake this up before.
                return Poll::Pending;
            }
            if gate.may_bypass(out) {
                return gate.poll_bypass(cx, out);
            }
            if !ready!(gate.poll_fill(cx))? {
                gate.ended = true;
            }
        }
    }
}

impl AsyncWrite for Gate {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    /// Closes the sending side, then reads on for a moment: closing a socket with unread bytes
    /// sends a reset, which would destroy an answer the client has not read yet.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        loop {
            match &mut gate.linger {
                Linger::NotYet => {
                    ready!(Pin::new(&mut gate.stream).poll_shutdown(cx))?;
                    gate.linger = match gate.ended {
                        true => Linger::Done,
                        false => Linger::Draining(Box::pin(sleep(LINGER))),
                    };
                }
                Linger::Draining(deadline) => {
                    if deadline.as_mut().poll(cx).is_ready() {
                        gate.linger = Linger::Done;
                        continue;
                    }
                    gate.held.clear();
                    let more = ready!(gate.poll_fill(cx)).unwrap_or(false);
                    if !more {
                        gate.linger = Linger::Done;
                    }
                }
                Linger::Done => return Poll::Ready(Ok(())),
            }
        }
    }
}
