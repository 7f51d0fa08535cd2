//! Why a text is not a pattern, and what to write instead.

use std::net::IpAddr;

use super::Pattern;
use crate::net::{DnsNameError, PortError};

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A glob over addresses in a spelling no address is shown in.
    #[error("can match no address as addresses are usually written")]
    AddressGlob,
    /// `{`, `}` or `\`.
    #[error("has `{0}`, which is not part of the pattern language")]
    Alternation(char),
    /// `[` or `]` that do not hold an IPv6 address.
    #[error("has brackets that do not hold an IPv6 address")]
    Brackets,
    /// `10.0.0.0/8`.
    #[error("is an address range; ranges are not part of the pattern language")]
    Cidr,
    /// `**` anywhere but in a leading `**.`.
    #[error("has `**` elsewhere than in a leading `**.`")]
    DoubleStar,
    /// Nothing between the quotes.
    #[error("is empty")]
    Empty,
    /// `**.*`, which expands to `*`.
    #[error("expands to `*`, every host")]
    Everything,
    /// `.example.com`.
    #[error("starts with a dot")]
    LeadingDot,
    /// No legal host looks like that.
    #[error(transparent)]
    Name(DnsNameError),
    /// Whatever host it matches would be too long.
    #[error("can match no host: whatever it matches {0}")]
    NoHost(DnsNameError),
    /// A path, a slash or a regular expression.
    #[error("has a path or a `/`; a pattern is a host")]
    Path,
    /// The text after the colon is no port.
    #[error(transparent)]
    Port(PortError),
    /// `https://example.com`.
    #[error("is a URL with a scheme; a pattern is a host")]
    Scheme,
    /// White space or a control character between other characters.
    #[error("has white space or control characters inside")]
    Space,
    /// `user@example.com`.
    #[error("has userinfo (`@`); a pattern is a host")]
    Userinfo,
    /// `*.10.0.0.1`.
    #[error("has a wildcard before an address")]
    WildcardBeforeAddress,
    /// A wildcard label with non-ASCII characters.
    #[error("mixes a wildcard and non-ASCII characters in one label")]
    WildcardUnicode,
    /// `fe80::1%eth0`: requests with a zone are refused, so it can never match.
    #[error("has an IPv6 zone identifier, which no request can carry")]
    Zone(IpAddr),
}

impl PatternError {
    /// What to write instead of `text`.
    #[must_use]
    pub fn help(&self, text: &str) -> String {
        let text = text.trim();
        match self {
            Self::AddressGlob if text.contains(':') => {
                "write groups as RFC 5952 does, such as `2001:db8:*`; write IPv4 as IPv4".into()
            }
            Self::AddressGlob => "write four numbers from 0 to 255 without leading zeros, with \
                                  wildcards in place of some, such as `192.168.*`"
                .into(),
            Self::Alternation(_) => "write one pattern for each alternative".into(),
            Self::Brackets => "brackets are for IPv6 addresses only: `[2001:db8::1]`".into(),
            Self::Cidr => "list the addresses, or use a glob such as `192.168.*`".into(),
            Self::DoubleStar => {
                "write `*` for every host, or `**.example.com` for a name and all below it".into()
            }
            Self::Empty => "remove it, or write a host such as `example.com`".into(),
            Self::Everything => "write `*` if every host is meant".into(),
            Self::LeadingDot => {
                let name = text.trim_start_matches('.');
                format!("write `*.{name}` for its subdomains, or `**.{name}` to include it")
            }
            Self::Name(DnsNameError::Numeric) => {
                "write the address as four decimal numbers, such as `10.0.0.1`".into()
            }
            Self::Name(_) => {
                "write a host name: labels of letters, digits, `-` and `_`, at most 63 characters \
                 each and 253 in all"
                    .into()
            }
            Self::NoHost(_) => {
                "shorten it: a label has at most 63 characters and a name 253, with \
                                what the wildcards stand for"
                    .into()
            }
            Self::Path | Self::Scheme | Self::Userinfo => match bare_host(text) {
                Some(host) => format!("write the host only: `{host}`"),
                None => "write the host only, such as `example.com`".into(),
            },
            Self::Port(_) => "write a port from 1 to 65535 after the colon, or leave it out".into(),
            Self::Space => "write one pattern per string".into(),
            Self::WildcardBeforeAddress => "write the address alone".into(),
            Self::WildcardUnicode => "write that label in its `xn--` form".into(),
            Self::Zone(address) => format!("write the address without its zone: `{address}`"),
        }
    }
}

impl From<DnsNameError> for PatternError {
    fn from(error: DnsNameError) -> Self {
        Self::Name(error)
    }
}

/// The host inside a URL, for the help text.
fn bare_host(text: &str) -> Option<String> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    Pattern::parse(host).ok().map(|pattern| pattern.to_string())
}
