//! `exeat preset`: the policies that are compiled in.

use std::io::{self, Write as _};

use clap::Args;

use super::{Exit, complain};
use crate::source::{PRESETS, Preset as Policy};

#[derive(Debug, Args)]
pub(super) struct Preset {
    /// The preset to print as TOML; without it they are listed
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

impl Preset {
    pub(super) fn run(self) -> Exit {
        let Some(name) = self.name else {
            let longest = PRESETS.iter().map(|preset| preset.name.len()).max().unwrap_or(0);
            for Policy { name, summary, .. } in PRESETS {
                writeln!(io::stdout(), "{name:longest$}  {summary}").ok();
            }
            return Exit::Success;
        };
        match Policy::named(&name) {
            Some(preset) => {
                io::stdout().write_all(preset.text.as_bytes()).ok();
                Exit::Success
            }
            None => {
                complain(&format!("no preset `{name}`; `exeat preset` lists them"), Exit::Usage)
            }
        }
    }
}
