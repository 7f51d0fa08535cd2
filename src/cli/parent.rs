//! `--parent`, which `serve` and `run` share.

use clap::Args;

use super::{Exit, complain};
use crate::settings::{ParentUrl, Secret};

/// Through which proxy everything leaves.
#[derive(Debug, Args)]
pub(super) struct ParentArgs {
    /// A proxy through which everything leaves: http://[user:password@]host:port. Others can read
    /// a command line: a password is better off in `$EXEAT_PARENT` or exeat.toml [default:
    /// `$EXEAT_PARENT`, then `[parent]`, then `$HTTPS_PROXY` and the like if the policy says
    /// `allow_upstream_proxy = true`]
    #[arg(long, value_name = "URL")]
    parent: Option<Secret>,
}

impl ParentArgs {
    /// What was asked for.
    ///
    /// # Errors
    ///
    /// It is no URL of a parent; that has been said, without showing it.
    pub(super) fn read(&self) -> Result<Option<ParentUrl>, Exit> {
        let Some(url) = &self.parent else { return Ok(None) };
        let complained = |error| complain(&format!("--parent: {error}"), Exit::Usage);
        ParentUrl::parse(url.reveal()).map(Some).map_err(complained)
    }
}
