//! The authority of an absolute URL, as a request line or a user gives it.
//!
//! Only what decides where a request goes is looked at; path and query stay with whoever holds
//! the text. Not a URL parser: everything that WHATWG and RFC 3986 read differently is refused.

use super::{Authority, AuthorityError, Port};

/// What the URL starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `http:`, in clear text, port 80.
    Http,
    /// `https:`, port 443.
    Https,
}

/// Scheme and authority of an absolute URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// Where it points, the port filled in from the scheme.
    pub authority: Authority,
}

/// Why a text is not an absolute URL that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The authority is wrong.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A `#fragment`, which never travels in a request (RFC 9112 §3.2).
    #[error("has a fragment (`#`)")]
    Fragment,
    /// No `//authority` after the scheme, or no scheme at all.
    #[error("is not an absolute URL (http://host/path)")]
    NotAbsolute,
    /// A space, a control character or an octet above 126.
    #[error("has an octet outside visible ASCII")]
    Octet,
    /// A scheme other than `http` and `https`.
    #[error("has a scheme other than http and https")]
    Scheme,
}

impl Scheme {
    /// The port of a URL that names none.
    #[must_use]
    pub fn default_port(self) -> Port {
        match self {
            Self::Http => Port::HTTP,
            Self::Https => Port::HTTPS,
        }
    }
}

impl Target {
    /// Parses `scheme://authority...`; the authority ends at `/`, `?` or the end.
    ///
    /// # Errors
    ///
    /// Says what is wrong; the text is never repaired.
    pub fn parse(text: &[u8]) -> Result<Self, TargetError> {
        if !text.iter().all(|byte| byte.is_ascii_graphic()) {
            return Err(TargetError::Octet);
        }
        if text.contains(&b'#') {
            return Err(TargetError::Fragment);
        }
        let colon = text.iter().position(|&byte| byte == b':').ok_or(TargetError::NotAbsolute)?;
        let (scheme, rest) = text.split_at(colon);
        let scheme = match scheme.to_ascii_lowercase().as_slice() {
            b"http" => Scheme::Http,
            b"https" => Scheme::Https,
            _ => return Err(TargetError::Scheme),
        };
        let rest = rest.strip_prefix(b"://").ok_or(TargetError::NotAbsolute)?;
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, _) = rest.split_at(end);
        let authority = Authority::parse_or(authority, scheme.default_port())?;
        Ok(Self { scheme, authority })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authority_of_urls() {
        for (text, expected) in [
            ("http://example.com", Some("example.com:80")),
            ("HTTP://EXAMPLE.COM/", Some("example.com:80")),
            ("https://example.com/a:b@c", Some("example.com:443")),
            ("http://example.com?@evil.test/", Some("example.com:80")),
            ("http://example.com:8080/x", Some("example.com:8080")),
            ("http://[::1]/", Some("[::1]:80")),
            ("http://evil.test@example.com/", None),
            ("http://example.com#frag", None),
            ("http:///example.com/", None),
            ("http:/example.com/", None),
            ("http:example.com", None),
            ("ws://example.com/", None),
            ("http://example.com\\.evil.test/", None),
            ("http://example.com /", None),
            ("example.com", None),
            ("/path", None),
            ("*", None),
        ] {
            let parsed = Target::parse(text.as_bytes()).ok().map(|t| t.authority.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        }
    }
}
