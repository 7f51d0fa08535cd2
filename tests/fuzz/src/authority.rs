//! Destinations: no panic, and what parses is printed canonically and parses to the same again.

use std::net::IpAddr;

use exeat::net::{Authority, Host, Port, Scheme, Target};

/// The bytes are read in every way that a request line or a `Host` field is.
pub fn authority(input: &[u8]) {
    let connect = Authority::parse_connect(input);
    if let Ok(authority) = &connect {
        is_canonical(authority);
        // Every reading of one text is the same.
        assert_eq!(Authority::parse_or(input, Port::HTTP).as_ref(), Ok(authority));
        is_not_repaired(input, authority);
    }
    for default in [Port::HTTP, Port::HTTPS] {
        if let Ok(authority) = Authority::parse_or(input, default) {
            is_canonical(&authority);
            let field = authority.to_host_field(default);
            assert_eq!(Authority::parse_or(field.as_bytes(), default), Ok(authority));
        }
    }
    if let Ok(target) = Target::parse(input) {
        is_canonical(&target.authority);
        let scheme = match target.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let again = format!("{scheme}://{}/", target.authority);
        assert_eq!(Target::parse(again.as_bytes()), Ok(target));
    }
    if let Ok(host) = Host::parse(input) {
        assert_eq!(Host::parse(host.to_string().as_bytes()), Ok(host));
    }
}

fn is_canonical(authority: &Authority) {
    let text = authority.to_string();
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()));
    assert_eq!(Authority::parse_connect(text.as_bytes()).as_ref(), Ok(authority));
    if let Host::Ip(IpAddr::V6(address)) = authority.host {
        assert_eq!(address.to_ipv4_mapped(), None);
    }
}

/// A name is what was written, but for case and one dot at the end.
fn is_not_repaired(text: &[u8], authority: &Authority) {
    let Host::Name(name) = &authority.host else { return };
    let colon = text.iter().rposition(|byte| *byte == b':').unwrap();
    let written = text[..colon].to_ascii_lowercase();
    assert_eq!(written.strip_suffix(b".").unwrap_or(&written), name.as_str().as_bytes());
}
