//! The init-firewall.sh of development containers: names that are resolved once, and their
//! addresses opened.
//!
//! Read as text, not run: the words of `for NAME in ...; do` and of arrays `NAME=( ... )` that look
//! like domains. `x` is that host; here it is known by its name, whatever its addresses are.

use super::{
    NotRead,
    draft::{Draft, Entry},
};
use crate::{net::DnsName, policy::List};

/// What such a script opens beside its names, and what is said about it.
const OPENED: &[(&str, &str)] = &[
    ("--dport 53", "DNS is open to any server there; here the proxy resolves what is allowed"),
    (
        "--dport 22",
        "SSH is open to any address there; here name the hosts, and go through the proxy",
    ),
    (
        "HOST_NETWORK",
        "the network of the host is open there; here `[egress] private` in exeat.toml and an allow \
         open parts of it",
    ),
];

pub(super) fn read(text: &str, draft: &mut Draft) -> Result<(), NotRead> {
    let mut found = false;
    let mut is_list = false;
    for (number, line) in text.lines().enumerate() {
        let line = before_comment(line);
        let begins = begins_list(line);
        is_list |= begins;
        if is_list {
            for word in
                line.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ';' | '='))
            {
                let word = word.trim_matches(['"', '\'', '\\']);
                if word.contains('.') && DnsName::parse(word.as_bytes()).is_ok() {
                    found = true;
                    draft.rule(Entry { line: number + 1, text: word, list: List::Allow }, word);
                }
            }
        }
        let ends = line.contains(')') || line.contains("; do") || line.trim() == "do";
        is_list &= !ends;
        addresses(number + 1, line, draft);
        if line.contains("api.github.com/meta") {
            found = true;
            let entry = Entry { line: number + 1, text: "GitHub's ranges", list: List::Allow };
            draft.rule(entry, "**.github.com");
            draft.remark(
                number + 1,
                "the address ranges of GitHub are `**.github.com` here; *.githubusercontent.com \
                 is not in them",
            );
        }
    }
    for (sign, remark) in OPENED {
        if let Some(line) = text.lines().position(|line| before_comment(line).contains(sign)) {
            draft.remark(line + 1, *remark);
        }
    }
    match found {
        true => Ok(()),
        false => {
            Err(NotRead("it has no list of domains: `for NAME in ...` or `NAME=(...)`".to_owned()))
        }
    }
}

/// `for domain in \`, `DOMAINS=(`, `declare -a DOMAINS=(`.
fn begins_list(line: &str) -> bool {
    let line = line.trim_start();
    let is_loop = line.strip_prefix("for ").is_some_and(|rest| rest.contains(" in"));
    is_loop || line.contains("=(") || line.contains("+=(")
}

/// Addresses that are put into a set as they are.
fn addresses(line: usize, text: &str, draft: &mut Draft) {
    let Some((_, rest)) = text.split_once("ipset add ") else { return };
    let Some(word) = rest.split_whitespace().nth(1) else { return };
    let word = word.trim_matches(['"', '\'']);
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        draft.rule(Entry { line, text: word, list: List::Allow }, word);
    }
}

fn before_comment(line: &str) -> &str {
    let is_comment = line.trim_start().starts_with('#');
    if is_comment { "" } else { line.split(" #").next().unwrap_or(line) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lists, translated};

    #[test]
    fn loops_and_arrays() {
        let (draft, policy) = translated(
            super::read,
            "#!/bin/bash\n# see docs.example.com\niptables -A OUTPUT -p udp --dport 53 -j ACCEPT\n\
             gh_ranges=$(curl -s https://api.github.com/meta)\n\
             for domain in \\\n    \"registry.npmjs.org\" \\\n    \"sentry.io\"; do\n\
             echo \"resolving other.example.com\"\ndone\n\
             declare -a MORE=(\n  \"a.test\" # why\n  'b.test'\n)\n\
             ipset add allowed-domains 203.0.113.7\nipset add allowed-domains 203.0.113.0/24\n\
             ipset add allowed-domains \"$ip\"\n",
        );
        assert_eq!(
            lists(&policy),
            [
                "+**.github.com",
                "+registry.npmjs.org",
                "+sentry.io",
                "+a.test",
                "+b.test",
                "+203.0.113.7"
            ]
        );
        assert!(policy.contains("#   15: `203.0.113.0/24` is not allowed here"), "{policy}");
        assert!(policy.contains("#   3: DNS is open to any server there"), "{policy}");
        assert!(!draft.is_wider());
        assert!(super::read("echo hello\n", &mut Default::default()).is_err());
    }
}
