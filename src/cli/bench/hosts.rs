//! The hosts that are asked for, in four classes.

use std::{collections::BTreeSet, path::Path};

use super::rules::read_hosts;
use crate::{
    net::{Authority, DnsName, Host, Port, Target},
    policy::{List, Pattern, Policy, Shape},
};

/// Hosts of all classes.
pub(super) struct Hosts {
    by_class: [Vec<Asked>; 4],
    /// Lines that are no hosts.
    pub(super) invalid: usize,
}

/// A host, as ours and as the others want it.
pub(super) struct Asked {
    pub(super) authority: Authority,
    pub(super) text: String,
    /// `host:port`, as clients write it.
    pub(super) target: String,
}

/// How a host stands to the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// A rule speaks about it.
    Hit,
    /// No rule does, but about a neighbour of the same domain.
    Near,
    /// Nobody's.
    Miss,
    /// Four labels or more below a rule's base.
    Deep,
}

/// Always the same numbers: a linear congruential generator (Knuth, MMIX).
struct Dice(u64);

/// Hosts of a class that are made up, and taken from a file, at most.
const MADE_UP: usize = 1_024;
const READ: usize = 65_536;

impl Class {
    pub(super) const ALL: [Self; 4] = [Self::Hit, Self::Near, Self::Miss, Self::Deep];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Near => "near",
            Self::Miss => "miss",
            Self::Deep => "deep",
        }
    }

    fn place(self) -> usize {
        match self {
            Self::Hit => 0,
            Self::Near => 1,
            Self::Miss => 2,
            Self::Deep => 3,
        }
    }
}

impl Hosts {
    pub(super) fn of(&self, class: Class) -> &[Asked] {
        self.by_class.get(class.place()).map_or(&[], Vec::as_slice)
    }

    /// Makes up hosts for the rules of a policy.
    pub(super) fn made_up(policy: &Policy) -> Self {
        let mut hosts = Self { by_class: Default::default(), invalid: 0 };
        let rules = policy.ruleset().rules();
        let mut dice = Dice(7);
        let every = (rules.count(List::Allow) + rules.count(List::Deny)).div_ceil(MADE_UP).max(1);
        let patterns: Vec<Pattern> =
            rules.iter().step_by(every).map(|(_, rule)| rule.pattern).collect();
        for number in 0..MADE_UP {
            let Some(pattern) = patterns.get(number % patterns.len().max(1)) else { break };
            let (base, below) = base_of(pattern, &mut dice);
            let first = if below && dice.roll(2) == 0 { dice.word() + "." } else { String::new() };
            hosts.push(Class::Hit, &format!("{first}{base}"));
            hosts.push(Class::Near, &format!("x{}-{base}", dice.word()));
            let labels: String = (0..4 + dice.roll(3)).map(|_| dice.word() + ".").collect();
            hosts.push(Class::Deep, &format!("{labels}{base}"));
            let miss = format!("www.{}-{}.{}", dice.word(), number, dice.end());
            hosts.push(Class::Miss, &miss);
        }
        hosts
    }

    /// Reads hosts, one a line; those without a class get the one that the policy gives them.
    pub(super) fn read(path: &Path, policy: &Policy) -> Result<Self, String> {
        let text = read_hosts(path)?;
        let mut hosts = Self { by_class: Default::default(), invalid: 0 };
        let mut anchors = None;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut fields = line.split('\t');
            let (host, class) = (fields.next().unwrap_or(""), fields.next());
            let Some(authority) = parse(host) else {
                hosts.invalid += 1;
                continue;
            };
            let known =
                class.and_then(|class| Class::ALL.into_iter().find(|known| known.name() == class));
            let class = known.unwrap_or_else(|| {
                classify(&authority, policy, anchors.get_or_insert_with(|| all_anchors(policy)))
            });
            hosts.take(class, authority);
        }
        if hosts.by_class.iter().all(Vec::is_empty) {
            return Err(format!("{} has no host that can be asked for", path.display()));
        }
        Ok(hosts)
    }

    fn push(&mut self, class: Class, host: &str) {
        if let Some(authority) = parse(host) {
            self.take(class, authority);
        }
    }

    fn take(&mut self, class: Class, authority: Authority) {
        let (text, target) = (authority.host.to_bare_string(), authority.to_string());
        if let Some(of_class) = self.by_class.get_mut(class.place())
            && of_class.len() < READ
        {
            of_class.push(Asked { authority, text, target });
        }
    }
}

fn parse(host: &str) -> Option<Authority> {
    if host.contains("://") {
        return Target::parse(host.as_bytes()).ok().map(|target| target.authority);
    }
    if let Ok(address) = host.parse::<std::net::IpAddr>() {
        return Some(Authority { host: Host::from(address), port: Port::HTTPS });
    }
    Authority::parse_or(host.as_bytes(), Port::HTTPS).ok()
}

/// A host that the pattern matches, and whether it matches what is below too.
fn base_of(pattern: &Pattern, dice: &mut Dice) -> (String, bool) {
    match pattern.shape() {
        Shape::Address(address) => (address.to_string(), false),
        Shape::Any => (format!("{}.com", dice.word()), true),
        Shape::Exact(name) => (name.to_string(), false),
        Shape::Subdomains(base) => (format!("{}.{base}", dice.word()), true),
        Shape::Tree(base) => (base.to_string(), true),
        Shape::Glob(glob) => {
            let text = glob.to_string().trim_start_matches("**.").replace('?', "x");
            (text.replace('*', &dice.word()), false)
        }
    }
}

fn classify(authority: &Authority, policy: &Policy, anchors: &BTreeSet<Vec<u8>>) -> Class {
    let rule = match policy.decide(authority) {
        Ok(permit) => permit.rule(),
        Err(denial) => denial.rule,
    };
    let Host::Name(name) = &authority.host else {
        return if rule.is_some() { Class::Hit } else { Class::Miss };
    };
    let base =
        rule.and_then(|rule| policy.rule(rule)).and_then(|rule| match rule.pattern.shape() {
            Shape::Subdomains(base) | Shape::Tree(base) => Some(base.labels()),
            Shape::Address(_) | Shape::Any | Shape::Exact(_) | Shape::Glob(_) => None,
        });
    match (rule, base) {
        (Some(_), Some(labels)) if name.labels() >= labels + 4 => Class::Deep,
        (Some(_), _) => Class::Hit,
        (None, _) if anchors.contains(name.anchor()) => Class::Near,
        (None, _) => Class::Miss,
    }
}

/// The last two labels of all rules about names.
fn all_anchors(policy: &Policy) -> BTreeSet<Vec<u8>> {
    let anchor = |name: &DnsName| name.anchor().to_vec();
    let rules = policy.ruleset().rules().iter();
    let anchors = rules.filter_map(|(_, rule)| match rule.pattern.shape() {
        Shape::Exact(name) | Shape::Subdomains(name) | Shape::Tree(name) => Some(anchor(name)),
        Shape::Address(_) | Shape::Any | Shape::Glob(_) => None,
    });
    anchors.collect()
}

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap_or(0) % sides.max(1)
    }

    /// Three to nine letters.
    fn word(&mut self) -> String {
        let letters = b"etaoinshrdlucmfwypvbgkjqxz";
        let length = 3 + self.roll(7);
        (0..length)
            .map(|_| char::from(letters.get(self.roll(26)).copied().unwrap_or(b'e')))
            .collect()
    }

    fn end(&mut self) -> &'static str {
        let ends = ["com", "net", "org", "io", "dev", "co.uk", "de", "info"];
        ends.get(self.roll(ends.len())).copied().unwrap_or("com")
    }
}
