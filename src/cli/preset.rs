//! `exeat preset`: the policies that are compiled in.

use clap::Args;

use super::{Exit, complain, print};
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
            let line =
                |Policy { name, summary, .. }: &Policy| format!("{name:longest$}  {summary}\n");
            return print(PRESETS.iter().map(line).collect::<String>(), Exit::Success);
        };
        match Policy::named(&name) {
            Some(preset) => print(preset.text, Exit::Success),
            None => {
                complain(&format!("no preset `{name}`; `exeat preset` lists them"), Exit::Usage)
            }
        }
    }
}
