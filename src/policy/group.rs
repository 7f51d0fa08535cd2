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
}

impl Group {
    pub(super) fn new(mut globs: Vec<(Candidate, Glob)>, budget: &mut Budget) -> Self {
        globs.sort_by_key(|(candidate, _)| *candidate);
        let (candidates, globs) = globs.into_iter().unzip();
        Self { automaton: Automaton::new(globs, budget), candidates }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// The most specific that matches.
    pub(super) fn first(&self, text: &str) -> Option<Candidate> {
        let place = self.automaton.first(text)?;
        self.candidates.get(place).copied()
    }

    /// All that match.
    pub(super) fn matching(&self, text: &str) -> impl Iterator<Item = Candidate> {
        self.automaton.matching(text).filter_map(|place| self.candidates.get(place).copied())
    }
}
