//! `host:port`, the destination of a request.
//!
//! Not RFC 3986's authority in full: userinfo is refused, because two parsers that split it
//! differently see two hosts.

use std::fmt;

use super::{DnsName, Host, HostError, Port, PortError};

/// A host and the port on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Authority {
    /// Where to.
    pub host: Host,
    /// Which port there.
    pub port: Port,
}

/// Why a text is not an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// The part before the port is no host.
    #[error("host {0}")]
    Host(#[from] HostError),
    /// A CONNECT target without a port (RFC 9110 §9.3.6).
    #[error("port is missing: CONNECT needs host:port")]
    NoPort,
    /// The part after the colon is no port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// `user@` or `user:password@`.
    #[error("userinfo (`user@`) is not accepted")]
    Userinfo,
}

impl Authority {
    /// Parses the target of CONNECT: the port must be there (RFC 9110 §9.3.6).
    ///
    /// # Errors
    ///
    /// Says which part is wrong, and how.
    pub fn parse_connect(text: &[u8]) -> Result<Self, AuthorityError> {
        if let Some(usual) = Self::parse_usual(text) {
            return Ok(usual);
        }
        match split(text)? {
            (_, None | Some(b"")) => Err(AuthorityError::NoPort),
            (host, Some(port)) => Ok(Self { host: Host::parse(host)?, port: Port::parse(port)? }),
        }
    }

    /// A name and a port, as nearly every target is. None is no verdict.
    #[inline(always)]
    fn parse_usual(text: &[u8]) -> Option<Self> {
        let (name, port) = Port::split_last(text)?;
        Some(Self { host: Host::Name(DnsName::parse_usual(name)?), port })
    }

    /// Parses an authority whose port may be missing or empty (RFC 3986 §3.2.3).
    ///
    /// # Errors
    ///
    /// Says which part is wrong, and how.
    pub fn parse_or(text: &[u8], default: Port) -> Result<Self, AuthorityError> {
        if let Some(name) = DnsName::parse_usual(text) {
            return Ok(Self { host: Host::Name(name), port: default });
        }
        if let Some(usual) = Self::parse_usual(text) {
            return Ok(usual);
        }
        let (host, port) = split(text)?;
        let port = match port {
            None | Some(b"") => default,
            Some(digits) => Port::parse(digits)?,
        };
        Ok(Self { host: Host::parse(host)?, port })
    }

    /// What goes into a `Host` field: the port only if it is not the scheme's own.
    #[must_use]
    pub fn to_host_field(&self, default: Port) -> String {
        if self.port == default { self.host.to_string() } else { self.to_string() }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Cuts at the colon of the port; brackets protect those of an IPv6 address.
fn split(text: &[u8]) -> Result<(&[u8], Option<&[u8]>), AuthorityError> {
    if text.contains(&b'@') {
        return Err(AuthorityError::Userinfo);
    }
    let colons_from = text.iter().rposition(|&byte| byte == b']').map_or(0, |at| at + 1);
    let mut after = text.iter().enumerate().skip(colons_from).filter(|(_, byte)| **byte == b':');
    let Some((colon, _)) = after.next() else { return Ok((text, None)) };
    if after.next().is_some() {
        return Err(HostError::NoBrackets.into());
    }
    let (host, port) = text.split_at(colon);
    Ok((host, port.get(1..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_needs_a_port() {
        for (text, expected) in [
            ("example.com:443", Some("example.com:443")),
            ("EXAMPLE.com.:80", Some("example.com:80")),
            ("[::1]:443", Some("[::1]:443")),
            ("[::ffff:10.0.0.1]:443", Some("10.0.0.1:443")),
            ("example.com", None),
            ("example.com:", None),
            ("[::1]:", None),
            ("::1:443", None),
            ("2606:4700:4700::1111:443", None),
            ("u@example.com:443", None),
            ("example.com:443/", None),
            (":443", None),
            ("a:443,b:443", None),
            ("[::1]x:443", None),
            ("", None),
        ] {
            let parsed = Authority::parse_connect(text.as_bytes()).ok().map(|a| a.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn default_port_fills_a_missing_or_empty_one() {
        for text in ["example.com", "example.com:", "example.com:80"] {
            let parsed = Authority::parse_or(text.as_bytes(), Port::HTTP).unwrap();
            assert_eq!(parsed.to_string(), "example.com:80");
            assert_eq!(parsed.to_host_field(Port::HTTP), "example.com");
            assert_eq!(parsed.to_host_field(Port::HTTPS), "example.com:80");
        }
    }
}
