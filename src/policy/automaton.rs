//! Many globs, matched together (stub).

use super::glob::Glob;

/// Many globs, matched together.
#[derive(Debug)]
pub(super) struct Automaton {
    globs: Vec<Glob>,
}

impl Automaton {
    pub(super) fn new(globs: Vec<Glob>) -> Self {
        Self { globs }
    }

    pub(super) fn first(&self, text: &str) -> Option<usize> {
        self.globs.iter().position(|glob| glob.matches(text))
    }

    pub(super) fn matching(&self, text: &str) -> impl Iterator<Item = usize> {
        let places = self.globs.iter().enumerate();
        places.filter(move |(_, glob)| glob.matches(text)).map(|(place, _)| place)
    }
}
