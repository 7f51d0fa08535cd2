//! Bytes both ways between two sockets, until both are done or something ends it.
//!
//! Each direction ends on its own (half-close). Nothing limits the life of a tunnel in which
//! bytes move; one that stands still ends after the idle time, one that a new policy refuses ends
//! at once. How bytes are moved is the business of `pump`, and what a client may say that of
//! `opening`; once that lets all pass, nothing looks at the bytes any more.

use std::{
    convert::Infallible,
    future::{pending, poll_fn},
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncWriteExt as _, Interest},
    net::TcpStream,
    time::timeout,
};

use super::{
    admit::Admission,
    client::Client,
    context::Context,
    first_bytes::{Stopped, let_pass},
    meter::{Direction, Meter},
    mismatch::Mismatch,
    opening::Opening,
    places::Place,
    pump::{Broken, Pump},
    standing,
};
use crate::{
    net::Authority,
    observe::Ending,
    policy::{Peer, Policy},
};

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
    peer: Peer,
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

/// How long a client whose tunnel failed is still written to, and read from.
const LINGER: Duration = Duration::from_secs(1);

impl Leg {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, early: Bytes::new() }
    }

    /// A socket that HTTP has let go of, and what was read from it.
    pub(super) fn with_early((stream, early): (TcpStream, Bytes)) -> Self {
        Self { stream, early }
    }

    /// Says the last word.
    async fn say(&mut self, bytes: &[u8]) {
        timeout(LINGER, self.stream.write_all(bytes)).await.ok();
    }
}

impl Tunnel {
    pub(super) fn new(admission: Admission, client: Arc<Client>, peer: Peer, place: Place) -> Self {
        Self { admission, client, peer, _place: place, opening: None }
    }

    /// The client must begin as that allows.
    pub(super) fn judged_by(self, opening: Opening) -> Self {
        Self { opening: Some(Box::new(opening)), ..self }
    }

    /// Moves bytes until the end, and records it.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` holds its arguments twice")]
    pub(super) fn run(
        mut self,
        mut client: Leg,
        mut origin: Leg,
    ) -> impl Future<Output = ()> + Send {
        async move {
            let meter = Meter::new();
            let mut opening = self.opening.take();
            let named = opening.as_ref().map(|opening| opening.named());
            // Overseen first: not a byte moves in a tunnel that is refused from the start.
            let end = tokio::select! {
                biased;
                ending = self.overseen(&meter, named.as_deref()) => ending.into(),
                end = both_ways(
                    &mut client,
                    &mut origin,
                    &meter,
                    self.client.context(),
                    opening.as_deref_mut(),
                ) => end,
            };
            drop(origin);
            // Boxed: what is needed at the end must not make the tunnel larger.
            Box::pin(self.finish(client, end, &meter, opening)).await;
        }
    }

    /// Says the last word, and records the end.
    async fn finish(
        mut self,
        mut client: Leg,
        End { ending, mismatch }: End,
        meter: &Meter,
        opening: Option<Box<Opening>>,
    ) {
        let counters = &self.client.context().counters;
        let sent = meter.total(Direction::Sent);
        let received = meter.total(Direction::Received);
        if let Some(mismatch) = mismatch {
            tracing::debug!(tunnel = %self.admission.permit.authority(), %mismatch, "closed");
            counters.sni_mismatches.increment();
            if mismatch == Mismatch::Slow {
                counters.timeouts.first_bytes.increment();
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

/// `first_bytes`: what judges how the client begins.
async fn both_ways(
    client: &mut Leg,
    origin: &mut Leg,
    meter: &Meter,
    context: &Context,
    first_bytes: Option<&mut Opening>,
) -> End {
    let (from_client, to_client) = client.stream.split();
    let (from_origin, to_origin) = origin.stream.split();
    let pipes = &context.pipes;
    let mut up =
        Pump { from: from_client, to: to_origin, direction: Direction::Sent, meter, pipes };
    let mut down =
        Pump { from: from_origin, to: to_client, direction: Direction::Received, meter, pipes };
    let (client_is_done, origin_is_done) = (AtomicBool::new(false), AtomicBool::new(false));
    // Each returns only when the tunnel has to end.
    let up = async {
        let mut early = std::mem::take(&mut client.early);
        if let Some(opening) = first_bytes {
            // Boxed: what is needed once must not make every tunnel larger.
            early = Box::pin(let_pass(opening, &mut up, early, context)).await?;
        }
        up.run(early).await?;
        client_is_done.store(true, Ordering::Relaxed);
        // What is done both ways is closed.
        if origin_is_done.load(Ordering::Relaxed) {
            return pending().await;
        }
        up.end().await?;
        // Now nothing but its socket's error tells of a reset.
        Box::pin(up.from.ready(Interest::ERROR)).await.ok();
        Err::<Infallible, _>(Stopped::Broken(Broken::Reading))
    };
    let down = async {
        down.run(std::mem::take(&mut origin.early)).await?;
        origin_is_done.store(true, Ordering::Relaxed);
        if !client_is_done.load(Ordering::Relaxed) {
            down.end().await?;
        }
        pending::<Result<Infallible, Broken>>().await
    };
    let mut up = pin!(up);
    let mut down = pin!(down);
    poll_fn(|cx| {
        if let Poll::Ready(Err(stopped)) = up.as_mut().poll(cx) {
            return Poll::Ready(stopped.into());
        }
        if let Poll::Ready(Err(broken)) = down.as_mut().poll(cx) {
            return Poll::Ready(End::of(Direction::Received, broken));
        }
        match origin_is_done.load(Ordering::Relaxed) && client_is_done.load(Ordering::Relaxed) {
            true => Poll::Ready(Ending::Complete.into()),
            false => Poll::Pending,
        }
    })
    .await
}

impl End {
    /// Who is gone if that direction breaks so.
    fn of(direction: Direction, broken: Broken) -> Self {
        match (direction, broken) {
            (Direction::Sent, Broken::Reading) | (Direction::Received, Broken::Writing) => {
                Ending::ClientGone.into()
            }
            (Direction::Sent, Broken::Writing) | (Direction::Received, Broken::Reading) => {
                Ending::OriginFailed.into()
            }
        }
    }
}

impl From<Stopped> for End {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Mismatch(mismatch) => {
                Self { ending: Ending::SniMismatch, mismatch: Some(mismatch) }
            }
            Stopped::Broken(broken) => Self::of(Direction::Sent, broken),
        }
    }
}

/// Lets what was sent arrive: closing a socket with unread bytes resets the connection.
pub(super) async fn linger(client: &mut TcpStream) {
    let drained = async {
        client.shutdown().await?;
        tokio::io::copy(client, &mut tokio::io::sink()).await
    };
    timeout(LINGER, drained).await.ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<F>(_: fn(Tunnel, Leg, Leg) -> F) -> usize {
        size_of::<F>()
    }

    /// Thousands may stand still.
    #[test]
    fn tunnels_are_small() {
        let size = size_of_future(|tunnel, client, origin| tunnel.run(client, origin));
        assert!(size <= 2048, "{size} bytes each");
    }
}
