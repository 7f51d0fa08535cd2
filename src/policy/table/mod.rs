//! All name rules of both lists in one table: the final verdict of a name for one hash and, on a
//! miss, nearly always one cache line, whatever the number of rules and lists.
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
//! Names are always compared byte by byte: a tag is a hint, never an answer. The seed is random,
//! which makes it hard to write rules that collide; hosts are only looked up, never stored.
//!
//! Ports and wildcards inside labels are not in here: a record over which an allow with a port
//! stands says [`Verdict::Ask`].

mod build;

use std::{collections::BTreeMap, hash::BuildHasher as _};

use foldhash::quality::FixedState;

use super::RuleId;
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

/// A record of the arena.
struct Record<'a> {
    offset: u32,
    name: &'a [u8],
    depths: u8,
    verdicts: Final,
}

const SLOTS: usize = 12;

/// Bytes of a record before its name.
const HEADER: usize = 10;

/// No record has this tag.
const EMPTY: u8 = 0;

/// A one in every byte.
const ONES: u128 = 0x0101_0101_0101_0101_0101_0101_0101_0101;

/// The bytes that hold tags.
const USED: u128 = (1 << (8 * SLOTS)) - 1;

/// A verdict and the number of a rule share 32 bits: a file of 64 MiB holds fewer rules than 2^30.
const KIND_SHIFT: u32 = 30;

impl Table {
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

/// The upper bits of the hash; the lower ones choose the line.
fn tag_of(hash: u64) -> u8 {
    let [.., tag] = hash.to_le_bytes();
    tag.max(1)
}

/// A bit of `depths`: records with that many labels exist; the last stands for all deeper ones.
fn depth_bit(labels: usize) -> u8 {
    1 << (labels.clamp(3, 10) - 3)
}

#[cfg(test)]
mod tests;
