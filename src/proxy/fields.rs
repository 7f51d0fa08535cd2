//! Fields that end at this hop, and the one that is added (RFC 9110 §7.6).

use std::cmp::Ordering;

use crate::http1::{Field, Fields, Version};

/// How this proxy calls itself in `Via` and `Proxy-Status`.
pub(super) const PSEUDONYM: &str = "exeat";

/// Dropped whether `Connection` names them or not.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    // Written anew, in one spelling.
    "content-length",
    // Servers that take `_` for `-` read these as framing.
    "content_length",
    "http2-settings",
    "keep-alive",
    // CGI servers take this one for a setting of their own (CVE-2016-5385).
    "proxy",
    "te",
    // Trailers are not passed on (RFC 9110 §6.5.1), so they are not announced either.
    "trailer",
    "transfer-encoding",
    "transfer_encoding",
    "upgrade",
];

/// The fields that go on: not those that `Connection` names, nor the well-known ones, nor anything
/// about proxies, so that no `Proxy-*` credential ever leaves.
pub(super) fn passed_on<'f, 'a>(fields: &'f Fields<'a>) -> impl Iterator<Item = Field<'a>> + 'f {
    let mut named: Vec<&[u8]> = fields.elements("connection").collect();
    // There may be as many as fit in a head.
    named.sort_unstable_by(|one, other| compare(one, other));
    fields.iter().filter(move |field| {
        let is_about_proxies =
            field.name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"proxy-"));
        !is_about_proxies
            && !HOP_BY_HOP.iter().any(|name| field.is(name))
            && named.binary_search_by(|name| compare(name, field.name)).is_err()
    })
}

/// Without regard to case.
fn compare(one: &[u8], other: &[u8]) -> Ordering {
    one.iter().map(u8::to_ascii_lowercase).cmp(other.iter().map(u8::to_ascii_lowercase))
}

/// Writes a field line.
pub(super) fn write(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Whether only this proxy may say that, so that no origin can forge a verdict. `Proxy-Status` goes
/// with all that is about proxies: an origin must not send it (RFC 9209 §2).
pub(super) fn is_verdict(field: &Field<'_>) -> bool {
    field.is("x-proxy-error")
}

/// Whether a reason phrase could be read as a verdict of this proxy, which most clients show in
/// place of everything else.
pub(super) fn is_verdict_phrase(phrase: &[u8]) -> bool {
    let name = PSEUDONYM.as_bytes();
    phrase.windows(name.len()).any(|window| window.eq_ignore_ascii_case(name))
}

/// What this proxy says in `Via` about a message of that version (RFC 9110 §7.6.3).
pub(super) fn via(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"1.0 exeat",
        Version::Http11 => b"1.1 exeat",
    }
}

/// Whether another message may follow on the connection, as far as its sender is concerned. With
/// HTTP/1.0 a proxy keeps none, whatever is said (RFC 9112 §9.3).
pub(super) fn persists(fields: &Fields<'_>, version: Version) -> bool {
    match version {
        Version::Http10 => false,
        Version::Http11 => {
            !fields.elements("connection").any(|word| word.eq_ignore_ascii_case(b"close"))
        }
    }
}

/// Whether an origin agrees to WebSocket and to nothing else.
pub(super) fn agrees_to_websocket(fields: &Fields<'_>) -> bool {
    let mut upgrades = fields.all("upgrade");
    let (Some(only), None) = (upgrades.next(), upgrades.next()) else { return false };
    only.eq_ignore_ascii_case(b"websocket")
        && fields.elements("connection").any(|name| name.eq_ignore_ascii_case(b"upgrade"))
}

/// Whether a field of that name carries a scheme whose authentication belongs to the connection (RFC 4559).
pub(super) fn binds_connection(fields: &Fields<'_>, name: &str) -> bool {
    fields.all(name).any(|value| {
        let scheme = value.split(|byte| *byte == b' ').next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields<'a>(fields: &[(&'a str, &'a str)]) -> Fields<'a> {
        let field = |(name, value): &(&'a str, &'a str)| Field {
            name: name.as_bytes(),
            value: value.as_bytes(),
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn hop_by_hop_fields_go() {
        let fields = fields(&[
            ("connection", "close, X-Secret"),
            ("x-SECRET", "1"),
            ("Proxy-Authorization", "Basic x"),
            ("proxy-foo", "1"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("transfer_encoding", "chunked"),
            ("Accept", "*/*"),
            ("x-forwarded-for", "1.2.3.4"),
        ]);
        let left: Vec<_> = passed_on(&fields).map(|field| field.name).collect();
        assert_eq!(left, [&b"Accept"[..], b"x-forwarded-for"]);
    }

    #[test]
    fn persistence() {
        let says = |value, version| persists(&fields(&[("Connection", value)]), version);
        assert!(
            persists(&fields(&[]), Version::Http11) && !persists(&fields(&[]), Version::Http10)
        );
        assert!(!says("x, Close", Version::Http11) && !says("Keep-Alive", Version::Http10));
    }

    #[test]
    fn websocket_only() {
        let both = |upgrade| {
            agrees_to_websocket(&fields(&[
                ("connection", "keep-alive, Upgrade"),
                ("upgrade", upgrade),
            ]))
        };
        assert!(both("WebSocket"));
        assert!(!both("h2c"));
        assert!(!both("websocket, h2c"));
        assert!(!agrees_to_websocket(&fields(&[("upgrade", "websocket")])));
    }

    #[test]
    fn connection_bound_authentication() {
        let bound =
            |value| binds_connection(&fields(&[("www-authenticate", value)]), "www-authenticate");
        assert!(bound("NTLM") && bound("Negotiate abc") && !bound("Basic realm=x"));
    }
}
