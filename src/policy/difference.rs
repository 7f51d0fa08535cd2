//! What changes from one policy to another: keys, rules, and hosts that gain or lose leave.
//!
//! The first two are about what is written, the last is what it comes to: hosts that stand for all
//! others are put to both policies, by the very decision that a proxy makes. It does not look
//! names up, so what `allow_local_binding` does to answers of DNS shows as a key only.

use std::{cmp::Ordering, collections::BTreeSet, fmt};

use super::{
    Denial, Leave, List, Pattern, Policy, RuleId, Rules, Switch,
    witness::{Witness, Witnesses},
};
use crate::net::{Authority, Host, Port};

/// Everything in which two policies differ.
#[derive(Debug)]
pub struct Difference {
    /// Keys other than the lists of domains, by name.
    pub switches: Vec<SwitchChange>,
    /// Removed, turned and added rules, each in the order of their file.
    pub rules: Vec<RuleChange>,
    /// Hosts that lose or gain leave.
    pub leave: Vec<LeaveChange>,
    /// How many overlaps of wildcards were not looked at, because there are so many.
    pub left_out: usize,
}

/// A key that is set otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchChange {
    /// Its name.
    pub key: &'static str,
    /// What it was; none, if it was not set.
    pub old: Option<String>,
    /// What it is.
    pub new: Option<String>,
}

/// A pattern that stands in one policy only, or in the other list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleChange {
    /// The pattern.
    pub pattern: Pattern,
    /// Its rule in the old policy; the deny, if there are two.
    pub old: Option<(List, RuleId)>,
    /// And in the new one.
    pub new: Option<(List, RuleId)>,
}

/// A host that one policy lets out and the other does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveChange {
    /// The host that was asked about, and a port of those that it is about.
    pub authority: Authority,
    /// Which ports it is about.
    pub ports: Ports,
    /// What the host stands for.
    pub stands_for: Witness,
    /// Which way.
    pub change: Change,
    /// What let it out, or why it was refused.
    pub old: Result<Leave, Denial>,
    /// The same in the new policy.
    pub new: Result<Leave, Denial>,
}

/// Which way leave changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// What was let out is refused.
    Loses,
    /// What was refused is let out.
    Gains,
}

/// Which ports of a host a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ports {
    /// Every port.
    All,
    /// That of the authority.
    One,
    /// Every port that no rule about the host names.
    Others,
}

/// A pattern with the rule that counts.
type Written = (Pattern, List, RuleId);

impl Difference {
    /// What changes from one policy to the other.
    #[must_use]
    pub fn between(old: &Policy, new: &Policy) -> Self {
        let rules = rule_changes(old.ruleset().rules(), new.ruleset().rules());
        let changed: BTreeSet<Pattern> =
            rules.iter().map(|change| change.pattern.clone().without_port()).collect();
        let changed: Vec<Pattern> = changed.into_iter().collect();
        let witnesses = Witnesses::of([old, new].map(|policy| policy.ruleset().rules()), &changed);
        let mut leave = Vec::new();
        for (host, witness) in witnesses.iter() {
            leave_changes(old, new, host, witness, &mut leave);
        }
        leave.sort_by_key(|change| change.change);
        // Several names may stand for the same.
        let mut told = BTreeSet::new();
        leave.retain(|LeaveChange { authority, ports, stands_for, change, .. }| {
            let port = (*ports == Ports::One).then_some(authority.port);
            *stands_for == Witness::Host
                || told.insert((stands_for.to_string(), *change, *ports, port))
        });
        Self {
            switches: switch_changes(&old.ruleset().switches, &new.ruleset().switches),
            rules,
            leave,
            left_out: witnesses.left_out,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.switches.is_empty() && self.rules.is_empty() && self.leave.is_empty()
    }
}

impl Change {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loses => "loses",
            Self::Gains => "gains",
        }
    }
}

impl Ports {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::One => "one",
            Self::Others => "others",
        }
    }
}

impl fmt::Display for LeaveChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ports {
            Ports::All => write!(f, "{}", self.authority.host),
            Ports::One => write!(f, "{}", self.authority),
            Ports::Others => write!(f, "{} on its other ports", self.authority.host),
        }
    }
}

fn switch_changes(old: &[Switch], new: &[Switch]) -> Vec<SwitchChange> {
    let value = |switches: &[Switch], key: &str| {
        switches.iter().find(|switch| switch.key == key).map(|switch| switch.value.clone())
    };
    let keys: BTreeSet<&'static str> = old.iter().chain(new).map(|switch| switch.key).collect();
    let changes = keys.into_iter().map(|key| {
        let (old, new) = (value(old, key), value(new, key));
        SwitchChange { key, old, new }
    });
    changes.filter(|change| change.old != change.new).collect()
}

fn rule_changes(old: &Rules, new: &Rules) -> Vec<RuleChange> {
    let (old, new) = (by_pattern(old), by_pattern(new));
    let (mut before, mut after) = (old.into_iter().peekable(), new.into_iter().peekable());
    let (mut removed, mut turned, mut added) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((old, ..)), Some((new, ..))) => old.cmp(new),
        };
        let old = if order.is_le() { before.next() } else { None };
        let new = if order.is_ge() { after.next() } else { None };
        let place = |written: &Written| (written.1, written.2);
        let (from, to) = (old.as_ref().map(place), new.as_ref().map(place));
        let Some((pattern, ..)) = old.or(new) else { break };
        let change = RuleChange { pattern, old: from, new: to };
        match (from, to) {
            (Some((old, _)), Some((new, _))) if old == new => {}
            (Some(_), Some(_)) => turned.push(change),
            (Some(_), None) => removed.push(change),
            (None, _) => added.push(change),
        }
    }
    removed.sort_by_key(|change| change.old.map(|(_, rule)| rule));
    for changes in [&mut turned, &mut added] {
        changes.sort_by_key(|change| change.new.map(|(_, rule)| rule));
    }
    removed.into_iter().chain(turned).chain(added).collect()
}

/// Each pattern once, in its order; of an allow and a deny the deny, which wins.
fn by_pattern(rules: &Rules) -> Vec<Written> {
    let mut written: Vec<Written> =
        rules.iter().map(|(id, rule)| (rule.pattern, rule.list, id)).collect();
    written.sort_by(|(a, a_list, _), (b, b_list, _)| a.cmp(b).then(b_list.cmp(a_list)));
    written.dedup_by(|(a, ..), (b, ..)| a == b);
    written
}

fn leave_changes(
    old: &Policy,
    new: &Policy,
    host: &Host,
    witness: &Witness,
    changes: &mut Vec<LeaveChange>,
) {
    let mut named = old.ports_about(host);
    named.extend(new.ports_about(host));
    let other = std::iter::once(443).chain(1..=u16::MAX).filter_map(Port::new);
    let other = other.into_iter().find(|port| !named.contains(port)).unwrap_or(Port::HTTPS);
    let ask = |port: Port, ports: Ports| {
        let authority = Authority { host: host.clone(), port };
        let decide = |policy: &Policy| policy.decide(&authority).map(|permit| permit.leave());
        let (old, new) = (decide(old), decide(new));
        let change = match (&old, &new) {
            (Ok(_), Err(_)) => Change::Loses,
            (Err(_), Ok(_)) => Change::Gains,
            (Ok(_), Ok(_)) | (Err(_), Err(_)) => return None,
        };
        let stands_for = witness.clone();
        Some(LeaveChange { authority, ports, stands_for, change, old, new })
    };
    let of_named: Vec<Option<LeaveChange>> =
        named.iter().map(|port| ask(*port, Ports::One)).collect();
    let way = |change: &Option<LeaveChange>| change.as_ref().map(|change| change.change);
    match ask(other, if named.is_empty() { Ports::All } else { Ports::Others }) {
        Some(all) if of_named.iter().all(|one| way(one) == Some(all.change)) => {
            changes.push(LeaveChange { ports: Ports::All, ..all });
        }
        others => changes.extend(of_named.into_iter().flatten().chain(others)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::policy::{Egress, Outcome, Review, Source};

    fn policy(text: &str) -> Policy {
        let text = format!("[experimental_network]\n{text}");
        let review = Review::of(text.as_bytes(), &Arc::new(Source::file("r.toml")), 7);
        let Outcome::Ruleset(ruleset) = review.outcome else { panic!("{:?}", review.problems) };
        Policy::new(*ruleset, Egress::default(), 1)
    }

    fn lists(allow: &[&str], deny: &[&str]) -> String {
        format!("enabled = true\nallowed_domains = {allow:?}\ndenied_domains = {deny:?}\n")
    }

    /// What changes, in words: `+host` gains, `-host` loses.
    fn leave(old: &Policy, new: &Policy) -> Vec<String> {
        let difference = Difference::between(old, new);
        let said = difference.leave.iter().map(|change| {
            let sign = match change.change {
                Change::Gains => '+',
                Change::Loses => '-',
            };
            format!("{sign}{change} ({})", change.stands_for)
        });
        said.collect()
    }

    #[test]
    fn what_is_written() {
        let old = policy(
            "enabled = true\nhttp_port = 3128\nallow_unix_sockets = [\"/b\", \"/a\"]\n\
             allowed_domains = [\"a.test\", \"b.test\", \"c.test:80\"]\n",
        );
        let new = policy(
            "enabled = true\nallow_local_binding = false\n\
             unix_sockets = { \"/a\" = \"allow\", \"/b\" = \"allow\" }\n\
             domains = { \"B.test\" = \"deny\", \"A.test.\" = \"allow\", \"d.test\" = \"allow\" }\n",
        );
        let difference = Difference::between(&old, &new);
        let switches: Vec<_> = difference
            .switches
            .iter()
            .map(|change| (change.key, change.old.as_deref(), change.new.as_deref()))
            .collect();
        let expected =
            [("allow_local_binding", None, Some("false")), ("http_port", Some("3128"), None)];
        assert_eq!(switches, expected);
        let rules: Vec<_> = difference
            .rules
            .iter()
            .map(|change| {
                let list = |side: Option<(List, RuleId)>| side.map(|(list, _)| list);
                (change.pattern.to_string(), list(change.old), list(change.new))
            })
            .collect();
        let expected = [
            ("c.test:80".to_owned(), Some(List::Allow), None),
            ("b.test".to_owned(), Some(List::Allow), Some(List::Deny)),
            ("d.test".to_owned(), None, Some(List::Allow)),
        ];
        assert_eq!(rules, expected);
        assert!(!difference.is_empty() && Difference::between(&old, &old).is_empty());
    }

    #[test]
    fn what_it_comes_to() {
        let was = |allow: &[&str], deny: &[&str]| policy(&lists(allow, deny));
        let old = was(&["*.a.test", "b.test:80", "build-*.c.test", "10.0.0.1"], &[]);
        for (new, expected) in [
            // The same in other words.
            (was(&["10.0.0.1", "build-*.c.test", "b.test:80", "*.a.test"], &[]), vec![]),
            (
                was(&["*.a.test", "b.test", "build-*.c.test"], &["x.a.test"]),
                vec![
                    "-10.0.0.1 (this host)",
                    "-x.a.test (this host)",
                    "+b.test on its other ports (this host)",
                ],
            ),
            (
                was(&["**.a.test", "b.test:80", "build-*.c.test", "10.0.0.1"], &["*.x.c.test"]),
                vec!["-build-g.x.c.test (*.x.c.test and build-*.c.test)", "+a.test (this host)"],
            ),
            (
                was(&["*.a.test", "b.test:8080", "build-*.c.test", "10.0.0.1"], &[]),
                vec!["-b.test:80 (this host)", "+b.test:8080 (this host)"],
            ),
        ] {
            assert_eq!(leave(&old, &new), expected);
        }
        let everything = was(&["*"], &[]);
        assert_eq!(
            leave(&was(&[], &[]), &everything),
            ["+193.0.6.139 (every other public address)", "+any.elsewhere (every other name)",]
        );
        let off = policy("enabled = false\nallowed_domains = [\"a.test\"]\n");
        let on = policy("enabled = true\nallowed_domains = [\"a.test\"]\n");
        assert_eq!(leave(&on, &off), ["-a.test (this host)"]);
    }

    const PATTERNS: &[&str] = &[
        "a.test",
        "*.a.test",
        "**.a.test",
        "b.a.test",
        "*.b.a.test",
        "**.b.a.test",
        "c.b.a.test",
        "test",
        "*.test",
        "a.test:80",
        "*.a.test:80",
        "**.a.test:8080",
        "*",
        "any.a.test",
        "127.0.0.1",
        "localhost",
        "10.*",
    ];
    const HOSTS: &[&str] = &[
        "a.test",
        "b.a.test",
        "c.b.a.test",
        "z.c.b.a.test",
        "z.b.a.test",
        "z.a.test",
        "z.z.a.test",
        "z.test",
        "test",
        "z.z",
        "127.0.0.1",
        "10.0.0.1",
        "localhost",
        "any.a.test",
    ];

    proptest! {
        /// Without wildcards inside labels nothing escapes: of any host whose verdict changes there
        /// is a witness that changes in the same way.
        #[test]
        fn no_change_escapes(
            lists_of in vec(vec(select(PATTERNS), 0..6), 4),
            host in select(HOSTS),
            port in select(&[80_u16, 443, 8080][..]),
        ) {
            let names = |at: usize| lists_of[at].clone();
            let deny = |at: usize| -> Vec<&str> {
                names(at).into_iter().filter(|pattern| *pattern != "*").collect()
            };
            let (old, new) =
                (policy(&lists(&names(0), &deny(1))), policy(&lists(&names(2), &deny(3))));
            let authority = Authority::parse_connect(format!("{host}:{port}").as_bytes()).unwrap();
            let (before, after) = (old.decide(&authority).is_ok(), new.decide(&authority).is_ok());
            let found = Difference::between(&old, &new).leave;
            if before != after {
                let way = if after { Change::Gains } else { Change::Loses };
                prop_assert!(found.iter().any(|change| change.change == way), "{authority}");
            }
            for change in found {
                prop_assert_eq!(old.decide(&change.authority).is_ok(), change.old.is_ok());
                prop_assert_eq!(new.decide(&change.authority).is_ok(), change.new.is_ok());
                prop_assert!(change.old.is_ok() != change.new.is_ok());
            }
        }
    }
}
