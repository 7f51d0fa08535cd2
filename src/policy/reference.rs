//! The slow, obvious matcher: every rule is asked, one after the other.
//!
//! It is the definition of what the served matcher must answer, and it serves nothing itself. Kept
//! simple enough to be checked by eye.

use super::{List, Rule, RuleId};
use crate::net::Host;

/// All rules of a list that match the host, most specific first.
#[must_use]
pub fn matching(rules: &[Rule], list: List, host: &Host) -> Vec<RuleId> {
    let mut found: Vec<(RuleId, &Rule)> = (0..)
        .map(RuleId)
        .zip(rules)
        .filter(|(_, rule)| rule.list == list && rule.matches(host))
        .collect();
    found.sort_by_key(|(id, rule)| (rule.specificity(), *id));
    found.into_iter().map(|(id, _)| id).collect()
}
