//! `--settings`, which `serve` and `check` share.

use std::path::PathBuf;

use clap::Args;

use super::{Exit, complain, policy::show};
use crate::settings::{Environment, SettingsFile};

/// Which settings file.
#[derive(Debug, Args)]
pub(super) struct SettingsArgs {
    /// Settings; config/exeat.toml shows every key [default: `$EXEAT_SETTINGS`, then none]
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
}

impl SettingsArgs {
    /// Reads the file that is meant; none is fine.
    ///
    /// # Errors
    ///
    /// What is wrong with it has been shown.
    pub(super) fn read(&self, environment: &Environment) -> Result<SettingsFile, Exit> {
        let Some(path) = self.settings.as_ref().or(environment.settings.as_ref()) else {
            return Ok(SettingsFile::default());
        };
        let text = std::fs::read_to_string(path).map_err(|error| {
            complain(&format!("cannot read settings {}: {error}", path.display()), Exit::Config)
        })?;
        SettingsFile::parse(&text).map_err(|problems| {
            show(&problems, &text, &path.to_string_lossy());
            complain(&format!("settings {} cannot be used", path.display()), Exit::Config)
        })
    }
}
