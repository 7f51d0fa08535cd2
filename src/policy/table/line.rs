//! One cache line of the table: tags to find records by, and where the records are.

use super::super::RuleId;

/// A line. Slots are filled from the front; a full line goes on in the next.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Line {
    tags: [u8; SLOTS],
    targets: [u32; SLOTS],
}

/// What a slot points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// A rule that says all there is to say about its base.
    Rule(RuleId),
    /// A node: several rules at one base, or something inherited from above.
    Node(NodeId),
}

/// Where a node begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeId(pub(super) u32);

/// A hint of a name's hash; never zero, which marks a free slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag(u8);

const SLOTS: usize = 12;

const FREE: u8 = 0;

/// A one in every byte.
const ONES: u128 = 0x0101_0101_0101_0101_0101_0101_0101_0101;

/// The bytes that hold tags.
const USED: u128 = (1 << (8 * SLOTS)) - 1;

/// Set in a target that is a node. Both arenas are smaller than this.
const NODE: u32 = 1 << 31;

impl Line {
    pub(super) const EMPTY: Self = Self { tags: [FREE; SLOTS], targets: [0; SLOTS] };

    /// The slots whose tags are that one, and what they point at; nearly always none or one.
    #[inline]
    pub(super) fn candidates(&self, tag: Tag) -> impl Iterator<Item = (usize, Target)> + '_ {
        // All tags at once, as one number: a byte of `differ` is zero where the tag is.
        let [a, b, c, d, e, f, g, h, i, j, k, l] = self.tags;
        let tags = u128::from_le_bytes([a, b, c, d, e, f, g, h, i, j, k, l, 0, 0, 0, 0]);
        let differ = tags ^ (u128::from(tag.0) * ONES);
        // Marks every zero byte, and sometimes the byte after one: names are compared anyway.
        let mut marks = differ.wrapping_sub(ONES) & !differ & (ONES << 7) & USED;
        std::iter::from_fn(move || {
            let slot = usize::try_from(marks.trailing_zeros() / 8).ok()?;
            let target = self.targets.get(slot).copied().and_then(Target::from_bits)?;
            marks &= marks.wrapping_sub(1);
            Some((slot, target))
        })
    }

    /// Whether a name that is not here may be in the next line.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.tags.last().is_some_and(|tag| *tag != FREE)
    }

    /// How many slots are used.
    pub(super) fn used(&self) -> usize {
        self.tags.iter().filter(|tag| **tag != FREE).count()
    }

    /// Everything it points at.
    pub(super) fn targets(&self) -> impl Iterator<Item = Target> {
        self.targets.into_iter().take(self.used()).filter_map(Target::from_bits)
    }

    /// Takes a target, unless it is full.
    pub(super) fn push(&mut self, tag: Tag, target: Target) -> bool {
        let Some(slot) = self.tags.iter().position(|used| *used == FREE) else { return false };
        if let Some(free) = self.tags.get_mut(slot) {
            *free = tag.0;
        }
        self.set(slot, target);
        true
    }

    /// Points a used slot at something else of the same name.
    pub(super) fn set(&mut self, slot: usize, target: Target) {
        if let Some(used) = self.targets.get_mut(slot) {
            *used = target.bits();
        }
    }
}

impl Target {
    #[inline]
    fn from_bits(bits: u32) -> Option<Self> {
        match bits & NODE {
            0 => RuleId::from_bits(bits).map(Self::Rule),
            _ => Some(Self::Node(NodeId(bits & !NODE))),
        }
    }

    fn bits(self) -> u32 {
        match self {
            Self::Rule(rule) => rule.bits(),
            Self::Node(node) => node.0 | NODE,
        }
    }
}

impl Tag {
    /// The upper bits of the hash; the lower ones choose the line.
    #[inline]
    pub(super) fn of(hash: u64) -> Self {
        let [.., tag] = hash.to_le_bytes();
        Self(tag.max(1))
    }
}
