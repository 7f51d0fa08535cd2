//! One client connection, as its requests and tunnels see it.

use std::{fmt, sync::Arc};

use super::{
    context::Context,
    crew::Load,
    places::{Place, Seat},
    self_test::Probe,
};
use crate::{
    observe::{Audit, Caller},
    policy::Policy,
};

/// Who is at the other end. Lives as long as the connection, or the tunnel it became.
pub(super) struct Client {
    context: Arc<Context>,
    caller: Caller,
    /// Given back when the last tunnel or request is gone.
    _place: Place,
    _seat: Seat,
    _load: Load,
    /// It is the proxy itself. Dropped last, to tell that the place is free.
    probe: Option<Probe>,
}

impl Client {
    pub(super) fn new(
        context: Arc<Context>,
        caller: Caller,
        place: Place,
        seat: Seat,
        load: Load,
        probe: Option<Probe>,
    ) -> Self {
        Self { context, caller, _place: place, _seat: seat, _load: load, probe }
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub(super) fn caller(&self) -> Caller {
        self.caller
    }

    /// Where its requests are recorded.
    pub(super) fn audit(&self) -> &Audit {
        self.probe.as_ref().map_or(&self.context.audit, |probe| &probe.audit)
    }

    /// Whether this client may use the proxy: it is listed, and a policy that forbids listening
    /// beyond loopback leaves only loopback. Whom the mode of a unix socket lets in may, and so may
    /// the self-test.
    pub(super) fn is_listed(&self, policy: &Policy) -> bool {
        let Caller::Ip(address) = self.caller else { return true };
        let address = address.ip().to_canonical();
        let loopback_only = policy.ruleset().allow_non_loopback_proxy == Some(false);
        let listed = (address.is_loopback() || !loopback_only)
            && self.context.clients.iter().any(|range| range.contains(&address));
        listed || self.probe.is_some()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("caller", &self.caller).finish_non_exhaustive()
    }
}
