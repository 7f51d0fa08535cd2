//! What a decision is: a permit, or a denial with its reason.
//!
//! A [`Permit`] is the proof that a request may leave, a [`VettedAddress`] that an address may be
//! dialled for it, an [`Entrusted`] that another proxy may be asked for it. All have private fields:
//! only this module's parent can make one, so no socket can be opened without having asked.

use std::net::SocketAddr;

use super::RuleId;
use crate::net::Authority;

/// Leave for one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    authority: Authority,
    leave: Leave,
    exemption: Exemption,
}

/// What gives leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// No rule: it would be refused as not allowed, but the policy only observes.
    Observed,
    /// A rule that allows it.
    Rule(RuleId),
    /// `unix_sockets`, or that all of them are allowed.
    Sockets,
}

/// Whether a permit reaches local addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exemption {
    /// The allow names exactly this local host: `localhost`, or this very literal.
    NamedExactly,
    /// No exemption.
    None,
}

/// An address that may be dialled for a permit, and its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VettedAddress(SocketAddr);

/// A destination that a parent proxy may be asked for by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrusted(Authority);

/// A refusal by policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub reason: Reason,
    /// The rule that decided, if one did.
    pub rule: Option<RuleId>,
}

/// Why a policy refuses. The words are Codex's where Codex has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// A deny rule matches.
    Denied,
    /// No allow rule matches.
    NotAllowed,
    /// The destination is local or private, and nothing permits that.
    NotAllowedLocal,
    /// Allowed, but on other ports only.
    PortNotAllowed,
    /// `enabled = false`.
    ProxyDisabled,
}

impl Permit {
    pub(super) fn new(authority: Authority, rule: RuleId, exemption: Exemption) -> Self {
        Self { authority, leave: Leave::Rule(rule), exemption }
    }

    /// Of a policy that only observes.
    pub(super) fn observed(authority: Authority) -> Self {
        Self { authority, leave: Leave::Observed, exemption: Exemption::None }
    }

    /// The destination the leave is for.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// What gave it.
    #[must_use]
    pub fn leave(&self) -> Leave {
        self.leave
    }

    /// The rule that gave it, if one did.
    #[must_use]
    pub fn rule(&self) -> Option<RuleId> {
        self.leave.rule()
    }

    pub(super) fn exemption(&self) -> Exemption {
        self.exemption
    }
}

impl Leave {
    /// The rule, if it is one.
    #[must_use]
    pub fn rule(self) -> Option<RuleId> {
        match self {
            Self::Observed | Self::Sockets => None,
            Self::Rule(rule) => Some(rule),
        }
    }
}

impl VettedAddress {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self(address)
    }

    /// Where to dial.
    #[must_use]
    pub fn socket_addr(self) -> SocketAddr {
        self.0
    }
}

impl Entrusted {
    pub(super) fn new(authority: Authority) -> Self {
        Self(authority)
    }

    /// What to ask for.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.0
    }
}

impl Denial {
    pub(super) fn by_rule(reason: Reason, rule: RuleId) -> Self {
        Self { reason, rule: Some(rule) }
    }

    pub(super) fn built_in(reason: Reason) -> Self {
        Self { reason, rule: None }
    }
}

impl Reason {
    /// Every one.
    const ALL: [Self; 5] = [
        Self::Denied,
        Self::NotAllowed,
        Self::NotAllowedLocal,
        Self::PortNotAllowed,
        Self::ProxyDisabled,
    ];

    /// The reason of that word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// Who decided, in Codex's words.
    #[must_use]
    pub fn decided_by(self) -> &'static str {
        match self {
            Self::ProxyDisabled => "proxy_state",
            Self::Denied | Self::NotAllowed | Self::NotAllowedLocal | Self::PortNotAllowed => {
                "baseline_policy"
            }
        }
    }

    /// The word for it in JSON, audit records and refusals.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::NotAllowed => "not_allowed",
            Self::NotAllowedLocal => "not_allowed_local",
            Self::PortNotAllowed => "port_not_allowed",
            Self::ProxyDisabled => "proxy_disabled",
        }
    }
}
