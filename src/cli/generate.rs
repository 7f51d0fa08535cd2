//! `exeat generate`: completions for shells, and manual pages, for those who package the program.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Subcommand};
use clap_complete::Shell;

use super::{Cli, Exit, complain, print};

#[derive(Debug, Args)]
pub(super) struct Generate {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print completions for a shell
    Completions {
        /// Which shell
        #[arg(value_enum, value_name = "SHELL")]
        shell: Shell,
    },
    /// Write manual pages, one for each command
    Man {
        /// The directory they are written to, which must be there
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

impl Generate {
    pub(super) fn run(self) -> Exit {
        match self.what {
            What::Completions { shell } => {
                // Gathered first: the library does not expect that its reader goes away.
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "exeat", &mut script);
                print(script, Exit::Success)
            }
            What::Man { directory } => match clap_mangen::generate_to(Cli::command(), &directory) {
                Ok(()) => Exit::Success,
                Err(error) => {
                    let directory = directory.display();
                    complain(&format!("cannot write to {directory}: {error}"), Exit::Unavailable)
                }
            },
        }
    }
}
