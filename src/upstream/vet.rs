//! The addresses that may be dialled for a permit: resolved once, every one vetted.

use std::{net::IpAddr, sync::Arc};

use crate::{
    dns::{DnsError, LateAnswer, Resolver},
    net::Host,
    policy::{Denial, Permit, Policy, VettedAddress},
};

/// Addresses to dial, and perhaps more to come.
pub struct Candidates {
    /// Vetted; at least one.
    pub(super) addresses: Vec<VettedAddress>,
    /// The slower family, not vetted yet, and what to vet it with.
    pub(super) late: Option<Late>,
}

pub(super) struct Late {
    pub(super) answer: LateAnswer,
    policy: Arc<Policy>,
    permit: Permit,
}

/// Why nothing may be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VetError {
    /// An address is denied or local.
    Denied(Denial),
    /// There are no addresses.
    Dns(DnsError),
}

/// Resolves the host of a permit and vets the whole answer: one bad address refuses it all.
///
/// # Errors
///
/// The denial, or why there is no answer.
///
/// # Cancel safety
///
/// Dropping the future abandons the lookup; nothing is held.
pub async fn candidates(
    policy: &Arc<Policy>,
    permit: &Permit,
    resolver: &Resolver,
) -> Result<Candidates, VetError> {
    let name = match &permit.authority().host {
        Host::Ip(address) => {
            return Ok(Candidates { addresses: vet(policy, permit, &[*address])?, late: None });
        }
        Host::Name(name) => name,
    };
    let answer = resolver.resolve(name).await.map_err(VetError::Dns)?;
    let addresses = vet(policy, permit, &answer.addresses)?;
    let late = answer.late.map(|answer| Late {
        answer,
        policy: Arc::clone(policy),
        permit: permit.clone(),
    });
    Ok(Candidates { addresses, late })
}

impl Candidates {
    /// What may be dialled at once.
    #[must_use]
    pub fn vetted(&self) -> &[VettedAddress] {
        &self.addresses
    }
}

impl Late {
    /// Vets what came late; if any of it is refused, none of it is dialled.
    pub(super) fn vet(&self, addresses: &[IpAddr]) -> Vec<VettedAddress> {
        vet(&self.policy, &self.permit, addresses).unwrap_or_default()
    }
}

fn vet(
    policy: &Policy,
    permit: &Permit,
    addresses: &[IpAddr],
) -> Result<Vec<VettedAddress>, VetError> {
    let vetted: Result<Vec<_>, Denial> =
        addresses.iter().map(|address| policy.vet(permit, *address)).collect();
    vetted.map_err(VetError::Denied)
}
