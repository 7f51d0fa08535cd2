//! `--proxy`, which `connect`, `why` and `doctor` share, and which proxy is meant without it.

use clap::Args;

use super::{Exit, complain};
use crate::{
    net::{Authority, Scheme, Target},
    settings::{Environment, Listen, Place},
};

/// Which proxy.
#[derive(Debug, Args)]
pub(super) struct ProxyArgs {
    /// The proxy's URL [default: `$EXEAT_PROXY`, as `exeat run` sets it, then the usual variables]
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
}

/// What programs other than ours read, the most specific first.
const USUAL: &[&str] =
    &["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];

impl ProxyArgs {
    /// The proxy of whoever runs this program; none if nothing names one.
    ///
    /// # Errors
    ///
    /// What names it is no URL; that has been said.
    pub(super) fn of_client(&self) -> Result<Option<Authority>, Exit> {
        let set = |name: &&str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut names = ["EXEAT_PROXY"].iter().chain(USUAL);
        match self.proxy.clone().or_else(|| names.find_map(set)) {
            Some(url) => parse(&url).map(Some),
            None => Ok(None),
        }
    }
}

/// Where `exeat serve` listens, as far as the environment says it.
pub(super) fn default_url(environment: &Environment) -> String {
    match &environment.listen {
        Some(Place::Tcp(address)) if address.ip().is_unspecified() => {
            format!("http://127.0.0.1:{}", address.port())
        }
        Some(Place::Tcp(address)) => format!("http://{address}"),
        Some(place @ Place::Unix(_)) => place.to_string(),
        None => format!("http://127.0.0.1:{}", Listen::DEFAULT_PORT),
    }
}

/// Reads a proxy's URL; the scheme may be missing.
///
/// # Errors
///
/// It is none; that has been said.
pub(super) fn parse(url: &str) -> Result<Authority, Exit> {
    if url.starts_with("unix:") {
        return Err(complain(&format!("`{url}` is a unix socket, which has no URL"), Exit::Usage));
    }
    let whole = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    match Target::parse(whole.as_bytes()) {
        Ok(target) if target.scheme == Scheme::Http => Ok(target.authority),
        Ok(_) => Err(complain(&format!("`{whole}` must start with http://"), Exit::Usage)),
        Err(error) => Err(complain(&format!("`{whole}` {error}"), Exit::Usage)),
    }
}
