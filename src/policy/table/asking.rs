//! What a record alone cannot decide: allows narrowed to a port, wildcards inside labels, and `*`.
//!
//! A verdict that depends on them is [`Verdict::Ask`](super::Verdict::Ask) with the number of an
//! entry here. An entry holds what stands at one base, and goes on with the entry of the nearest
//! base above, so that long chains of bases take no more memory than the rules in them.

use super::super::{candidate::Candidate, group::Group};

/// Which entry to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) struct AskId(pub(super) u32);

/// All entries of a table.
#[derive(Debug, Default)]
pub(super) struct Asks {
    entries: Vec<Asking>,
}

/// What is to be asked about a name.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// The most specific allow of the table itself, from here or above.
    pub(super) allow: Option<Candidate>,
    /// Allows that match, each on its port: named ones that are narrowed to one, and `*`.
    pub(super) on_ports: Vec<Candidate>,
    /// Globs below this base that deny, and that allow.
    pub(super) deny_globs: Option<Box<Group>>,
    pub(super) allow_globs: Option<Box<Group>>,
    pub(super) above: Option<AskId>,
}

impl Asks {
    /// Adds an entry; none, if there are too many to be numbered.
    pub(super) fn push(&mut self, asking: Asking) -> Option<AskId> {
        let number = u32::try_from(self.entries.len()).ok().filter(|number| *number < MOST)?;
        self.entries.push(asking);
        Some(AskId(number))
    }

    /// The most specific glob that denies the text.
    pub(super) fn denying(&self, ask: AskId, text: &[u8]) -> Option<Candidate> {
        let globs = self.chain(ask).filter_map(|asking| asking.deny_globs.as_deref());
        globs.filter_map(|group| group.first(text)).min()
    }

    /// Hands out the allows that match the text, in no order.
    pub(super) fn each_allowing(&self, ask: AskId, text: &[u8], mut take: impl FnMut(Candidate)) {
        self.allow(ask).into_iter().for_each(&mut take);
        for asking in self.chain(ask) {
            asking.on_ports.iter().copied().for_each(&mut take);
            if let Some(globs) = &asking.allow_globs {
                globs.each(text, &mut take);
            }
        }
    }

    /// Whether a glob may deny what the table allows.
    pub(super) fn may_deny(&self, ask: AskId) -> bool {
        self.chain(ask).any(|asking| asking.deny_globs.is_some())
    }

    /// The allow that holds if nothing more specific is found.
    pub(super) fn allow(&self, ask: AskId) -> Option<Candidate> {
        self.get(ask)?.allow
    }

    fn get(&self, ask: AskId) -> Option<&Asking> {
        self.entries.get(usize::try_from(ask.0).ok()?)
    }

    /// From the nearest base to the furthest.
    fn chain(&self, ask: AskId) -> impl Iterator<Item = &Asking> {
        std::iter::successors(self.get(ask), |asking| self.get(asking.above?))
    }
}

impl Asking {
    /// Whether it adds nothing to what holds above.
    pub(super) fn is_empty(&self) -> bool {
        self.on_ports.is_empty() && self.deny_globs.is_none() && self.allow_globs.is_none()
    }
}

/// Numbers share 32 bits with a verdict's kind.
const MOST: u32 = 1 << 30;
