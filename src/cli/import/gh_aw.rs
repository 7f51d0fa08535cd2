//! GitHub Agentic Workflows: the `network` of a workflow (YAML), a configuration of its firewall
//! (JSON or YAML), or a list of domains as `--allow-domains` takes it.
//!
//! `x` is that host *and every name below it*: `**.x` here. A leading `https://` or `http://` is a
//! port here. Words without a dot name lists that the compiler of workflows knows.
//!
//! YAML is read as far as such files go: keys and lists by their indentation, lists in brackets,
//! strings with or without quotes.

use serde_json::Value;

use super::{
    NotRead,
    draft::{Draft, Entry, line_of},
};
use crate::policy::List;

/// The keys that hold domains, in any of these files.
const KEYS: &[(&str, List)] = &[
    ("allowed", List::Allow),
    ("allowDomains", List::Allow),
    ("allow-domains", List::Allow),
    ("allowedDomains", List::Allow),
    ("blocked", List::Deny),
    ("blockDomains", List::Deny),
    ("block-domains", List::Deny),
    ("blockedDomains", List::Deny),
];

pub(super) fn read(text: &str, draft: &mut Draft) -> Result<(), NotRead> {
    if text.trim_start().starts_with('{') {
        json(text, draft)?;
    } else if text.lines().any(|line| network_key(line).is_some()) {
        yaml(text, draft);
    } else {
        for (line, words) in text.lines().enumerate() {
            let words = words.split('#').next().unwrap_or("");
            for word in words.split([',', ' ', '\t']).filter(|word| !word.is_empty()) {
                domain(Entry { line: line + 1, text: word, list: List::Allow }, draft);
            }
        }
    }
    draft.remark(
        0,
        "ports other than 80 and 443 are refused there, and open here for allowed hosts; write \
         `x:443` to narrow them",
    );
    draft.remark(
        0,
        "GitHub's own domains are always allowed there, and here only if they are listed",
    );
    Ok(())
}

fn domain(entry: Entry<'_>, draft: &mut Draft) {
    let Entry { line, text, list } = entry;
    let lower = text.to_ascii_lowercase();
    let (host, port) = if let Some(host) = lower.strip_prefix("https://") {
        (host, ":443")
    } else if let Some(host) = lower.strip_prefix("http://") {
        (host, ":80")
    } else {
        (lower.as_str(), "")
    };
    let host = host.trim_end_matches('/');
    match (host.strip_prefix("*."), list) {
        _ if host == "*" => draft.untranslated(entry, "its firewall refuses `*` too"),
        _ if host == "local" => {
            for own in ["localhost", "127.0.0.1", "::1"] {
                draft.rule(entry, own);
            }
        }
        _ if host.parse::<std::net::IpAddr>().is_ok() => {
            draft.rule(entry, &format!("{host}{port}"))
        }
        _ if !host.contains('.') && host != "localhost" => {
            let why = "it is a list that `gh aw compile` knows; import the compiled workflow's \
                       `allowDomains`";
            draft.untranslated(entry, why);
        }
        (Some(base), List::Allow) => {
            draft.rule(entry, &format!("*.{base}{port}"));
            let only = "here it is every name below it; whether it is the name itself too depends \
                        on the version there";
            draft.remark(line, format!("`{text}`: {only}"));
        }
        (Some(base), List::Deny) => draft.rule(entry, &format!("**.{base}{port}")),
        (None, _) if host.contains('*') => {
            draft.rule(entry, &format!("{host}{port}"));
            draft.remark(
                line,
                format!("`{text}`: `*` is any run of characters here, dots included"),
            );
        }
        (None, _) => draft.rule(entry, &format!("**.{host}{port}")),
    }
    if !port.is_empty() {
        draft.remark(
            line,
            format!(
                "`{text}` is about a protocol there, and about port {} here",
                &port.trim_start_matches(':')
            ),
        );
    }
}

fn json(text: &str, draft: &mut Draft) -> Result<(), NotRead> {
    let root: Value =
        serde_json::from_str(text).map_err(|error| NotRead(format!("it is no JSON: {error}")))?;
    let network = root.get("network").unwrap_or(&root);
    let mut found = false;
    for (key, list) in KEYS {
        for item in network.get(key).and_then(Value::as_array).into_iter().flatten() {
            let Value::String(word) = item else {
                return Err(NotRead(format!("`{key}` holds something else than strings")));
            };
            let line = line_of(text, &format!("\"{word}\""));
            domain(Entry { line, text: word, list: *list }, draft);
        }
        found |= network.get(key).is_some();
    }
    match found {
        true => Ok(()),
        false => Err(NotRead("it has no `allowDomains` or `allowed`".to_owned())),
    }
}

/// The value of `network:` on its own line, if that is what a line says.
fn network_key(line: &str) -> Option<&str> {
    let known = ["network"].into_iter().chain(KEYS.iter().map(|(key, _)| *key));
    let line = line.trim();
    known.filter_map(|key| line.strip_prefix(key)?.strip_prefix(':')).next().map(str::trim)
}

fn yaml(text: &str, draft: &mut Draft) {
    // The list that is open, and how far its key is indented.
    let mut open: Option<(List, usize)> = None;
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        let line = line.split(" #").next().unwrap_or(line);
        let indent = line.len() - line.trim_start().len();
        let words = line.trim();
        if words.is_empty() || words.starts_with('#') {
            continue;
        }
        if let Some(item) = words.strip_prefix("- ") {
            if let Some((list, _)) = open.filter(|(_, of)| indent >= *of) {
                domain(Entry { line: number, text: unquoted(item), list }, draft);
            }
            continue;
        }
        open = open.filter(|(_, of)| indent > *of);
        let Some((key, value)) = words.split_once(':') else { continue };
        let list = KEYS.iter().find(|(known, _)| *known == key).map(|(_, list)| *list);
        match (list, value.trim()) {
            (Some(list), "") => open = Some((list, indent)),
            (Some(list), value) => {
                let inner = value.trim_matches(['[', ']']);
                for word in inner.split(',').map(unquoted).filter(|word| !word.is_empty()) {
                    domain(Entry { line: number, text: word, list }, draft);
                }
            }
            (None, value) if key == "network" && !value.is_empty() && value != "{}" => {
                domain(Entry { line: number, text: unquoted(value), list: List::Allow }, draft);
            }
            (None, _) => {}
        }
    }
}

fn unquoted(word: &str) -> &str {
    word.trim().trim_matches(['"', '\''])
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lists, translated};

    #[test]
    fn a_workflow() {
        let (draft, policy) = translated(
            super::read,
            "---\non: push\nnetwork:\n  allowed:\n    - defaults # infrastructure\n    - \"api.example.com\"\n\
             \x20   - '*.cdn.example.com'\n    - https://secure.example.com\n  blocked: [\"ads.example.com\", '*.x.test']\n\
             tools:\n  - other.example.com\n---\n# Text\n- more.example.com\n",
        );
        assert_eq!(
            lists(&policy),
            [
                "+**.api.example.com",
                "+*.cdn.example.com",
                "+**.secure.example.com:443",
                "-**.ads.example.com",
                "-**.x.test"
            ]
        );
        assert!(policy.contains("\"**.api.example.com\", # api.example.com\n"), "{policy}");
        assert!(policy.contains("#   5: `defaults` is not allowed here: it is a list"), "{policy}");
        assert!(
            policy.contains("#   8: `https://secure.example.com` is about a protocol"),
            "{policy}"
        );
        assert!(!draft.is_wider());
    }

    #[test]
    fn a_configuration_and_a_list() {
        let json =
            r#"{"network": {"allowDomains": ["a.test", "local"], "blockDomains": ["python"]}}"#;
        let (draft, policy) = translated(super::read, json);
        assert_eq!(lists(&policy), ["+**.a.test", "+localhost", "+127.0.0.1", "+::1"]);
        assert!(draft.is_wider() && policy.contains("`python` is NOT DENIED here"), "{policy}");
        let (_, policy) =
            translated(super::read, "a.test, b.test\n# c.test\nd.test # why\n172.30.0.1\n");
        assert_eq!(lists(&policy), ["+**.a.test", "+**.b.test", "+**.d.test", "+172.30.0.1"]);
        assert!(super::read("{\"x\": 1}", &mut Default::default()).is_err());
    }
}
