//! Building the table: gathering the rules of each base, inheriting from above, writing records.
//!
//! Shallow bases come first, so that each finds what it inherits in the table built so far. Nothing
//! here is asked once the table serves.

use std::{collections::BTreeMap, hash::BuildHasher as _};

use foldhash::quality::FixedState;

use super::{EMPTY, Final, Line, SLOTS, Table, Verdict, depth_bit, tag_of};
use crate::{
    net::DnsName,
    policy::{List, Rule, RuleId, Shape},
};

/// What the rules at one base say by themselves, before anything is inherited.
#[derive(Debug, Default, Clone, Copy)]
struct Own {
    deny_here: Option<RuleId>,
    deny_below: Option<RuleId>,
    allow_here: Option<Allow>,
    allow_below: Option<Allow>,
}

/// An allow rule, and whether it is narrowed to a port.
#[derive(Debug, Clone, Copy)]
struct Allow {
    rule: RuleId,
    port: bool,
}

/// Which names a rule speaks about, seen from its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaches {
    Below,
    Both,
    Here,
}

/// Records a line holds on average, at most: one in nine lines is full then, usually far fewer.
const FILL: usize = 8;

impl Table {
    /// Builds the table of all rules about names; a rule's id is its place in `rules`.
    pub(in crate::policy) fn new(rules: &[Rule], seed: u64) -> Self {
        let bases = gather(rules);
        // Every deep base may need a record at its anchor.
        let deep = bases.iter().filter(|(labels, ..)| *labels > 2).count();
        let lines = ((bases.len() + deep) / FILL + 1).next_power_of_two();
        let mut table = Self {
            hasher: FixedState::with_seed(seed),
            lines: vec![Line { tags: [0; SLOTS], offsets: [0; SLOTS] }; lines],
            arena: Vec::new(),
            roots: BTreeMap::new(),
        };
        // Shallow ones first, so that each finds what it inherits.
        for (labels, base, own) in bases {
            table.add(base, labels, own);
        }
        table.arena.shrink_to_fit();
        table
    }

    fn add(&mut self, base: &str, labels: usize, own: Own) {
        let verdicts = own.over(self.inherited(base));
        match anchor_of(base) {
            None => {
                self.roots.insert(base.into(), verdicts);
            }
            Some(anchor) => {
                if labels > 2 {
                    self.announce(anchor, labels);
                }
                self.insert(base, verdicts);
            }
        }
    }

    /// What holds below the nearest record above a base.
    fn inherited(&self, base: &str) -> Verdict {
        let Some((_, parent)) = base.split_once('.') else { return Verdict::Nothing };
        let Some(anchor) = anchor_of(parent) else { return self.root_of(base) };
        let mut above = parent;
        loop {
            if let Some(record) = self.find(above.as_bytes()) {
                return record.verdicts.below;
            }
            if above.len() == anchor.len() {
                return self.root_of(base);
            }
            let Some((_, shorter)) = above.split_once('.') else { return Verdict::Nothing };
            above = shorter;
        }
    }

    /// Makes sure that a lookup that starts at the anchor finds records that deep.
    fn announce(&mut self, anchor: &str, labels: usize) {
        if self.find(anchor.as_bytes()).is_none() {
            let inherited = self.root_of(anchor);
            self.insert(anchor, Final { here: inherited, below: inherited });
        }
        let record = self.find(anchor.as_bytes());
        let offset = record.and_then(|record| usize::try_from(record.offset).ok());
        if let Some(depths) = offset.and_then(|at| self.arena.get_mut(at + 1)) {
            *depths |= depth_bit(labels);
        }
    }

    /// Adds a record, which always fits: a name has at most 253 bytes; the 64 MiB to which a policy
    /// is read make less than 4 GiB of records, a second file beside it included; and `new` makes
    /// more slots than there are records.
    fn insert(&mut self, name: &str, verdicts: Final) {
        let (Ok(offset), Ok(length)) = (u32::try_from(self.arena.len()), u8::try_from(name.len()))
        else {
            return;
        };
        self.arena.extend([length, 0]);
        self.arena.extend(verdicts.here.pack());
        self.arena.extend(verdicts.below.pack());
        self.arena.extend(name.as_bytes());
        let hash = self.hasher.hash_one(name.as_bytes());
        let mut at = self.line_of(hash);
        loop {
            let mask = self.lines.len() - 1;
            let Some(line) = self.lines.get_mut(at) else { return };
            if line.push(tag_of(hash), offset) {
                return;
            }
            at = (at + 1) & mask;
        }
    }
}

impl Own {
    /// What is final here, given what is final above.
    fn over(self, above: Verdict) -> Final {
        let inherited_deny = match above {
            Verdict::Deny(rule) => Some(rule),
            Verdict::Allow(_) | Verdict::Ask | Verdict::Nothing => None,
        };
        let settle = |deny: Option<RuleId>, allow: Option<Allow>| match (
            deny.or(inherited_deny),
            allow,
            above,
        ) {
            (Some(rule), _, _) => Verdict::Deny(rule),
            (None, Some(Allow { port: true, .. }), _) => Verdict::Ask,
            (None, Some(Allow { rule, port: false }), _) => Verdict::Allow(rule),
            (None, None, above) => above,
        };
        Final {
            here: settle(self.deny_here, self.allow_here),
            below: settle(self.deny_below, self.allow_below),
        }
    }

    /// Adds a rule. Rules come in the order of their specificity: the first one stays.
    fn add(&mut self, rule: RuleId, list: List, port: bool, reaches: Reaches) {
        let (here, below) = match reaches {
            Reaches::Here => (true, false),
            Reaches::Below => (false, true),
            Reaches::Both => (true, true),
        };
        match list {
            List::Allow => {
                let allow = Allow { rule, port };
                if here {
                    self.allow_here.get_or_insert(allow);
                }
                if below {
                    self.allow_below.get_or_insert(allow);
                }
            }
            List::Deny => {
                if here {
                    self.deny_here.get_or_insert(rule);
                }
                if below {
                    self.deny_below.get_or_insert(rule);
                }
            }
        }
    }
}

impl Line {
    /// Takes a record, unless it is full.
    fn push(&mut self, tag: u8, offset: u32) -> bool {
        let Some(slot) = self.tags.iter().position(|used| *used == EMPTY) else { return false };
        let (Some(tag_at), Some(offset_at)) = (self.tags.get_mut(slot), self.offsets.get_mut(slot))
        else {
            return false;
        };
        (*tag_at, *offset_at) = (tag, offset);
        true
    }
}

/// All bases with their number of labels, shallow ones first.
fn gather(rules: &[Rule]) -> Vec<(usize, &str, Own)> {
    let ids = (0..).map(RuleId);
    let mut named: Vec<(usize, &str, Reaches, RuleId, &Rule)> = ids
        .zip(rules)
        .filter_map(|(id, rule)| {
            let (base, reaches) = match rule.pattern.shape() {
                Shape::Exact(name) => (name.as_str(), Reaches::Here),
                Shape::Subdomains(base) => (base.as_str(), Reaches::Below),
                Shape::Tree(base) => (base.as_str(), Reaches::Both),
                Shape::Address(_) | Shape::Any | Shape::Glob(_) => return None,
            };
            let labels = base.bytes().filter(|byte| *byte == b'.').count() + 1;
            Some((labels, base, reaches, id, rule))
        })
        .collect();
    // Within a base, a rule that names it exactly is the more specific one.
    named.sort_by_key(|(labels, base, _, id, rule)| (*labels, *base, rule.specificity(), *id));
    let mut bases: Vec<(usize, &str, Own)> = Vec::with_capacity(named.len());
    for (labels, base, reaches, id, rule) in named {
        let port = rule.pattern.port().is_some();
        match bases.last_mut() {
            Some((_, last, own)) if *last == base => own.add(id, rule.list, port, reaches),
            _ => {
                let mut own = Own::default();
                own.add(id, rule.list, port, reaches);
                bases.push((labels, base, own));
            }
        }
    }
    bases
}

/// The last two labels, if there are two.
fn anchor_of(name: &str) -> Option<&str> {
    name.contains('.').then(|| DnsName::anchor_of(name))
}
