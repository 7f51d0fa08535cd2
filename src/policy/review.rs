//! From the text of a policy file to rules, or to everything that is wrong with it.
//!
//! The one way to rules: `serve`, `check`, `validate` and a reload all come through here. It does
//! not judge hosts; [`super::Policy`] does.

use std::sync::Arc;

use super::{
    Problem, Ruleset, Severity, Source, compile,
    document::{self, Document},
};

/// What a policy file turned out to be.
#[derive(Debug)]
pub struct Review {
    /// The rules, if the file is a policy without errors.
    pub outcome: Outcome,
    /// Everything worth saying about it, in the order of the file; of very many problems first how
    /// many there are more.
    pub problems: Vec<Problem>,
    /// Top-level keys and tables that belong to somebody else, and are ignored.
    pub foreign: Vec<String>,
}

/// The three things a file can be.
#[derive(Debug)]
pub enum Outcome {
    /// It has errors, and nothing of it is used.
    Broken,
    /// A sound file without `[experimental_network]`: not a policy.
    NoTable,
    /// A policy.
    Ruleset(Box<Ruleset>),
}

impl Review {
    /// Reads a policy file. All problems are found, not just the first. `seed` should be random,
    /// so that nobody can make rules or hosts collide in the table of names.
    #[must_use]
    pub fn of(bytes: &[u8], source: &Arc<Source>, seed: u64) -> Self {
        let (Document { network, foreign }, mut problems) = document::read(bytes);
        let text = std::str::from_utf8(bytes).unwrap_or("");
        let compiled =
            network.map(|network| compile::compile(&network, text, source, seed, &mut problems));
        let mut problems = problems.in_file_order();
        let outcome = match compiled {
            _ if problems.iter().any(|problem| problem.severity == Severity::Error) => {
                Outcome::Broken
            }
            None => {
                problems.push(no_table());
                Outcome::NoTable
            }
            Some(ruleset) => {
                ruleset.map_or(Outcome::Broken, |ruleset| Outcome::Ruleset(Box::new(ruleset)))
            }
        };
        Self { outcome, problems, foreign }
    }
}

fn no_table() -> Problem {
    Problem::warning(0..0, "no `[experimental_network]` table: this file is not a network policy")
        .with_help("without one, nothing that enforces or decides will start")
}
