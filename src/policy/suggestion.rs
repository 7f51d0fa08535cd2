//! The fewest readable patterns that allow what was asked for.
//!
//! Every host by its exact name first. Only where many names stand side by side, as those of a
//! content network do, one wildcard stands for them, and never where names may belong to others
//! than the rest.

use std::collections::{BTreeMap, BTreeSet};

use super::{Pattern, Shape, public_suffix::may_be_shared};
use crate::net::{Authority, DnsName, Host, Port};

/// A pattern to allow, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// What to allow.
    pub pattern: Pattern,
    /// How many requests it would have allowed.
    pub requests: u64,
    /// How many hosts those were for.
    pub hosts: usize,
}

/// So many names side by side are taken for any.
const MANY: usize = 5;

/// Patterns that allow all of the destinations, each given with a number of requests. Sorted by
/// domain.
///
/// A host that was asked for on port 80 or 443 is allowed on every port; on other ports alone it is
/// allowed on those.
#[must_use]
pub fn suggest(destinations: &BTreeMap<Authority, u64>) -> Vec<Suggestion> {
    let mut patterns = exact(destinations);
    let ports: BTreeSet<Option<Port>> = patterns.keys().map(Pattern::port).collect();
    for port in ports {
        for base in bases(&patterns, port) {
            gather(&mut patterns, &base, port);
        }
    }
    let mut suggestions: Vec<Suggestion> = patterns
        .into_iter()
        .map(|(pattern, (requests, hosts))| Suggestion { pattern, requests, hosts })
        .collect();
    suggestions.sort_by_cached_key(|suggestion| order(&suggestion.pattern));
    suggestions
}

/// Requests and hosts of each pattern.
type Patterns = BTreeMap<Pattern, (u64, usize)>;

fn exact(destinations: &BTreeMap<Authority, u64>) -> Patterns {
    let usual = |port: Port| matches!(port, Port::HTTP | Port::HTTPS);
    let anywhere: BTreeSet<&Host> = destinations
        .keys()
        .filter(|authority| usual(authority.port))
        .map(|authority| &authority.host)
        .collect();
    let mut patterns = Patterns::new();
    for (authority, requests) in destinations {
        let pattern = Pattern::of(match &authority.host {
            Host::Ip(address) => Shape::Address(*address),
            Host::Name(name) => Shape::Exact(name.clone()),
        });
        let pattern = match anywhere.contains(&authority.host) {
            true => pattern,
            false => pattern.with_port(authority.port),
        };
        let (count, hosts) = patterns.entry(pattern).or_default();
        *count += requests;
        *hosts = 1;
    }
    patterns
}

/// Names with many exact ones right below them, the deepest first.
fn bases(patterns: &Patterns, port: Option<Port>) -> Vec<DnsName> {
    let mut below: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (pattern, _) in patterns.iter().filter(|(pattern, _)| pattern.port() == port) {
        if let Shape::Exact(name) = pattern.shape()
            && let Some((_, base)) = name.as_str().split_once('.')
        {
            below.entry(base).or_default().push(name.as_str());
        }
    }
    let mut bases: Vec<&str> = below
        .into_iter()
        .filter(|(base, names)| names.len() >= MANY && !may_be_shared(base, names.iter().copied()))
        .map(|(base, _)| base)
        .collect();
    bases.sort_by_key(|base| std::cmp::Reverse(base.split('.').count()));
    bases.into_iter().filter_map(|base| DnsName::parse(base.as_bytes()).ok()).collect()
}

/// Puts one pattern in the place of all that it covers.
fn gather(patterns: &mut Patterns, base: &DnsName, port: Option<Port>) {
    let narrowed = |pattern: Pattern| match port {
        Some(port) => pattern.with_port(port),
        None => pattern,
    };
    let has_base = patterns.contains_key(&narrowed(Pattern::of(Shape::Exact(base.clone()))));
    let shape = if has_base { Shape::Tree(base.clone()) } else { Shape::Subdomains(base.clone()) };
    let whole = Pattern::of(shape);
    let (mut requests, mut hosts) = (0, 0);
    patterns.retain(|pattern, (count, of)| {
        let name = match pattern.shape() {
            Shape::Exact(name) | Shape::Subdomains(name) | Shape::Tree(name) => name.clone(),
            Shape::Address(_) | Shape::Any | Shape::Glob(_) => return true,
        };
        let is_covered =
            (port.is_none() || pattern.port() == port) && whole.matches(&Host::Name(name));
        if is_covered {
            requests += *count;
            hosts += *of;
        }
        !is_covered
    });
    patterns.insert(narrowed(whole), (requests, hosts));
}

/// Labels from the right, so that domains stand together; addresses last.
fn order(pattern: &Pattern) -> (bool, Vec<String>, String) {
    let labels = match pattern.shape() {
        Shape::Exact(name) | Shape::Subdomains(name) | Shape::Tree(name) => {
            name.as_str().rsplit('.').map(str::to_owned).collect()
        }
        Shape::Address(_) | Shape::Any | Shape::Glob(_) => Vec::new(),
    };
    (labels.is_empty(), labels, pattern.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::policy::{Egress, Outcome, Policy, Review, Source};

    fn destinations(targets: &[&str]) -> BTreeMap<Authority, u64> {
        let parse = |target: &&str| Authority::parse_or(target.as_bytes(), Port::HTTPS).unwrap();
        let mut destinations = BTreeMap::new();
        for authority in targets.iter().map(parse) {
            *destinations.entry(authority).or_default() += 1;
        }
        destinations
    }

    fn suggested(targets: &[&str]) -> Vec<String> {
        let said = suggest(&destinations(targets)).into_iter();
        said.map(|said| format!("{} {}/{}", said.pattern, said.requests, said.hosts)).collect()
    }

    #[test]
    fn exact_names_first() {
        assert_eq!(
            suggested(&[
                "b.a.com",
                "a.com",
                "a.com:80",
                "b.com:8443",
                "b.com:22",
                "8.8.8.8",
                "c.a.com",
            ]),
            [
                "a.com 2/1",
                "b.a.com 1/1",
                "c.a.com 1/1",
                "b.com:22 1/1",
                "b.com:8443 1/1",
                "8.8.8.8 1/1"
            ]
        );
    }

    #[test]
    fn many_side_by_side() {
        let five = |base: &str| -> Vec<String> { (0..5).map(|n| format!("n{n}.{base}")).collect() };
        let of = |bases: &[&str], more: &[&str]| {
            let names: Vec<String> = bases.iter().flat_map(|base| five(base)).collect();
            let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
            names.extend(more);
            suggested(&names)
        };
        assert_eq!(of(&["cdn.a.com"], &["a.com"]), ["a.com 1/1", "*.cdn.a.com 5/5"]);
        assert_eq!(of(&["cdn.a.com"], &["cdn.a.com", "x.n1.cdn.a.com"]), ["**.cdn.a.com 7/7"]);
        assert_eq!(of(&["cdn.a.com", "a.com"], &["b.com"]), ["*.a.com 10/10", "b.com 1/1"]);
        assert_eq!(of(&["a.com:8080"], &["x.a.com:99"]), ["*.a.com:8080 5/5", "x.a.com:99 1/1"]);
        for shared in ["com", "github.io", "co.uk", "s3.amazonaws.com", "amazonaws.com", "unknown"]
        {
            assert_eq!(of(&[shared], &[]).len(), 5, "{shared}");
        }
    }

    proptest! {
        /// What was asked for is allowed, and no public suffix is.
        #[test]
        fn enough_and_not_everything(
            targets in vec((select(LABELS), select(LABELS), select(BASES), select(PORTS)), 0..40),
        ) {
            let targets: Vec<String> =
                targets.iter().map(|(a, b, base, port)| format!("{a}{b}{base}{port}")).collect();
            let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
            let destinations = destinations(&targets);
            let patterns: Vec<String> =
                suggest(&destinations).iter().map(|said| said.pattern.to_string()).collect();
            let text = format!("[experimental_network]\nenabled = true\nallowed_domains = {patterns:?}\n");
            let review = Review::of(text.as_bytes(), &Arc::new(Source::file("r.toml")), 7);
            prop_assert!(review.problems.is_empty(), "{:?}", review.problems);
            let Outcome::Ruleset(ruleset) = review.outcome else { panic!("a policy") };
            let policy = Policy::new(*ruleset, Egress::default(), 1);
            for authority in destinations.keys() {
                prop_assert!(policy.decide(authority).is_ok(), "{authority} by {patterns:?}");
            }
            for stranger in ["stranger.com", "stranger.github.io", "stranger.s3.amazonaws.com"] {
                let authority = Authority::parse_or(stranger.as_bytes(), Port::HTTPS).unwrap();
                prop_assert!(policy.decide(&authority).is_err(), "{stranger} by {patterns:?}");
            }
        }
    }

    const LABELS: &[&str] = &["a.", "b.", "c.", "d.", "e.", "f.", ""];
    const BASES: &[&str] = &["x.com", "y.x.com", "z.github.io", "z.s3.amazonaws.com"];
    const PORTS: &[&str] = &["", ":80", ":8080", ":22"];
}
