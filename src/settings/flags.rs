//! What was typed on the command line, not yet judged.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::ParentUrl;
use crate::policy::Mode;

/// The flags that share a setting with the environment or the settings file. `serve` has all of
/// them, other commands some.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--requirements FILE`.
    pub requirements: Option<PathBuf>,
    /// `--preset NAME`.
    pub preset: Option<String>,
    /// `--listen ADDR:PORT`.
    pub listen: Option<SocketAddr>,
    /// `--allow-non-loopback`.
    pub allow_non_loopback: bool,
    /// `--audit stdout|stderr|off|FILE`.
    pub audit: Option<String>,
    /// `--mode enforce|observe`.
    pub mode: Mode,
    /// `--drain 30s`.
    pub drain: Option<Duration>,
    /// `--parent URL`.
    pub parent: Option<ParentUrl>,
    /// `--insecure-policy-permissions`.
    pub insecure_policy_permissions: bool,
    /// `--no-confine`.
    pub no_confine: bool,
}
