//! One cache line of the table: tags to find records by, and where the records are.

use super::super::RuleId;

/// A line. Slots are filled from the front; what a full line has no room for goes into the next.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Line {
    tags: [u8; SLOTS],
    /// Which names had to go on: a bit for each eighth of them.
    passed_on: u8,
    /// Zero marks a free slot.
    targets: [u32; SLOTS],
}

/// What a slot points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) enum Target {
    /// A rule that says all there is to say about its base.
    Rule(RuleId),
    /// A node: several rules at one base, or something inherited from above.
    Node(NodeId),
}

/// Where a node begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) struct NodeId(pub(super) u32);

/// Slots of a line, as the bits that comparing its tags leaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marks(u64);

/// What a line knows of a name's hash; never zero, which is the tag of free slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag(u8);

const SLOTS: usize = 12;

const FREE: u32 = 0;

/// A one in every byte.
const ONES: u64 = 0x0101_0101_0101_0101;

/// The bytes of the last four tags.
const BACK: u64 = 0xffff_ffff;

/// Set in a target that is a node. Both arenas are smaller than this.
const NODE: u32 = 1 << 31;

impl Line {
    pub(super) const EMPTY: Self = Self { tags: [0; SLOTS], passed_on: 0, targets: [FREE; SLOTS] };

    /// The slots whose tags are that one; nearly always none or one.
    #[inline]
    pub(super) fn marks(&self, tag: Tag) -> Marks {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = self.tags;
        let front = marks(u64::from_le_bytes([a, b, c, d, e, f, g, h]), tag);
        let back = marks(u64::from_le_bytes([i, j, k, l, 0, 0, 0, 0]), tag);
        // The marks of the back, one bit lower, fit between those of the front.
        Marks(front | (back & BACK) >> 1)
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
        self.passed_on & tag.eighth() != 0
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
        match (self.tags.get_mut(slot), self.targets.get_mut(slot)) {
            (Some(free), Some(used)) => {
                (*free, *used) = (tag.0, target.bits());
                true
            }
            _ => {
                self.passed_on |= tag.eighth();
                false
            }
        }
    }

    /// Points a used slot at something else of the same name.
    pub(super) fn set(&mut self, slot: usize, target: Target) {
        if let Some(used) = self.targets.get_mut(slot) {
            *used = target.bits();
        }
    }
}

/// Marks, in its top bit, every byte that is the tag, and sometimes the byte after one: names are
/// compared anyway.
#[inline]
fn marks(tags: u64, tag: Tag) -> u64 {
    let differ = tags ^ (u64::from(tag.0) * ONES);
    differ.wrapping_sub(ONES) & !differ & (ONES << 7)
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
        let bit = usize::try_from(self.0.trailing_zeros()).ok()?;
        self.0 &= self.0.wrapping_sub(1);
        // Bits 7, 15 ... are the front's, 6, 14 ... the back's.
        Some(bit / 8 + if bit % 8 == 7 { 0 } else { 8 })
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

    #[inline]
    fn eighth(self) -> u8 {
        1 << (self.0 & 7)
    }
}
