//! The slow, obvious matcher: every rule is asked, one after the other.
//!
//! It is the definition of what the served matcher must answer, and it serves nothing itself. Kept
//! simple enough to be checked by eye.

use super::{List, Rule, RuleId, Rules, rule::Rank};
use crate::net::Host;

/// All rules of a list that match the host, most specific first.
#[must_use]
pub fn matching(rules: &Rules, list: List, host: &Host) -> Vec<RuleId> {
    let mut found: Vec<(RuleId, Rule<'_>)> =
        rules.iter().filter(|(_, rule)| rule.list == list && rule.matches(host)).collect();
    found.sort_by_key(|(id, rule)| (Rank::of(&rule.pattern), *id));
    found.into_iter().map(|(id, _)| id).collect()
}
