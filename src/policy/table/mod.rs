//! All name rules of both lists in one table: the final verdict of a name for one hash and, on a
//! miss, nearly always one cache line, whatever the number of rules and lists.
//!
//! # Layout
//!
//! ```text
//! api.eu.example.com         lines (64 bytes each)              a rule, as it is kept (super::rules)
//!        └────┬────┘        ┌──────────────┬───────────────┬─────────────────┐     ┌──────────┬─────┬──────┬──────┐
//!          anchor ── hash ─►│ 12 tags of 1 │ 4: passed on? │ 12 targets of 4 │──┬─►│ ... name │ len │ kind │ line │
//!      (last two labels)    └──────────────┴───────────────┴─────────────────┘  │  └──────────┴─────┴──────┴──────┘
//!                                                                               │  ┌──────────┬─────┬──────┬───────┬────────┐
//!                                                                               └─►│ ... name │ len │ here │ below │ depths │
//!                                                                                  └──────────┴─────┴──────┴───────┴────────┘
//!                                                                    a node: here more is to say than one rule says
//! ```
//!
//! A rule that stands alone at its base is its own record: nothing is written twice. A base with
//! several rules, or below another one, has a node with what is final for the name itself (`here`)
//! and for every name below it that has no deeper record (`below`): when the table is built, each
//! node inherits from the nearest record above, and deny wins once and for all.
//!
//! So a lookup asks for the last two labels first. If there is no such record, no rule speaks about
//! the name. If there is, its `depths` say with how many labels deeper records exist under it, and
//! only those are asked for, the deepest first.
//!
//! Names are always compared byte by byte: a tag is a hint, never an answer. The seed is random,
//! which makes it hard to write rules that collide; hosts are only looked up, never stored.
//!
//! Ports and wildcards inside labels are not in here: where they have a say, the verdict is
//! [`Verdict::Ask`], and [`asking`] knows whom.

mod asking;
mod build;
mod hash;
mod key;
mod line;
mod node;
mod own;

use std::collections::BTreeMap;

pub(super) use self::{asking::AskId, build::Finding, key::Ending};
use self::{
    asking::Asks,
    hash::Keys,
    key::{Key, Last32, last_32_of},
    line::{Line, Record, Tag, Target},
    node::{Depths, Nodes, Packed},
};
use super::{List, RuleId, Rules, candidate::Candidate};
use crate::net::DnsName;

/// What the rules say about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This rule allows it, on every port.
    Allow(RuleId),
    /// Rules with ports or wildcards have a say too.
    Ask(AskId),
    /// This rule denies it.
    Deny(RuleId),
    /// No rule matches.
    Nothing,
}

/// The table. It holds no names of its own rules: a lookup is given the [`Rules`] it was built of.
#[derive(Debug)]
pub(super) struct Table {
    keys: Keys,
    lines: Vec<Line>,
    nodes: Nodes,
    asks: Asks,
    roots: Roots,
}

/// What holds for names whose last two labels no rule speaks about.
#[derive(Debug)]
struct Roots {
    /// Rules about one label: a top-level domain, or a name without dots.
    labels: BTreeMap<Box<str>, Final>,
    /// For every other name: `*`, and wildcards without a literal end.
    everywhere: Verdict,
}

/// The final verdicts at a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Final {
    here: Verdict,
    below: Verdict,
}

/// A name that is looked for.
#[derive(Debug, Clone, Copy)]
struct Sought<'n> {
    name: &'n [u8],
    /// The same flush right, if it is short.
    block: Option<Last32>,
    hash: u64,
}

/// A slot of the table: which line, and which of its slots.
#[derive(Debug, Clone, Copy)]
struct Place {
    line: usize,
    slot: usize,
}

/// What a quick look for a record finds.
#[derive(Debug, Clone, Copy)]
enum Probe {
    /// Something that looks like it.
    Found(Target),
    /// There is none.
    Missing,
    /// It takes more than a quick look.
    Elsewhere,
}

impl Table {
    /// What the rules say about a name.
    #[inline]
    pub(super) fn lookup(&self, rules: &Rules, name: &DnsName) -> Verdict {
        let key = Key::of_last(name.last_32(), name.anchor_len());
        match key.map_or(Probe::Elsewhere, |key| self.probe(key)) {
            // Most names end here: no rule speaks about their domain.
            Probe::Missing => self.roots.of(name),
            Probe::Found(first) => self.lookup_domain(rules, name, Some(first)),
            Probe::Elsewhere => self.lookup_domain(rules, name, None),
        }
    }

    /// Looks for a record where it would be.
    #[inline]
    fn probe(&self, key: Key<'_>) -> Probe {
        let hash = key.hash(&self.keys);
        let (line, tag) = (self.lines.get(self.line_of(hash)), Tag::of(hash));
        match line.map(|line| (line.first(tag), line)) {
            Some((Some(first), _)) => Probe::Found(first),
            Some((None, line)) if line.passes_on(tag) => Probe::Elsewhere,
            Some((None, _)) | None => Probe::Missing,
        }
    }

    /// What the rules say about a name whose domain they may speak about; `first` is what looks
    /// like its record, and nearly always is it.
    #[inline(never)]
    fn lookup_domain(&self, rules: &Rules, name: &DnsName, first: Option<Target>) -> Verdict {
        let key = Key::of_last(name.last_32(), name.anchor_len());
        match (first, key) {
            (Some(first), Some(key)) if self.has_key(rules, first, key) => {
                self.at_domain(rules, name, first)
            }
            _ => self.search_domain(rules, name),
        }
    }

    /// What holds for names that no rule of their own domain speaks about, and for addresses.
    pub(super) fn everywhere(&self) -> Verdict {
        self.roots.everywhere
    }

    /// The most specific glob that denies the text.
    pub(super) fn denying(&self, ask: AskId, text: &[u8]) -> Option<Candidate> {
        self.asks.denying(ask, text)
    }

    /// Hands out the allows that match the text, in no order.
    pub(super) fn each_allowing(&self, ask: AskId, text: &[u8], take: impl FnMut(Candidate)) {
        self.asks.each_allowing(ask, text, take);
    }

    /// Bytes of memory, wildcards aside.
    pub(super) fn heap_bytes(&self) -> usize {
        self.lines.capacity() * size_of::<Line>() + self.nodes.heap_bytes()
    }

    /// The same by looking everywhere.
    #[cold]
    #[inline(never)]
    fn search_domain(&self, rules: &Rules, name: &DnsName) -> Verdict {
        match self.find_end(rules, name, name.anchor()) {
            Some(domain) => self.at_domain(rules, name, domain),
            None => self.roots.of(name),
        }
    }

    /// What the record of a name's domain says, or one that lies deeper.
    #[inline]
    fn at_domain(&self, rules: &Rules, name: &DnsName, domain: Target) -> Verdict {
        let whole = name.anchor_len() == name.text_len();
        let verdict = match domain.record() {
            Record::Rule(rule) => alone(rules, rule, whole),
            Record::Node(node) => match self.nodes.get(node) {
                Some(node) if !whole && !node.depths.is_empty() => {
                    return self.deeper(rules, name, node.depths, node.below);
                }
                Some(node) => node.at(whole),
                None => Verdict::Nothing,
            },
        };
        self.roots.or(verdict, name)
    }

    /// What the deepest record says that the name lies at or below; `below` is what its domain
    /// does. Records have three labels nearly always.
    #[inline(never)]
    fn deeper(&self, rules: &Rules, name: &DnsName, depths: Depths, below: Packed) -> Verdict {
        let length = name.three_labels_len();
        let key = Key::of_last(name.last_32(), length);
        let (true, Some(key)) = (depths.are_three() || length == name.text_len(), key) else {
            return self.deepest(rules, name, depths, below);
        };
        match self.probe(key) {
            Probe::Found(first) if self.has_key(rules, first, key) => {
                self.roots.or(self.says(rules, first, length == name.text_len()), name)
            }
            Probe::Missing => self.roots.or(below.verdict(), name),
            Probe::Found(_) | Probe::Elsewhere => self.deepest(rules, name, depths, below),
        }
    }

    /// The same for records of any number of labels, the deepest first. However long the name is,
    /// only as many labels are looked at as a record may have.
    #[inline(never)]
    fn deepest(&self, rules: &Rules, name: &DnsName, depths: Depths, below: Packed) -> Verdict {
        let whole = name.as_bytes();
        let (mut end, mut labels) = last_labels(whole, depths.most());
        while labels > 2 {
            if depths.contain(labels)
                && let Some(target) = self.find_end(rules, name, end)
            {
                return self.roots.or(self.says(rules, target, end.len() == whole.len()), name);
            }
            let dot = end.iter().position(|byte| *byte == b'.');
            end = dot.and_then(|dot| end.get(dot + 1..)).unwrap_or_default();
            labels -= 1;
        }
        self.roots.or(below.verdict(), name)
    }

    /// The record of the end of a name.
    #[inline]
    fn find_end(&self, rules: &Rules, name: &DnsName, end: &[u8]) -> Option<Target> {
        match Key::of_last(name.last_32(), end.len()) {
            Some(key) => self.find_key(rules, key, key.hash(&self.keys)),
            None => self.find(rules, end),
        }
    }

    /// What a record says about its own name, or else about what is below.
    #[inline]
    fn says(&self, rules: &Rules, target: Target, whole: bool) -> Verdict {
        match target.record() {
            Record::Rule(rule) => alone(rules, rule, whole),
            Record::Node(node) => {
                self.nodes.get(node).map_or(Verdict::Nothing, |node| node.at(whole))
            }
        }
    }

    /// The record of a name.
    fn find(&self, rules: &Rules, name: &[u8]) -> Option<Target> {
        self.find_sought(rules, &self.sought(name))
    }

    fn sought<'n>(&self, name: &'n [u8]) -> Sought<'n> {
        let mut sought = Sought { name, block: last_32_of(name), hash: 0 };
        sought.hash = match sought.key() {
            Some(key) => key.hash(&self.keys),
            None => self.keys.hash_long(name),
        };
        sought
    }

    fn find_sought(&self, rules: &Rules, sought: &Sought<'_>) -> Option<Target> {
        match sought.key() {
            Some(key) => self.find_key(rules, key, sought.hash),
            None => self.search(rules, sought).map(|(_, target)| target),
        }
    }

    fn find_key(&self, rules: &Rules, key: Key<'_>, hash: u64) -> Option<Target> {
        let is_it = |target| self.has_key(rules, target, key);
        self.search_line(hash, is_it).map(|(_, target)| target)
    }

    /// The record of a name, and the slot that points at it.
    fn search(&self, rules: &Rules, sought: &Sought<'_>) -> Option<(Place, Target)> {
        let is_it = |target| self.name_of(rules, target) == Some(sought.name);
        self.search_line(sought.hash, is_it)
    }

    /// Looks at everything that looks like a name with that hash, line after line.
    fn search_line(&self, hash: u64, is_it: impl Fn(Target) -> bool) -> Option<(Place, Target)> {
        let tag = Tag::of(hash);
        let mut at = self.line_of(hash);
        loop {
            let line = self.lines.get(at)?;
            for slot in line.marks(tag) {
                if let Some(target) = line.target(slot).filter(|target| is_it(*target)) {
                    return Some((Place { line: at, slot }, target));
                }
            }
            if !line.passes_on(tag) {
                return None;
            }
            at = if at + 1 == self.lines.len() { 0 } else { at + 1 };
        }
    }

    #[inline]
    fn has_key(&self, rules: &Rules, target: Target, key: Key<'_>) -> bool {
        let ending = match target.record() {
            Record::Rule(rule) => rules.ending(rule),
            Record::Node(node) => self.nodes.ending(node),
        };
        ending.is_some_and(|ending| key.is_that_of(ending))
    }

    fn name_of<'r>(&'r self, rules: &'r Rules, target: Target) -> Option<&'r [u8]> {
        match target.record() {
            Record::Rule(rule) => rules.name(rule),
            Record::Node(node) => self.nodes.name(node),
        }
    }

    /// Any number of lines: the lower half of the hash, as a fraction, times their number.
    #[inline]
    fn line_of(&self, hash: u64) -> usize {
        let lines = u64::try_from(self.lines.len()).unwrap_or(u64::MAX);
        usize::try_from(((hash & u64::from(u32::MAX)) * lines) >> 32).unwrap_or(usize::MAX)
    }
}

impl Sought<'_> {
    fn key(&self) -> Option<Key<'_>> {
        Key::of_last(self.block.as_ref()?, self.name.len())
    }
}

impl Roots {
    /// A verdict, or else what the roots say.
    #[inline]
    fn or(&self, verdict: Verdict, name: &DnsName) -> Verdict {
        match verdict {
            Verdict::Nothing => self.of(name),
            Verdict::Allow(_) | Verdict::Ask(_) | Verdict::Deny(_) => verdict,
        }
    }

    #[inline]
    fn of(&self, name: &DnsName) -> Verdict {
        match self.labels.is_empty() {
            true => self.everywhere,
            false => self.of_last_label(name),
        }
    }

    #[inline(never)]
    fn of_last_label(&self, name: &DnsName) -> Verdict {
        self.of_label(name.as_str())
    }

    /// What a rule about the top-level domain says.
    fn of_label(&self, name: &str) -> Verdict {
        let found = match name.rsplit_once('.') {
            Some((_, root)) => self.labels.get(root).map(|root| root.below),
            None => self.labels.get(name).map(|root| root.here),
        };
        found.unwrap_or(self.everywhere)
    }
}

/// So many last labels of a name, or all that it has; and how many that is.
fn last_labels(name: &[u8], most: usize) -> (&[u8], usize) {
    let mut labels = 1;
    for (at, byte) in name.iter().enumerate().rev() {
        if *byte == b'.' {
            if labels == most {
                return (name.get(at + 1..).unwrap_or_default(), labels);
            }
            labels += 1;
        }
    }
    (name, labels)
}

/// What a rule that stands alone at its base says about the base, or else about what is below.
#[inline]
fn alone(rules: &Rules, rule: RuleId, whole: bool) -> Verdict {
    match rules.says(rule) {
        Some((List::Allow, reach)) if reach.covers(whole) => Verdict::Allow(rule),
        Some((List::Deny, reach)) if reach.covers(whole) => Verdict::Deny(rule),
        Some(_) | None => Verdict::Nothing,
    }
}

#[cfg(test)]
mod tests;
