//! Nodes: what is final at a base about which more is to say than one rule says.
//!
//! ```text
//! zeros (32) │ name ... │ len │ here (4) │ below (4) │ depths (4) │ name ... │ len │ ...
//!                      └─ NodeId
//! ```
//!
//! Names end at a fixed distance from what is compared with them, as those of rules do.

use std::num::NonZeroU32;

use super::{super::RuleId, Verdict, key::Ending, line::NodeId};
use crate::policy::table::asking::AskId;

/// All nodes of a table, one after the other.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    bytes: Vec<u8>,
}

/// What is final at a base, and how many labels the records below it have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Node {
    /// For the name itself.
    pub(super) here: Packed,
    /// For every name below that has no deeper record.
    pub(super) below: Packed,
    pub(super) depths: Depths,
}

/// A verdict in 32 bits: its kind in the upper two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packed(u32);

/// The numbers of labels, from three, that records under an anchor have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Depths(u32);

/// Bytes of a node behind its name.
const TRAILER: usize = 13;

/// What stands before the first name.
const BEFORE: usize = size_of::<Ending>() - 1;

/// Nodes share 31 bits with a mark.
const MAX_BYTES: usize = 1 << 31;

/// A verdict's kind and what it names share 32 bits: records end below 2^30.
const KIND_SHIFT: u32 = 30;

impl Nodes {
    /// Adds a node about which nothing is known yet; none, if there is no room.
    pub(super) fn push(&mut self, name: &[u8]) -> Option<NodeId> {
        if self.bytes.is_empty() {
            self.bytes.extend([0; BEFORE]);
        }
        let length = u8::try_from(name.len()).ok()?;
        let end = self.bytes.len() + name.len();
        if end + TRAILER > MAX_BYTES {
            return None;
        }
        self.bytes.extend(name);
        self.bytes.push(length);
        self.bytes.extend([0; TRAILER - 1]);
        u32::try_from(end).ok().map(NodeId)
    }

    pub(super) fn set(&mut self, id: NodeId, node: Node) {
        let rest = self.bytes.get_mut(id.offset() + 1..);
        let Some(rest) = rest.and_then(|rest| rest.first_chunk_mut::<{ TRAILER - 1 }>()) else {
            return;
        };
        let words = [node.here.0, node.below.0, node.depths.0];
        for (bytes, word) in rest.as_chunks_mut().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
    }

    /// The end of a node's name, as a lookup compares it.
    #[inline]
    pub(super) fn ending(&self, id: NodeId) -> Option<&Ending> {
        self.bytes.get(id.offset().checked_sub(BEFORE)?..)?.first_chunk()
    }

    pub(super) fn name(&self, id: NodeId) -> Option<&[u8]> {
        let length = usize::from(*self.bytes.get(id.offset())?);
        self.bytes.get(id.offset().checked_sub(length)?..id.offset())
    }

    /// What a node says.
    #[inline]
    pub(super) fn get(&self, id: NodeId) -> Option<Node> {
        let rest = self.bytes.get(id.offset() + 1..)?.first_chunk::<{ TRAILER - 1 }>()?;
        let ([here, below, depths], _) = rest.as_chunks() else { return None };
        let [here, below, depths] = [here, below, depths].map(|bytes| u32::from_le_bytes(*bytes));
        Some(Node { here: Packed(here), below: Packed(below), depths: Depths(depths) })
    }

    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

impl Depths {
    #[inline]
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether a record with that many labels may exist; all beyond 33 share an answer.
    #[inline]
    pub(super) fn contain(self, labels: usize) -> bool {
        self.0 & Self::bit(labels) != 0
    }

    /// The largest number of labels that may be contained.
    #[inline]
    pub(super) fn most(self) -> usize {
        match self.0.leading_zeros() {
            0 => usize::MAX,
            zeros => usize::try_from(34 - zeros).unwrap_or(0),
        }
    }

    pub(super) fn insert(&mut self, labels: usize) {
        self.0 |= Self::bit(labels);
    }

    /// Whether all records have three.
    #[inline]
    pub(super) fn are_three(self) -> bool {
        self.0 == Self::bit(3)
    }

    #[inline]
    fn bit(labels: usize) -> u32 {
        1 << (labels.clamp(3, 34) - 3)
    }
}

impl Node {
    /// For the name itself, or else for what is below.
    #[inline]
    pub(super) fn at(&self, whole: bool) -> Verdict {
        if whole { self.here } else { self.below }.verdict()
    }
}

impl Packed {
    pub(super) fn new(verdict: Verdict) -> Self {
        let (kind, rest) = match verdict {
            Verdict::Nothing => (0, 0),
            Verdict::Allow(rule) => (1, rule.number().get()),
            Verdict::Deny(rule) => (2, rule.number().get()),
            Verdict::Ask(AskId(number)) => (3, number),
        };
        Self(kind << KIND_SHIFT | rest)
    }

    #[inline]
    pub(super) fn verdict(self) -> Verdict {
        let rest = self.0 & (u32::MAX >> 2);
        match (self.0 >> KIND_SHIFT, NonZeroU32::new(rest).map(RuleId::from_number)) {
            (1, Some(rule)) => Verdict::Allow(rule),
            (2, Some(rule)) => Verdict::Deny(rule),
            (3, _) => Verdict::Ask(AskId(rest)),
            _ => Verdict::Nothing,
        }
    }
}
