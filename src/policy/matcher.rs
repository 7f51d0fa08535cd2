//! What the table of names does not hold: addresses, globs, `*`, and allows narrowed to a port.
//!
//! One matcher holds one list. Together with [`super::table`] it finds the rules that match a host,
//! most specific first; [`super::reference`] finds the same ones slowly and obviously, and tests
//! compare the two. Globs are tried one by one.

use std::{collections::BTreeMap, net::IpAddr};

use super::{List, Rule, RuleId, Shape, glob::Glob};
use crate::net::{DnsName, Host, Port};

/// The rules of one list, ready to be asked.
#[derive(Debug)]
pub(super) struct Matcher {
    list: List,
    /// Empty unless a name is narrowed to a port: the table knows better.
    names: BTreeMap<Box<str>, Node>,
    addresses: BTreeMap<IpAddr, Vec<Candidate>>,
    globs: Vec<(Glob, Candidate)>,
    any: Vec<Candidate>,
}

/// The rules at one name.
#[derive(Debug, Default)]
struct Node {
    /// Speak about the name itself: exact ones first.
    here: Vec<Candidate>,
    /// Speak about every name below.
    below: Vec<Candidate>,
}

/// A matching rule, and the port it is narrowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) rule: RuleId,
    pub(super) port: Option<Port>,
}

impl Matcher {
    /// Builds the matcher of one list; a rule's id is its place in `rules`.
    pub(super) fn new(rules: &[Rule], list: List) -> Self {
        let mut matcher = Self {
            list,
            names: BTreeMap::new(),
            addresses: BTreeMap::new(),
            globs: Vec::new(),
            any: Vec::new(),
        };
        let of_list = |rule: &Rule| rule.list == list;
        let narrows = |rule: &Rule| is_named(rule) && rule.pattern.port().is_some();
        let with_names = rules.iter().any(|rule| of_list(rule) && narrows(rule));
        let ids = (0..).map(RuleId);
        let mut numbered: Vec<_> = ids
            .zip(rules)
            .filter(|(_, rule)| of_list(rule) && (with_names || !is_named(rule)))
            .collect();
        // Lists are filled in this order, so that the first of each is the most specific.
        numbered.sort_by_key(|(id, rule)| (rule.specificity(), *id));
        for (id, rule) in numbered {
            matcher.insert(rule, Candidate { rule: id, port: rule.pattern.port() });
        }
        matcher
    }

    fn insert(&mut self, rule: &Rule, candidate: Candidate) {
        match rule.pattern.shape() {
            Shape::Address(address) => {
                self.addresses.entry(*address).or_default().push(candidate);
            }
            Shape::Any => self.any.push(candidate),
            Shape::Exact(name) => self.node(name.as_str()).here.push(candidate),
            Shape::Glob(glob) => self.globs.push((glob.clone(), candidate)),
            Shape::Subdomains(base) => self.node(base.as_str()).below.push(candidate),
            Shape::Tree(base) => {
                let node = self.node(base.as_str());
                node.here.push(candidate);
                node.below.push(candidate);
            }
        }
    }

    fn node(&mut self, name: &str) -> &mut Node {
        self.names.entry(name.into()).or_default()
    }

    /// Whether any rule outside the table can match a name.
    pub(super) fn has_wildcards(&self) -> bool {
        !self.globs.is_empty() || !self.any.is_empty()
    }

    /// The rules about names that match, most specific first; for [`super::table::Verdict::Ask`].
    pub(super) fn named(&self, name: &DnsName) -> impl Iterator<Item = Candidate> {
        let name = name.as_str();
        let here = self.names.get(name).into_iter().flat_map(|node| node.here.iter().copied());
        let bases = name.match_indices('.').filter_map(|(dot, _)| name.get(dot + 1..));
        let below = bases
            .filter_map(|base| self.names.get(base))
            .flat_map(|node| node.below.iter().copied());
        here.chain(below)
    }

    /// The other rules that match the host, most specific first.
    pub(super) fn unnamed(&self, host: &Host) -> impl Iterator<Item = Candidate> {
        let addressed = match host {
            Host::Ip(address) => self.addresses.get(address),
            Host::Name(_) => None,
        };
        let addressed = addressed.into_iter().flatten().copied();
        addressed.chain(self.by_glob(host)).chain(self.any.iter().copied())
    }

    /// The deny rules that speak about a resolved address: literals, and globs over addresses.
    pub(super) fn address_candidates(&self, address: IpAddr) -> impl Iterator<Item = Candidate> {
        let text = if self.globs.is_empty() { String::new() } else { address.to_string() };
        let globs = self
            .globs
            .iter()
            .filter(move |(glob, _)| glob.is_over_address() && glob.matches(&text))
            .map(|(_, candidate)| *candidate);
        self.addresses.get(&address).into_iter().flatten().copied().chain(globs)
    }

    /// Globs over addresses say nothing about names when they allow (see [`Rule::matches`]).
    fn by_glob(&self, host: &Host) -> impl Iterator<Item = Candidate> {
        let text = if self.globs.is_empty() { String::new() } else { host.to_bare_string() };
        let names_are_exempt = self.list == List::Allow && matches!(host, Host::Name(_));
        self.globs
            .iter()
            .filter(move |(glob, _)| !(names_are_exempt && glob.is_over_address()))
            .filter(move |(glob, _)| glob.matches(&text))
            .map(|(_, candidate)| *candidate)
    }
}

/// Whether the table holds the rule.
fn is_named(rule: &Rule) -> bool {
    match rule.pattern.shape() {
        Shape::Exact(_) | Shape::Subdomains(_) | Shape::Tree(_) => true,
        Shape::Address(_) | Shape::Any | Shape::Glob(_) => false,
    }
}
