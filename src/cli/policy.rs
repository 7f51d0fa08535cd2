//! `--requirements` and `--preset`, which `serve`, `run`, `check` and `why` share, and how a policy
//! that cannot be used is shown.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
};

use clap::Args;

use super::{Exit, complain, say};
use crate::{
    policy::{LineIndex, Problem},
    requirements::Rejected,
};

/// Which policy.
#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    /// The managed requirements.toml [default: `$EXEAT_REQUIREMENTS`,
    /// then /etc/codex/requirements.toml]
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    pub(super) requirements: Option<PathBuf>,
    /// A policy that is compiled in, listed by `exeat preset` [default: `$EXEAT_PRESET`]
    #[arg(long, value_name = "NAME")]
    pub(super) preset: Option<String>,
}

/// Draws everything wrong with a policy.
pub(super) fn show_rejected(rejected: &Rejected) -> Exit {
    show(&rejected.problems, &rejected.text, rejected.source.path());
    complain(&format!("policy {} cannot be used", rejected.source.path()), Exit::Config)
}

/// More than that nobody reads.
const MAX_DRAWN: usize = 100;

/// Draws problems over their text, on stderr.
pub(super) fn show(problems: &[Problem], text: &str, path: &str) {
    let styled = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = LineIndex::new(text);
    for problem in problems.iter().take(MAX_DRAWN) {
        say(&problem.draw(&lines, path, styled));
    }
    if let Some(more) = problems.len().checked_sub(MAX_DRAWN).filter(|more| *more > 0) {
        say(&format!("... and {more} more; `exeat validate --json {path}` lists them"));
    }
}
