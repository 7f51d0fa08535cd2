//! A rule that matches, with what is needed to choose among several.

use super::{Pattern, RuleId, Rules, rule::Rank};
use crate::net::Port;

/// A matching rule, and the port it is narrowed to. Ordered: the most specific comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    pub(super) rank: Rank,
    pub(super) rule: RuleId,
    pub(super) port: Option<Port>,
}

impl Candidate {
    pub(super) fn new(rule: RuleId, pattern: &Pattern) -> Self {
        Self { rank: Rank::of(pattern), rule, port: pattern.port() }
    }

    /// A rule about names, which has no port.
    pub(super) fn portless(rules: &Rules, rule: RuleId) -> Option<Self> {
        Some(Self { rank: rules.rank(rule)?, rule, port: None })
    }
}
