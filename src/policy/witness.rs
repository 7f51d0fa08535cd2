//! Hosts that stand for all that a policy can tell apart: asking about them shows what it does.
//!
//! Of names without wildcards inside labels, that is exact: for each pattern its base and one name
//! right below it, and one that no pattern speaks about. A wildcard inside a label has one name,
//! and one for each other pattern it overlaps with; what only three patterns share is not looked
//! for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    Pattern, Rules, Shape,
    glob::{Glob, are_apart, name_of_both},
};
use crate::net::{DnsName, Host};

/// A host, and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Witness {
    /// For itself.
    Host,
    /// For every name below it that no rule names otherwise.
    Below(DnsName),
    /// For what a pattern matches.
    Pattern(Pattern),
    /// For what two patterns match.
    Both(Pattern, Pattern),
    /// For hosts that only `*` speaks about.
    Others(&'static str),
}

/// Hosts with what they stand for; each once, and for what is told first.
#[derive(Debug, Default)]
pub(super) struct Witnesses {
    hosts: BTreeMap<Host, Witness>,
    fresh: Vec<&'static str>,
    /// Overlaps that were not looked for because there are so many.
    pub(super) left_out: usize,
}

/// Labels for names below a base. With wildcards inside labels several are tried, as different as
/// can be, since such a pattern could match one of them.
const LABELS: &[&str] =
    &["any", "some-other", "x0", "unlisted", "q7w", "8ball", "zebra", "exeat-witness-of-a-name"];

/// How many pairs of patterns are looked at for names that both match: a second or two.
const MAX_PAIRS: usize = 100_000;

impl Witnesses {
    /// The witnesses of the patterns of both, `changed` being those that are not the same in both.
    pub(super) fn of(rules: [&Rules; 2], changed: &[Pattern]) -> Self {
        let all = || rules.into_iter().flat_map(|rules| rules.iter().map(|(_, rule)| rule.pattern));
        let globs: BTreeSet<Pattern> = all().filter(is_glob).collect();
        let fresh = fresh_labels(all(), if globs.is_empty() { 1 } else { 3 });
        let mut witnesses = Self { fresh, ..Self::default() };
        all().for_each(|pattern| witnesses.add_pattern(&pattern));
        let mut pairs = 0;
        for one in changed {
            let with_globs = globs.iter().filter(|other| *other != one).cloned();
            let rest = is_glob(one).then(|| all().filter(|other| !is_glob(other)));
            for other in
                with_globs.chain(rest.into_iter().flatten()).filter(|other| !are_apart(one, other))
            {
                pairs += 1;
                if pairs > MAX_PAIRS {
                    witnesses.left_out += 1;
                } else if let Some(name) = name_of_both(one, &other) {
                    witnesses.add(Host::Name(name), || Witness::Both(one.clone(), other.clone()));
                }
            }
        }
        witnesses.add_others();
        witnesses
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Host, &Witness)> {
        self.hosts.iter()
    }

    fn add(&mut self, host: Host, stands_for: impl FnOnce() -> Witness) {
        self.hosts.entry(host).or_insert_with(stands_for);
    }

    fn add_pattern(&mut self, pattern: &Pattern) {
        match pattern.shape() {
            Shape::Address(address) => self.add(Host::Ip(*address), || Witness::Host),
            Shape::Any => {}
            Shape::Exact(name) => self.add(Host::Name(name.clone()), || Witness::Host),
            Shape::Subdomains(base) | Shape::Tree(base) => {
                self.add(Host::Name(base.clone()), || Witness::Host);
                for label in self.fresh.clone() {
                    let below = DnsName::parse(format!("{label}.{base}").as_bytes())
                        .or_else(|_| DnsName::parse(format!("g.{base}").as_bytes()));
                    if let Ok(name) = below {
                        self.add(Host::Name(name), || Witness::Below(base.clone()));
                    }
                }
            }
            Shape::Glob(glob) => {
                let stands_for = || Witness::Pattern(pattern.clone().without_port());
                if let Ok(name) = glob.name() {
                    self.add(Host::Name(name), stands_for);
                }
                if let Some(address) = an_address(glob) {
                    self.add(Host::Ip(address), stands_for);
                }
            }
        }
    }

    /// One host of each kind that `*` treats in its own way.
    fn add_others(&mut self) {
        for label in self.fresh.clone() {
            for (name, of) in [
                (format!("{label}.elsewhere"), "every other name"),
                (format!("{label}.internal"), "names that exist inside networks only"),
                ("localhost".to_owned(), "this machine"),
            ] {
                if let Ok(name) = DnsName::parse(name.as_bytes()) {
                    self.add(Host::Name(name), || Witness::Others(of));
                }
            }
        }
        for (address, of) in [
            (IpAddr::V4(Ipv4Addr::new(193, 0, 6, 139)), "every other public address"),
            (
                IpAddr::V6(Ipv6Addr::new(0x2001, 0x67c, 0x2e8, 0, 0, 0, 0, 1)),
                "every other public address",
            ),
            (IpAddr::V4(Ipv4Addr::new(10, 11, 12, 13)), "private addresses"),
            (IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 2)), "private addresses"),
            (IpAddr::V4(Ipv4Addr::LOCALHOST), "this machine"),
            (IpAddr::V6(Ipv6Addr::LOCALHOST), "this machine"),
            (IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), "cloud metadata"),
        ] {
            self.add(Host::Ip(address), || Witness::Others(of));
        }
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("this host"),
            Self::Below(base) => write!(f, "*.{base}"),
            Self::Pattern(pattern) => write!(f, "{pattern}"),
            Self::Both(one, other) => write!(f, "{one} and {other}"),
            Self::Others(what) => f.write_str(what),
        }
    }
}

fn is_glob(pattern: &Pattern) -> bool {
    matches!(pattern.shape(), Shape::Glob(_))
}

/// So many labels that are none of any pattern's, if there are.
fn fresh_labels(patterns: impl Iterator<Item = Pattern>, count: usize) -> Vec<&'static str> {
    let mut fresh: Vec<&'static str> = LABELS.to_vec();
    for pattern in patterns {
        if let Shape::Exact(name) | Shape::Subdomains(name) | Shape::Tree(name) = pattern.shape() {
            fresh.retain(|label| !name.as_str().split('.').any(|taken| taken == *label));
        }
    }
    if fresh.is_empty() {
        fresh.extend(LABELS.last());
    }
    fresh.truncate(count);
    fresh
}

/// An address that the glob matches. The same is tried in every star's place, which nearly always
/// is enough.
fn an_address(glob: &Glob) -> Option<IpAddr> {
    let text = glob.to_string();
    let body = text.strip_prefix("**.").unwrap_or(&text).replace('?', "1");
    ["1", "1.1", "1.1.1", "0.0.1", "1:1", "1::1", ":1", "", "1:1:1:1:1:1:1"]
        .iter()
        .filter_map(|fill| body.replace('*', fill).parse::<IpAddr>().ok())
        .find(|address| glob.matches(address.to_string()))
}
