//! The keys of `[experimental_network]`, each with its type and its shape.
//!
//! Whether a pattern or a port is a good idea is not asked here.

use std::{borrow::Cow, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Entries, Entry, Network, Written, shorten};
use crate::{
    net::Port,
    policy::{
        List, Problem,
        keys::{self, TABLE, Unknown},
        lift::Lifted,
        problems::Problems,
        sockets::{SocketPath, Sockets},
    },
};

/// Collects problems while it walks.
pub(super) struct Reader<'l> {
    pub(super) problems: Problems,
    pub(super) lifted: &'l Lifted<'l>,
}

type Key<'i> = Spanned<Cow<'i, str>>;
type Value<'i> = Spanned<DeValue<'i>>;

impl Reader<'_> {
    pub(super) fn network(&mut self, key: &Key<'_>, value: &Value<'_>) -> Network {
        let mut network = Network::default();
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong_type(TABLE, "a table", value);
            return network;
        };
        let entries = in_file_order(table);
        self.shapes(&entries, "domains", &["allowed_domains", "denied_domains"]);
        self.shapes(&entries, "unix_sockets", &["allow_unix_sockets"]);
        for (key, value) in &entries {
            let at = key.span().start;
            network.switches.extend(switch(key, value));
            match key.get_ref().as_ref() {
                "enabled" => network.enabled = self.boolean(key, value),
                "allow_local_binding" => network.allow_local_binding = self.boolean(key, value),
                "dangerously_allow_non_loopback_proxy" => {
                    network.allow_non_loopback_proxy = self.boolean(key, value);
                }
                "allow_upstream_proxy" => network.allow_upstream_proxy = self.boolean(key, value),
                "dangerously_allow_all_unix_sockets" => {
                    network.sockets.all = self.boolean(key, value) == Some(true);
                }
                "managed_allowed_domains_only" => {
                    self.boolean(key, value);
                }
                "http_port" => network.http_port = self.port(key, value),
                "socks_port" => network.socks_port = self.port(key, value),
                "allowed_domains" => {
                    network.allow_at.get_or_insert(at);
                    network.entries.push(self.list("allowed_domains", List::Allow, value));
                }
                "denied_domains" => {
                    network.entries.push(self.list("denied_domains", List::Deny, value));
                }
                "domains" => {
                    network.allow_at.get_or_insert(at);
                    network.entries.push(self.domains(value));
                }
                "allow_unix_sockets" => self.socket_list(value, &mut network.sockets),
                "unix_sockets" => self.socket_table(value, &mut network.sockets),
                unknown => self.unknown(unknown, key),
            }
        }
        if !entries.iter().any(|(key, _)| key.get_ref() == "enabled") {
            self.problems.push(
                Problem::warning(key.span(), "`enabled` is not set; the policy is in force")
                    .with_help("write `enabled = true`: Codex starts its proxy only then"),
            );
        }
        network
    }

    /// Two shapes of one thing in one document: an error at whichever stands second.
    fn shapes(&mut self, entries: &[(&Key<'_>, &Value<'_>)], canonical: &str, legacy: &[&str]) {
        let of = |name: &str| entries.iter().find(|(key, _)| key.get_ref() == name);
        let Some((table, _)) = of(canonical) else { return };
        for old in legacy {
            let Some((list, _)) = of(old) else { continue };
            let second = if list.span().start > table.span().start { list } else { table };
            self.problems.push(
                Problem::error(
                    second.span(),
                    format!("`{canonical}` and `{old}` cannot be combined"),
                )
                .with_help(format!("move the entries of `{old}` into `{canonical}`")),
            );
        }
    }

    fn unknown(&mut self, name: &str, key: &Key<'_>) {
        let quoted = shorten(name);
        self.problems.push(match keys::classify(name) {
            Unknown::Typo(known) => Problem::error(key.span(), format!("unknown key `{quoted}`"))
                .with_help(format!("did you mean `{known}`?")),
            Unknown::Other => {
                Problem::warning(key.span(), format!("unknown key `{quoted}` is ignored"))
                    .with_help(format!("known keys: {}", keys::KEYS.join(", ")))
            }
        });
    }

    fn boolean(&mut self, key: &Key<'_>, value: &Value<'_>) -> Option<bool> {
        let DeValue::Boolean(boolean) = value.get_ref() else {
            self.wrong_type(key.get_ref(), "a boolean (`true` or `false`)", value);
            return None;
        };
        Some(*boolean)
    }

    fn port(&mut self, key: &Key<'_>, value: &Value<'_>) -> Option<Port> {
        let DeValue::Integer(integer) = value.get_ref() else {
            self.wrong_type(key.get_ref(), "a port from 1 to 65535", value);
            return None;
        };
        let number = u16::from_str_radix(integer.as_str(), integer.radix()).ok();
        let port = number.and_then(Port::new);
        if port.is_none() {
            self.problems.push(
                Problem::error(
                    value.span(),
                    format!("`{}` is not a port: it must be from 1 to 65535", key.get_ref()),
                )
                .with_help("the default is 3128 for `http_port` and 8081 for `socks_port`"),
            );
        }
        port
    }

    fn list(&mut self, key: &'static str, list: List, value: &Value<'_>) -> Entries {
        let lifted = self.lifted.list_at(value.span().start).to_vec();
        let mut entries = Entries { key, lifted, read: Vec::new() };
        let DeValue::Array(array) = value.get_ref() else {
            self.wrong_type(key, "a list of patterns", value);
            return entries;
        };
        for item in array.iter() {
            let DeValue::String(text) = item.get_ref() else {
                self.wrong_type(key, "a list of patterns, each a string", item);
                continue;
            };
            entries.read.push(Entry { text: text.to_string(), span: item.span(), list });
        }
        entries
    }

    fn domains(&mut self, value: &Value<'_>) -> Entries {
        let lifted = self.lifted.domains().to_vec();
        let mut entries = Entries { key: "domains", lifted, read: Vec::new() };
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong_type("domains", "a table of pattern = \"allow\" or \"deny\"", value);
            return entries;
        };
        for (key, verdict) in in_file_order(table) {
            let list = match verdict.get_ref() {
                DeValue::String(word) if word == "allow" => List::Allow,
                DeValue::String(word) if word == "deny" => List::Deny,
                DeValue::String(word) => {
                    self.problems.push(wrong_verdict("domains", key, word, verdict));
                    continue;
                }
                DeValue::Table(_) => {
                    self.problems.push(unquoted_pattern(key));
                    continue;
                }
                DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_)
                | DeValue::Array(_) => {
                    self.wrong_type(&shorten(key.get_ref()), "\"allow\" or \"deny\"", verdict);
                    continue;
                }
            };
            let text = key.get_ref().to_string();
            entries.read.push(Entry { text, span: key.span(), list });
        }
        entries
    }

    fn socket_list(&mut self, value: &Value<'_>, sockets: &mut Sockets) {
        let DeValue::Array(array) = value.get_ref() else {
            self.wrong_type("allow_unix_sockets", "a list of socket paths", value);
            return;
        };
        for item in array.iter() {
            let DeValue::String(path) = item.get_ref() else {
                self.wrong_type("allow_unix_sockets", "a list of socket paths", item);
                continue;
            };
            sockets.allowed.extend(self.socket_path(path, item.span()));
        }
    }

    fn socket_table(&mut self, value: &Value<'_>, sockets: &mut Sockets) {
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong_type("unix_sockets", "a table of path = \"allow\" or \"deny\"", value);
            return;
        };
        for (key, verdict) in in_file_order(table) {
            let path = self.socket_path(key.get_ref(), key.span());
            let DeValue::String(word) = verdict.get_ref() else {
                self.wrong_type(&shorten(key.get_ref()), "\"allow\" or \"deny\"", verdict);
                continue;
            };
            match word.as_ref() {
                "allow" => sockets.allowed.extend(path),
                // `none` is how older files say deny.
                "deny" | "none" => sockets.denied.extend(path),
                _ => self.problems.push(wrong_verdict("unix_sockets", key, word, verdict)),
            }
        }
    }

    fn socket_path(&mut self, path: &str, span: Range<usize>) -> Option<SocketPath> {
        match SocketPath::parse(path.as_bytes()) {
            Ok(path) => Some(path),
            Err(error) => {
                self.problems.push(
                    Problem::error(span, format!("`{}` {error}", shorten(path)))
                        .with_help("write the whole path of the socket, from `/`"),
                );
                None
            }
        }
    }

    fn wrong_type(&mut self, key: &str, expected: &str, value: &Value<'_>) {
        self.problems.push(Problem::error(
            value.span(),
            format!("`{key}` must be {expected}, not {}", article(value.get_ref().type_str())),
        ));
    }
}

/// A key that is no list of domains, with its value in one spelling.
fn switch(key: &Key<'_>, value: &Value<'_>) -> Option<Written> {
    let known = keys::KEYS.iter().find(|known| **known == key.get_ref())?;
    let (name, text) = match (*known, value.get_ref()) {
        ("allowed_domains" | "denied_domains" | "domains", _) => return None,
        (known, DeValue::Boolean(boolean)) => (known, boolean.to_string()),
        (known, DeValue::Integer(integer)) => {
            let number = u16::from_str_radix(integer.as_str(), integer.radix()).ok()?;
            (known, number.to_string())
        }
        (_, DeValue::Array(paths)) => {
            let path = |item: &Value<'_>| Some(format!("{} = allow", item.get_ref().as_str()?));
            ("unix_sockets", sorted(paths.iter().filter_map(path).collect()))
        }
        (_, DeValue::Table(paths)) => {
            let path = |(path, verdict): (&Key<'_>, &Value<'_>)| {
                // `none` is how older files say deny.
                let allows = verdict.get_ref().as_str()? == "allow";
                let word = if allows { "allow" } else { "deny" };
                Some(format!("{} = {word}", path.get_ref()))
            };
            ("unix_sockets", sorted(paths.iter().filter_map(path).collect()))
        }
        (_, DeValue::String(_) | DeValue::Float(_) | DeValue::Datetime(_)) => return None,
    };
    Some(Written { key: name, value: text, at: key.span().start })
}

fn sorted(mut words: Vec<String>) -> String {
    words.sort();
    words.join(", ")
}

fn wrong_verdict(table: &str, key: &Key<'_>, word: &str, verdict: &Value<'_>) -> Problem {
    let (key, word) = (shorten(key.get_ref()), shorten(word));
    Problem::error(verdict.span(), format!("`{word}` is no verdict for `{key}` in `{table}`"))
        .with_help("write \"allow\" or \"deny\", in lower case")
}

/// A top-level key that was probably meant for our table: its name misspelt, or its header
/// forgotten. Taken for somebody else's, it would deny nothing.
pub(super) fn misplaced(key: &Key<'_>) -> Option<Problem> {
    let name = key.get_ref().as_ref();
    let quoted = shorten(name);
    if keys::is_about_domains(name) {
        let message = format!("`{quoted}` stands outside `[{TABLE}]`");
        let help = format!("write the line `[{TABLE}]` above it");
        return Some(Problem::error(key.span(), message).with_help(help));
    }
    keys::is_near_table(name).then(|| {
        Problem::error(key.span(), format!("unknown table `{quoted}`"))
            .with_help(format!("did you mean `{TABLE}`?"))
    })
}

/// `domains.example.com = "allow"` makes a table `example`, not a pattern.
fn unquoted_pattern(key: &Key<'_>) -> Problem {
    Problem::error(key.span(), format!("`{}` in `domains` is a table", shorten(key.get_ref())))
        .with_help("put the pattern in quotes: `domains.\"example.com\" = \"allow\"`")
}

fn article(type_name: &str) -> String {
    match type_name.starts_with(['a', 'e', 'i', 'o', 'u']) {
        true => format!("an {type_name}"),
        false => format!("a {type_name}"),
    }
}

pub(super) fn in_file_order<'t, 'i>(
    table: &'t DeTable<'i>,
) -> Vec<(&'t Spanned<Cow<'i, str>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}
