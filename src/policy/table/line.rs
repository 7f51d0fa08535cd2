//! One cache line of the table: tags to find records by, and where the records are.

use std::num::NonZeroU32;

use super::super::RuleId;
use crate::net::Block;

/// A line. Slots are filled from the front; what a full line has no room for goes into the next.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line {
    /// A tag for each slot, then which names had to go on: a bit for each eighth of them.
    head: [u8; Block::LEN],
    /// Zero marks a free slot.
    targets: [u32; SLOTS],
}

/// What a slot points at: a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) struct Target(NonZeroU32);

/// What there is to be pointed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) enum Record {
    /// A rule that says all there is to say about its base.
    Rule(RuleId),
    /// A node: several rules at one base, or something inherited from above.
    Node(NodeId),
}

/// Where the name of a node ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) struct NodeId(pub(super) u32);

/// Slots of a line, a bit each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marks(u16);

/// What a line knows of a name's hash; never zero, which is the tag of free slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag(u8);

const SLOTS: usize = 12;

const FREE: u32 = 0;

/// Set in a target that is a node. Both arenas are smaller than this.
const NODE: NonZeroU32 = NonZeroU32::new(1 << 31).expect("not zero");

impl Line {
    pub(super) const EMPTY: Self = Self { head: [0; Block::LEN], targets: [FREE; SLOTS] };

    /// The slots whose tags are that one; nearly always none or one.
    #[inline]
    pub(super) fn marks(&self, tag: Tag) -> Marks {
        Marks(Block(self.head).equal_to(tag.0) & ((1 << SLOTS) - 1))
    }

    /// What the first of them points at.
    #[inline]
    pub(super) fn first(&self, tag: Tag) -> Option<Target> {
        self.target(self.marks(tag).next()?)
    }

    #[inline]
    pub(super) fn target(&self, slot: usize) -> Option<Target> {
        Target::from_bits(*self.targets.get(slot)?)
    }

    /// Whether a name that is not here may be in the next line.
    #[inline]
    pub(super) fn passes_on(&self, tag: Tag) -> bool {
        let [_, _, _, _, _, _, _, _, tail @ ..] = self.head;
        u64::from_le_bytes(tail) >> 32 & u64::from(tag.eighth()) != 0
    }

    /// How many slots are used.
    pub(super) fn used(&self) -> usize {
        self.targets.iter().filter(|target| **target != FREE).count()
    }

    /// Everything it points at.
    pub(super) fn targets(&self) -> impl Iterator<Item = Target> {
        self.targets.into_iter().take(self.used()).filter_map(Target::from_bits)
    }

    /// Takes a target, or notes that it is further on.
    pub(super) fn push(&mut self, tag: Tag, target: Target) -> bool {
        let slot = self.used();
        match (self.head.get_mut(slot), self.targets.get_mut(slot)) {
            (Some(free), Some(used)) => {
                (*free, *used) = (tag.0, target.0.get());
                true
            }
            // The slot behind the last.
            (passed_on, _) => {
                if let Some(passed_on) = passed_on {
                    *passed_on |= tag.eighth();
                }
                false
            }
        }
    }

    /// Points a used slot at something else of the same name.
    pub(super) fn set(&mut self, slot: usize, target: Target) {
        if let Some(used) = self.targets.get_mut(slot) {
            *used = target.0.get();
        }
    }
}

impl Marks {
    #[inline]
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Iterator for Marks {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        let slot = usize::try_from(self.0.trailing_zeros()).ok()?;
        self.0 &= self.0.wrapping_sub(1);
        Some(slot)
    }
}

impl NodeId {
    #[inline]
    pub(super) fn offset(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Target {
    #[inline]
    fn from_bits(bits: u32) -> Option<Self> {
        NonZeroU32::new(bits).map(Self)
    }

    #[inline]
    pub(super) fn record(self) -> Record {
        match self.0.get() & NODE.get() {
            0 => Record::Rule(RuleId::from_number(self.0)),
            _ => Record::Node(NodeId(self.0.get() & !NODE.get())),
        }
    }
}

impl From<RuleId> for Target {
    fn from(rule: RuleId) -> Self {
        Self(rule.number())
    }
}

impl From<NodeId> for Target {
    fn from(node: NodeId) -> Self {
        Self(NODE | node.0)
    }
}

impl Tag {
    /// The upper bits of the hash; the lower ones choose the line.
    #[inline]
    pub(super) fn of(hash: u64) -> Self {
        let [.., tag] = hash.to_le_bytes();
        Self(tag.max(1))
    }

    #[inline]
    fn eighth(self) -> u8 {
        1 << (self.0 & 7)
    }
}
