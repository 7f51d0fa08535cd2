//! Patterns: no panic, one canonical text, and the served matcher means what the pattern means.
//!
//! The first line is the pattern; the others are destinations to ask for.

use std::sync::Arc;

use exeat::{
    net::{Authority, Host, IpClass},
    policy::{Egress, Outcome, Pattern, Policy, Reason, Review, Shape, Source},
};

use super::decide::is_local;

/// A pattern, and hosts to match with it.
pub fn pattern(input: &[u8]) {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let (text, targets) = input.split_once('\n').unwrap_or((input, ""));
    let pattern = match Pattern::parse(text) {
        Ok(pattern) => pattern,
        Err(error) => {
            assert!(!error.help(text).is_empty() && !error.to_string().is_empty());
            return;
        }
    };
    let canonical = pattern.to_string();
    assert!(canonical.is_ascii() && !canonical.contains('"'), "{canonical:?}");
    assert_eq!(Pattern::parse(&canonical).as_ref(), Ok(&pattern), "{canonical:?}");
    let allowing = policy(&format!("allowed_domains = [{canonical:?}]"));
    // In an allow list a glob over addresses must match one.
    assert!(allowing.is_some() || matches!(pattern.shape(), Shape::Glob(_)), "{canonical}");
    let denying = (*pattern.shape() != Shape::Any)
        .then(|| policy(&format!("allowed_domains = [\"*\"]\ndenied_domains = [{canonical:?}]")))
        .map(|denying| denying.expect("what parses can be denied"));
    for line in targets.lines() {
        let Ok(target) = Authority::parse_connect(line.as_bytes()) else { continue };
        if let Some(allowing) = &allowing {
            is_allowed_alike(&pattern, allowing, &target);
        }
        if let Some(denying) = &denying {
            let denied = denying.decide(&target).is_err_and(|no| no.reason == Reason::Denied);
            assert_eq!(denied, denies(&pattern, &target.host), "{pattern} {target}");
        }
    }
}

/// None: the rules have errors.
fn policy(rules: &str) -> Option<Policy> {
    let text = format!("[experimental_network]\n{rules}\n");
    let review = Review::of(text.as_bytes(), &Arc::new(Source::file("fuzz.toml")), 7);
    match review.outcome {
        Outcome::Ruleset(ruleset) => Some(Policy::new(*ruleset, Egress::default(), 1)),
        Outcome::Broken | Outcome::NoTable => None,
    }
}

/// A local host may be refused although the pattern matches; nothing else may.
fn is_allowed_alike(pattern: &Pattern, policy: &Policy, target: &Authority) {
    let (_, rule) = policy.ruleset().rules().iter().next().unwrap();
    assert_eq!(rule.pattern, *pattern);
    let matches = rule.matches(&target.host);
    let fits = pattern.port().is_none_or(|port| port == target.port);
    let allowed = policy.decide(target).is_ok();
    assert!(!matches || pattern.matches(&target.host));
    match is_local(&target.host) {
        true => assert!(!allowed || (matches && fits), "{pattern} {target}"),
        false => assert_eq!(allowed, matches && fits, "{pattern} {target}"),
    }
}

/// A literal that embeds an IPv4 address is judged by that one too.
fn denies(pattern: &Pattern, host: &Host) -> bool {
    pattern.matches(host)
        || match host {
            Host::Ip(address) => {
                pattern.matches(&Host::from(IpClass::judged_address(*address, &[])))
            }
            Host::Name(_) => false,
        }
}
