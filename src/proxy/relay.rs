//! The body of a message on its way from one connection to another: payload out of one framing,
//! into another. Trailers and chunk extensions end here (RFC 9110 §6.5.1, RFC 9112 §7.1.1).

use std::{
    future::poll_fn,
    io::{self, IoSlice, Write as _},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, BytesMut};
use socket2::SockRef;
use tokio::{io::AsyncWrite as _, net::tcp::WriteHalf};

use super::standstill::Standstill;
use crate::{
    http1::{ChunkError, Framed},
    upstream::Inflow,
};

/// Where a message comes from.
pub(super) struct Sender<'a> {
    pub(super) inflow: Inflow<'a>,
    standstill: &'a mut Standstill,
    /// Nothing may be waited for that long.
    idle: Duration,
}

/// Where a message goes to.
pub(super) struct Receiver<'a> {
    half: WriteHalf<'a>,
    /// To be written before anything else.
    pub(super) out: Vec<u8>,
    /// How much of that is payload.
    gathered: usize,
    pub(super) coding: Coding,
    /// Nothing may be left unread for that long.
    stall: Option<(&'a mut Standstill, Duration)>,
}

/// How the payload is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// As it is: its length has been said, or its end is that of the connection.
    Plain,
    /// In chunks.
    Chunked,
}

/// Why a body broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// Nothing came for too long.
    Idle,
    /// It breaks its framing, or its connection ended first.
    Sender,
    /// It could not be written.
    Receiver,
    /// It was not taken for too long.
    Stalled,
}

/// What happens while a body moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// More of it is waited for.
    Awaited,
    /// More of it has come.
    Came,
    /// That many bytes of payload have been written.
    Moved(usize),
}

/// Payload up to that many bytes is gathered with what stands around it; more is not copied.
const GATHERED_BYTES: usize = 16 << 10;

/// Read at a time while there may be much, in bytes.
const READ_BYTES: usize = 128 << 10;

/// Moves a body to its end, after what is to be written before it.
///
/// # Errors
///
/// It broke off; part of it may have been written.
///
/// # Cancel safety
///
/// None: part of it may have been written.
pub(super) async fn relay(
    from: &mut Sender<'_>,
    to: &mut Receiver<'_>,
    body: &mut Framed,
    note: impl Fn(Event),
) -> Result<(), Broken> {
    let mut ended = body.is_empty();
    while !ended {
        let part = body.part(from.held()).map_err(|ChunkError| Broken::Sender)?;
        from.held().advance(part.skip);
        ended = part.end;
        if part.payload > 0 {
            let payload = from.held().get(..part.payload).unwrap_or_default();
            to.payload(payload, &note).await?;
            from.held().advance(part.payload);
        }
        if ended || part.payload > 0 {
            continue;
        }
        to.flush(&note).await?;
        note(Event::Awaited);
        let more = from.fill(body).await?;
        note(Event::Came);
        match body {
            Framed::UntilClose => ended = !more,
            Framed::Chunked(_) | Framed::Length(_) if more => {}
            Framed::Chunked(_) | Framed::Length(_) => return Err(Broken::Sender),
        }
    }
    if to.coding == Coding::Chunked {
        to.out.extend_from_slice(b"0\r\n\r\n");
    }
    to.flush(&note).await
}

impl Coding {
    /// Of a request's body, which goes on as it came.
    pub(super) fn of(body: &Framed) -> Self {
        match body {
            Framed::Chunked(_) => Self::Chunked,
            Framed::Length(_) | Framed::UntilClose => Self::Plain,
        }
    }
}

impl<'a> Sender<'a> {
    pub(super) fn new(inflow: Inflow<'a>, standstill: &'a mut Standstill, idle: Duration) -> Self {
        Self { inflow, standstill, idle }
    }

    fn held(&mut self) -> &mut BytesMut {
        self.inflow.held
    }

    /// Waits for more of a body; false at the end of the stream.
    async fn fill(&mut self, body: &Framed) -> Result<bool, Broken> {
        let bytes = match body.left() {
            Some(left) => usize::try_from(left).unwrap_or(READ_BYTES).min(READ_BYTES),
            None => READ_BYTES,
        };
        poll_fn(|cx| {
            let Poll::Ready(filled) = self.inflow.poll_fill(cx, bytes) else {
                ready!(self.standstill.poll(cx, self.idle));
                return Poll::Ready(Err(Broken::Idle));
            };
            self.standstill.end();
            Poll::Ready(filled.map_err(|_| Broken::Sender))
        })
        .await
    }
}

impl<'a> Receiver<'a> {
    /// `out` is written first. `stall`: how long nothing may be left unread.
    pub(super) fn new(
        half: WriteHalf<'a>,
        out: Vec<u8>,
        coding: Coding,
        stall: Option<(&'a mut Standstill, Duration)>,
    ) -> Self {
        Self { half, out, gathered: 0, coding, stall }
    }

    /// Takes some payload; what is gathered of it is written by the next [`flush`](Self::flush).
    async fn payload(&mut self, bytes: &[u8], note: &impl Fn(Event)) -> Result<(), Broken> {
        if self.coding == Coding::Chunked {
            write!(self.out, "{:x}\r\n", bytes.len()).ok();
        }
        let end: &[u8] = if self.coding == Coding::Chunked { b"\r\n" } else { b"" };
        if self.out.len() + bytes.len() <= GATHERED_BYTES {
            self.out.extend_from_slice(bytes);
            self.out.extend_from_slice(end);
            self.gathered += bytes.len();
            return Ok(());
        }
        let out = std::mem::take(&mut self.out);
        self.write([&out, bytes, end], note).await
    }

    /// From here on a connection that is dropped is reset: what has no other end than the
    /// connection's must not look complete if it breaks off.
    pub(super) fn reset_if_dropped(&self) {
        SockRef::from(self.half.as_ref()).set_linger(Some(Duration::ZERO)).ok();
    }

    /// It has not broken off.
    pub(super) fn close_if_dropped(&self) {
        SockRef::from(self.half.as_ref()).set_linger(None).ok();
    }

    /// Writes what is gathered.
    ///
    /// # Errors
    ///
    /// It cannot be written, or is not taken in time.
    pub(super) async fn flush(&mut self, note: &impl Fn(Event)) -> Result<(), Broken> {
        if self.out.is_empty() {
            return Ok(());
        }
        let out = std::mem::take(&mut self.out);
        self.write([&out, &[], &[]], note).await
    }

    /// Writes what stands before the payload, the payload, and what stands behind it.
    async fn write(&mut self, mut parts: [&[u8]; 3], note: &impl Fn(Event)) -> Result<(), Broken> {
        let Self { half, stall, gathered, .. } = self;
        poll_fn(|cx| {
            while parts.iter().any(|part| !part.is_empty()) {
                let Poll::Ready(written) = poll_write(half, cx, parts) else {
                    let Some((standstill, limit)) = stall else { return Poll::Pending };
                    ready!(standstill.poll(cx, *limit));
                    return Poll::Ready(Err(Broken::Stalled));
                };
                if let Some((standstill, _)) = stall {
                    standstill.end();
                }
                match written {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return Poll::Ready(Err(Broken::Receiver)),
                }
                let mut written = written.unwrap_or(0);
                let payload = parts[1].len();
                for part in &mut parts {
                    let here = written.min(part.len());
                    *part = part.get(here..).unwrap_or_default();
                    written -= here;
                }
                if parts[0].is_empty() {
                    let before = std::mem::take(gathered);
                    note(Event::Moved(before + payload - parts[1].len()));
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }
}

/// In one call.
fn poll_write(
    half: &mut WriteHalf<'_>,
    cx: &mut Context<'_>,
    parts: [&[u8]; 3],
) -> Poll<io::Result<usize>> {
    match parts {
        [only, [], []] | [[], only, []] | [[], [], only] => Pin::new(half).poll_write(cx, only),
        several => Pin::new(half).poll_write_vectored(cx, &several.map(IoSlice::new)),
    }
}
