//! A client's connection: heads out of it one after the other, answers into it.
//!
//! What has been read and not understood stays here, so nothing is lost between two requests, nor
//! on the way into a tunnel. The invariant: a head is handed out once it is all there, and nothing
//! is read beyond it but what came with it, until its body has been moved or its answer is due.

use std::{
    future::poll_fn,
    task::{Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{
    relay::{Coding, Receiver, Sender},
    standstill::Standstill,
};
use crate::{
    http1::{
        HeadLimits,
        request_head::{HeadError, RequestSearch},
    },
    settings::Timeouts,
    upstream::Inflow,
};

/// A client's socket, and what has come.
#[derive(Debug)]
pub(super) struct Inbound {
    stream: TcpStream,
    held: BytesMut,
    limits: HeadLimits,
    /// Until the first byte of a head.
    idle_client: Duration,
    /// From there to its end.
    request_head: Duration,
    /// For bodies, and for answers that are not read.
    idle: Duration,
    search: RequestSearch,
    /// What is waited for is the rest of a head.
    begun: bool,
    ended: bool,
    waiting: Standstill,
    body: Standstill,
    stall: Standstill,
}

/// What came.
#[derive(Debug)]
pub(super) enum Arrival {
    /// The bytes of a head.
    Head(Bytes),
    /// What is no head, or will never be one. Nothing that follows can be understood.
    Refused(HeadError),
    /// Nothing, for too long.
    Idle,
    /// The end.
    Gone,
}

/// What ends the watch over a client that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// It went away, or says that it will send no more.
    Gone,
    /// It has sent as much as is held.
    Full,
}

/// Read at a time while heads come, in bytes.
const READ_BYTES: usize = 8 << 10;

/// How much of what follows a request is held while it waits for its answer.
const MAX_EARLY_BYTES: usize = 64 << 10;

/// A closing connection is read from until it has been quiet for that long, so that a reset does
/// not destroy the answer (RFC 9112 §9.6); clients that write first and read afterwards come to
/// read it.
const QUIET: Duration = Duration::from_millis(500);

/// Longer than that it is not read from.
const MAX_LINGER: Duration = Duration::from_secs(30);

impl Inbound {
    pub(super) fn new(stream: TcpStream, limits: HeadLimits, timeouts: &Timeouts) -> Self {
        Self {
            stream,
            held: BytesMut::new(),
            limits,
            idle_client: timeouts.idle_client,
            request_head: timeouts.request_head,
            idle: timeouts.idle,
            search: RequestSearch::default(),
            begun: false,
            ended: false,
            waiting: Standstill::default(),
            body: Standstill::default(),
            stall: Standstill::default(),
        }
    }

    /// Waits for the next head.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(super) async fn next(&mut self) -> Arrival {
        poll_fn(|cx| {
            loop {
                if !self.held.is_empty() {
                    match self.search.next(&mut self.held, self.limits) {
                        Ok(None) => {}
                        Ok(Some(end)) => {
                            self.search = RequestSearch::default();
                            self.begun = false;
                            self.waiting.end();
                            return Poll::Ready(Arrival::Head(self.held.split_to(end).freeze()));
                        }
                        Err(error) => return Poll::Ready(Arrival::Refused(error)),
                    }
                }
                if self.ended {
                    return Poll::Ready(Arrival::Gone);
                }
                let begun = !self.held.is_empty();
                let (from, _) = self.stream.split();
                match Inflow::new(from, &mut self.held).poll_fill(cx, READ_BYTES) {
                    Poll::Ready(filled) => self.ended = !filled.unwrap_or(false),
                    Poll::Pending => {
                        if std::mem::replace(&mut self.begun, begun) != begun {
                            self.waiting.end();
                        }
                        let limit = if begun { self.request_head } else { self.idle_client };
                        ready!(self.waiting.poll(cx, limit));
                        return Poll::Ready(match begun {
                            true => Arrival::Refused(HeadError::Slow),
                            false => Arrival::Idle,
                        });
                    }
                }
            }
        })
        .await
    }

    /// Whether nothing of a request has come.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty()
    }

    /// What came with the head.
    pub(super) fn held(&self) -> &[u8] {
        &self.held
    }

    /// Both directions: the body that comes, and the answer that goes, with what is written first.
    pub(super) fn split(&mut self, out: Vec<u8>) -> (Sender<'_>, Receiver<'_>) {
        let (from, to) = self.stream.split();
        let inflow = Inflow::new(from, &mut self.held);
        let stall = Some((&mut self.stall, self.idle));
        (
            Sender::new(inflow, &mut self.body, self.idle),
            Receiver::new(to, out, Coding::Plain, stall),
        )
    }

    /// Writes something of our own; false if the client does not take it.
    pub(super) async fn say(&mut self, bytes: Vec<u8>) -> bool {
        self.split(bytes).1.flush(&|_| {}).await.is_ok()
    }

    /// Returns when the client goes away. What it sends meanwhile is held, as far as there is room.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(super) async fn gone(&mut self) {
        let (mut from, _) = self.split(Vec::new());
        match from.left().await {
            Left::Gone => {}
            Left::Full => from.inflow.broken().await,
        }
    }

    /// The socket, and what was read from it and not understood.
    pub(super) fn into_parts(self) -> (TcpStream, Bytes) {
        (self.stream, self.held.freeze())
    }

    /// Closes the sending side, then reads on for a moment: closing a socket with unread bytes
    /// sends a reset, which would destroy an answer the client has not read yet.
    pub(super) async fn close(mut self) {
        let end = Instant::now() + MAX_LINGER;
        if self.ended || self.stream.shutdown().await.is_err() {
            return;
        }
        loop {
            self.held.clear();
            let until = end.min(Instant::now() + QUIET);
            let (from, _) = self.stream.split();
            let mut inflow = Inflow::new(from, &mut self.held);
            let more = poll_fn(|cx| inflow.poll_fill(cx, READ_BYTES));
            match timeout_at(until, more).await {
                Ok(Ok(true)) if Instant::now() < end => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

impl Sender<'_> {
    /// Waits, once the body has been moved, for the client to go away or to send too much.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(super) async fn left(&mut self) -> Left {
        while self.inflow.held.len() < MAX_EARLY_BYTES {
            match poll_fn(|cx| self.inflow.poll_fill(cx, READ_BYTES)).await {
                Ok(true) => {}
                Ok(false) | Err(_) => return Left::Gone,
            }
        }
        Left::Full
    }
}
