//! Bytes both ways between two sockets, until both are done or something ends it.
//!
//! Each direction ends on its own (half-close). Nothing limits the life of a tunnel in which
//! bytes move; one that stands still ends after the idle time, one that a new policy refuses ends
//! at once. A buffer is held only while bytes move. What a client may say is the business of
//! `opening`; once that lets all pass, nothing looks at the bytes any more.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncWriteExt as _, Interest},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    admit::Admission,
    client::Client,
    context::Context,
    first_bytes::{Stopped, let_pass},
    gate::Gate,
    mismatch::Mismatch,
    opening::Opening,
    places::Place,
    standing,
};
use crate::{net::Authority, observe::Ending, policy::Policy, upstream::AnswerGate};

/// One side of a tunnel.
#[derive(Debug)]
pub(super) struct Leg {
    stream: TcpStream,
    /// What that side sent before the tunnel began.
    early: Bytes,
}

/// A tunnel about to begin: what was permitted, for whom, and to where.
#[derive(Debug)]
pub(super) struct Tunnel {
    admission: Admission,
    client: Arc<Client>,
    peer: SocketAddr,
    _place: Place,
    /// None: nothing is asked of how the client begins. Boxed, because futures copy what they own.
    opening: Option<Box<Opening>>,
}

/// How a tunnel ended, and what the client is still to be told.
#[derive(Debug)]
struct End {
    ending: Ending,
    mismatch: Option<Mismatch>,
}

/// Payload so far, and when the last of it moved.
#[derive(Debug)]
struct Meter {
    begun: Instant,
    sent: AtomicU64,
    received: AtomicU64,
    /// Milliseconds after `begun`.
    last_move: AtomicU64,
}

/// Which end of a direction broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Reading,
    Writing,
}

/// How long a client whose tunnel failed is still written to, and read from.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes moved at a time.
const BUFFER_BYTES: usize = 64 << 10;

impl Leg {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, early: Bytes::new() }
    }

    /// Takes a client's socket back from the HTTP library.
    pub(super) fn of_client(upgraded: hyper::Result<Upgraded>) -> Option<Self> {
        let parts = upgraded.ok()?.downcast::<TokioIo<Gate>>().ok()?;
        let (stream, held) = parts.io.into_inner().into_parts();
        Some(Self { stream, early: join(parts.read_buf, held) })
    }

    /// Takes an origin's socket back from the HTTP library.
    pub(super) fn of_origin(upgraded: hyper::Result<Upgraded>) -> Option<Self> {
        let parts = upgraded.ok()?.downcast::<TokioIo<AnswerGate>>().ok()?;
        let (stream, held) = parts.io.into_inner().into_parts();
        Some(Self { stream, early: join(parts.read_buf, held) })
    }

    /// Says the last word.
    async fn say(&mut self, bytes: &[u8]) {
        timeout(LINGER, self.stream.write_all(bytes)).await.ok();
    }
}

fn join(first: Bytes, second: Bytes) -> Bytes {
    match (first.is_empty(), second.is_empty()) {
        (true, _) => second,
        (_, true) => first,
        (false, false) => {
            let mut both = BytesMut::from(first);
            both.extend_from_slice(&second);
            both.freeze()
        }
    }
}

impl Tunnel {
    pub(super) fn new(
        admission: Admission,
        client: Arc<Client>,
        peer: SocketAddr,
        place: Place,
    ) -> Self {
        Self { admission, client, peer, _place: place, opening: None }
    }

    /// The client must begin as that allows.
    pub(super) fn judged_by(self, opening: Opening) -> Self {
        Self { opening: Some(Box::new(opening)), ..self }
    }

    /// Moves bytes until the end, and records it.
    pub(super) async fn run(mut self, mut client: Leg, mut origin: Leg) {
        let meter = Meter::new();
        let mut opening = self.opening.take();
        let named = opening.as_ref().map(|opening| opening.named());
        let context = self.client.context();
        let first_bytes = opening.as_mut().map(|opening| (&mut **opening, &**context));
        // Overseen first: not a byte moves in a tunnel that is refused from the start.
        let End { ending, mismatch } = tokio::select! {
            biased;
            ending = self.overseen(&meter, named.as_deref()) => ending.into(),
            end = both_ways(&mut client, &mut origin, &meter, first_bytes) => end,
        };
        drop(origin);
        let sent = meter.sent.load(Ordering::Relaxed);
        let received = meter.received.load(Ordering::Relaxed);
        if let Some(mismatch) = mismatch {
            tracing::debug!(tunnel = %self.admission.permit.authority(), %mismatch, "closed");
            context.counters.sni_mismatches.increment();
            if mismatch == Mismatch::Slow {
                context.counters.timeouts.first_bytes.increment();
            }
            // After bytes of the origin's most answers would only confuse.
            if received == 0 || mismatch.may_interrupt() {
                client.say(&mismatch.answer()).await;
            }
        }
        if matches!(ending, Ending::OriginFailed | Ending::SniMismatch) {
            linger(&mut client.stream).await;
        }
        if let Some(opening) = opening {
            self.admission.trail.began_with(opening.seen().clone());
        }
        self.admission.trail.moved(sent, received);
        self.admission.trail.end(ending);
    }

    /// Ends when the tunnel must: idle for too long, refused by a new policy, or told to stop.
    /// `named`: another host that the client speaks to, once that is known.
    async fn overseen(&self, meter: &Meter, named: Option<&OnceLock<Authority>>) -> Ending {
        let named = || named.and_then(OnceLock::get);
        let context = self.client.context();
        let mut policies = context.policy.clone();
        // A policy that came between the decision and the tunnel counts too.
        if self.is_refused_by(&policies.borrow_and_update(), named()) {
            return Ending::PolicyChanged;
        }
        loop {
            tokio::select! {
                () = meter.idle(context.timeouts.idle) => return Ending::IdleTimeout,
                () = context.abort.cancelled() => return Ending::Shutdown,
                changed = policies.changed() => match changed {
                    Ok(()) if self.is_refused_by(&policies.borrow_and_update(), named()) => {
                        return Ending::PolicyChanged;
                    }
                    Ok(()) => {}
                    // The owner of the policy is gone: the proxy is stopping.
                    Err(_) => return Ending::Shutdown,
                },
            }
        }
    }

    fn is_refused_by(&self, policy: &Arc<Policy>, named: Option<&Authority>) -> bool {
        let authority = self.admission.permit.authority();
        standing::refusal(policy, &self.client, authority, Some(self.peer)).is_some()
            || named.is_some_and(|named| policy.decide(named).is_err())
    }
}

impl From<Ending> for End {
    fn from(ending: Ending) -> Self {
        Self { ending, mismatch: None }
    }
}

/// `first_bytes`: what judges how the client begins, and what that needs to know.
async fn both_ways(
    client: &mut Leg,
    origin: &mut Leg,
    meter: &Meter,
    first_bytes: Option<(&mut Opening, &Context)>,
) -> End {
    let (from_client, to_client) = client.stream.split();
    let (from_origin, mut to_origin) = origin.stream.split();
    // Once the client has said all it has to say, nothing but its socket's error tells of a reset.
    let client_done = CancellationToken::new();
    let up = async {
        let mut early = std::mem::take(&mut client.early);
        if let Some((opening, context)) = first_bytes {
            let limit = context.timeouts.first_bytes;
            let policy = || context.policy();
            let count = |bytes| meter.count(&meter.sent, bytes);
            early = let_pass(opening, &from_client, &mut to_origin, early, limit, policy, count)
                .await?;
        }
        pump(from_client, to_origin, early, &meter.sent, meter, None).await.map_err(|broken| {
            match broken {
                Broken::Reading => Ending::ClientGone,
                Broken::Writing => Ending::OriginFailed,
            }
        })?;
        client_done.cancel();
        Ok(())
    };
    let down = async {
        let early = std::mem::take(&mut origin.early);
        let watch = Some(&client_done);
        pump(from_origin, to_client, early, &meter.received, meter, watch).await.map_err(
            |broken| match broken {
                Broken::Reading => Ending::OriginFailed,
                Broken::Writing => Ending::ClientGone,
            },
        )?;
        Ok(())
    };
    match tokio::try_join!(up, down) {
        Ok(((), ())) => Ending::Complete.into(),
        Err(end) => end,
    }
}

impl From<Stopped> for End {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Mismatch(mismatch) => {
                Self { ending: Ending::SniMismatch, mismatch: Some(mismatch) }
            }
            Stopped::Reading => Ending::ClientGone.into(),
            Stopped::Writing => Ending::OriginFailed.into(),
        }
    }
}

/// Lets what was sent arrive: closing a socket with unread bytes resets the connection.
async fn linger(client: &mut TcpStream) {
    let drained = async {
        client.shutdown().await?;
        tokio::io::copy(client, &mut tokio::io::sink()).await
    };
    timeout(LINGER, drained).await.ok();
}

/// One direction, to the end of the stream, which is passed on as a half-close. After `watch`,
/// an error on the socket that is written to ends it too.
async fn pump(
    from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    early: Bytes,
    moved: &AtomicU64,
    meter: &Meter,
    watch: Option<&CancellationToken>,
) -> Result<(), Broken> {
    to.write_all(&early).await.map_err(|_| Broken::Writing)?;
    meter.count(moved, early.len());
    drop(early);
    loop {
        tokio::select! {
            readable = from.readable() => readable.map_err(|_| Broken::Reading)?,
            () = reset(&to, watch) => return Err(Broken::Writing),
        }
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        loop {
            buffer.clear();
            match from.try_read_buf(&mut buffer) {
                Ok(0) => return to.shutdown().await.map_err(|_| Broken::Writing),
                Ok(_) => {
                    to.write_all(&buffer).await.map_err(|_| Broken::Writing)?;
                    meter.count(moved, buffer.len());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Err(Broken::Reading),
            }
        }
    }
}

/// Returns when the socket has an error, from the moment on that `watch` says.
async fn reset(to: &WriteHalf<'_>, watch: Option<&CancellationToken>) {
    match watch {
        None => std::future::pending().await,
        Some(watch) => {
            watch.cancelled().await;
            to.ready(Interest::ERROR).await.ok();
        }
    }
}

impl Meter {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            last_move: AtomicU64::new(0),
        }
    }

    fn count(&self, moved: &AtomicU64, bytes: usize) {
        moved.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_move.store(now, Ordering::Relaxed);
    }

    /// Returns once nothing has moved for that long. Wakes up once in that time, not per byte.
    async fn idle(&self, limit: Duration) {
        loop {
            let last = Duration::from_millis(self.last_move.load(Ordering::Relaxed));
            let deadline = self.begun + last + limit;
            if Instant::now() >= deadline {
                return;
            }
            sleep_until(deadline).await;
        }
    }
}
