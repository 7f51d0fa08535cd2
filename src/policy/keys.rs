//! The keys of `[experimental_network]`, and which of them an unknown key was probably meant to be.
//!
//! A typo in this table can be an open door (`deny_domains` denies nothing), so near misses are
//! errors, not warnings.

/// The table that is ours; everything else in the file is somebody else's.
pub(super) const TABLE: &str = "experimental_network";

/// Every key that is known in the table.
pub(super) const KEYS: &[&str] = &[
    "allow_local_binding",
    "allow_unix_sockets",
    "allow_upstream_proxy",
    "allowed_domains",
    "dangerously_allow_all_unix_sockets",
    "dangerously_allow_non_loopback_proxy",
    "denied_domains",
    "domains",
    "enabled",
    "http_port",
    "managed_allowed_domains_only",
    "socks_port",
    "unix_sockets",
];

/// How many edits make a typo.
const NEAR: usize = 3;

/// What an unknown key looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// Close to a known key, or about domains: refused.
    Typo(&'static str),
    /// Something else: a newer Codex, or a note.
    Other,
}

/// Whether a top-level key is our table's name, misspelt.
pub(super) fn is_near_table(key: &str) -> bool {
    strsim::levenshtein(&key.to_ascii_lowercase(), TABLE) <= NEAR
}

/// Whether a top-level key is one of our lists, without its table.
pub(super) fn is_about_domains(key: &str) -> bool {
    matches!(key, "allowed_domains" | "denied_domains" | "domains")
}

pub(super) fn classify(key: &str) -> Unknown {
    let lower = key.to_ascii_lowercase();
    let nearest = KEYS
        .iter()
        .map(|known| (strsim::levenshtein(&lower, known), *known))
        .min()
        .unwrap_or((usize::MAX, "domains"));
    match nearest {
        (distance, known) if distance <= NEAR => Unknown::Typo(known),
        (_, known) if lower.contains("domain") => Unknown::Typo(known),
        _ => Unknown::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses() {
        assert_eq!(classify("deny_domains"), Unknown::Typo("denied_domains"));
        assert_eq!(classify("Enabled"), Unknown::Typo("enabled"));
        assert_eq!(classify("allow_domain_list"), Unknown::Typo("allowed_domains"));
        assert_eq!(classify("header_injections"), Unknown::Other);
        assert_eq!(classify("mitm"), Unknown::Other);
        assert!(is_near_table("experimental_netwrok") && !is_near_table("network"));
    }
}
