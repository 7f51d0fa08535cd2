//! One request to one origin, and its answer: both bodies at once, each in its own direction.
//!
//! What the client does wrong, or that it goes away, ends the exchange; that the origin takes no
//! more of the request does not, for it may have answered. Whether the request may be sent at all,
//! and again elsewhere, is the business of `forward`.

use std::{
    future::poll_fn,
    pin::pin,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    task::{Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, BytesMut};
use tokio_util::sync::CancellationToken;

use super::{
    fields,
    inbound::Left,
    refusal::{BadRequest, OriginFailure},
    relay::{Broken, Coding, Event, Receiver, Sender, relay},
    rewrite::{self, Manners, Onward, Outgoing},
    standstill::Standstill,
};
use crate::{
    http1::{
        Chunks, Framed, Malformed,
        answer_head::{AnswerError, AnswerHead, AnswerSearch, Asked, Body, Head},
    },
    observe::{Ending, Trail},
};

/// How far the request has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Payload bytes.
    moved: AtomicU64,
    /// The client has been asked for more and has not sent it.
    awaited: AtomicBool,
    /// All of it has been sent.
    sent: AtomicBool,
    /// The answer has begun at the client.
    answering: AtomicBool,
}

/// What the exchange is about.
pub(super) struct Exchange<'a> {
    pub(super) outgoing: &'a Outgoing,
    /// What is left of the request's body.
    pub(super) body: &'a mut Framed,
    pub(super) trail: &'a Trail,
    pub(super) progress: &'a Progress,
    pub(super) manners: Manners,
    /// Once it is cancelled, no other request is taken.
    pub(super) drain: &'a CancellationToken,
    /// From the request sent to the head of the answer.
    pub(super) deadline: Duration,
    pub(super) wait: &'a mut Standstill,
}

/// How it came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The client has the answer.
    Answered(Answered),
    /// The client has the answer that both connections are WebSocket from here on.
    Switched,
    /// There is no answer, and the client has been told nothing.
    Failed(Failure),
    /// The client failed.
    Client(Fault),
    /// The answer broke off.
    Broken(Ending),
}

/// What is left behind by an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answered {
    /// The origin's connection can take another request.
    pub(super) origin_is_open: bool,
    /// So can the client's.
    pub(super) client_is_open: bool,
    /// The origin's authentication belongs to the connection.
    pub(super) binds: bool,
    /// The answer ended with the client's connection.
    is_close_delimited: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The connection ended before the first byte of one.
    BrokeOff,
    /// Its head is too large.
    HeadTooLarge,
    /// What came is not HTTP, or has two readings.
    Protocol,
    /// It did not come in time.
    Timeout,
}

/// What the client did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Its body breaks its framing, or off.
    Body,
    /// It went away.
    Gone,
    /// Its body stood still for too long.
    Stalled,
}

/// Read at a time while the head of an answer comes, in bytes.
const READ_BYTES: usize = 16 << 10;

impl Progress {
    pub(super) fn is_answering(&self) -> bool {
        self.answering.load(Ordering::Relaxed)
    }

    fn is_sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Exchange<'_> {
    /// Sends the request and passes the answer back.
    ///
    /// # Cancel safety
    ///
    /// None: neither connection can be used any more.
    pub(super) async fn run(
        self,
        (from_client, to_client): (Sender<'_>, Receiver<'_>),
        (from_origin, to_origin): (Sender<'_>, Receiver<'_>),
    ) -> Outcome {
        let Self { outgoing: Outgoing { asked, .. }, body, trail, progress, .. } = self;
        let up = send(from_client, to_origin, body, *asked, trail, progress);
        let Self { manners, drain, deadline, wait, .. } = self;
        let down = Answering { asked: *asked, trail, progress, manners, drain, deadline, wait }
            .run(from_origin, to_client);
        let (mut up, mut down) = (pin!(up), pin!(down));
        // What has ended must not be asked again.
        let mut fault = None;
        poll_fn(|cx| {
            if fault.is_none()
                && let Poll::Ready(found) = up.as_mut().poll(cx)
            {
                fault = Some(found);
            }
            match (down.as_mut().poll(cx), fault) {
                (Poll::Ready(outcome), _) => Poll::Ready(outcome),
                (_, Some(fault)) => Poll::Ready(Outcome::Client(fault)),
                (Poll::Pending, None) => Poll::Pending,
            }
        })
        .await
    }
}

/// Sends the request, then watches the client. Returns what it does wrong.
async fn send(
    mut from: Sender<'_>,
    mut to: Receiver<'_>,
    body: &mut Framed,
    asked: Asked,
    trail: &Trail,
    progress: &Progress,
) -> Fault {
    let note = |event| match event {
        Event::Awaited => progress.awaited.store(true, Ordering::Relaxed),
        Event::Came => progress.awaited.store(false, Ordering::Relaxed),
        Event::Moved(bytes) => {
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            progress.moved.fetch_add(bytes, Ordering::Relaxed);
            trail.moved(bytes, 0);
        }
    };
    match relay(&mut from, &mut to, body, note).await {
        Ok(()) => progress.sent.store(true, Ordering::Relaxed),
        // It takes no more, but may have answered.
        Err(Broken::Receiver | Broken::Stalled) => {}
        Err(Broken::Sender) => return Fault::Body,
        Err(Broken::Idle) => return Fault::Stalled,
    }
    match (from.left().await, asked) {
        (Left::Gone, _) => Fault::Gone,
        // Nothing legitimate comes before the answer (RFC 6455 §4.1), which may take its time.
        (Left::Full, Asked::Upgrade) => Fault::Gone,
        (Left::Full, Asked::Head | Asked::Ordinary) => {
            from.inflow.broken().await;
            Fault::Gone
        }
    }
}

/// The way back.
struct Answering<'a> {
    asked: Asked,
    trail: &'a Trail,
    progress: &'a Progress,
    manners: Manners,
    drain: &'a CancellationToken,
    deadline: Duration,
    wait: &'a mut Standstill,
}

impl Answering<'_> {
    async fn run(mut self, mut from: Sender<'_>, mut to: Receiver<'_>) -> Outcome {
        let end = match self.head(&mut from).await {
            Ok(end) => end,
            Err(outcome) => return outcome,
        };
        let begun = self.begin(end, &mut from, &mut to);
        from.inflow.held.advance(end);
        let (mut body, mut answered) = match begun {
            Ok(Some(begun)) => begun,
            Ok(None) => {
                return match to.flush(&|_| {}).await {
                    Ok(()) => Outcome::Switched,
                    Err(_) => Outcome::Broken(Ending::ClientGone),
                };
            }
            Err(error) => return Outcome::Failed(error.into()),
        };
        let note = |event| match event {
            Event::Awaited | Event::Came => {}
            Event::Moved(bytes) => self.trail.moved(0, u64::try_from(bytes).unwrap_or(u64::MAX)),
        };
        match relay(&mut from, &mut to, &mut body, note).await {
            Ok(()) => {}
            Err(Broken::Idle | Broken::Stalled) => return Outcome::Broken(Ending::IdleTimeout),
            Err(Broken::Sender) => return Outcome::Broken(Ending::OriginFailed),
            Err(Broken::Receiver) => return Outcome::Broken(Ending::ClientGone),
        }
        if answered.is_close_delimited {
            to.close_if_dropped();
        }
        // No buffer is kept while nothing is asked.
        if from.inflow.held.is_empty() {
            *from.inflow.held = BytesMut::new();
        }
        // A request that goes on is cut off, and what comes after an answer is no other's.
        let is_sent = self.progress.is_sent();
        answered.origin_is_open &= is_sent && from.inflow.held.is_empty();
        answered.client_is_open &= is_sent;
        Outcome::Answered(answered)
    }

    /// Waits for the head of the final answer, and returns how long it is. The deadline counts from
    /// the last piece of the request that has moved.
    async fn head(&mut self, from: &mut Sender<'_>) -> Result<usize, Outcome> {
        let Self { asked, progress, deadline, wait, .. } = self;
        let mut search = AnswerSearch::default();
        let failed = |failure| Poll::Ready(Err(Outcome::Failed(failure)));
        // An exchange before this one may have been cut short.
        wait.end();
        let mut moved = 0;
        let mut has_moved = || {
            let now = progress.moved.load(Ordering::Relaxed);
            std::mem::replace(&mut moved, now) != now
        };
        let found = poll_fn(|cx| {
            loop {
                if !from.inflow.held.is_empty() {
                    match search.next(from.inflow.held, *asked) {
                        Ok(None) => {}
                        Ok(Some(end)) => return Poll::Ready(Ok(end)),
                        Err(error) => return failed(error.into()),
                    }
                }
                match from.inflow.poll_fill(cx, READ_BYTES) {
                    Poll::Ready(Ok(true)) => {}
                    Poll::Ready(Ok(false) | Err(_)) if !from.inflow.held.is_empty() => {
                        return failed(AnswerError::CutOff.into());
                    }
                    Poll::Ready(Ok(false) | Err(_)) => return failed(Failure::BrokeOff),
                    Poll::Pending => {
                        if has_moved() {
                            wait.end();
                        }
                        ready!(wait.poll(cx, *deadline));
                        if has_moved() {
                            continue;
                        }
                        return match progress.awaited.load(Ordering::Relaxed) {
                            true => Poll::Ready(Err(Outcome::Client(Fault::Stalled))),
                            false => failed(Failure::Timeout),
                        };
                    }
                }
            }
        })
        .await;
        wait.end();
        found
    }

    /// Reads the head and writes the client's. None: both connections are something else now.
    fn begin(
        &self,
        end: usize,
        from: &mut Sender<'_>,
        to: &mut Receiver<'_>,
    ) -> Result<Option<(Framed, Answered)>, AnswerError> {
        let (head, rest) = from.inflow.held.split_at(end);
        let head = AnswerHead::read(head, self.asked)?;
        let body = match head.head {
            Head::Final(body) => Some(body),
            Head::Switching if fields::agrees_to_websocket(&head.fields) => None,
            // Nobody asked for this one.
            Head::Switching | Head::Interim => return Err(AnswerError::Switching),
        };
        if body == Some(Body::Chunked) {
            // What is malformed in what has come already is never begun to be passed on.
            Chunks::default().scan(rest)?;
        }
        self.trail.answered(head.status);
        let persists =
            self.manners.persists && self.progress.is_sent() && !self.drain.is_cancelled();
        let (out, onward) = rewrite::answer(&head, Manners { persists, ..self.manners });
        self.progress.answering.store(true, Ordering::Relaxed);
        to.out = out;
        to.coding = match onward {
            Onward::Chunked => Coding::Chunked,
            Onward::Close | Onward::Length => Coding::Plain,
        };
        if onward == Onward::Close {
            to.reset_if_dropped();
        }
        let answered = Answered {
            origin_is_open: rewrite::leaves_open(&head),
            client_is_open: persists && onward != Onward::Close,
            binds: fields::binds_connection(&head.fields, "www-authenticate"),
            is_close_delimited: onward == Onward::Close,
        };
        Ok(body.map(|body| (rewrite::framed(body), answered)))
    }
}

impl From<Failure> for OriginFailure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::BrokeOff | Failure::Protocol => Self::Protocol,
            Failure::HeadTooLarge => Self::HeadTooLarge,
            Failure::Timeout => Self::Timeout,
        }
    }
}

impl Fault {
    /// How it is recorded, and what the client is told; nothing, if it is gone, as the trail says by
    /// itself.
    pub(super) fn told(self) -> Option<(Ending, BadRequest)> {
        match self {
            Self::Body => Some((Ending::ClientGone, BadRequest::Body)),
            Self::Gone => None,
            Self::Stalled => Some((Ending::IdleTimeout, BadRequest::BodyTimeout)),
        }
    }
}

impl From<AnswerError> for Failure {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Malformed(Malformed::TooLarge | Malformed::TooManyFields) => {
                Self::HeadTooLarge
            }
            AnswerError::Chunks(_)
            | AnswerError::CutOff
            | AnswerError::Malformed(_)
            | AnswerError::StatusLine
            | AnswerError::Switching
            | AnswerError::TooManyInterim => Self::Protocol,
        }
    }
}
