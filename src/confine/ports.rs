//! One TCP port that may be connected to (landlock(7), since ABI 4), for a program that cannot have
//! a network of its own.

use landlock::{
    ABI, Access as _, AccessNet, CompatLevel, Compatible as _, NetPort, Ruleset, RulesetAttr as _,
    RulesetCreated, RulesetCreatedAttr as _, RulesetError, Scope,
};

/// Restricts the calling thread.
pub(super) fn restrict(port: u16) -> Result<(), String> {
    let rules = rules().and_then(|rules| rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp)));
    let status = rules.and_then(RulesetCreated::restrict_self);
    status.map(drop).map_err(|error| error.to_string())
}

/// Whether this kernel could.
pub(super) fn can_restrict() -> Result<(), String> {
    rules().map(drop).map_err(|error| error.to_string())
}

/// Ports are needed; signals and abstract unix sockets do not leave where the kernel knows how.
fn rules() -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessNet::ConnectTcp)?
        .set_compatibility(CompatLevel::BestEffort)
        .scope(Scope::from_all(ABI::V6))?
        .create()
}
