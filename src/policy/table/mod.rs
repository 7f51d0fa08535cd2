//! All name rules of both lists in one table: the final verdict of a name for one hash and, on a
//! miss, nearly always one cache line, whatever the number of rules and lists.
//!
//! # Layout
//!
//! ```text
//! api.eu.example.com         lines (64 bytes each)             a rule, as it is kept (super::rules)
//!        └────┬────┘        ┌──────────────┬────────────────┐   ┌─────┬──────┬──────┬──────────┐
//!          anchor ── hash ─►│ 12 tags of 1 │ 12 targets of 4│──►│ len │ kind │ line │ name ... │
//!      (last two labels)    └──────────────┴────────────────┘   └─────┴──────┴──────┴──────────┘
//!                                                     │         ┌─────┬──────┬───────┬────────┬──────────┐
//!                                                     └────────►│ len │ here │ below │ depths │ name ... │
//!                                                               └─────┴──────┴───────┴────────┴──────────┘
//!                                                                a node: here more is to say than one rule says
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
mod line;
mod node;
mod own;

use std::collections::BTreeMap;

pub(super) use self::{asking::AskId, build::Finding};
use self::{
    asking::Asks,
    hash::{Keys, equal},
    line::{Line, Tag, Target},
    node::{Depths, Node, Nodes},
};
use super::{List, RuleId, Rules, candidate::Candidate, rules::Reach};
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
    /// Whether there is nothing of all this.
    is_silent: bool,
}

/// The final verdicts at a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Final {
    here: Verdict,
    below: Verdict,
}

/// A slot of the table: which line, and which of its slots.
#[derive(Debug, Clone, Copy)]
struct Place {
    line: usize,
    slot: usize,
}

/// What a quick look for the record of a name's domain finds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Probe {
    /// Something that looks like it.
    Found(Target),
    /// There is none.
    Missing,
    /// It takes more than a quick look.
    Elsewhere,
}

impl Table {
    /// Looks for a name's domain where it would be: most names end here, because it is not.
    #[inline]
    pub(super) fn probe(&self, name: &DnsName) -> Probe {
        let Some(hash) = self.keys.hash_usual(name.anchor()) else { return Probe::Elsewhere };
        let (line, tag) = (self.lines.get(self.line_of(hash)), Tag::of(hash));
        match line.map(|line| (line.first(tag), line)) {
            Some((Some(first), _)) => Probe::Found(first),
            Some((None, line)) if line.passes_on(tag) => Probe::Elsewhere,
            Some((None, _)) | None => Probe::Missing,
        }
    }

    /// What the rules say about a name that was probed.
    #[inline]
    pub(super) fn lookup(&self, rules: &Rules, name: &DnsName, probe: Probe) -> Verdict {
        let anchor = name.anchor();
        let target = match probe {
            // The first that looks like it nearly always is it.
            Probe::Found(first) if self.is_named(rules, first, anchor) => Some(first),
            Probe::Found(_) | Probe::Elsewhere => self.find(rules, anchor),
            Probe::Missing => None,
        };
        let verdict = target.map(|target| self.under_anchor(rules, name, target));
        match verdict {
            None | Some(Verdict::Nothing) => self.roots.of(name),
            Some(verdict) => verdict,
        }
    }

    /// Whether nothing is said about names whose own domain no rule speaks about.
    #[inline]
    pub(super) fn is_silent_elsewhere(&self) -> bool {
        self.roots.is_silent
    }

    /// What holds for names that no rule of their own domain speaks about, and for addresses.
    pub(super) fn everywhere(&self) -> Verdict {
        self.roots.everywhere
    }

    /// The most specific glob that denies the text.
    pub(super) fn denying(&self, ask: AskId, text: &str) -> Option<Candidate> {
        self.asks.denying(ask, text)
    }

    /// The allows that match the text, in no order.
    pub(super) fn allowing(&self, ask: AskId, text: &str) -> impl Iterator<Item = Candidate> {
        self.asks.allowing(ask, text)
    }

    /// Bytes of memory, wildcards aside.
    pub(super) fn heap_bytes(&self) -> usize {
        self.lines.capacity() * size_of::<Line>() + self.nodes.heap_bytes()
    }

    #[inline]
    fn under_anchor(&self, rules: &Rules, name: &DnsName, target: Target) -> Verdict {
        let whole = name.anchor().len() == name.as_bytes().len();
        match target {
            Target::Rule(rule) => alone(rules, rule).at(whole),
            Target::Node(node) => {
                let Some(Node { here, below, depths }) = self.nodes.get(node) else {
                    return Verdict::Nothing;
                };
                let finals = Final { here, below };
                match whole || depths.is_empty() {
                    true => finals.at(whole),
                    false => self.deeper(rules, name, depths).unwrap_or(below),
                }
            }
        }
    }

    /// The deepest record of three labels or more that the name lies at or below.
    fn deeper(&self, rules: &Rules, name: &DnsName, depths: Depths) -> Option<Verdict> {
        let top = name.labels().min(depths.most());
        let mut rest = last_labels(name, top)?;
        for labels in (3..=top).rev() {
            if depths.contain(labels)
                && let Some(target) = self.find(rules, rest)
            {
                let whole = labels == name.labels();
                return Some(self.finals(rules, target)?.at(whole));
            }
            let dot = rest.iter().position(|byte| *byte == b'.')?;
            rest = rest.get(dot + 1..)?;
        }
        None
    }

    fn finals(&self, rules: &Rules, target: Target) -> Option<Final> {
        match target {
            Target::Rule(rule) => Some(alone(rules, rule)),
            Target::Node(node) => {
                let Node { here, below, .. } = self.nodes.get(node)?;
                Some(Final { here, below })
            }
        }
    }

    /// The record of a name.
    fn find(&self, rules: &Rules, name: &[u8]) -> Option<Target> {
        self.find_hash(rules, name, self.keys.hash(name))
    }

    #[inline]
    fn find_hash(&self, rules: &Rules, name: &[u8], hash: u64) -> Option<Target> {
        let first = self.lines.get(self.line_of(hash)).and_then(|line| line.first(Tag::of(hash)));
        match first {
            Some(target) if self.is_named(rules, target, name) => Some(target),
            _ => self.search(rules, name, hash).map(|(_, target)| target),
        }
    }

    /// Looks at everything that looks like a name, line after line: the record, and the slot that
    /// points at it.
    #[cold]
    fn search(&self, rules: &Rules, name: &[u8], hash: u64) -> Option<(Place, Target)> {
        let tag = Tag::of(hash);
        let mut at = self.line_of(hash);
        loop {
            let line = self.lines.get(at)?;
            for slot in line.marks(tag) {
                let Some(target) = line.target(slot) else { continue };
                if self.is_named(rules, target, name) {
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
    fn is_named(&self, rules: &Rules, target: Target, name: &[u8]) -> bool {
        self.name_of(rules, target).is_some_and(|other| equal(other, name))
    }

    #[inline]
    fn name_of<'r>(&'r self, rules: &'r Rules, target: Target) -> Option<&'r [u8]> {
        match target {
            Target::Rule(rule) => rules.name(rule),
            Target::Node(node) => self.nodes.name(node),
        }
    }

    /// Any number of lines: the lower half of the hash, as a fraction, times their number.
    #[inline]
    fn line_of(&self, hash: u64) -> usize {
        let lines = u64::try_from(self.lines.len()).unwrap_or(u64::MAX);
        usize::try_from(((hash & u64::from(u32::MAX)) * lines) >> 32).unwrap_or(usize::MAX)
    }
}

impl Roots {
    fn of(&self, name: &DnsName) -> Verdict {
        match self.labels.is_empty() {
            true => self.everywhere,
            false => self.of_label(name.as_str()),
        }
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

impl Final {
    #[inline]
    fn at(self, whole: bool) -> Verdict {
        if whole { self.here } else { self.below }
    }
}

/// The last labels of a name that has more than two. However long the name is, only they are
/// looked at.
#[inline]
fn last_labels(name: &DnsName, labels: usize) -> Option<&[u8]> {
    let whole = name.as_bytes();
    if labels == name.labels() {
        return Some(whole);
    }
    // What is left of the anchor and its dot.
    let mut head = whole.get(..whole.len().checked_sub(name.anchor().len() + 1)?)?;
    for _ in 2..labels {
        let dot = head.iter().rposition(|byte| *byte == b'.')?;
        head = head.get(..dot)?;
    }
    whole.get(head.len() + 1..)
}

/// What a rule says that stands alone at its base.
#[inline]
fn alone(rules: &Rules, rule: RuleId) -> Final {
    let Some((list, reach)) = rules.says(rule) else {
        return Final { here: Verdict::Nothing, below: Verdict::Nothing };
    };
    let verdict = match list {
        List::Allow => Verdict::Allow(rule),
        List::Deny => Verdict::Deny(rule),
    };
    match reach {
        Reach::Exact => Final { here: verdict, below: Verdict::Nothing },
        Reach::Below => Final { here: Verdict::Nothing, below: verdict },
        Reach::Tree => Final { here: verdict, below: verdict },
    }
}

#[cfg(test)]
mod tests;
