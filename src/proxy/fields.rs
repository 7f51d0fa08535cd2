//! Fields that end at this hop, and the one that is added (RFC 9110 §7.6).

use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{CONNECTION, UPGRADE, VIA},
};

/// How this proxy calls itself in `Via` and `Proxy-Status`.
pub(super) const PSEUDONYM: &str = "exeat";

/// Dropped whether `Connection` names them or not.
const HOP_BY_HOP: &[&str] = &[
    "connection",
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

/// Drops what is meant for this hop only: fields that `Connection` names, the well-known ones, and
/// everything about proxies, so that no `Proxy-*` credential ever leaves.
pub(super) fn strip(fields: &mut HeaderMap) {
    for name in named_by_connection(fields) {
        fields.remove(&name);
    }
    for name in HOP_BY_HOP {
        fields.remove(*name);
    }
    let about_proxies: Vec<HeaderName> =
        fields.keys().filter(|name| name.as_str().starts_with("proxy-")).cloned().collect();
    for name in about_proxies {
        fields.remove(&name);
    }
}

/// Drops from an answer what only this proxy says, so that no origin can forge a verdict.
/// `Proxy-Status` has gone with all that is about proxies: an origin must not send it (RFC 9209 §2).
pub(super) fn strip_verdict(fields: &mut HeaderMap) {
    fields.remove("x-proxy-error");
}

/// Whether a reason phrase could be read as a verdict of this proxy, which most clients show in
/// place of everything else.
pub(super) fn is_verdict(phrase: &[u8]) -> bool {
    let name = PSEUDONYM.as_bytes();
    phrase.windows(name.len()).any(|window| window.eq_ignore_ascii_case(name))
}

/// Adds this proxy to `Via` (RFC 9110 §7.6.3).
pub(super) fn add_via(fields: &mut HeaderMap, version: Version) {
    let via = if version == Version::HTTP_10 { "1.0 exeat" } else { "1.1 exeat" };
    fields.append(VIA, HeaderValue::from_static(via));
}

/// Whether an origin agrees to WebSocket and to nothing else.
pub(super) fn agrees_to_websocket(fields: &HeaderMap) -> bool {
    let mut upgrades = fields.get_all(UPGRADE).iter();
    let (Some(only), None) = (upgrades.next(), upgrades.next()) else { return false };
    only.as_bytes().eq_ignore_ascii_case(b"websocket")
        && named_by_connection(fields).contains(&UPGRADE)
}

/// Whether a field of that name carries a scheme whose authentication belongs to the connection (RFC 4559).
pub(super) fn binds_connection(fields: &HeaderMap, name: &HeaderName) -> bool {
    fields.get_all(name).iter().any(|value| {
        let scheme = value.as_bytes().split(|byte| *byte == b' ').next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
    })
}

fn named_by_connection(fields: &HeaderMap) -> Vec<HeaderName> {
    fields
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use http::header::WWW_AUTHENTICATE;

    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn hop_by_hop_fields_go() {
        let mut fields = map(&[
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("proxy-authorization", "Basic x"),
            ("proxy-foo", "1"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("transfer_encoding", "chunked"),
            ("accept", "*/*"),
            ("x-forwarded-for", "1.2.3.4"),
        ]);
        strip(&mut fields);
        let mut left: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "x-forwarded-for"]);
    }

    #[test]
    fn websocket_only() {
        let both = |upgrade| map(&[("connection", "keep-alive, Upgrade"), ("upgrade", upgrade)]);
        assert!(agrees_to_websocket(&both("WebSocket")));
        assert!(!agrees_to_websocket(&both("h2c")));
        assert!(!agrees_to_websocket(&both("websocket, h2c")));
        assert!(!agrees_to_websocket(&map(&[("upgrade", "websocket")])));
    }

    #[test]
    fn connection_bound_authentication() {
        let values = |value| map(&[("www-authenticate", value)]);
        let bound = |value| binds_connection(&values(value), &WWW_AUTHENTICATE);
        assert!(bound("NTLM") && bound("Negotiate abc") && !bound("Basic realm=x"));
    }
}
