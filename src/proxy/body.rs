//! The bodies that pass through, with their deadline and their place in the audit.
//!
//! An answer that has been moved to its end, its request's body too, gives its connection back to
//! the pool and ends its trail. In every other case, that of a new policy that refuses it among
//! them (`standing`), the connection is closed: no upload goes on after its end has been recorded.
//! Trailers are not passed on (RFC 9110 §6.5.1).

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::{client::Client, standstill::Standstill};
use crate::{
    observe::{Ending, Trail},
    upstream::Origin,
};

/// What a client is sent.
#[derive(Debug)]
pub(super) enum ReplyBody {
    /// An origin's answer.
    Forwarded(Box<Answer>),
    /// Our own words.
    Text(Full<Bytes>),
}

/// What an origin is sent: the client's body, counted, with a deadline for standing still.
#[derive(Debug)]
pub(super) struct Upload {
    inner: Moving,
    progress: Arc<Progress>,
}

/// How far a client's body has come; shared with the answer.
#[derive(Debug, Default)]
pub(super) struct Progress {
    moved: AtomicU64,
    unfinished: AtomicBool,
    /// The client has been asked for more and has not sent it.
    awaited: AtomicBool,
    stalled: AtomicBool,
}

/// An origin's answer on its way to the client.
#[derive(Debug)]
pub(super) struct Answer {
    inner: Moving,
    trail: Trail,
    uploaded: Arc<Progress>,
    /// Present until the answer has ended, however that was.
    origin: Option<Origin>,
    client: Arc<Client>,
    keep: Keep,
}

/// What becomes of the origin's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Its authentication belongs to this client's connection (NTLM, Negotiate).
    Bound,
    /// Anyone may use it next.
    Shared,
}

/// A body as it comes in, without its trailers, that breaks off when it stands still for too long.
#[derive(Debug)]
struct Moving {
    incoming: Incoming,
    idle: Duration,
    standstill: Standstill,
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("nothing moved for too long")]
    Idle,
    #[error(transparent)]
    Sender(hyper::Error),
}

impl Moving {
    fn new(incoming: Incoming, idle: Duration) -> Self {
        Self { incoming, idle, standstill: Standstill::default() }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            ready!(self.standstill.poll(cx, self.idle));
            return Poll::Ready(Some(Err(Broken::Idle)));
        };
        self.standstill.end();
        // Trailers end the body, and nothing else.
        let frame = frame.filter(|frame| !frame.as_ref().is_ok_and(Frame::is_trailers));
        Poll::Ready(frame.map(|frame| frame.map_err(Broken::Sender)))
    }
}

impl Progress {
    fn finish_if(&self, ended: bool) {
        if ended {
            self.unfinished.store(false, Ordering::Relaxed);
        }
    }

    /// Whether all of the client's body has come, or there is none.
    pub(super) fn is_finished(&self) -> bool {
        !self.unfinished.load(Ordering::Relaxed)
    }

    /// Whether the client's body broke off because nothing moved.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Whether it is the client that everything waits for.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Relaxed)
    }

    /// Payload bytes since the last [`take_moved`](Self::take_moved).
    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Payload bytes since the last call.
    pub(super) fn take_moved(&self) -> u64 {
        self.moved.swap(0, Ordering::Relaxed)
    }
}

impl Upload {
    pub(super) fn new(inner: Incoming, progress: Arc<Progress>, idle: Duration) -> Self {
        progress.unfinished.store(true, Ordering::Relaxed);
        Self { inner: Moving::new(inner, idle), progress }
    }
}

impl Answer {
    pub(super) fn new(
        inner: Incoming,
        idle: Duration,
        trail: Trail,
        uploaded: Arc<Progress>,
        origin: Origin,
        client: Arc<Client>,
        keep: Keep,
    ) -> Self {
        client.answering().begin(origin.authority().clone(), origin.peer());
        let (inner, origin) = (Moving::new(inner, idle), Some(origin));
        let mut answer = Self { inner, trail, uploaded, origin, client, keep };
        answer.finish_if_ended();
        answer
    }

    /// The library stops asking once this is true, so it must be looked at after every frame.
    fn finish_if_ended(&mut self) {
        if self.is_end_stream() {
            self.finish(Ending::Complete);
        }
    }

    fn finish(&mut self, ending: Ending) {
        self.client.answering().end();
        // Out of scope, a connection that is not kept is closed, and with it an unfinished upload.
        if let Some(origin) = self.origin.take()
            && ending == Ending::Complete
            && self.uploaded.is_finished()
        {
            match self.keep {
                Keep::Bound => self.client.bind_origin(origin),
                Keep::Shared => self.client.context().pool.keep(origin),
            }
        }
        self.trail.moved(self.uploaded.take_moved(), 0);
        self.trail.end(ending);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.origin.is_some() && self.client.answering().end() {
            self.finish(Ending::PolicyChanged);
        }
        self.origin = None;
        self.trail.moved(self.uploaded.take_moved(), 0);
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let polled = self.inner.poll_frame(cx);
        self.progress.awaited.store(polled.is_pending(), Ordering::Relaxed);
        let frame = ready!(polled);
        match &frame {
            Some(Ok(frame)) => {
                self.progress.moved.fetch_add(length(frame), Ordering::Relaxed);
            }
            Some(Err(Broken::Idle)) => self.progress.stalled.store(true, Ordering::Relaxed),
            Some(Err(Broken::Sender(_))) | None => {}
        }
        self.progress.finish_if(frame.is_none() || self.is_end_stream());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.incoming.size_hint()
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let frame = ready!(self.inner.poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                self.trail.moved(0, length(frame));
                self.finish_if_ended();
            }
            Some(Err(Broken::Idle)) => self.finish(Ending::IdleTimeout),
            Some(Err(Broken::Sender(_))) => self.finish(Ending::OriginFailed),
            None => self.finish(Ending::Complete),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.incoming.size_hint()
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Forwarded(answer) => Pin::new(answer.as_mut()).poll_frame(cx),
            Self::Text(text) => Pin::new(text).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Forwarded(answer) => answer.is_end_stream(),
            Self::Text(text) => text.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Forwarded(answer) => answer.size_hint(),
            Self::Text(text) => text.size_hint(),
        }
    }
}

fn length(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| u64::try_from(data.remaining()).unwrap_or(u64::MAX))
}
