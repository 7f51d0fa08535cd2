//! Which parent proxy there is, and whether the policy lets it be.

use std::{fmt, net::SocketAddr};

use super::StartError;
use crate::{
    net::Host,
    policy::{Egress, Ruleset},
    settings::{Parent, ParentUrl},
};

/// A parent proxy, and who named it.
#[derive(Debug, Clone)]
pub(super) struct ParentFound {
    pub(super) url: ParentUrl,
    /// The variable that did, as for any program; none, if it was asked for.
    variable: Option<&'static str>,
}

impl ParentFound {
    /// What was asked for; or what the environment names, if the policy says that it may.
    ///
    /// # Errors
    ///
    /// One was asked for and the policy forbids it; or what is named is no parent.
    pub(super) fn look(
        settings: &Parent,
        allow_upstream_proxy: Option<bool>,
    ) -> Result<Option<Self>, StartError> {
        match (&settings.chosen, &settings.usual, allow_upstream_proxy) {
            (Some(url), _, Some(false)) => Err(StartError::ParentForbidden(url.clone())),
            (Some(url), _, Some(true) | None) => {
                Ok(Some(Self { url: url.clone(), variable: None }))
            }
            (None, Some(usual), Some(true)) => {
                let variable = usual.variable;
                let url = ParentUrl::parse(usual.url.reveal())
                    .map_err(|error| StartError::ParentUrl { variable, error })?;
                Ok(Some(Self { url, variable: Some(variable) }))
            }
            (None, Some(_), Some(false) | None) | (None, None, _) => Ok(None),
        }
    }

    /// Whether these rules let it be.
    pub(super) fn is_permitted(&self, ruleset: &Ruleset) -> bool {
        match self.variable {
            Some(_) => ruleset.allow_upstream_proxy == Some(true),
            None => ruleset.allow_upstream_proxy != Some(false),
        }
    }

    /// Whether it is one of our own listeners. Of a name other than `localhost` that is not known
    /// before it is dialled.
    pub(super) fn is_among(&self, egress: &Egress) -> bool {
        let port = self.url.authority.port.number();
        let at = |address| egress.is_own_listener(SocketAddr::new(address, port));
        match &self.url.authority.host {
            Host::Ip(address) => at(*address),
            Host::Name(name) if name.is_localhost() => {
                at(std::net::Ipv4Addr::LOCALHOST.into()) || at(std::net::Ipv6Addr::LOCALHOST.into())
            }
            Host::Name(_) => false,
        }
    }
}

/// For the operator. Without credentials.
impl fmt::Display for ParentFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by the parent proxy {}", self.url)?;
        match self.variable {
            Some(variable) => write!(f, ", as {variable} says"),
            None => Ok(()),
        }
    }
}
