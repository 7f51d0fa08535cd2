//! `--requirements` and `--preset`, which `serve` and `check` share, and how a policy that cannot
//! be used is shown.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
};

use clap::Args;

use super::{Exit, complain, say};
use crate::{policy::Problem, requirements::Rejected};

/// Which policy.
#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    /// The managed requirements.toml [default: `$EXEAT_REQUIREMENTS`,
    /// then /etc/codex/requirements.toml]
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    pub(super) requirements: Option<PathBuf>,
    /// A policy that is compiled in; `exeat preset` lists them
    #[arg(long, value_name = "NAME")]
    pub(super) preset: Option<String>,
}

/// Draws everything wrong with a policy.
pub(super) fn show_rejected(rejected: &Rejected) -> Exit {
    show(&rejected.problems, &rejected.text, rejected.source.path());
    complain(&format!("policy {} cannot be used", rejected.source.path()), Exit::Config)
}

/// Draws problems over their text, on stderr.
pub(super) fn show(problems: &[Problem], text: &str, path: &str) {
    let styled = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    for problem in problems {
        say(&problem.draw(text, path, styled));
    }
}
