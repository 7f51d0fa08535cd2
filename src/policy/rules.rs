//! The rules of a policy as they are kept: one short record each, in the order they were written.
//!
//! # Layout
//!
//! ```text
//! zeros (32) │ len │ name ... │ len │ kind │ line (4) │ len │ name ... │ len │ kind │ ...
//!                            └─ RuleId
//! ```
//!
//! The name is the base of a rule about names, without `*.` or `**.`; for any other rule it is four
//! bytes, its place in `others`. A million names of 14 bytes are 21 MB; each as a [`Rule`] would be
//! 104. A [`RuleId`] is where the name ends, so that a lookup compares bytes at a fixed distance
//! from it, and ids rise in the order of writing. Which rules match a host is not known here: that
//! is [`super::table`]'s business.

use std::sync::Arc;

use super::{List, Pattern, Rule, RuleId, Shape, Source, rule::Rank, table::Ending};
use crate::net::DnsName;

/// All rules of a policy, of both lists and of every layer.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    arena: Vec<u8>,
    others: Vec<Pattern>,
    /// The ids of those, in the same order.
    other_ids: Vec<RuleId>,
    sources: Vec<Arc<Source>>,
    allows: usize,
    denies: usize,
}

/// Which names a rule speaks about, seen from its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// The base alone.
    Exact,
    /// Every name below it.
    Below,
    /// Both.
    Tree,
}

/// A record, as the table reads it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) list: List,
    pub(super) what: What<'a>,
}

/// What a rule is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum What<'a> {
    /// Names, on every port; ASCII.
    Names(Reach, &'a [u8]),
    /// Anything else.
    Other(&'a Pattern),
}

/// A document whose rules are being added.
#[derive(Debug, Clone, Copy)]
pub(super) struct SourceId(u8);

/// A policy that is too large to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// Bytes of a record behind its name: its length, its kind and its line.
const TRAILER: usize = 6;

/// What stands before the first record: a lookup reads so many bytes before the end of a name.
const BEFORE: usize = size_of::<Ending>() - 1;

/// Ids share 32 bits with a verdict.
const MAX_BYTES: usize = 1 << 30;

/// A bit for the base itself, and one for what is below; none of them: not about names.
const REACH: u8 = 0b0000_0011;
const OTHER: u8 = 0;
const DENY: u8 = 0b0000_0100;
/// A record that does not count: a duplicate.
const DROPPED: u8 = 0b0000_1000;
const SOURCE_SHIFT: u32 = 4;
const MAX_SOURCES: usize = 15;

impl Rules {
    /// Room for the rules of a text of that many bytes.
    pub(super) fn for_text(bytes: usize) -> Self {
        // A record is about as long as the text it came from.
        Self { arena: Vec::with_capacity(bytes + bytes / 8), ..Self::default() }
    }

    /// Names a document, before its rules are added.
    pub(super) fn add_source(&mut self, source: &Arc<Source>) -> Result<SourceId, Full> {
        let id = self.sources.len();
        self.sources.push(Arc::clone(source));
        u8::try_from(id).ok().filter(|_| id < MAX_SOURCES).map(SourceId).ok_or(Full)
    }

    /// Adds a rule about names; `base` is canonical.
    pub(super) fn push_name(
        &mut self,
        reach: Reach,
        base: &[u8],
        list: List,
        source: SourceId,
        line: usize,
    ) -> Result<RuleId, Full> {
        self.push_record(reach.bits(), base, list, source, line)
    }

    /// Adds a rule.
    pub(super) fn push(
        &mut self,
        pattern: Pattern,
        list: List,
        source: SourceId,
        line: usize,
    ) -> Result<RuleId, Full> {
        let (reach, base) = match (pattern.shape(), pattern.port()) {
            (Shape::Exact(name), None) => (Reach::Exact, name),
            (Shape::Subdomains(base), None) => (Reach::Below, base),
            (Shape::Tree(base), None) => (Reach::Tree, base),
            (_, _) => {
                let number = u32::try_from(self.others.len()).map_err(|_| Full)?;
                self.others.push(pattern);
                let id = self.push_record(OTHER, &number.to_le_bytes(), list, source, line)?;
                self.other_ids.push(id);
                return Ok(id);
            }
        };
        self.push_name(reach, base.as_bytes(), list, source, line)
    }

    fn push_record(
        &mut self,
        shape: u8,
        name: &[u8],
        list: List,
        source: SourceId,
        line: usize,
    ) -> Result<RuleId, Full> {
        if self.arena.is_empty() {
            self.arena.extend([0; BEFORE]);
        }
        let id = RuleId::at(self.arena.len() + 1 + name.len()).ok_or(Full)?;
        let length = u8::try_from(name.len()).map_err(|_| Full)?;
        let line = u32::try_from(line).map_err(|_| Full)?;
        if id.offset() + TRAILER > MAX_BYTES {
            return Err(Full);
        }
        let deny = match list {
            List::Allow => 0,
            List::Deny => DENY,
        };
        self.arena.push(length);
        self.arena.extend(name);
        self.arena.extend([length, shape | deny | source.0 << SOURCE_SHIFT]);
        self.arena.extend(line.to_le_bytes());
        *self.counter(list) += 1;
        Ok(id)
    }

    /// Takes a rule out of count: it is a duplicate, which changes nothing.
    pub(super) fn drop_duplicate(&mut self, id: RuleId) {
        let Some(record) = self.record(id) else { return };
        *self.counter(record.list) -= 1;
        if let Some(kind) = self.arena.get_mut(id.offset() + 1) {
            *kind = OTHER | DROPPED;
        }
    }

    fn counter(&mut self, list: List) -> &mut usize {
        match list {
            List::Allow => &mut self.allows,
            List::Deny => &mut self.denies,
        }
    }

    /// Adds the denies of another policy, with the places they are written at.
    pub(super) fn extend_with_denies(&mut self, other: &Self) -> Result<(), Full> {
        let mut sources = Vec::with_capacity(other.sources.len());
        for source in &other.sources {
            sources.push(self.add_source(source)?);
        }
        for (id, record) in other.records().filter(|(_, record)| record.list == List::Deny) {
            let Some((source, line)) = other.place(id) else { continue };
            let source = sources.get(source).copied().ok_or(Full)?;
            match record.what {
                What::Names(reach, base) => {
                    self.push_name(reach, base, List::Deny, source, line)?
                }
                What::Other(pattern) => self.push(pattern.clone(), List::Deny, source, line)?,
            };
        }
        Ok(())
    }

    /// Gives back what was reserved and not needed.
    pub(super) fn shrink(&mut self) {
        self.arena.shrink_to_fit();
        self.others.shrink_to_fit();
        self.other_ids.shrink_to_fit();
    }

    /// How many rules stand in a list.
    #[must_use]
    pub fn count(&self, list: List) -> usize {
        match list {
            List::Allow => self.allows,
            List::Deny => self.denies,
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.arena.capacity() + self.others.capacity() * size_of::<Pattern>()
    }

    /// All rules in the order they were written, each made anew.
    pub fn iter(&self) -> impl Iterator<Item = (RuleId, Rule<'_>)> {
        self.records().filter_map(|(id, _)| Some((id, self.get(id)?)))
    }

    /// The rule of an id, made anew.
    #[must_use]
    pub fn get(&self, id: RuleId) -> Option<Rule<'_>> {
        let Record { list, what } = self.record(id)?;
        let pattern = match what {
            What::Names(reach, base) => {
                let base = DnsName::parse(base).ok()?;
                Pattern::of(match reach {
                    Reach::Exact => Shape::Exact(base),
                    Reach::Below => Shape::Subdomains(base),
                    Reach::Tree => Shape::Tree(base),
                })
            }
            What::Other(pattern) => pattern.clone(),
        };
        let (source, line) = self.place(id)?;
        Some(Rule { pattern, list, source: self.sources.get(source)?, line })
    }

    /// The records in the order they were written, duplicates left out.
    pub(super) fn records(&self) -> impl Iterator<Item = (RuleId, Record<'_>)> {
        let mut at = BEFORE;
        let next = move || {
            let id = RuleId::at(at + 1 + usize::from(*self.arena.get(at)?))?;
            at = id.offset() + TRAILER;
            Some(id)
        };
        std::iter::from_fn(next).filter_map(|id| Some((id, self.record(id)?)))
    }

    /// The rules of a list that are not about names alone, duplicates left out.
    pub(super) fn others(&self, list: List) -> impl Iterator<Item = (RuleId, &Pattern)> {
        let records = self.other_ids.iter().filter_map(|id| Some((*id, self.record(*id)?)));
        records.filter_map(move |(id, record)| match record.what {
            What::Other(pattern) if record.list == list => Some((id, pattern)),
            What::Names(..) | What::Other(_) => None,
        })
    }

    pub(super) fn record(&self, id: RuleId) -> Option<Record<'_>> {
        let (kind, name) = (self.kind(id)?, self.name(id)?);
        if kind & DROPPED != 0 {
            return None;
        }
        let list = if kind & DENY == 0 { List::Allow } else { List::Deny };
        let what = match Reach::of(kind) {
            Some(reach) => What::Names(reach, name),
            None => {
                let number = u32::from_le_bytes(*name.first_chunk()?);
                What::Other(self.others.get(usize::try_from(number).ok()?)?)
            }
        };
        Some(Record { list, what })
    }

    /// The end of a record, as a lookup compares it.
    #[inline]
    pub(super) fn ending(&self, id: RuleId) -> Option<&Ending> {
        self.arena.get(id.offset().checked_sub(BEFORE)?..)?.first_chunk()
    }

    /// The name of a rule about names.
    pub(super) fn name(&self, id: RuleId) -> Option<&[u8]> {
        let length = usize::from(*self.arena.get(id.offset())?);
        self.arena.get(id.offset().checked_sub(length)?..id.offset())
    }

    /// What a rule about names says.
    #[inline]
    pub(super) fn says(&self, id: RuleId) -> Option<(List, Reach)> {
        let kind = self.kind(id)?;
        let list = if kind & DENY == 0 { List::Allow } else { List::Deny };
        Some((list, Reach::of(kind)?))
    }

    /// How specific a rule is.
    pub(super) fn rank(&self, id: RuleId) -> Option<Rank> {
        Some(match self.record(id)?.what {
            What::Names(Reach::Exact, _) => Rank::exact(),
            What::Names(Reach::Below | Reach::Tree, base) => Rank::below(base.len()),
            What::Other(pattern) => Rank::of(pattern),
        })
    }

    #[inline]
    fn kind(&self, id: RuleId) -> Option<u8> {
        self.arena.get(id.offset() + 1).copied()
    }

    /// The number of a rule's document, and its line there.
    fn place(&self, id: RuleId) -> Option<(usize, usize)> {
        let [_, kind, a, b, c, d] = *self.arena.get(id.offset()..)?.first_chunk::<TRAILER>()?;
        let line = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
        Some((usize::from(kind >> SOURCE_SHIFT), line))
    }
}

impl Reach {
    /// Whether it covers the base itself, or else what is below it.
    #[inline]
    pub(super) fn covers(self, base: bool) -> bool {
        self.bits() & if base { Self::Exact.bits() } else { Self::Below.bits() } != 0
    }

    #[inline]
    fn bits(self) -> u8 {
        match self {
            Self::Exact => 1,
            Self::Below => 2,
            Self::Tree => 3,
        }
    }

    #[inline]
    fn of(kind: u8) -> Option<Self> {
        match kind & REACH {
            1 => Some(Self::Exact),
            2 => Some(Self::Below),
            3 => Some(Self::Tree),
            _ => None,
        }
    }
}
