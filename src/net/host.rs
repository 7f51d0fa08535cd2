//! A host: a name or an address, and nothing in between.
//!
//! The invariant: one host has one value. An IPv4-mapped IPv6 address is its IPv4 address, every
//! spelling of an address is the address, and text that several parsers read differently is not a
//! host at all.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use super::{DnsName, DnsNameError};

/// The destination of a request, without its port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// An IP literal; never an IPv4-mapped IPv6 address.
    Ip(IpAddr),
    /// A DNS name, `localhost` included.
    Name(DnsName),
}

/// Why a text is not a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Brackets that do not hold an IPv6 address and nothing else (RFC 3986 §3.2.2).
    #[error("has brackets that do not hold an IPv6 address")]
    Brackets,
    /// An IPv6 address outside brackets.
    #[error("is an IPv6 address without brackets")]
    NoBrackets,
    /// Neither an address nor a legal name.
    #[error(transparent)]
    Name(#[from] DnsNameError),
    /// An IPv6 zone identifier (RFC 6874): it has a meaning on one machine only.
    #[error("has an IPv6 zone identifier")]
    Zone,
}

impl Host {
    /// Parses a host as it stands in an authority: a name, a dotted quad, or `[IPv6]`.
    ///
    /// # Errors
    ///
    /// Says which rule the text breaks.
    pub fn parse(text: &[u8]) -> Result<Self, HostError> {
        if let Some(name) = DnsName::parse_usual(text) {
            return Ok(Self::Name(name));
        }
        if let [b'[', inner @ .., b']'] = text {
            return parse_ipv6(inner).map(|address| Self::from(IpAddr::V6(address)));
        }
        if text.iter().any(|byte| matches!(byte, b'[' | b']')) {
            return Err(HostError::Brackets);
        }
        if text.contains(&b':') {
            return Err(HostError::NoBrackets);
        }
        if let Some(address) = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()) {
            return Ok(Self::Ip(IpAddr::V4(address)));
        }
        Ok(Self::Name(DnsName::parse(text)?))
    }

    /// The text without brackets: what patterns are matched against and what logs carry.
    #[must_use]
    pub fn to_bare_string(&self) -> String {
        self.bare().into_owned()
    }

    /// As [`to_bare_string`](Self::to_bare_string), copied only if it must be made.
    #[must_use]
    pub fn bare(&self) -> Cow<'_, str> {
        match self {
            Self::Ip(address) => Cow::Owned(address.to_string()),
            Self::Name(name) => Cow::Borrowed(name.as_str()),
        }
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address.to_canonical())
    }
}

/// As in a URL: IPv6 in brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V4(address)) => address.fmt(f),
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Name(name) => name.fmt(f),
        }
    }
}

fn parse_ipv6(inner: &[u8]) -> Result<Ipv6Addr, HostError> {
    if inner.contains(&b'%') {
        return Err(HostError::Zone);
    }
    std::str::from_utf8(inner).ok().and_then(|text| text.parse().ok()).ok_or(HostError::Brackets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_one_value() {
        for (text, canonical) in [
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "::1"),
            ("[0:0:0:0:0:0:0:1]", "::1"),
            ("[::ffff:127.0.0.1]", "127.0.0.1"),
            ("[2001:DB8::1]", "2001:db8::1"),
            ("Example.COM.", "example.com"),
        ] {
            assert_eq!(Host::parse(text.as_bytes()).unwrap().to_bare_string(), canonical);
        }
    }

    #[test]
    fn refused() {
        for text in [
            "::1",
            "[::1%25lo]",
            "[fe80::1%eth0]",
            "[127.0.0.1]",
            "[example.com]",
            "[]",
            "[::1",
            "[::1]x",
            "010.0.0.1",
            "1.2.3",
            "1.2.3.4.5",
            "0x7f000001",
            "127.0.0.1\0",
        ] {
            assert!(Host::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
