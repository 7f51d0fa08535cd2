//! The gate between a client's socket and the HTTP library: only what has been checked passes.
//!
//! It reads request heads whole, checks them strictly ([`head`]), and follows each body to
//! its end, so that it always knows where the next head begins. A head that is refused never
//! reaches the library: in its place the gate hands on a harmless one and reports the refusal, and
//! the service answers that one with the error. After CONNECT or a request for WebSocket nothing
//! passes any more: either the connection becomes a tunnel, which takes what is held, or it ends.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

use super::standstill::Standstill;
use crate::{
    http1::{
        Chunks, HeadLimits, Malformed, Scanned, last_line,
        request_head::{self as head, Framing, HeadError, Switch},
    },
    settings::Timeouts,
    upstream::{pass, poll_fill},
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
    /// One empty line before the next head has been skipped.
    skipped: bool,
    linger: Linger,
    stall: Stall,
    patience: Patience,
}

/// What the gate found out about heads, counted from 1; shared with the service.
#[derive(Debug, Default)]
pub(super) struct Report {
    refused: OnceLock<(u64, HeadError)>,
    switching: OnceLock<u64>,
    answered: AtomicU64,
    idle: AtomicBool,
}

#[derive(Debug)]
enum Stage {
    /// Gathering a head.
    Head,
    /// Passing a body of that many bytes more.
    Length(u64),
    /// Passing a chunked body.
    Chunked(Chunks),
    /// CONNECT or a request for WebSocket has passed: what follows is held.
    Switching(Switch),
    /// A head was refused: nothing more is read.
    Refused,
}

/// How long the client has not taken what is written.
#[derive(Debug)]
struct Stall {
    limit: Duration,
    standstill: Standstill,
}

/// How long is waited for the next head.
#[derive(Debug)]
struct Patience {
    /// Until its first byte.
    idle: Duration,
    /// From there to its end.
    head: Duration,
    waiting: Option<Waiting>,
    standstill: Standstill,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// The first byte of a head.
    Start,
    /// The rest of one.
    Rest,
}

/// Closing in a way that lets the last answer arrive (RFC 9112 §9.6).
#[derive(Debug)]
enum Linger {
    NotYet,
    /// Until nothing has come for a moment, or it has taken too long.
    Draining {
        quiet: Pin<Box<Sleep>>,
        end: Pin<Box<Sleep>>,
    },
    Done,
}

/// What stands in for a refused head. It has no effect: the service answers it with the refusal.
const STAND_IN: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// How much of what follows a CONNECT is held while the origin is dialled, in bytes.
const MAX_EARLY_BYTES: usize = 64 << 10;

/// A closing connection is read from until it has been quiet for that long, so that a reset does
/// not destroy the answer; clients that write first and read afterwards come to read it.
const QUIET: Duration = Duration::from_millis(500);

/// Longer than that it is not read from.
const MAX_LINGER: Duration = Duration::from_secs(30);

impl Report {
    /// The refusal of the head with that number, counted from 1.
    pub(super) fn refusal_of(&self, head: u64) -> Option<HeadError> {
        self.refused.get().filter(|(refused, _)| *refused == head).map(|(_, error)| *error)
    }

    /// Whether that head asks for the end of HTTP on the connection. If it is not granted, the
    /// connection must be closed.
    pub(super) fn is_switching(&self, head: u64) -> bool {
        self.switching.get() == Some(&head)
    }

    /// One more request has its answer.
    pub(super) fn answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the connection ended because nothing was asked for.
    pub(super) fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Relaxed)
    }
}

impl Gate {
    /// A head has the time that is for it, and an answer may be left unread for as long as any
    /// body may stand still.
    pub(super) fn new(
        stream: TcpStream,
        limits: HeadLimits,
        timeouts: &Timeouts,
        report: Arc<Report>,
    ) -> Self {
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
            skipped: false,
            linger: Linger::NotYet,
            stall: Stall { limit: timeouts.idle, standstill: Standstill::default() },
            patience: Patience {
                idle: timeouts.idle_client,
                head: timeouts.request_head,
                waiting: None,
                standstill: Standstill::default(),
            },
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
                Ok(Scanned::More(length)) => self.cleared = length,
                Ok(Scanned::End(length)) => {
                    self.cleared = length;
                    self.stage = Stage::Head;
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            },
            Stage::Switching(_) | Stage::Refused => {}
        }
        Ok(())
    }

    fn clear_head(&mut self) {
        // One empty line before a request line is skipped (RFC 9112 §2.2).
        if !self.skipped && self.looked_at == 0 && self.held.starts_with(b"\r\n") {
            self.held.advance(2);
            self.skipped = true;
        }
        let framing = match head::find_end(&self.held, self.looked_at) {
            Ok(None) if self.held.len() >= self.limits.bytes => Err(Malformed::TooLarge.into()),
            Ok(None) => {
                let first = match self.looked_at {
                    0 if self.held.len() > self.limits.line && last_line(&self.held) == 0 => {
                        Err(HeadError::LineTooLong)
                    }
                    0 => head::check_first_line(&self.held),
                    _ => Ok(()),
                };
                self.looked_at = last_line(&self.held);
                match first {
                    Ok(()) => return,
                    Err(error) => Err(error),
                }
            }
            Ok(Some(end)) if end > self.limits.bytes => Err(Malformed::TooLarge.into()),
            Ok(Some(end)) => {
                self.cleared = end;
                head::check(self.held.get(..end).unwrap_or_default(), self.limits)
                    .and_then(|framing| self.check_early_body(framing, end))
            }
            Err(error) => Err(error),
        };
        self.begin_message(framing);
    }

    /// A head has come to its end, or will not: goes on to its body, or to nothing.
    fn begin_message(&mut self, framing: Result<Framing, HeadError>) {
        self.heads += 1;
        self.looked_at = 0;
        self.skipped = false;
        self.patience.waiting = None;
        self.stage = match framing {
            Ok(Framing::Length(0)) => Stage::Head,
            Ok(Framing::Length(length)) => Stage::Length(length),
            Ok(Framing::Chunked) => Stage::Chunked(Chunks::default()),
            Ok(Framing::Switching(switch)) => {
                self.report.switching.get_or_init(|| self.heads);
                Stage::Switching(switch)
            }
            Err(error) => {
                self.report.refused.get_or_init(|| (self.heads, error));
                self.held = BytesMut::from(STAND_IN);
                self.cleared = STAND_IN.len();
                Stage::Refused
            }
        };
    }

    /// A body that is malformed in what has come already refuses its head, before anything is sent
    /// on for it. What comes later is scanned as it comes.
    fn check_early_body(&self, framing: Framing, head: usize) -> Result<Framing, HeadError> {
        if framing == Framing::Chunked {
            Chunks::default().scan(self.held.get(head..).unwrap_or_default())?;
        }
        Ok(framing)
    }

    /// Ready when the next head takes too long: what has come of it is refused, and a connection
    /// on which nothing has come ends.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.stage {
            Stage::Head => {}
            Stage::Length(_) | Stage::Chunked(_) | Stage::Switching(_) | Stage::Refused => {
                return Poll::Pending;
            }
        }
        let waiting = match self.held.is_empty() {
            // A client that waits for its answer is not idle.
            true if self.report.answered.load(Ordering::Relaxed) < self.heads => {
                self.patience.waiting = None;
                return Poll::Pending;
            }
            true => Waiting::Start,
            false => Waiting::Rest,
        };
        ready!(self.patience.poll(cx, waiting));
        match waiting {
            Waiting::Start => {
                self.report.idle.store(true, Ordering::Relaxed);
                self.ended = true;
            }
            Waiting::Rest => self.begin_message(Err(HeadError::Slow)),
        }
        Poll::Ready(())
    }

    /// Whether `out` can be filled straight from the socket without reading into the next head.
    fn may_bypass(&self, out: &ReadBuf<'_>) -> bool {
        let room = u64::try_from(out.remaining()).unwrap_or(u64::MAX);
        self.held.is_empty()
            && match &self.stage {
                Stage::Length(left) => *left >= room,
                Stage::Head | Stage::Chunked(_) | Stage::Switching(_) | Stage::Refused => false,
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

impl Patience {
    /// Ready when that has been waited for too long.
    fn poll(&mut self, cx: &mut Context<'_>, waiting: Waiting) -> Poll<()> {
        let limit = match waiting {
            Waiting::Start => self.idle,
            Waiting::Rest => self.head,
        };
        if self.waiting.replace(waiting) != Some(waiting) {
            self.standstill.end();
        }
        self.standstill.poll(cx, limit)
    }
}

impl Stall {
    /// Passes on how a write went; one that has waited for too long fails.
    fn watch(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.standstill.end();
            return written;
        }
        ready!(self.standstill.poll(cx, self.limit));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
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
                pass(&mut gate.held, &mut gate.cleared, out);
                return Poll::Ready(Ok(()));
            }
            if gate.ended {
                return Poll::Ready(Ok(()));
            }
            match gate.stage {
                // The answer closes the connection; nothing will wake this up before.
                Stage::Refused => return Poll::Pending,
                // Read on, to notice a client that leaves, but not without bound. A tunnel's origin
                // is reached soon, or not at all; that of a WebSocket may take its time.
                Stage::Switching(switch) if gate.held.len() >= MAX_EARLY_BYTES => {
                    return match switch {
                        Switch::Tunnel => Poll::Pending,
                        Switch::Websocket => Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                    };
                }
                Stage::Head | Stage::Length(_) | Stage::Chunked(_) | Stage::Switching(_) => {}
            }
            if gate.may_bypass(out) {
                return gate.poll_bypass(cx, out);
            }
            match poll_fill(&mut gate.stream, &mut gate.held, cx)? {
                Poll::Ready(more) => gate.ended = !more,
                Poll::Pending => ready!(gate.poll_overdue(cx)),
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
        let gate = self.get_mut();
        let written = Pin::new(&mut gate.stream).poll_write(cx, bytes);
        gate.stall.watch(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let gate = self.get_mut();
        let written = Pin::new(&mut gate.stream).poll_write_vectored(cx, slices);
        gate.stall.watch(cx, written)
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
                    gate.cleared = 0;
                    gate.linger = match gate.ended {
                        true => Linger::Done,
                        false => Linger::Draining {
                            quiet: Box::pin(sleep(QUIET)),
                            end: Box::pin(sleep(MAX_LINGER)),
                        },
                    };
                }
                Linger::Draining { quiet, end } => {
                    if quiet.as_mut().poll(cx).is_ready() || end.as_mut().poll(cx).is_ready() {
                        gate.linger = Linger::Done;
                        continue;
                    }
                    gate.held.clear();
                    let more =
                        ready!(poll_fill(&mut gate.stream, &mut gate.held, cx)).unwrap_or(false);
                    if let (true, Linger::Draining { quiet, .. }) = (more, &mut gate.linger) {
                        quiet.as_mut().reset(Instant::now() + QUIET);
                    } else {
                        gate.linger = Linger::Done;
                    }
                }
                Linger::Done => return Poll::Ready(Ok(())),
            }
        }
    }
}
