//! Leave that is still made use of when the policy changes: given again, or taken back.
//!
//! A tunnel, a request that waits for its answer, an answer under way: each keeps no leave that a
//! request of this moment would not get. The test is one for all of them, [`refusal`]. It is made
//! when a policy comes, and costs nothing while bytes move.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::{admit::Admission, client::Client, refusal::Refusal};
use crate::{net::Authority, policy::Policy};

/// The leave of one request, from its admission until its answer has begun.
#[derive(Debug)]
pub(super) struct Standing<'a> {
    client: &'a Client,
    /// The policy that admitted it.
    admitted: Arc<Policy>,
    policies: watch::Receiver<Arc<Policy>>,
}

/// The leave of the answer under way on a client's connection: HTTP/1.1 has one at a time.
#[derive(Debug, Default)]
pub(super) struct Answering(Mutex<Answered>);

#[derive(Debug, Default)]
enum Answered {
    /// No answer is under way, or it is our own.
    #[default]
    Nothing,
    /// One from there.
    From(Authority, SocketAddr),
    /// One that a new policy refuses: it ends with the connection.
    Refused,
}

/// Why a policy would not let through what an earlier one has: the destination, the address that
/// was dialled for it, or the client.
pub(super) fn refusal(
    policy: &Arc<Policy>,
    client: &Client,
    authority: &Authority,
    peer: Option<SocketAddr>,
) -> Option<Refusal> {
    if !client.is_listed(policy) {
        return Some(Refusal::ClientNotListed(client.address().ip().to_canonical()));
    }
    let vetted = policy.decide(authority).and_then(|permit| match peer {
        Some(peer) => policy.vet(&permit, peer.ip()).map(|_| ()),
        None => Ok(()),
    });
    let policy = Arc::clone(policy);
    vetted.err().map(|denial| Refusal::Denied { authority: authority.clone(), denial, policy })
}

impl<'a> Standing<'a> {
    pub(super) fn new(client: &'a Client, admission: &Admission) -> Self {
        let policies = client.context().policy.clone();
        Self { client, admitted: Arc::clone(&admission.policy), policies }
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
        peer: Option<SocketAddr>,
        work: impl Future<Output = T>,
    ) -> Result<T, Refusal> {
        let Self { client, admitted, policies } = self;
        let judge = |policy: &Arc<Policy>| match Arc::ptr_eq(policy, admitted) {
            true => None,
            false => refusal(policy, client, authority, peer),
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

impl Answering {
    /// An answer begins.
    pub(super) fn begin(&self, authority: Authority, peer: SocketAddr) {
        *self.lock() = Answered::From(authority, peer);
    }

    /// It is over. Returns whether a policy has ended it.
    pub(super) fn end(&self) -> bool {
        matches!(std::mem::take(&mut *self.lock()), Answered::Refused)
    }

    /// Returns when a new policy refuses the answer under way. The connection must then be closed:
    /// whatever ended it otherwise might be taken for the end of the answer.
    pub(super) async fn refused(&self, client: &Client) {
        let mut policies = client.context().policy.clone();
        policies.mark_unchanged();
        next_that(&mut policies, |policy| {
            let mut answered = self.lock();
            let Answered::From(authority, peer) = &*answered else { return None };
            refusal(policy, client, authority, Some(*peer))?;
            *answered = Answered::Refused;
            Some(())
        })
        .await;
    }

    /// No code that can panic runs under the lock, so a poisoned one is sound.
    fn lock(&self) -> MutexGuard<'_, Answered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
