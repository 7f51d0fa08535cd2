//! Globs of one list that are tried together, and the rules they belong to.

use super::{
    automaton::{Automaton, Budget},
    candidate::Candidate,
    glob::Glob,
};

/// Globs, most specific first.
#[derive(Debug)]
pub(super) struct Group {
    automaton: Automaton,
    candidates: Vec<Candidate>,
    /// How long the end is that all of them have, and every text that is asked for.
    end: usize,
}

impl Group {
    pub(super) fn new(globs: Vec<(Candidate, Glob)>, budget: &mut Budget) -> Self {
        Self::sorted(globs, 0, budget)
    }

    /// Globs that have the same literal end. Texts must have it too: it is not looked at again.
    pub(super) fn with_end(mut globs: Vec<(Candidate, Glob)>, budget: &mut Budget) -> Self {
        let end = globs.first().map_or(0, |(_, glob)| glob.literal_end().len());
        globs.iter_mut().for_each(|(_, glob)| *glob = glob.without_end());
        Self::sorted(globs, end, budget)
    }

    fn sorted(mut globs: Vec<(Candidate, Glob)>, end: usize, budget: &mut Budget) -> Self {
        globs.sort_by_key(|(candidate, _)| *candidate);
        let (candidates, globs) = globs.into_iter().unzip();
        Self { automaton: Automaton::new(globs, budget), candidates, end }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// The most specific that matches.
    pub(super) fn first(&self, text: &[u8]) -> Option<Candidate> {
        let place = self.automaton.first(self.before_end(text))?;
        self.candidates.get(place).copied()
    }

    /// Hands out all that match, in no order.
    pub(super) fn each(&self, text: &[u8], mut take: impl FnMut(Candidate)) {
        self.automaton.each(self.before_end(text), |place| {
            self.candidates.get(place).copied().into_iter().for_each(&mut take);
        });
    }

    fn before_end<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        text.get(..text.len().saturating_sub(self.end)).unwrap_or_default()
    }
}
