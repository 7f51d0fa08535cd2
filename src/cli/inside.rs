//! The process that `exeat run` starts in a jail: it builds the jail and becomes the program. Not
//! for users.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::ExitCode};

use clap::Args;

use super::{Exit, complain, run::cannot_run};
use crate::jail::{Outlets, enter, restrict_to};

#[derive(Debug, Args)]
pub(super) struct Inside {
    /// There is no jail: TCP to this port is all that is left
    #[arg(long)]
    port: Option<u16>,
    /// Servers in the jail can be reached from outside
    #[arg(long, conflicts_with = "port")]
    published: bool,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Inside {
    pub(super) fn run(self) -> ExitCode {
        let entered = match self.port {
            // `exeat run` is told, and says it.
            None => {
                let outlets = if self.published { Outlets::Some } else { Outlets::None };
                enter(outlets).map_err(|_| Exit::Unavailable)
            }
            Some(port) => restrict_to(port).map_err(|fault| complain(&fault, Exit::Unavailable)),
        };
        if let Err(exit) = entered {
            return exit.into();
        }
        let Some((program, arguments)) = self.command.split_first() else {
            return complain(&"no program", Exit::Usage).into();
        };
        let error = std::process::Command::new(program).args(arguments).exec();
        cannot_run(program, &error)
    }
}
