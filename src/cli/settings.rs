//! `--settings`, which `serve`, `run`, `check` and `why` share.

use std::{fmt, path::PathBuf};

use clap::Args;

use super::{Exit, complain, policy::show};
use crate::{
    settings::{Environment, Permissions, SettingsFile, without_credentials},
    source::read_guarded,
};

/// Which settings file.
#[derive(Debug, Args)]
pub(super) struct SettingsArgs {
    /// Settings; config/exeat.toml shows every key [default: `$EXEAT_SETTINGS`, then none]
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
}

impl SettingsArgs {
    /// Reads the file that is meant; none is fine. What is enforced must come from a file that
    /// nobody else could have written: it may open private destinations and more.
    ///
    /// # Errors
    ///
    /// What is wrong with it has been shown.
    pub(super) fn read(
        &self,
        environment: &Environment,
        permissions: Permissions,
    ) -> Result<SettingsFile, Exit> {
        let Some(path) = self.settings.as_ref().or(environment.settings.as_ref()) else {
            return Ok(SettingsFile::default());
        };
        let unreadable = |error: &dyn fmt::Display| {
            complain(&format!("cannot read settings {}: {error}", path.display()), Exit::Config)
        };
        let bytes = read_guarded(path, permissions).map_err(|error| unreadable(&error))?;
        let text = String::from_utf8(bytes).map_err(|error| unreadable(&error))?;
        SettingsFile::parse(&text).map_err(|problems| {
            show(&problems, &without_credentials(&text), &path.to_string_lossy());
            complain(&format!("settings {} cannot be used", path.display()), Exit::Config)
        })
    }
}
