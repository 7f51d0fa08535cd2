//! One domain pattern: its grammar and what it matches.
//!
//! Not a rule: whether it allows or denies, and in which file it stands, is [`super::Rule`]'s.
//! The invariant: a pattern that no legal host can match is refused, not carried along silently.
//!
//! # Questions and answers
//!
//! *Does `*.example.com` match `example.com`?* No; `**.example.com` does.
//!
//! *Does it match `a.b.example.com`?* Yes, at any depth.
//!
//! *Does `example.com` match `www.example.com`?* No.
//!
//! *Does a `*` inside a label stop at a dot?* No, it crosses dots, as in Codex:
//! `region*.v2.example.com` matches `region1.evil.v2.example.com`.
//!
//! *Does `*` match an address?* A public one, yes; a local one is opened only by the rule that
//! names it. Nor does `*` open names that exist inside networks only (`nas.local`, `intranet`).
//!
//! *Does `::ffff:10.0.0.1` match `10.0.0.1`?* Yes: an address is compared as an address.
//!
//! *Does `10.*` match the name `10.example.com`?* In a deny list, as in Codex. In an allow list
//! it means addresses only, which is narrower than Codex.
//!
//! *Does `example.com:8443` match port 443?* In an allow list no; in a deny list the port is
//! ignored, because Codex ignores it and would deny.

use std::{fmt, net::IpAddr};

use super::glob::{Glob, Prefix};
use crate::net::{DnsName, DnsNameError, Host, Port, PortError, to_a_labels};

/// A pattern of `allowed_domains`, `denied_domains` or `domains`, canonical.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    shape: Shape,
    port: Option<Port>,
}

/// What a pattern looks like, the port aside.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Shape {
    /// `10.1.2.3`, `[2001:db8::1]`: that address, whatever its spelling.
    Address(IpAddr),
    /// `*`: every host.
    Any,
    /// `example.com`: that host.
    Exact(DnsName),
    /// Wildcards elsewhere than in a leading `*.` or `**.`.
    Glob(Glob),
    /// `*.example.com`: every name below it, at any depth.
    Subdomains(DnsName),
    /// `**.example.com`: the name itself and every name below it.
    Tree(DnsName),
}

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A glob over IPv6 addresses in a spelling no address is shown in.
    #[error("can match no IPv6 address as it is usually written")]
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

impl Pattern {
    /// Parses a pattern as an administrator wrote it.
    ///
    /// Surrounding white space and one trailing dot are dropped, case is folded, U-labels become
    /// A-labels.
    ///
    /// # Errors
    ///
    /// Says what is wrong; [`PatternError::help`] says what to write instead.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let text = text.trim();
        refuse_foreign_syntax(text)?;
        if text.contains(['[', ']']) {
            return parse_bracketed(text);
        }
        if let Some(address) = parse_bare_ipv6(text)? {
            return Ok(Self { shape: Shape::Address(address), port: None });
        }
        let (host, port) = split_port(text)?;
        Ok(Self { shape: parse_shape(host)?, port })
    }

    /// What it looks like.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The port it is narrowed to, if any.
    #[must_use]
    pub fn port(&self) -> Option<Port> {
        self.port
    }

    /// Whether the pattern matches the host; the port is not looked at.
    #[must_use]
    pub fn matches(&self, host: &Host) -> bool {
        match (&self.shape, host) {
            (Shape::Any, _) => true,
            (Shape::Address(address), Host::Ip(ip)) => address == ip,
            (Shape::Glob(glob), host) => glob.matches(host.to_bare_string()),
            (Shape::Exact(base), Host::Name(name)) => base == name,
            (Shape::Subdomains(base), Host::Name(name)) => is_below(name, base),
            (Shape::Tree(base), Host::Name(name)) => name == base || is_below(name, base),
            (Shape::Address(_), Host::Name(_))
            | (Shape::Exact(_) | Shape::Subdomains(_) | Shape::Tree(_), Host::Ip(_)) => false,
        }
    }

    /// Whether it names one host and nothing else.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        matches!(self.shape, Shape::Address(_) | Shape::Exact(_))
    }

    pub(crate) fn without_port(self) -> Self {
        Self { port: None, ..self }
    }

    pub(super) fn of(shape: Shape) -> Self {
        Self { shape, port: None }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.shape, self.port) {
            (Shape::Address(IpAddr::V6(address)), Some(_)) => write!(f, "[{address}]"),
            (Shape::Address(address), _) => write!(f, "{address}"),
            (Shape::Any, _) => f.write_str("*"),
            (Shape::Exact(name), _) => write!(f, "{name}"),
            (Shape::Glob(glob), _) => write!(f, "{glob}"),
            (Shape::Subdomains(name), _) => write!(f, "*.{name}"),
            (Shape::Tree(name), _) => write!(f, "**.{name}"),
        }?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl PatternError {
    /// What to write instead of `text`.
    #[must_use]
    pub fn help(&self, text: &str) -> String {
        let text = text.trim();
        match self {
            Self::AddressGlob => {
                "write groups as RFC 5952 does, such as `2001:db8:*`; write IPv4 as IPv4".into()
            }
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

fn is_below(name: &DnsName, base: &DnsName) -> bool {
    name.as_str().strip_suffix(base.as_str()).is_some_and(|head| head.ends_with('.'))
}

fn refuse_foreign_syntax(text: &str) -> Result<(), PatternError> {
    if text.is_empty() {
        return Err(PatternError::Empty);
    }
    if text.contains("://") {
        return Err(PatternError::Scheme);
    }
    if let Some((address, bits)) = text.split_once('/') {
        let is_range = address.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
            && bits.bytes().all(|byte| byte.is_ascii_digit());
        return Err(if is_range { PatternError::Cidr } else { PatternError::Path });
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(PatternError::Space);
    }
    if let Some(character) = text.chars().find(|c| matches!(c, '{' | '}' | '\\')) {
        return Err(PatternError::Alternation(character));
    }
    if text.contains('@') {
        return Err(PatternError::Userinfo);
    }
    Ok(())
}

/// `[2001:db8::1]` or `[2001:db8::1]:443`.
fn parse_bracketed(text: &str) -> Result<Pattern, PatternError> {
    let (inner, after) = text
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .ok_or(PatternError::Brackets)?;
    let port = match after.strip_prefix(':') {
        Some(digits) => Some(Port::parse(digits.as_bytes()).map_err(PatternError::Port)?),
        None if after.is_empty() || after == "." => None,
        None => return Err(PatternError::Brackets),
    };
    let address = parse_bare_ipv6(inner)?.ok_or(PatternError::Brackets)?;
    Ok(Pattern { shape: Shape::Address(address), port })
}

fn parse_bare_ipv6(text: &str) -> Result<Option<IpAddr>, PatternError> {
    let (address, zone) = match text.split_once('%') {
        Some((address, _)) => (address, true),
        None => (text, false),
    };
    let Ok(address) = address.parse() else { return Ok(None) };
    let address = IpAddr::V6(address).to_canonical();
    if zone { Err(PatternError::Zone(address)) } else { Ok(Some(address)) }
}

fn split_port(text: &str) -> Result<(&str, Option<Port>), PatternError> {
    match text.split_once(':') {
        // More than one colon: a glob over an IPv6 address, or nothing legal.
        Some((_, after)) if after.contains(':') => Ok((text, None)),
        Some((host, digits)) => {
            Ok((host, Some(Port::parse(digits.as_bytes()).map_err(PatternError::Port)?)))
        }
        None => Ok((text, None)),
    }
}

fn parse_shape(text: &str) -> Result<Shape, PatternError> {
    let text = fold(text.strip_suffix('.').unwrap_or(text))?;
    if text.ends_with('.') {
        return Err(DnsNameError::EmptyLabel.into());
    }
    if text == "*" {
        return Ok(Shape::Any);
    }
    let (prefix, body) = if let Some(body) = text.strip_prefix("**.") {
        (Prefix::BodyAndBelow, body)
    } else if let Some(body) = text.strip_prefix("*.") {
        (Prefix::Below, body)
    } else {
        (Prefix::Body, text.as_str())
    };
    if body.contains("**") {
        return Err(PatternError::DoubleStar);
    }
    if prefix == Prefix::BodyAndBelow && body == "*" {
        return Err(PatternError::Everything);
    }
    if body.starts_with('.') {
        return Err(PatternError::LeadingDot);
    }
    if body.contains(['*', '?']) {
        return Ok(Shape::Glob(check_glob(Glob::new(prefix, body), body)?));
    }
    if let Ok(address) = body.parse::<std::net::Ipv4Addr>() {
        return match prefix {
            Prefix::Body => Ok(Shape::Address(IpAddr::V4(address))),
            Prefix::Below | Prefix::BodyAndBelow => Err(PatternError::WildcardBeforeAddress),
        };
    }
    match (DnsName::parse(body.as_bytes()), prefix) {
        (Ok(name), Prefix::Body) => Ok(Shape::Exact(name)),
        (Ok(name), Prefix::Below) => Ok(Shape::Subdomains(name)),
        (Ok(name), Prefix::BodyAndBelow) => Ok(Shape::Tree(name)),
        // `*.0.1` can match no name, but it does match addresses.
        (Err(DnsNameError::Numeric), Prefix::Below) if is_address_tail(body) => {
            Ok(Shape::Glob(Glob::new(prefix, body)))
        }
        (Err(error), _) => Err(error.into()),
    }
}

/// Lower case and A-labels; a label with a wildcard cannot be converted, so it must be ASCII.
fn fold(text: &str) -> Result<String, PatternError> {
    if text.is_ascii() {
        return Ok(text.to_ascii_lowercase());
    }
    let is_dot = |c| matches!(c, '.' | '\u{3002}' | '\u{ff0e}' | '\u{ff61}');
    let labels: Result<Vec<String>, PatternError> = text
        .split(is_dot)
        .map(|label| match label.is_ascii() {
            true => Ok(label.to_ascii_lowercase()),
            false if label.contains(['*', '?']) => Err(PatternError::WildcardUnicode),
            false => converted(label),
        })
        .collect();
    Ok(labels?.join("."))
}

/// A label's `xn--` form. Compatibility characters can turn into syntax (a full-width asterisk
/// into `*`), after the syntax has been looked at, so nothing but a name may come out.
fn converted(label: &str) -> Result<String, PatternError> {
    let ascii = to_a_labels(label)?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if ascii.bytes().all(legal) { Ok(ascii) } else { Err(DnsNameError::Alphabet.into()) }
}

/// Refuses globs that no legal host can match.
fn check_glob(glob: Glob, body: &str) -> Result<Glob, PatternError> {
    if body.contains(':') {
        return if may_match_ipv6(body) { Ok(glob) } else { Err(PatternError::AddressGlob) };
    }
    let legal =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'*' | b'?');
    if !body.bytes().all(legal) {
        return Err(DnsNameError::Alphabet.into());
    }
    if glob.literal_len() > DnsName::MAX_LEN {
        return Err(DnsNameError::TooLong.into());
    }
    let mut last_is_number = false;
    for label in body.split('.') {
        let wild = label.contains(['*', '?']);
        let literals = label.bytes().filter(|byte| *byte != b'*').count();
        if label.is_empty() {
            return Err(DnsNameError::EmptyLabel.into());
        }
        if literals > 63 && !label.contains('*') {
            return Err(DnsNameError::LabelTooLong.into());
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(DnsNameError::Hyphen.into());
        }
        last_is_number = !wild && DnsName::looks_numeric(label);
    }
    if last_is_number && !glob.is_over_address() {
        return Err(DnsNameError::Numeric.into());
    }
    Ok(glob)
}

/// Whether some address could be written like that: hex groups without leading zeros, as RFC 5952
/// writes them. Mapped addresses are IPv4 addresses here, so no dots either.
fn may_match_ipv6(body: &str) -> bool {
    let group = |group: &str| {
        let wild = group.contains(['*', '?']);
        group.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'*' | b'?'))
            && (wild || group.len() <= 4)
            && (wild || group.len() <= 1 || !group.starts_with('0'))
    };
    body.split(':').count() <= 9 && body.split(':').all(group)
}

/// One to three decimal numbers, as the end of a dotted quad.
fn is_address_tail(body: &str) -> bool {
    body.split('.').count() <= 3
        && body.split('.').all(|part| part.parse::<u8>().is_ok_and(|n| n.to_string() == part))
}

/// The host inside a URL, for the help text.
fn bare_host(text: &str) -> Option<String> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    Pattern::parse(host).ok().map(|pattern| pattern.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text() {
        for (text, canonical) in [
            ("example.com", "example.com"),
            (" Example.COM. ", "example.com"),
            ("*.Example.com", "*.example.com"),
            ("**.example.com", "**.example.com"),
            ("*", "*"),
            ("b\u{fc}cher.test", "xn--bcher-kva.test"),
            ("10.1.2.3", "10.1.2.3"),
            ("[2001:DB8::1]", "2001:db8::1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("example.com:8443", "example.com:8443"),
            ("region*.v2.example.com", "region*.v2.example.com"),
            ("*.*", "*.*"),
            ("*foo.com", "*foo.com"),
            ("192.168.*", "192.168.*"),
            ("*.0.1", "*.0.1"),
            ("2001:db8:*", "2001:db8:*"),
            ("foo*.0xg", "foo*.0xg"),
            ("*._tcp.example.com", "*._tcp.example.com"),
        ] {
            let pattern = Pattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(pattern.to_string(), canonical);
            assert_eq!(Pattern::parse(canonical).as_ref(), Ok(&pattern), "parse and show agree");
        }
    }

    #[test]
    fn refused() {
        for (text, error) in [
            ("", PatternError::Empty),
            ("  ", PatternError::Empty),
            ("https://example.com", PatternError::Scheme),
            ("example.com/x", PatternError::Path),
            ("10.0.0.0/8", PatternError::Cidr),
            ("a b", PatternError::Space),
            ("a\tb", PatternError::Space),
            ("u@example.com", PatternError::Userinfo),
            ("{a,b}.com", PatternError::Alternation('{')),
            ("a\\.com", PatternError::Alternation('\\')),
            ("[ab].example.com", PatternError::Brackets),
            ("[example.com]", PatternError::Brackets),
            ("[*]", PatternError::Brackets),
            ("**", PatternError::DoubleStar),
            ("a.**.com", PatternError::DoubleStar),
            ("**example.com", PatternError::DoubleStar),
            ("**.*", PatternError::Everything),
            (".example.com", PatternError::LeadingDot),
            ("*..example.com", PatternError::LeadingDot),
            ("*.10.0.0.1", PatternError::WildcardBeforeAddress),
            ("0x7f000001", PatternError::Name(DnsNameError::Numeric)),
            ("010.0.0.1", PatternError::Name(DnsNameError::Numeric)),
            ("example.com:0", PatternError::Port(PortError::Range)),
            ("example.com:*", PatternError::Port(PortError::NotDigits)),
            ("a,b", PatternError::Name(DnsNameError::Alphabet)),
            ("xn--a.test", PatternError::Name(DnsNameError::ALabel)),
            ("b\u{fc}*.test", PatternError::WildcardUnicode),
            ("a..*", PatternError::Name(DnsNameError::EmptyLabel)),
            ("foo*.123", PatternError::Name(DnsNameError::Numeric)),
            ("\u{ff0a}", PatternError::Name(DnsNameError::Alphabet)),
            ("\u{ff0a}.example.com", PatternError::Name(DnsNameError::Alphabet)),
            ("a\u{2047}.com", PatternError::Name(DnsNameError::Alphabet)),
            ("example.com..", PatternError::Name(DnsNameError::EmptyLabel)),
            ("::*..", PatternError::Name(DnsNameError::EmptyLabel)),
            ("::ffff:10.0.0.*", PatternError::AddressGlob),
            ("2001:0db8:*", PatternError::AddressGlob),
        ] {
            assert_eq!(Pattern::parse(text), Err(error.clone()), "{text}");
            assert!(!error.help(text).is_empty());
        }
    }

    #[test]
    fn zones_name_their_address() {
        let address = "fe80::1".parse().unwrap();
        assert_eq!(Pattern::parse("fe80::1%eth0"), Err(PatternError::Zone(address)));
        assert_eq!(Pattern::parse("[fe80::1%25eth0]"), Err(PatternError::Zone(address)));
    }

    #[test]
    fn matching() {
        for (pattern, host, expected) in [
            ("example.com", "example.com", true),
            ("example.com", "www.example.com", false),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "evilexample.com", false),
            ("**.example.com", "example.com", true),
            ("**.example.com", "x.example.com", true),
            ("**.example.com", "evilexample.com", false),
            ("10.0.0.1", "[::ffff:10.0.0.1]", true),
            ("192.168.*", "192.168.1.1", true),
            ("*", "8.8.8.8", true),
            ("*.0.1", "10.0.0.1", true),
        ] {
            let matched =
                Pattern::parse(pattern).unwrap().matches(&Host::parse(host.as_bytes()).unwrap());
            assert_eq!(matched, expected, "{pattern} on {host}");
        }
    }
}
