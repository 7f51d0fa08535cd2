//! Nodes: what is final at a base about which more is to say than one rule says.
//!
//! ```text
//! len │ here (4) │ below (4) │ depths (4) │ name ...
//! ```

use super::{super::RuleId, Verdict, line::NodeId};
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
    pub(super) here: Verdict,
    /// For every name below that has no deeper record.
    pub(super) below: Verdict,
    pub(super) depths: Depths,
}

/// The numbers of labels, from three, that records under an anchor have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Depths(u32);

const HEADER: usize = 13;

/// Nodes share 31 bits with a mark.
const MAX_BYTES: usize = 1 << 31;

/// A verdict's kind and what it names share 32 bits: records begin below 2^30.
const KIND_SHIFT: u32 = 30;

impl Nodes {
    /// Adds a node about which nothing is known yet; none, if there is no room.
    pub(super) fn push(&mut self, name: &[u8]) -> Option<NodeId> {
        let id = u32::try_from(self.bytes.len()).ok()?;
        let length = u8::try_from(name.len()).ok()?;
        if self.bytes.len() + HEADER + name.len() > MAX_BYTES {
            return None;
        }
        self.bytes.push(length);
        self.bytes.extend([0; HEADER - 1]);
        self.bytes.extend(name);
        Some(NodeId(id))
    }

    pub(super) fn set(&mut self, id: NodeId, node: Node) {
        let Some(header) = usize::try_from(id.0)
            .ok()
            .and_then(|at| self.bytes.get_mut(at + 1..))
            .and_then(|rest| rest.first_chunk_mut::<{ HEADER - 1 }>())
        else {
            return;
        };
        let [a, b, c, d] = node.here.pack().to_le_bytes();
        let [e, f, g, h] = node.below.pack().to_le_bytes();
        let [i, j, k, l] = node.depths.0.to_le_bytes();
        *header = [a, b, c, d, e, f, g, h, i, j, k, l];
    }

    #[inline]
    pub(super) fn name(&self, id: NodeId) -> Option<&[u8]> {
        let rest = self.bytes.get(usize::try_from(id.0).ok()?..)?;
        let length = usize::from(*rest.first()?);
        rest.get(HEADER..HEADER + length)
    }

    /// What a node says.
    #[inline]
    pub(super) fn get(&self, id: NodeId) -> Option<Node> {
        let rest = self.bytes.get(usize::try_from(id.0).ok()?..)?;
        let [_, a, b, c, d, e, f, g, h, i, j, k, l] = *rest.first_chunk::<HEADER>()?;
        Some(Node {
            here: Verdict::unpack(u32::from_le_bytes([a, b, c, d])),
            below: Verdict::unpack(u32::from_le_bytes([e, f, g, h])),
            depths: Depths(u32::from_le_bytes([i, j, k, l])),
        })
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

    #[inline]
    fn bit(labels: usize) -> u32 {
        1 << (labels.clamp(3, 34) - 3)
    }
}

impl Verdict {
    fn pack(self) -> u32 {
        let (kind, rest) = match self {
            Self::Nothing => (0, 0),
            Self::Allow(rule) => (1, rule.bits()),
            Self::Deny(rule) => (2, rule.bits()),
            Self::Ask(AskId(number)) => (3, number),
        };
        kind << KIND_SHIFT | rest
    }

    #[inline]
    fn unpack(packed: u32) -> Self {
        let rest = packed & (u32::MAX >> 2);
        match (packed >> KIND_SHIFT, RuleId::from_bits(rest)) {
            (1, Some(rule)) => Self::Allow(rule),
            (2, Some(rule)) => Self::Deny(rule),
            (3, _) => Self::Ask(AskId(rest)),
            _ => Self::Nothing,
        }
    }
}
