//! Leave that is still made use of when the policy changes: given again, or taken back.
//!
//! A tunnel, a request that waits for its answer, an answer under way: each keeps no leave that a
//! request of this moment would not get. The test is one for all of them, [`refusal`]. It is made
//! when a policy comes, and costs nothing while bytes move.

use std::{
    future::{pending, ready},
    sync::Arc,
};

use tokio::sync::watch;

use super::{client::Client, refusal::Refusal};
use crate::{
    net::Authority,
    policy::{Peer, Policy},
};

/// The leave of one request, from its admission until its answer is over.
#[derive(Debug)]
pub(super) struct Standing<'a> {
    client: &'a Client,
    /// The policy that admitted it.
    admitted: Arc<Policy>,
    policies: &'a mut watch::Receiver<Arc<Policy>>,
}

/// Why a policy would not let through what an earlier one has: the destination, the address that
/// was dialled for it, or the client.
pub(super) fn refusal(
    policy: &Arc<Policy>,
    client: &Client,
    authority: &Authority,
    peer: Option<Peer>,
) -> Option<Refusal> {
    if !client.is_listed(policy) {
        return Some(Refusal::ClientNotListed(client.caller()));
    }
    let vetted = policy.decide(authority).and_then(|permit| match peer {
        Some(peer) => policy.judge(&permit, peer),
        None => Ok(()),
    });
    let policy = Arc::clone(policy);
    vetted.err().map(|denial| Refusal::Denied { authority: authority.clone(), denial, policy })
}

impl<'a> Standing<'a> {
    /// `policies`: those that come.
    pub(super) fn new(
        client: &'a Client,
        admitted: &Arc<Policy>,
        policies: &'a mut watch::Receiver<Arc<Policy>>,
    ) -> Self {
        Self { client, admitted: Arc::clone(admitted), policies }
    }

    /// Does some work to its end, unless a policy that has come since the admission refuses the
    /// request. `peer` is where its connection goes to, if it has one.
    ///
    /// # Errors
    ///
    /// The refusal; the work has been dropped, perhaps before it was begun.
    ///
    /// # Cancel safety
    ///
    /// That of the work.
    pub(super) async fn during<T>(
        &mut self,
        authority: &Authority,
        peer: Option<Peer>,
        work: impl Future<Output = T>,
    ) -> Result<T, Refusal> {
        let client = self.client;
        let refusal = |policy: Arc<Policy>| ready(refusal(&policy, client, authority, peer));
        self.during_leave(refusal, work).await
    }

    /// The same with another question, which may take its time: the work goes on meanwhile.
    pub(super) async fn during_leave<T, R>(
        &mut self,
        refusal: impl Fn(Arc<Policy>) -> R,
        work: impl Future<Output = T>,
    ) -> Result<T, Refusal>
    where
        R: Future<Output = Option<Refusal>>,
    {
        let Self { admitted, policies, .. } = self;
        let refused = async {
            loop {
                let policy = Arc::clone(&policies.borrow_and_update());
                if !Arc::ptr_eq(&policy, admitted)
                    && let Some(refusal) = refusal(policy).await
                {
                    return refusal;
                }
                if policies.changed().await.is_err() {
                    // The owner of the policy is gone: the proxy is stopping.
                    return pending().await;
                }
            }
        };
        tokio::select! {
            // Asked first: no answer is taken that is refused by then.
            biased;
            refusal = refused => Err(refusal),
            done = work => Ok(done),
        }
    }
}
