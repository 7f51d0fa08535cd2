//! From a text to a pattern: trimmed, folded, and refused if it is anything else.

use std::net::IpAddr;

use super::{Pattern, PatternError, Shape};
use crate::{
    net::{DnsName, DnsNameError, Port, to_a_labels},
    policy::glob::{Glob, Prefix},
};

/// A whole pattern, its port included.
pub(super) fn pattern(text: &str) -> Result<Pattern, PatternError> {
    let text = text.trim();
    refuse_foreign_syntax(text)?;
    if text.contains(['[', ']']) {
        return parse_bracketed(text);
    }
    if let Some(address) = parse_bare_ipv6(text)? {
        return Ok(Pattern { shape: Shape::Address(address), port: None });
    }
    let (host, port) = split_port(text)?;
    Ok(Pattern { shape: parse_shape(host)?, port })
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
        return Ok(Shape::Glob(check_glob(Glob::new(prefix, body))?));
    }
    if let Ok(address) = body.parse::<std::net::Ipv4Addr>() {
        return match prefix {
            Prefix::Body => Ok(Shape::Address(IpAddr::V4(address))),
            Prefix::Below | Prefix::BodyAndBelow => Err(PatternError::WildcardBeforeAddress),
        };
    }
    match (DnsName::parse(body.as_bytes()), prefix) {
        (Ok(name), Prefix::Body) => Ok(Shape::Exact(name)),
        (Ok(name), Prefix::Below) if name.as_str().len() > DnsName::MAX_BASE_LEN => {
            Err(PatternError::NoHost(DnsNameError::TooLong))
        }
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
fn check_glob(glob: Glob) -> Result<Glob, PatternError> {
    match glob.name() {
        Ok(_) => Ok(glob),
        Err(error @ DnsNameError::EmptyLabel) => Err(error.into()),
        Err(_) if glob.is_over_address() && glob.matches_an_address() => Ok(glob),
        Err(_) if glob.is_over_address() => Err(PatternError::AddressGlob),
        Err(error @ (DnsNameError::TooLong | DnsNameError::LabelTooLong)) => {
            Err(PatternError::NoHost(error))
        }
        Err(error) => Err(error.into()),
    }
}

/// One to three decimal numbers, as the end of a dotted quad.
fn is_address_tail(body: &str) -> bool {
    body.split('.').count() <= 3
        && body.split('.').all(|part| part.parse::<u8>().is_ok_and(|n| n.to_string() == part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::PortError;

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
            ("12345:*:1", PatternError::AddressGlob),
            ("1:2:3:4:5:6:7:8:*", PatternError::AddressGlob),
            ("1::2::*", PatternError::AddressGlob),
            ("::ffff:?:?", PatternError::AddressGlob),
            ("1:0:0:?:?:?:?:?", PatternError::AddressGlob),
            ("*.?.300.1", PatternError::AddressGlob),
            ("1.?.?.?.1", PatternError::AddressGlob),
            ("*-.com", PatternError::Name(DnsNameError::Hyphen)),
            ("xn--?.com", PatternError::Name(DnsNameError::ALabel)),
        ] {
            assert_eq!(Pattern::parse(text), Err(error.clone()), "{text}");
            assert!(!error.help(text).is_empty());
        }
    }

    #[test]
    fn no_host_is_so_long() {
        let base = |bytes: usize| {
            let whole = [vec!["a".repeat(63); 3], vec!["b".repeat(bytes - 3 * 64)]].concat();
            whole.join(".")
        };
        let marked = |bytes: usize| base(bytes).replacen('a', "?", 1);
        let (name, label) = (DnsNameError::TooLong, DnsNameError::LabelTooLong);
        for (text, error) in [
            (format!("*.{}", base(251)), None),
            (format!("*.{}", base(252)), Some(name)),
            (format!("*.{}:443", base(252)), Some(name)),
            (format!("**.{}", base(253)), None),
            (format!("*.{}", marked(251)), None),
            (format!("*.{}", marked(252)), Some(name)),
            (format!("**.{}", marked(253)), None),
            (format!("**.{}", marked(254)), Some(name)),
            (format!("*.?{}", base(250)), Some(label)),
            (format!("*{}", "?".repeat(253)), None),
            (format!("*{}", "?".repeat(300)), Some(name)),
            (format!("*{}*", "a".repeat(63)), None),
            (format!("*{}*", "a".repeat(64)), Some(label)),
            (format!("a.*{}?.com", "a".repeat(64)), Some(label)),
        ] {
            let found = Pattern::parse(&text).err();
            assert_eq!(found, error.map(PatternError::NoHost), "{text}");
            assert!(found.is_none_or(|error| error.help(&text).contains("shorten")));
        }
    }

    #[test]
    fn zones_name_their_address() {
        let address = "fe80::1".parse().unwrap();
        assert_eq!(Pattern::parse("fe80::1%eth0"), Err(PatternError::Zone(address)));
        assert_eq!(Pattern::parse("[fe80::1%25eth0]"), Err(PatternError::Zone(address)));
    }
}
