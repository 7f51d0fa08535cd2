//! All name rules of both lists in one table: the final verdict of a name for one hash and, on a
//! miss, one cache line, whatever the number of rules and lists.
//!
//! # Layout
//!
//! ```text
//! api.eu.example.com          lines (64 bytes each)                arena
//!        └────┬────┘        ┌──────────────┬─────────────────┐   ┌────┬────────┬──────┬───────┬───────────┐
//!          anchor ── hash ─►│ 12 tags of 1 │ 12 offsets of 4 │──►│len │ depths │ here │ below │ name ...  │
//!      (last two labels)    └──────────────┴─────────────────┘   └────┴────────┴──────┴───────┴───────────┘
//! ```
//!
//! A record holds what is final for the name itself (`here`) and for every name below it that has
//! no deeper record (`below`): when the table is built, each record inherits from the nearest one
//! above, and deny wins once and for all. So a lookup asks for the last two labels first. If there
//! is no such record, no rule speaks about the name. If there is, its `depths` say with how many
//! labels deeper records exist under it, and only those are asked for, the deepest first.
//!
//! Names are always compared byte by byte: a tag is a hint, never an answer. The seed is random, so
//! neither rule files nor hosts can be made to collide.
//!
//! Ports and wildcards inside labels are not in here: a record over which an allow with a port
//! stands says [`Verdict::Ask`].

use std::{collections::BTreeMap, hash::BuildHasher as _};

use foldhash::quality::FixedState;

use super::{List, Rule, RuleId, Shape};
use crate::net::DnsName;

/// What the name rules say about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This rule allows it, on every port.
    Allow(RuleId),
    /// Nothing denies it, and an allow that is narrowed to a port matches: ask rule by rule.
    Ask,
    /// This rule denies it.
    Deny(RuleId),
    /// No rule matches.
    Nothing,
}

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    hasher: FixedState,
    lines: Vec<Line>,
    arena: Vec<u8>,
    /// Rules about one label: a top-level domain, or a name without dots.
    roots: BTreeMap<Box<str>, Final>,
}

/// One cache line. Slots are filled from the front; a full line goes on in the next.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line {
    tags: [u8; SLOTS],
    offsets: [u32; SLOTS],
}

/// The final verdicts at a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Final {
    here: Verdict,
    below: Verdict,
}

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

/// A record of the arena.
struct Record<'a> {
    offset: u32,
    name: &'a [u8],
    depths: u8,
    verdicts: Final,
}

const SLOTS: usize = 12;

/// Records a line holds on average: one in sixteen lines is full then.
const FILL: usize = 8;

/// Bytes of a record before its name.
const HEADER: usize = 10;

/// A bit of `depths`: records with that many labels exist; the last stands for all deeper ones.
fn depth_bit(labels: usize) -> u8 {
    1 << (labels.clamp(3, 10) - 3)
}

impl Table {
    /// Builds the table of all rules about names; a rule's id is its place in `rules`.
    pub(super) fn new(rules: &[Rule], seed: u64) -> Self {
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

    /// What the rules say about a name.
    pub(super) fn lookup(&self, name: &DnsName) -> Verdict {
        let (name, anchor) = (name.as_str(), name.anchor());
        let Some(record) = self.find(anchor.as_bytes()) else { return self.root_of(name) };
        if anchor.len() == name.len() {
            return record.verdicts.here;
        }
        if record.depths != 0
            && let Some(verdict) = self.deeper(name, record.depths)
        {
            return verdict;
        }
        record.verdicts.below
    }

    /// What a rule about the top-level domain says; there is hardly ever one.
    fn root_of(&self, name: &str) -> Verdict {
        if self.roots.is_empty() {
            return Verdict::Nothing;
        }
        match name.rsplit_once('.') {
            Some((_, root)) => self.roots.get(root).map_or(Verdict::Nothing, |root| root.below),
            None => self.roots.get(name).map_or(Verdict::Nothing, |root| root.here),
        }
    }

    /// The deepest record of three labels or more that the name lies at or below.
    fn deeper(&self, name: &str, depths: u8) -> Option<Verdict> {
        let labels = name.bytes().filter(|byte| *byte == b'.').count() + 1;
        let starts = std::iter::once(0).chain(name.match_indices('.').map(|(dot, _)| dot + 1));
        let suffixes = starts.zip((3..=labels).rev());
        suffixes.filter(|(_, depth)| depths & depth_bit(*depth) != 0).find_map(|(start, _)| {
            let record = self.find(name.as_bytes().get(start..)?)?;
            Some(if start == 0 { record.verdicts.here } else { record.verdicts.below })
        })
    }

    fn find(&self, name: &[u8]) -> Option<Record<'_>> {
        let hash = self.hasher.hash_one(name);
        let tag = tag_of(hash);
        let mut at = self.line_of(hash);
        loop {
            let line = self.lines.get(at)?;
            for offset in line.candidates(tag) {
                let record = self.record(offset)?;
                if record.name == name {
                    return Some(record);
                }
            }
            if !line.is_full() {
                return None;
            }
            at = (at + 1) & (self.lines.len() - 1);
        }
    }

    fn record(&self, offset: u32) -> Option<Record<'_>> {
        let rest = self.arena.get(usize::try_from(offset).ok()?..)?;
        let (header, rest) = rest.split_first_chunk::<HEADER>()?;
        let [length, depths, a, b, c, d, e, f, g, h] = *header;
        let verdicts =
            Final { here: Verdict::unpack([a, b, c, d]), below: Verdict::unpack([e, f, g, h]) };
        Some(Record { offset, name: rest.get(..usize::from(length))?, depths, verdicts })
    }

    fn line_of(&self, hash: u64) -> usize {
        // The number of lines is a power of two; what is cut off does not matter.
        let mask = self.lines.len() - 1;
        usize::try_from(hash & u64::from(u32::MAX)).unwrap_or(usize::MAX) & mask
    }

    // === building ===

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

impl Line {
    /// The offsets whose tags are that one; nearly always none or one.
    fn candidates(&self, tag: u8) -> impl Iterator<Item = u32> + '_ {
        // All tags at once, as one number: a byte of `differ` is zero where the tag is.
        let [a, b, c, d, e, f, g, h, i, j, k, l] = self.tags;
        let tags = u128::from_le_bytes([a, b, c, d, e, f, g, h, i, j, k, l, 0, 0, 0, 0]);
        let differ = tags ^ (u128::from(tag) * ONES);
        // Marks every zero byte, and sometimes the byte after one: names are compared anyway.
        let mut marks = differ.wrapping_sub(ONES) & !differ & (ONES << 7) & USED;
        std::iter::from_fn(move || {
            let slot = usize::try_from(marks.trailing_zeros() / 8).ok()?;
            let offset = self.offsets.get(slot).copied()?;
            marks &= marks.wrapping_sub(1);
            Some(offset)
        })
    }

    fn is_full(&self) -> bool {
        self.tags.last().is_some_and(|tag| *tag != EMPTY)
    }

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

/// No record has this tag.
const EMPTY: u8 = 0;

/// A one in every byte.
const ONES: u128 = 0x0101_0101_0101_0101_0101_0101_0101_0101;

/// The bytes that hold tags.
const USED: u128 = (1 << (8 * SLOTS)) - 1;

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
                    keep_first(&mut self.allow_here, allow);
                }
                if below {
                    keep_first(&mut self.allow_below, allow);
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

/// Which names a rule speaks about, seen from its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaches {
    Below,
    Both,
    Here,
}

/// The first allow stays, but if one of several is narrowed to a port, all must be asked.
fn keep_first(kept: &mut Option<Allow>, next: Allow) {
    match kept {
        Some(first) => first.port |= next.port,
        None => *kept = Some(next),
    }
}

impl Verdict {
    fn pack(self) -> [u8; 4] {
        let (kind, rule) = match self {
            Self::Nothing => (0, 0),
            Self::Allow(rule) => (1, rule.0),
            Self::Deny(rule) => (2, rule.0),
            Self::Ask => (3, 0),
        };
        (kind << KIND_SHIFT | rule).to_le_bytes()
    }

    fn unpack(bytes: [u8; 4]) -> Self {
        let packed = u32::from_le_bytes(bytes);
        let rule = RuleId(packed & (u32::MAX >> 2));
        match packed >> KIND_SHIFT {
            0 => Self::Nothing,
            1 => Self::Allow(rule),
            2 => Self::Deny(rule),
            _ => Self::Ask,
        }
    }
}

/// A verdict and the number of a rule share 32 bits: a file of 64 MiB holds fewer rules than 2^30.
const KIND_SHIFT: u32 = 30;

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
    let last = name.rfind('.')?;
    match name.get(..last)?.rfind('.') {
        Some(dot) => name.get(dot + 1..),
        None => Some(name),
    }
}

/// The upper bits of the hash; the lower ones choose the line.
fn tag_of(hash: u64) -> u8 {
    let [.., tag] = hash.to_le_bytes();
    tag.max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::{Pattern, Source, reference};

    fn rules(patterns: &[(&str, List)]) -> Vec<Rule> {
        let source = Arc::new(Source::file("r.toml"));
        let rule = |(line, (text, list)): (usize, &(&str, List))| Rule {
            pattern: Pattern::parse(text).unwrap(),
            list: *list,
            source: Arc::clone(&source),
            line,
        };
        patterns.iter().enumerate().map(rule).collect()
    }

    fn name(text: &str) -> DnsName {
        DnsName::parse(text.as_bytes()).unwrap()
    }

    /// What the slow matcher says, in the words of the table.
    fn expected(rules: &[Rule], name: &DnsName) -> Verdict {
        let host = crate::net::Host::Name(name.clone());
        if let Some(rule) = reference::matching(rules, List::Deny, &host).first() {
            return Verdict::Deny(*rule);
        }
        match reference::matching(rules, List::Allow, &host).first() {
            Some(rule) => Verdict::Allow(*rule),
            None => Verdict::Nothing,
        }
    }

    #[test]
    fn verdicts_are_inherited_and_deny_wins() {
        let rules = rules(&[
            ("**.example.com", List::Allow),
            ("*.exfil.example.com", List::Deny),
            ("good.exfil.example.com", List::Allow),
            ("a.b.c.d.e.f.g.h.i.j.k.l.m.deep.test", List::Allow),
            ("*.d.e.f.g.h.i.j.k.l.m.deep.test", List::Deny),
            ("*.com", List::Allow),
            ("intranet", List::Allow),
            ("*.blocked", List::Deny),
        ]);
        let table = Table::new(&rules, 7);
        for text in [
            "example.com",
            "x.example.com",
            "exfil.example.com",
            "good.exfil.example.com",
            "x.y.exfil.example.com",
            "other.com",
            "com",
            "intranet",
            "x.intranet",
            "a.b.c.d.e.f.g.h.i.j.k.l.m.deep.test",
            "b.c.d.e.f.g.h.i.j.k.l.m.deep.test",
            "d.e.f.g.h.i.j.k.l.m.deep.test",
            "deep.test",
            "evil.blocked",
            "x.evil.blocked",
            "nothing.test",
        ] {
            let name = name(text);
            assert_eq!(table.lookup(&name), expected(&rules, &name), "{text}");
        }
    }

    #[test]
    fn an_allow_with_a_port_makes_the_table_ask() {
        let rules = rules(&[("a.test:8443", List::Allow), ("*.b.test", List::Allow)]);
        let table = Table::new(&rules, 7);
        assert_eq!(table.lookup(&name("a.test")), Verdict::Ask);
        assert_eq!(table.lookup(&name("x.b.test")), Verdict::Allow(RuleId(1)));
    }

    #[test]
    fn a_full_line_goes_on_in_the_next() {
        // As many as fit into 512 lines at their usual fill.
        let texts: Vec<String> = (0..4_095).map(|n| format!("n{n}.test")).collect();
        let patterns: Vec<(&str, List)> =
            texts.iter().map(|text| (text.as_str(), List::Deny)).collect();
        let table = Table::new(&rules(&patterns), 3);
        assert_eq!(table.lines.len(), 512);
        assert!(table.lines.iter().filter(|line| line.is_full()).count() > 5);
        for (id, text) in (0..).zip(&texts) {
            assert_eq!(table.lookup(&name(text)), Verdict::Deny(RuleId(id)), "{text}");
        }
        assert_eq!(table.lookup(&name("n4095.test")), Verdict::Nothing);
    }

    /// Thousands of rules at all depths.
    #[test]
    fn many_rules_are_all_found_whatever_the_seed() {
        let texts: Vec<String> = (0..6_000_u32)
            .map(|n| match n % 4 {
                0 => format!("**.n{n}.test"),
                1 => format!("h{n}.zone{}.test", n % 50),
                2 => format!("*.a.b{}.c.d.e.f.g.h.i.deep{}.test", n, n % 7),
                _ => format!("n{n}.example"),
            })
            .collect();
        let lists = [List::Allow, List::Allow, List::Deny];
        let patterns: Vec<(&str, List)> = texts
            .iter()
            .zip(lists.into_iter().cycle())
            .map(|(text, list)| (text.as_str(), list))
            .collect();
        let rules = rules(&patterns);
        for seed in [0, 1, u64::MAX] {
            let table = Table::new(&rules, seed);
            for (id, text) in texts.iter().enumerate() {
                let base = name(text.trim_start_matches(['*', '.']));
                let below = name(&format!("www.{base}"));
                let own = RuleId(u32::try_from(id).unwrap());
                let verdict = match patterns[id].1 {
                    List::Allow => Verdict::Allow(own),
                    List::Deny => Verdict::Deny(own),
                };
                let reached = if text.starts_with('*') { &below } else { &base };
                assert_eq!(table.lookup(reached), verdict, "{text}");
            }
            assert_eq!(table.lookup(&name("n1.n0x.test")), Verdict::Nothing);
        }
    }
}
