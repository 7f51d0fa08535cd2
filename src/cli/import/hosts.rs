//! A hosts file that blocks names by a useless address, or a plain list of names to block.
//!
//! A name there is that name alone, as here.

use std::net::IpAddr;

use super::{
    NotRead,
    draft::{Draft, Entry},
};
use crate::policy::List;

/// Names of this machine and of multicast groups, as systems and block lists have them.
const OWN_NAMES: &[&str] = &[
    "localhost",
    "localhost.localdomain",
    "localhost4",
    "localhost6",
    "local",
    "broadcasthost",
    "ip6-localhost",
    "ip6-loopback",
    "ip6-localnet",
    "ip6-mcastprefix",
    "ip6-allnodes",
    "ip6-allrouters",
    "ip6-allhosts",
    "0.0.0.0",
];

pub(super) fn read(text: &str, draft: &mut Draft) -> Result<(), NotRead> {
    for (line, words) in text.lines().enumerate() {
        let words = words.split('#').next().unwrap_or("").trim();
        entries(line + 1, words, draft);
    }
    draft.remark(
        0,
        "a hosts file lets every other name out; here nothing is allowed before `allowed_domains` \
         says what, and every other name is `allowed_domains = [\"*\"]`",
    );
    Ok(())
}

fn entries(line: usize, text: &str, draft: &mut Draft) {
    let mut words = text.split_whitespace();
    let Some(first) = words.next() else { return };
    // Zones of link-local addresses stand in the files of some systems.
    let address = first.split('%').next().unwrap_or(first).parse::<IpAddr>();
    let names: Vec<&str> = match address {
        Ok(_) => words.collect(),
        // A list: one name a line.
        Err(_) if words.next().is_none() => vec![first],
        Err(_) => {
            let entry = Entry { line, text, list: List::Deny };
            return draft.untranslated(entry, "it is neither an address and names, nor one name");
        }
    };
    let blocks = address.map_or(true, |address| address.is_loopback() || address.is_unspecified());
    for name in names.into_iter().filter(|name| !OWN_NAMES.contains(name)) {
        match blocks {
            true => draft.rule(Entry { line, text: name, list: List::Deny }, name),
            false => draft.remark(
                line,
                format!(
                    "`{name}` is no rule but an answer: write it in `[dns.hosts]` of exeat.toml"
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lists, translated};

    #[test]
    fn blocked_names_are_denied() {
        let (draft, policy) = translated(
            super::read,
            "127.0.0.1 localhost\n::1 ip6-localhost ip6-loopback\nfe80::1%lo0 localhost\n\
             0.0.0.0 ads.test # why\n0.0.0.0 a.test  Ads.test B.test\n:: c.test\n\
             10.0.0.7 git.corp.test\nplain.test\n",
        );
        assert_eq!(lists(&policy), ["-ads.test", "-a.test", "-b.test", "-c.test", "-plain.test"]);
        assert!(policy.contains("#   7: `git.corp.test` is no rule but an answer"), "{policy}");
        assert!(!draft.is_wider());
        let (draft, policy) = translated(super::read, "||ads.test^\nnot a host\n");
        assert!(draft.is_wider() && policy.matches("NOT DENIED here").count() == 2, "{policy}");
    }
}
