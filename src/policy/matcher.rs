//! The matcher that serves: a hash of suffixes for names, one of addresses, globs in a list.
//!
//! One matcher holds one list. For a host it finds the rules that match, most specific first;
//! [`super::reference`] finds the same ones slowly and obviously, and tests compare the two. A
//! name costs one hash per label, whatever the number of rules; globs are tried one by one.

use std::{collections::HashMap, net::IpAddr};

use super::{List, Rule, RuleId, Shape, glob::Glob};
use crate::net::{Host, Port};

/// All rules of one list, ready to be asked.
#[derive(Debug)]
pub(super) struct Matcher {
    names: HashMap<Box<str>, Node>,
    addresses: HashMap<IpAddr, Vec<Candidate>>,
    globs: Vec<(Glob, Candidate)>,
    /// Globs over addresses say nothing about names (see [`Rule::matches`]).
    list: List,
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
            names: HashMap::new(),
            addresses: HashMap::new(),
            globs: Vec::new(),
            list,
            any: Vec::new(),
        };
        let ids = (0..).map(RuleId);
        let mut numbered: Vec<_> = ids.zip(rules).filter(|(_, rule)| rule.list == list).collect();
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

    /// The rules that match the host, most specific first.
    pub(super) fn candidates(&self, host: &Host) -> impl Iterator<Item = Candidate> {
        let named = match host {
            Host::Name(name) => Some(self.by_suffix(name.as_str())),
            Host::Ip(_) => None,
        };
        let addressed = match host {
            Host::Ip(address) => self.addresses.get(address),
            Host::Name(_) => None,
        };
        named
            .into_iter()
            .flatten()
            .chain(addressed.into_iter().flatten().copied())
            .chain(self.by_glob(host))
            .chain(self.any.iter().copied())
    }

    /// The deny rules that speak about a resolved address: literals, and globs over addresses.
    pub(super) fn address_candidates(&self, address: IpAddr) -> impl Iterator<Item = Candidate> {
        let text = address.to_string();
        let globs = self
            .globs
            .iter()
            .filter(move |(glob, _)| glob.is_over_address() && glob.matches(&text))
            .map(|(_, candidate)| *candidate);
        self.addresses.get(&address).into_iter().flatten().copied().chain(globs)
    }

    fn by_suffix(&self, name: &str) -> impl Iterator<Item = Candidate> {
        let here = self.names.get(name).into_iter().flat_map(|node| node.here.iter().copied());
        let bases = name.match_indices('.').filter_map(|(dot, _)| name.get(dot + 1..));
        let below = bases
            .filter_map(|base| self.names.get(base))
            .flat_map(|node| node.below.iter().copied());
        here.chain(below)
    }

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
