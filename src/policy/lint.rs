//! Rules that can never decide, because a deny covers all that they allow.
//!
//! One pass over the rules, with a hash of the denied names; it changes nothing about what a
//! policy means.

use std::{collections::HashMap, ops::Range};

use super::{List, Problem, Rule, Shape};
use crate::net::Host;

/// Globs looked at for each allow; more would make a hostile file slow to check.
const MAX_GLOBS: usize = 32;

/// The denies at one name.
#[derive(Default)]
struct Denied<'a> {
    /// Covers the name itself.
    here: Option<&'a Rule>,
    /// Covers everything below.
    below: Option<&'a Rule>,
}

/// A warning for every allow that a deny swallows whole. `spans` goes with `rules`.
pub(super) fn shadowed(rules: &[Rule], spans: &[Range<usize>]) -> Vec<Problem> {
    let denied = index(rules);
    let globs: Vec<&Rule> = rules
        .iter()
        .filter(|rule| rule.list == List::Deny && matches!(rule.pattern.shape(), Shape::Glob(_)))
        .take(MAX_GLOBS)
        .collect();
    rules
        .iter()
        .zip(spans)
        .filter(|(rule, _)| rule.list == List::Allow)
        .filter_map(|(allow, span)| {
            let deny = covering(allow, &denied, &globs)?;
            // The same pattern in both lists has its own warning.
            (deny.pattern != allow.pattern).then(|| warning(allow, deny, span.clone()))
        })
        .collect()
}

fn warning(allow: &Rule, deny: &Rule, span: Range<usize>) -> Problem {
    let message = format!(
        "`{}` can never allow anything: `{}` on line {} denies it all",
        allow.pattern, deny.pattern, deny.line
    );
    Problem::warning(span, message).with_help("remove one of the two: deny wins, always")
}

fn index(rules: &[Rule]) -> HashMap<&str, Denied<'_>> {
    let mut denied: HashMap<&str, Denied<'_>> = HashMap::new();
    for rule in rules.iter().filter(|rule| rule.list == List::Deny) {
        match rule.pattern.shape() {
            Shape::Exact(name) => {
                denied.entry(name.as_str()).or_default().here.get_or_insert(rule);
            }
            Shape::Subdomains(base) => {
                denied.entry(base.as_str()).or_default().below.get_or_insert(rule);
            }
            Shape::Tree(base) => {
                let entry = denied.entry(base.as_str()).or_default();
                entry.here.get_or_insert(rule);
                entry.below.get_or_insert(rule);
            }
            Shape::Address(_) | Shape::Any | Shape::Glob(_) => {}
        }
    }
    denied
}

/// The deny that covers everything the allow matches, if one does.
fn covering<'a>(
    allow: &Rule,
    denied: &HashMap<&str, Denied<'a>>,
    globs: &[&'a Rule],
) -> Option<&'a Rule> {
    let above = |name: &str| {
        let bases = name.match_indices('.').filter_map(|(dot, _)| name.get(dot + 1..));
        bases.into_iter().find_map(|base| denied.get(base)?.below)
    };
    match allow.pattern.shape() {
        Shape::Exact(name) => {
            let here = denied.get(name.as_str()).and_then(|denied| denied.here);
            let glob = || {
                let host = Host::Name(name.clone());
                globs.iter().copied().find(|rule| rule.matches(&host))
            };
            here.or_else(|| above(name.as_str())).or_else(glob)
        }
        Shape::Subdomains(base) => {
            let here = denied.get(base.as_str()).and_then(|denied| denied.below);
            here.or_else(|| above(base.as_str()))
        }
        Shape::Tree(base) => {
            let here = denied.get(base.as_str()).and_then(|denied| {
                denied.below.filter(|rule| matches!(rule.pattern.shape(), Shape::Tree(_)))
            });
            here.or_else(|| above(base.as_str()))
        }
        Shape::Address(address) => {
            let host = Host::from(*address);
            globs.iter().copied().find(|rule| rule.matches(&host))
        }
        Shape::Any | Shape::Glob(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::policy::{Review, Source};

    #[test]
    fn swallowed_allows_are_named() {
        let text = "[experimental_network]\nenabled = true\nallowed_domains = [\
                    \"a.evil.test\", \"*.b.evil.test\", \"**.evil.test\", \"**.c.evil.test\", \
                    \"good.test\", \"10.1.2.3\", \"ads7.test\"]\n\
                    denied_domains = [\"*.evil.test\", \"10.1.*\", \"ads?.test\"]\n";
        let review = Review::of(text.as_bytes(), &Arc::new(Source::file("r.toml")));
        let shadowed: Vec<_> = review
            .problems
            .iter()
            .filter(|problem| problem.message.contains("can never allow"))
            .filter_map(|problem| text.get(problem.span.clone()))
            .collect();
        assert_eq!(
            shadowed,
            [
                "\"a.evil.test\"",
                "\"*.b.evil.test\"",
                "\"**.c.evil.test\"",
                "\"10.1.2.3\"",
                "\"ads7.test\""
            ]
        );
    }
}
