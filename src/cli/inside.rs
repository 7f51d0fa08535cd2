//! The process that `exeat run` starts in a jail: it builds the jail and becomes the program. Not
//! for users.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::ExitCode};

use clap::Args;

use super::{Exit, complain, run::cannot_run};
use crate::jail::enter;

#[derive(Debug, Args)]
pub(super) struct Inside {
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Inside {
    pub(super) fn run(self) -> ExitCode {
        // `exeat run` has been told, and says it.
        if let Err(fault) = enter() {
            tracing::debug!("{fault}");
            return Exit::Unavailable.into();
        }
        let Some((program, arguments)) = self.command.split_first() else {
            return complain(&"no program", Exit::Usage).into();
        };
        let error = std::process::Command::new(program).args(arguments).exec();
        cannot_run(program, &error)
    }
}
