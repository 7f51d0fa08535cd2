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

mod error;
mod parse;

use std::{fmt, net::IpAddr};

pub use self::error::PatternError;
use super::glob::Glob;
use crate::net::{DnsName, Host, Port};

/// A pattern of `allowed_domains`, `denied_domains` or `domains`, canonical.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern {
    shape: Shape,
    port: Option<Port>,
}

/// What a pattern looks like, the port aside.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
        parse::pattern(text)
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

    pub(super) fn with_port(self, port: Port) -> Self {
        Self { port: Some(port), ..self }
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

fn is_below(name: &DnsName, base: &DnsName) -> bool {
    name.as_str().strip_suffix(base.as_str()).is_some_and(|head| head.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

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
