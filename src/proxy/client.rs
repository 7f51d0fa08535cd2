//! One client connection, as its requests and tunnels see it.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    context::Context,
    crew::Load,
    gate::Report,
    places::{Place, Seat},
    self_test::Probe,
    standing::Answering,
};
use crate::{
    http1::request_head::HeadError,
    observe::Audit,
    policy::{Permit, Policy},
    upstream::Origin,
};

/// Who is at the other end. Lives as long as the connection, or the tunnel it became.
pub(super) struct Client {
    context: Arc<Context>,
    address: SocketAddr,
    report: Arc<Report>,
    heads: AtomicU64,
    /// An origin connection whose authentication belongs to this client (RFC 4559).
    bound: Mutex<Option<Origin>>,
    answering: Answering,
    /// Given back when the last tunnel or request is gone.
    _place: Place,
    _seat: Seat,
    _load: Load,
    /// It is the proxy itself. Dropped last, to tell that the place is free.
    probe: Option<Probe>,
}

/// What the gate found out about a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadKind {
    /// A request, after which the next one may follow.
    Ordinary,
    /// CONNECT, or a request for WebSocket.
    Switching,
}

impl Client {
    pub(super) fn new(
        context: Arc<Context>,
        address: SocketAddr,
        place: Place,
        seat: Seat,
        load: Load,
        probe: Option<Probe>,
    ) -> Self {
        Self {
            context,
            address,
            report: Arc::default(),
            heads: AtomicU64::new(0),
            bound: Mutex::new(None),
            answering: Answering::default(),
            _place: place,
            _seat: seat,
            _load: load,
            probe,
        }
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its requests are recorded.
    pub(super) fn audit(&self) -> &Audit {
        self.probe.as_ref().map_or(&self.context.audit, |probe| &probe.audit)
    }

    pub(super) fn report(&self) -> &Arc<Report> {
        &self.report
    }

    /// The answer under way.
    pub(super) fn answering(&self) -> &Answering {
        &self.answering
    }

    /// Counts the next head, and says what the gate found out about it.
    ///
    /// # Errors
    ///
    /// The gate refused it.
    pub(super) fn next_head(&self) -> Result<HeadKind, HeadError> {
        let number = self.heads.fetch_add(1, Ordering::Relaxed) + 1;
        match self.report.refusal_of(number) {
            Some(error) => Err(error),
            None if self.report.is_switching(number) => Ok(HeadKind::Switching),
            None => Ok(HeadKind::Ordinary),
        }
    }

    /// Whether this client may use the proxy: it is listed, and a policy that forbids listening
    /// beyond loopback leaves only loopback. The self-test may.
    pub(super) fn is_listed(&self, policy: &Policy) -> bool {
        let address = self.address.ip().to_canonical();
        let loopback_only = policy.ruleset().allow_non_loopback_proxy == Some(false);
        let listed = (address.is_loopback() || !loopback_only)
            && self.context.clients.iter().any(|range| range.contains(&address));
        listed || self.probe.is_some()
    }

    /// Keeps an origin connection for this client alone.
    pub(super) fn bind_origin(&self, origin: Origin) {
        *self.bound.lock().unwrap_or_else(PoisonError::into_inner) = Some(origin);
    }

    /// The origin connection kept for this client, if it fits and the policy still vets it.
    pub(super) fn take_bound(&self, policy: &Policy, permit: &Permit) -> Option<Origin> {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = bound.as_ref().is_some_and(|origin| origin.authority() == permit.authority());
        let origin = if fits { bound.take()? } else { return None };
        let vetted = policy.vet(permit, origin.peer().ip()).is_ok();
        (vetted && origin.is_open()).then_some(origin)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("address", &self.address).finish_non_exhaustive()
    }
}
