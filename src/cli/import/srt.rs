//! Settings of Anthropic's sandbox runtime (`network` of its file), or of Claude Code
//! (`sandbox.network`).
//!
//! `x` is that host, `*.x` every name below it, both as here; `:port` narrows in both lists, and
//! `*` stands in the deny list only. Addresses must be in brackets if they are IPv6.

use serde_json::{Map, Value};

use super::{
    NotRead,
    draft::{Draft, Entry, line_of},
};
use crate::policy::List;

/// Keys that say nothing about destinations.
const SILENT: &[&str] = &["allowedDomains", "deniedDomains", "strictAllowlist"];

pub(super) fn read(text: &str, draft: &mut Draft) -> Result<(), NotRead> {
    let root: Value =
        serde_json::from_str(text).map_err(|error| NotRead(format!("it is no JSON: {error}")))?;
    let network = [root.pointer("/sandbox/network"), root.get("network")];
    let network = network.into_iter().flatten().find_map(Value::as_object);
    let Some(network) = network else {
        return Err(NotRead("it has neither `network` nor `sandbox.network`".to_owned()));
    };
    for (key, list) in [("allowedDomains", List::Allow), ("deniedDomains", List::Deny)] {
        domains(text, network, key, list, draft)?;
    }
    for (key, value) in network.iter().filter(|(key, _)| !SILENT.contains(&key.as_str())) {
        setting(line_of(text, &format!("\"{key}\"")), key, value, draft);
    }
    draft.remark(
        0,
        "names that resolve to private addresses pass there, and are refused here unless \
         `allow_local_binding = true` or `[egress] private` in exeat.toml says otherwise",
    );
    draft.remark(0, "hosts that no entry names are asked about there, and refused here");
    Ok(())
}

fn domains(
    text: &str,
    network: &Map<String, Value>,
    key: &str,
    list: List,
    draft: &mut Draft,
) -> Result<(), NotRead> {
    let Some(value) = network.get(key) else { return Ok(()) };
    let Value::Array(items) = value else {
        return Err(NotRead(format!("`{key}` is no list")));
    };
    for item in items {
        let Value::String(domain) = item else {
            return Err(NotRead(format!("`{key}` holds something else than strings")));
        };
        let line = line_of(text, &format!("\"{domain}\""));
        draft.rule(Entry { line, text: domain, list }, domain);
    }
    Ok(())
}

fn setting(line: usize, key: &str, value: &Value, draft: &mut Draft) {
    let is_off = matches!(value, Value::Bool(false) | Value::Null)
        || value.as_array().is_some_and(Vec::is_empty);
    if is_off {
        return;
    }
    let why = match key {
        "allowLocalBinding" => {
            "it lets programs listen there; `allow_local_binding` is about destinations"
        }
        "allowUnixSockets" | "allowAllUnixSockets" => {
            "programs open sockets themselves there; `unix_sockets` is about requests to the proxy"
        }
        "allowManagedDomainsOnly" => "a requirements.toml is always the managed list",
        "httpProxyPort" | "socksProxyPort" => {
            "ports are set by `exeat serve --listen` and `--socks`"
        }
        _ => "there is nothing like it here",
    };
    draft.remark(line, format!("`{key}` is not translated: {why}"));
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lists, translated};

    #[test]
    fn settings_of_both() {
        let network = r#"{"network": {
            "allowedDomains": ["github.com", "*.npmjs.org", "[2001:db8::1]:443", "a.test:8443"],
            "deniedDomains": ["evil.test", "b.test:22"],
            "allowLocalBinding": true, "allowAllUnixSockets": false }}"#;
        for text in [network.to_owned(), format!("{{\"sandbox\": {network}}}")] {
            let (draft, policy) = translated(super::read, &text);
            assert_eq!(
                lists(&policy),
                [
                    "+github.com",
                    "+*.npmjs.org",
                    "+[2001:db8::1]:443",
                    "+a.test:8443",
                    "-evil.test",
                    "-b.test"
                ]
            );
            assert!(policy.contains("#   3: `b.test:22` is denied on every port here"), "{policy}");
            assert!(policy.contains("`allowLocalBinding` is not translated"), "{policy}");
            assert!(!policy.contains("allowAllUnixSockets") && !draft.is_wider());
        }
    }

    #[test]
    fn what_denies_too_much_or_too_little() {
        let (draft, policy) = translated(
            super::read,
            r#"{"network": {"allowedDomains": ["a.test"], "deniedDomains": ["*"]}}"#,
        );
        assert!(policy.contains("enabled = false") && !draft.is_wider(), "{policy}");
        let (draft, policy) =
            translated(super::read, r#"{"network": {"deniedDomains": ["*:22", "a b"]}}"#);
        assert!(draft.is_wider() && policy.matches("NOT DENIED here").count() == 2, "{policy}");
        for text in ["", "[]", "{}", r#"{"network": {"allowedDomains": [1]}}"#] {
            assert!(super::read(text, &mut Default::default()).is_err(), "{text}");
        }
    }
}
