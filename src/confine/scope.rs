//! Signals, and connections to abstract unix sockets, that stay among a program and what it starts
//! (landlock(7), since ABI 6).

use landlock::{ABI, Access as _, Ruleset, RulesetAttr as _, RulesetCreated, RulesetError, Scope};

/// Restricts the calling thread, as far as this kernel knows how.
pub(super) fn restrict() -> Result<(), String> {
    let rules = || -> Result<RulesetCreated, RulesetError> {
        Ruleset::default().scope(Scope::from_all(ABI::V6))?.create()
    };
    let status = rules().and_then(RulesetCreated::restrict_self);
    status.map(drop).map_err(|error| error.to_string())
}
