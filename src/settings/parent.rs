//! The parent proxy: where it is, who we are to it, and what does not go by it.
//!
//! The invariant: credentials are shown nowhere, in no error either. An error says what is wrong
//! with a URL, never the URL.

use std::{fmt, net::IpAddr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ipnet::IpNet;
use percent_encoding::percent_decode_str;

use super::Secret;
use crate::{
    net::{Authority, AuthorityError, Host, Port},
    policy::Pattern,
};

/// What is said about a parent proxy. Whether there may be one is the policy's to say.
#[derive(Debug, Clone)]
pub struct Parent {
    /// The one that was asked for, by flag, variable or file.
    pub chosen: Option<ParentUrl>,
    /// What the usual variables name, for a policy that lets them.
    pub usual: Option<Usual>,
    /// What is dialled without it.
    pub except: Vec<Exception>,
    /// What it is asked for.
    pub ask: Ask,
}

/// Where a parent proxy is, and what it is told of us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentUrl {
    /// Where it listens.
    pub authority: Authority,
    /// Who we are to it.
    pub credentials: Option<Credentials>,
}

/// `Basic` and its value (RFC 7617 §2), as `Proxy-Authorization` has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(String);

/// One of the variables that all programs read, and its value.
#[derive(Debug, Clone)]
pub struct Usual {
    /// Its name.
    pub variable: &'static str,
    /// A URL, if it is one.
    pub url: Secret,
}

/// Destinations that are dialled without the parent. Not the same as leave: they still need that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exception {
    /// A pattern of hosts, perhaps at one port.
    Hosts(Pattern),
    /// A range, for literal addresses.
    Range(IpNet),
}

/// What a parent is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ask {
    /// The address that was resolved and vetted here.
    #[default]
    Address,
    /// The name; then nothing is looked up here.
    Name,
}

/// Why a text is not the URL of a parent proxy. Never the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParentUrlError {
    /// No host, or a wrong one; also a path.
    #[error("the {0}; write http://[user:password@]host:port")]
    Authority(AuthorityError),
    /// TLS to the proxy itself.
    #[error("https:// is not supported for a parent proxy: write http:// and its plain port")]
    Https,
    /// Another scheme, SOCKS for one.
    #[error("the scheme is not http://: only HTTP proxies can be parents")]
    Scheme,
    /// Userinfo with two readings, or that RFC 7617 cannot carry.
    #[error(
        "the user or the password is not legal: percent-encode `/`, `?`, `#` and `@`, and use no \
         control character, nor `:` in the user's name"
    )]
    Userinfo,
}

/// In the order in which they are asked. Everything goes by CONNECT, so what is meant for HTTPS
/// comes first.
pub(super) const USUAL: &[&str] =
    &["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// What names exceptions beside them.
pub(super) const USUAL_EXCEPTIONS: &[&str] = &["NO_PROXY", "no_proxy"];

impl ParentUrl {
    /// Parses `http://[user[:password]@]host[:port][/]`; the scheme may be missing, as in what
    /// variables say. The port is 80 if none is named.
    ///
    /// # Errors
    ///
    /// Says what is wrong, without showing any of it.
    pub fn parse(text: &str) -> Result<Self, ParentUrlError> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        match scheme.to_ascii_lowercase().as_str() {
            "http" => {}
            "https" => return Err(ParentUrlError::Https),
            _ => return Err(ParentUrlError::Scheme),
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (userinfo, authority) = match rest.rsplit_once('@') {
            Some((userinfo, authority)) => (Some(userinfo), authority),
            None => (None, rest),
        };
        let authority = Authority::parse_or(authority.as_bytes(), Port::HTTP)
            .map_err(ParentUrlError::Authority)?;
        let credentials = userinfo.map(Credentials::parse).transpose()?;
        Ok(Self { authority, credentials })
    }
}

impl fmt::Display for ParentUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

impl Credentials {
    fn parse(userinfo: &str) -> Result<Self, ParentUrlError> {
        if userinfo.contains(['/', '?', '#', '@', ' ']) {
            return Err(ParentUrlError::Userinfo);
        }
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        let decoded = |text| percent_decode_str(text).collect::<Vec<u8>>();
        let (user, password) = (decoded(user), decoded(password));
        let is_control = |byte: &u8| byte.is_ascii_control();
        if user.contains(&b':') || user.iter().chain(&password).any(is_control) {
            return Err(ParentUrlError::Userinfo);
        }
        let both = [user.as_slice(), b":", &password].concat();
        Ok(Self(format!("Basic {}", BASE64_STANDARD.encode(both))))
    }

    /// The value of `Proxy-Authorization`. Visible ASCII.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("...")
    }
}

impl Exception {
    /// Parses a pattern or a range, in our own language.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let range = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        match range {
            Some(range) => Some(Self::Range(range)),
            None => Pattern::parse(text).ok().map(Self::Hosts),
        }
    }

    /// Parses what `NO_PROXY` holds, as most programs read it: hosts with all that is below them,
    /// with or without a leading dot; addresses, ranges, `*`; white space or commas between. What
    /// cannot be understood is no exception.
    #[must_use]
    pub fn of_no_proxy(text: &str) -> Vec<Self> {
        let entries = text.split(|c: char| c == ',' || c.is_whitespace());
        let entry = |entry: &str| match entry.strip_prefix('.') {
            Some(domain) => Self::parse(&format!("**.{domain}")),
            None => match Self::parse(entry)? {
                Self::Hosts(pattern) if pattern.is_exact() => {
                    Self::parse(&format!("**.{entry}")).or(Some(Self::Hosts(pattern)))
                }
                known @ (Self::Hosts(_) | Self::Range(_)) => Some(known),
            },
        };
        entries.filter(|entry| !entry.is_empty()).filter_map(entry).collect()
    }

    /// Whether it is about that destination.
    #[must_use]
    pub fn covers(&self, authority: &Authority) -> bool {
        match (self, &authority.host) {
            (Self::Hosts(pattern), host) => {
                pattern.matches(host) && pattern.port().is_none_or(|port| port == authority.port)
            }
            (Self::Range(range), Host::Ip(address)) => range.contains(address),
            (Self::Range(_), Host::Name(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, expected) in [
            ("http://proxy.corp.example:3128", "http://proxy.corp.example:3128 None"),
            ("HTTP://Proxy.corp.example/", "http://proxy.corp.example:80 None"),
            ("proxy.corp.example:3128", "http://proxy.corp.example:3128 None"),
            ("http://[::1]:8080", "http://[::1]:8080 None"),
            ("http://u:p@10.0.0.1:3128", "http://10.0.0.1:3128 Some(\"Basic dTpw\")"),
            ("http://u@10.0.0.1", "http://10.0.0.1:80 Some(\"Basic dTo=\")"),
            ("http://u%40x:a%3Ab%2F@h", "http://h:80 Some(\"Basic dUB4OmE6Yi8=\")"),
            ("http://u:a:b@h", "http://h:80 Some(\"Basic dTphOmI=\")"),
        ] {
            let url = ParentUrl::parse(text).unwrap();
            let credentials = url.credentials.as_ref().map(Credentials::reveal);
            assert_eq!(format!("{url} {credentials:?}"), expected, "{text}");
        }
        for (text, said) in [
            ("https://u:hidden@h", "https:// is not supported"),
            ("socks5://u:hidden@h:1080", "the scheme is not http://"),
            ("http://u:hidden@h/path", "the host"),
            ("http://u:hidden@", "the host"),
            ("http://u:hid/den@h", "percent-encode"),
            ("http://u:hid@den@h", "percent-encode"),
            ("http://u%3a:hidden@h", "percent-encode"),
            ("http://u:hidden%0d%0a@h", "percent-encode"),
            ("http://u:hidden@h:0", "port"),
            ("", "the host"),
        ] {
            let error = ParentUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
            assert!(!error.contains("hid"), "{error}");
        }
    }

    #[test]
    fn credentials_are_not_shown() {
        let url = ParentUrl::parse("http://u:hidden@h:1").unwrap();
        assert!(!format!("{url:?} {url}").contains("hidden"));
        assert!(!format!("{url:?}").contains("Basic"));
    }

    #[test]
    fn exceptions_of_variables() {
        let text =
            "localhost, .a.example,b.example:8443 *.c.example\t10.0.0.0/8,::1,[bad,192.168.1.1";
        let exceptions = Exception::of_no_proxy(text);
        let target = |text: &str| Authority::parse_connect(text.as_bytes()).unwrap();
        let covered =
            |text: &str| exceptions.iter().any(|exception| exception.covers(&target(text)));
        for covers in [
            "localhost:80",
            "a.example:443",
            "x.a.example:443",
            "b.example:8443",
            "x.b.example:8443",
            "x.c.example:1",
            "10.1.2.3:443",
            "[::1]:443",
            "192.168.1.1:80",
        ] {
            assert!(covered(covers), "{covers}");
        }
        for not in ["b.example:443", "xa.example:443", "c.example:1", "11.0.0.1:1", "bad:443"] {
            assert!(!covered(not), "{not}");
        }
        assert!(Exception::of_no_proxy("*")[0].covers(&target("1.2.3.4:5")));
        assert!(Exception::of_no_proxy(" , ").is_empty());
    }
}
