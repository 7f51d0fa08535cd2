//! What was typed on the command line, not yet judged.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{ParentUrl, Place, Socks};
use crate::policy::Mode;

/// The flags that share a setting with the environment or the settings file. `serve` has all of
/// them, other commands some.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--requirements FILE`.
    pub requirements: Option<PathBuf>,
    /// `--preset NAME`.
    pub preset: Option<String>,
    /// `--listen ADDR:PORT|unix:PATH`.
    pub listen: Option<Place>,
    /// `--socks ADDR:PORT|unix:PATH|off`.
    pub socks: Option<Socks>,
    /// `--transparent ADDR:PORT`, as often as there are addresses.
    pub transparent: Vec<SocketAddr>,
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
