//! Leave that is still made use of when the policy changes: given again, or taken back.
//!
//! A tunnel, a request that waits for its answer, an answer under way: each keeps no leave that a
//! request of this moment would not get. The test is one for all of them, [`refusal`]. It is made
//! when a policy comes, and costs nothing while bytes move.

use std::sync::Arc;

use tokio::sync::watch;

use super::{client::Client, refusal::Refusal};
use crate::{
    net::Authority,
    policy::{Peer, Policy, SocketPath},
    upstream::leads_to,
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

/// The same for a unix socket, which stays where it is.
pub(super) fn refusal_of_socket(
    policy: &Arc<Policy>,
    client: &Client,
    path: &SocketPath,
) -> Option<Refusal> {
    if !client.is_listed(policy) {
        return Some(Refusal::ClientNotListed(client.caller()));
    }
    let denial = policy.decide_socket(path, leads_to).err()?;
    let (path, policy) = (path.clone(), Arc::clone(policy));
    Some(Refusal::SocketDenied { path, denial, policy })
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
        self.during_leave(|policy| refusal(policy, client, authority, peer), work).await
    }

    /// The same with another question.
    pub(super) async fn during_leave<T>(
        &mut self,
        refusal: impl Fn(&Arc<Policy>) -> Option<Refusal>,
        work: impl Future<Output = T>,
    ) -> Result<T, Refusal> {
        let Self { admitted, policies, .. } = self;
        let judge = |policy: &Arc<Policy>| match Arc::ptr_eq(policy, admitted) {
            true => None,
            false => refusal(policy),
        };
        let policy = Arc::clone(&policies.borrow_and_update());
        if let Some(refusal) = judge(&policy) {
            return Err(refusal);
        }
        tokio::select! {
            // Asked first: no answer is taken that is refused by then.
            biased;
            refusal = next_that(policies, judge) => Err(refusal),
            done = work => Ok(done),
        }
    }
}

/// Waits for a policy about which there is something to say.
async fn next_that<T>(
    policies: &mut watch::Receiver<Arc<Policy>>,
    judge: impl Fn(&Arc<Policy>) -> Option<T>,
) -> T {
    while policies.changed().await.is_ok() {
        let policy = Arc::clone(&policies.borrow_and_update());
        if let Some(said) = judge(&policy) {
            return said;
        }
    }
    // The owner of the policy is gone: the proxy is stopping, and no other will come.
    std::future::pending().await
}
