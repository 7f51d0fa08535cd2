//! Squid: a squid.conf, or a list of values as `dstdomain` takes them.
//!
//! `x` is that host, `.x` that host *and every name below it*: `**.x` here. Of `http_access` the
//! first line that matches decides there; here a deny wins wherever it stands, so an allow above a
//! deny for the same host means something else. Conditions on anything but domains are not
//! translated, and an allow that has any but clients is left out.

use std::{borrow::Cow, collections::BTreeMap};

use super::{
    NotRead,
    draft::{Draft, Entry},
};
use crate::{
    net::Host,
    policy::{List, Pattern, Shape},
};

/// The lists of a configuration, by name.
#[derive(Default)]
struct Lists<'t> {
    domains: BTreeMap<&'t str, Vec<(usize, &'t str)>>,
    /// Lists of another kind, with that kind.
    others: BTreeMap<&'t str, &'t str>,
}

/// What a line of `http_access` asks, negations included.
#[derive(Default)]
struct Conditions<'t> {
    domains: Vec<&'t str>,
    but_domains: Vec<&'t str>,
    clients: Vec<&'t str>,
    others: Vec<&'t str>,
    /// `!all`, which nothing meets.
    never: bool,
}

pub(super) fn read(text: &str, draft: &mut Draft) -> Result<(), NotRead> {
    let lines = directives(text);
    let is_directive = |(_, words): &(usize, Vec<&str>)| {
        matches!(words.as_slice(), ["acl", _, _, ..] | ["http_access", "allow" | "deny", ..])
    };
    if !lines.iter().any(is_directive) {
        for (line, words) in &lines {
            for word in words {
                domain(Entry { line: *line, text: word, list: List::Allow }, draft);
            }
        }
        draft.remark(0, "a list of domains: taken as allowed");
        return Ok(());
    }
    let lists = Lists::of(&lines, draft);
    access(&lines, &lists, draft);
    draft.remark(
        0,
        "only `dstdomain` is translated: who may use the proxy is `[listen] clients` of exeat.toml, \
         and a port is written behind a host",
    );
    Ok(())
}

impl<'t> Lists<'t> {
    fn of(lines: &[(usize, Vec<&'t str>)], draft: &mut Draft) -> Self {
        let mut lists = Self::default();
        for (line, words) in lines {
            let [first, name, kind, values @ ..] = words.as_slice() else { continue };
            if *first != "acl" {
                continue;
            }
            if *kind != "dstdomain" {
                lists.others.insert(name, kind);
                continue;
            }
            let domains = lists.domains.entry(name).or_default();
            for value in values.iter().filter(|value| !value.starts_with('-')) {
                if value.contains(['"', '/']) {
                    draft.remark(
                        *line,
                        format!("`{value}` of `{name}` is another file: import it too"),
                    );
                } else {
                    domains.push((*line, *value));
                }
            }
        }
        lists
    }

    fn conditions(&self, words: &[&'t str]) -> Conditions<'t> {
        let mut conditions = Conditions::default();
        for word in words {
            let (name, negated) = match word.strip_prefix('!') {
                Some(name) => (name, true),
                None => (*word, false),
            };
            let kind = self.others.get(name).copied();
            match (name, kind) {
                ("all", None) => conditions.never |= negated,
                _ if self.domains.contains_key(name) && negated => {
                    conditions.but_domains.push(name)
                }
                _ if self.domains.contains_key(name) => conditions.domains.push(name),
                ("localhost", None) | (_, Some("src" | "localip" | "myip" | "myportname")) => {
                    conditions.clients.push(word);
                }
                (_, _) => conditions.others.push(word),
            }
        }
        conditions
    }

    fn entries(&self, names: &[&str], list: List) -> Vec<Entry<'t>> {
        let of = names.iter().filter_map(|name| self.domains.get(name)).flatten();
        of.map(|(line, text)| Entry { line: *line, text, list }).collect()
    }
}

/// Follows the lines of `http_access`.
fn access<'t>(lines: &[(usize, Vec<&'t str>)], lists: &Lists<'t>, draft: &mut Draft) {
    // Lists that a `deny !list` leaves.
    let mut left: Option<Vec<&str>> = None;
    for (line, words) in lines {
        let (list, rest) = match words.as_slice() {
            ["http_access", "allow", rest @ ..] => (List::Allow, rest),
            ["http_access", "deny", rest @ ..] => (List::Deny, rest),
            _ => continue,
        };
        let said = words.join(" ");
        let Conditions { domains, but_domains, clients, others, never } = lists.conditions(rest);
        if never {
            continue;
        }
        match (list, domains.as_slice(), but_domains.as_slice()) {
            (List::Deny, [], []) if others.is_empty() && clients.is_empty() => return,
            (List::Deny, [], [only]) if others.is_empty() && left.is_none() => {
                left = Some(vec![only]);
                if !clients.is_empty() {
                    draft.remark(*line, format!("`{said}` is for all clients here"));
                }
            }
            (List::Deny, [names], []) => {
                for entry in lists.entries(&[names], List::Deny) {
                    after_an_allow(entry, draft);
                    domain(entry, draft);
                }
                if !(others.is_empty() && clients.is_empty()) {
                    draft.remark(*line, format!("`{said}` is denied always here, whoever asks"));
                }
            }
            (List::Deny, [], []) => {
                draft.remark(*line, format!("`{said}` is not translated: it is not about domains"));
            }
            (List::Deny, _, _) => {
                let entry = Entry { line: *line, text: &said, list };
                draft.untranslated(entry, "it combines lists of domains");
            }
            (List::Allow, _, _) if !others.is_empty() => {
                let entry = Entry { line: *line, text: &said, list };
                draft.untranslated(
                    entry,
                    &format!("there is nothing here like {}", others.join(" ")),
                );
            }
            (List::Allow, [names], []) if left.is_none() => {
                for entry in lists.entries(&[names], List::Allow) {
                    domain(entry, draft);
                }
            }
            (List::Allow, [], []) => match &left {
                Some(names) => {
                    for entry in lists.entries(names, List::Allow) {
                        domain(entry, draft);
                    }
                }
                None => {
                    let entry = Entry { line: *line, text: &said, list };
                    draft.untranslated(
                        entry,
                        "it allows every host; write `\"*\"` if that is meant",
                    );
                }
            },
            (List::Allow, _, _) => {
                let entry = Entry { line: *line, text: &said, list };
                draft.untranslated(entry, "it combines lists of domains");
            }
        }
    }
}

fn domain(entry: Entry<'_>, draft: &mut Draft) {
    match entry.text.contains('*') && !entry.text.starts_with('.') {
        true => draft.untranslated(entry, "`*` means nothing in dstdomain; `.x` does"),
        false => draft.rule(entry, &pattern(entry.text)),
    }
}

/// Says so, if something that is to be denied is allowed by a line before it.
fn after_an_allow(entry: Entry<'_>, draft: &mut Draft) {
    let Ok(denied) = Pattern::parse(&pattern(entry.text)) else { return };
    let overlapping = draft.patterns(List::Allow).find(|allowed| overlap(allowed, &denied));
    if let Some(allowed) = overlapping.map(Pattern::to_string) {
        let said = "is allowed there by a line above it; here the deny wins";
        draft.remark(entry.line, format!("what `{}` and `{allowed}` share {said}", entry.text));
    }
}

/// A value of `dstdomain` as it is written here.
fn pattern(value: &str) -> Cow<'_, str> {
    match value.strip_prefix('.') {
        Some(base) => Cow::Owned(format!("**.{base}")),
        None => Cow::Borrowed(value),
    }
}

/// Whether a host matches both: of two that lie within each other, the inner one's base does.
fn overlap(one: &Pattern, other: &Pattern) -> bool {
    let base = |pattern: &Pattern| match pattern.shape() {
        Shape::Exact(name) | Shape::Tree(name) | Shape::Subdomains(name) => {
            Some(Host::Name(name.clone()))
        }
        Shape::Address(address) => Some(Host::from(*address)),
        Shape::Any | Shape::Glob(_) => None,
    };
    one == other
        || base(one).is_some_and(|base| other.matches(&base))
        || base(other).is_some_and(|base| one.matches(&base))
}

/// The words of each line with the number of the line, comments and empty lines aside. A line that
/// ends in a backslash goes on in the next.
fn directives(text: &str) -> Vec<(usize, Vec<&str>)> {
    let mut directives: Vec<(usize, Vec<&str>)> = Vec::new();
    let mut goes_on = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim_end();
        let words = line.trim_end_matches('\\').split_whitespace();
        match directives.last_mut().filter(|_| goes_on) {
            Some((_, before)) => before.extend(words),
            None => directives.push((number + 1, words.collect())),
        }
        goes_on = line.ends_with('\\');
    }
    directives.retain(|(_, words)| !words.is_empty());
    directives
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lists, translated};

    #[test]
    fn a_configuration() {
        let (draft, policy) = translated(
            super::read,
            "acl localnet src 10.0.0.0/8\nacl SSL_ports port 443\nacl CONNECT method CONNECT\n\
             acl good dstdomain .github.com api.openai.com # why\nacl good dstdomain \\\n   -n 203.0.113.7\n\
             acl bad dstdomain .gist.github.com .evil.test\nacl night time 22:00-06:00\n\
             acl listed dstdomain \"/etc/squid/list\"\n\
             http_access deny CONNECT !SSL_ports\nhttp_access allow localnet good\n\
             http_access deny bad\nhttp_access allow bad night\nhttp_access deny all\n\
             http_access allow listed\n",
        );
        assert_eq!(
            lists(&policy),
            [
                "+**.github.com",
                "+api.openai.com",
                "+203.0.113.7",
                "-**.gist.github.com",
                "-**.evil.test"
            ]
        );
        assert!(
            policy.contains("#   7: what `.gist.github.com` and `**.github.com` share"),
            "{policy}"
        );
        assert!(
            policy.contains("#   10: `http_access deny CONNECT !SSL_ports` is not translated"),
            "{policy}"
        );
        assert!(
            policy.contains("#   13: `http_access allow bad night` is not allowed here"),
            "{policy}"
        );
        assert!(
            policy.contains("#   9: `\"/etc/squid/list\"` of `listed` is another file"),
            "{policy}"
        );
        assert!(!draft.is_wider());
    }

    #[test]
    fn what_an_allow_above_a_deny_shares_is_said() {
        for (allowed, denied, shares) in [
            (".a.test", "b.a.test", true),
            ("b.a.test", ".a.test", true),
            ("a.test", "a.test", true),
            ("203.0.113.7", "203.0.113.7", true),
            (".a.test", ".ba.test", false),
            ("a.test", "b.a.test", false),
        ] {
            let (_, policy) = translated(
                super::read,
                &format!(
                    "acl a dstdomain {allowed}\nacl b dstdomain {denied}\nhttp_access allow a\n\
                     http_access deny b\n"
                ),
            );
            assert_eq!(policy.contains("the deny wins"), shares, "{policy}");
        }
    }

    #[test]
    fn what_a_negation_leaves() {
        let (draft, policy) = translated(
            super::read,
            "acl allowed_sites dstdomain .a.test b.test\nhttp_access deny !allowed_sites\n\
             http_access allow localhost\nhttp_access deny all\n",
        );
        assert_eq!(lists(&policy), ["+**.a.test", "+b.test"]);
        assert!(!draft.is_wider());
        let (draft, policy) = translated(
            super::read,
            "acl a dstdomain .a.test\nacl b dstdomain .b.test\nhttp_access deny a !b\n\
             http_access allow all\n",
        );
        assert!(lists(&policy).is_empty() && draft.is_wider(), "{policy}");
        assert!(policy.contains("it allows every host"), "{policy}");
    }

    #[test]
    fn a_list() {
        let (_, policy) = translated(super::read, "# sites\n.github.com\nb.test # why\n*.c.test\n");
        assert_eq!(lists(&policy), ["+**.github.com", "+b.test"]);
        assert!(policy.contains("`*` means nothing in dstdomain"), "{policy}");
    }
}
