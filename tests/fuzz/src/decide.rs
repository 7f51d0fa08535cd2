//! The served matcher against the reference: verdict and rule, for any rules and any hosts.
//!
//! A line is an allowed pattern behind `+`, a denied one behind `-`, or else a target to ask for.

use std::sync::Arc;

use exeat::{
    net::{Authority, Host, IpClass},
    policy::{Egress, List, Outcome, Policy, Reason, Review, RuleId, Source, reference::matching},
};

/// A policy, and destinations to ask it for.
pub fn decide(input: &[u8]) {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let Some(policy) = policy(input) else { return };
    for line in input.lines().filter(|line| !line.starts_with(['+', '-'])) {
        let Ok(authority) = Authority::parse_connect(line.as_bytes()) else { continue };
        if is_local(&authority.host) {
            continue;
        }
        let served = match policy.decide(&authority) {
            Ok(permit) => (None, permit.rule()),
            Err(denial) => (Some(denial.reason), denial.rule),
        };
        assert_eq!(served, expected(&policy, &authority), "{input:?} {authority}");
    }
}

/// The policy of the lines with patterns, if they are legal.
fn policy(input: &str) -> Option<Policy> {
    let list = |sign| {
        let patterns = input.lines().filter_map(|line| line.strip_prefix(sign));
        patterns.map(|pattern| format!("{pattern:?},\n")).collect::<String>()
    };
    let text = format!(
        "[experimental_network]\nallowed_domains = [{}]\ndenied_domains = [{}]\n",
        list('+'),
        list('-')
    );
    let review = Review::of(text.as_bytes(), &Arc::new(Source::file("fuzz.toml")), 7);
    match review.outcome {
        Outcome::Ruleset(ruleset) => Some(Policy::new(*ruleset, Egress::default(), 1)),
        Outcome::Broken | Outcome::NoTable => None,
    }
}

/// Local hosts have an order of their own, which other tests look at.
pub(crate) fn is_local(host: &Host) -> bool {
    match host {
        Host::Ip(address) => IpClass::of(*address, &[]) != IpClass::Global,
        Host::Name(name) => name.is_localhost() || name.is_in_local_zone(),
    }
}

fn expected(policy: &Policy, authority: &Authority) -> (Option<Reason>, Option<RuleId>) {
    let rules = policy.ruleset().rules();
    let denying = matching(rules, List::Deny, &authority.host);
    // A literal that embeds an IPv4 address is judged by that one too.
    let embedded = match &authority.host {
        Host::Ip(address) => Host::from(IpClass::judged_address(*address, &[])),
        Host::Name(_) => authority.host.clone(),
    };
    let denying = denying.into_iter().chain(matching(rules, List::Deny, &embedded));
    if let Some(rule) = denying.into_iter().next() {
        return (Some(Reason::Denied), Some(rule));
    }
    let allowing = matching(rules, List::Allow, &authority.host);
    let fits = |rule: &RuleId| {
        let port = policy.rule(*rule).and_then(|rule| rule.pattern.port());
        port.is_none_or(|port| port == authority.port)
    };
    match (allowing.iter().copied().find(fits), allowing.first()) {
        (Some(rule), _) => (None, Some(rule)),
        (None, Some(rule)) => (Some(Reason::PortNotAllowed), Some(*rule)),
        (None, None) => (Some(Reason::NotAllowed), None),
    }
}
