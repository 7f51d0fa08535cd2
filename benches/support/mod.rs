//! Rules and hosts to measure with: the same ones every time.
//!
//! Names come from the file that `EXEAT_BENCH_NAMES` names (one a line), or are made up: two or
//! three labels of four to sixteen letters, as in lists of popular or malicious sites.

#![allow(dead_code, reason = "each bench uses its part")]

use std::sync::Arc;

use exeat::{
    net::Authority,
    policy::{Egress, Outcome, Policy, Review, Source},
};

/// A kind of host, seen from the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A rule matches it, at its base or one label below.
    Hit,
    /// No rule matches, and it shares its last label or more with a rule.
    Near,
    /// Nothing about it is in the rules but perhaps its top-level domain.
    Miss,
    /// A rule matches it, four to six labels above.
    Deep,
    /// One of [`globs`] matches it.
    Glob,
}

impl Class {
    pub const PLAIN: [Self; 4] = [Self::Hit, Self::Near, Self::Miss, Self::Deep];
    pub const ALL: [Self; 5] = [Self::Hit, Self::Near, Self::Miss, Self::Deep, Self::Glob];

    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Near => "near",
            Self::Miss => "miss",
            Self::Deep => "deep",
            Self::Glob => "glob",
        }
    }
}

/// Numbers of rules to measure: 10 to 1,000,000, or less where the names run out.
pub fn sizes() -> impl Iterator<Item = usize> {
    let most = match names_file() {
        Some(text) => text.lines().count(),
        None => 1_000_000,
    };
    [10, 100, 1_000, 10_000, 100_000, 1_000_000].into_iter().filter(move |size| *size <= most)
}

fn names_file() -> Option<String> {
    let path = std::env::var_os("EXEAT_BENCH_NAMES")?;
    Some(std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}")))
}

/// Small, fast, and always the same.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// As many different names.
pub fn names(count: usize) -> Vec<String> {
    if let Some(text) = names_file() {
        let names: Vec<String> = text.lines().take(count).map(str::to_owned).collect();
        assert_eq!(names.len(), count, "too few names in EXEAT_BENCH_NAMES");
        return names;
    }
    let mut dice = Dice::new(1);
    (0..count).map(|number| made_up(&mut dice, number)).collect()
}

fn made_up(dice: &mut Dice, number: usize) -> String {
    const ENDS: [&str; 8] = ["com", "net", "org", "io", "dev", "co.uk", "com.br", "pages.dev"];
    let word = word(dice);
    format!("{word}{number:x}.{}", ENDS[dice.roll(ENDS.len())])
}

fn word(dice: &mut Dice) -> String {
    let length = 3 + dice.roll(10);
    (0..length).map(|_| char::from(b"etaoinshrdlucmfwypvbgkjqxz"[dice.roll(26)])).collect()
}

/// Patterns about the names: half `**.`, a quarter `*.`, a quarter exact.
pub fn patterns(names: &[String]) -> Vec<String> {
    let prefixes = ["**.", "*.", "**.", ""];
    names
        .iter()
        .zip(prefixes.iter().cycle())
        .map(|(name, prefix)| format!("{prefix}{name}"))
        .collect()
}

/// Twenty patterns with wildcards inside labels, to stand among others.
pub fn globs() -> Vec<String> {
    (0..20).map(|number| format!("region*-{number}.v{}.tunnel.example", number % 7)).collect()
}

/// A policy file that allows those patterns.
pub fn policy_text(patterns: &[String]) -> String {
    let mut text = String::from("[experimental_network]\nenabled = true\nallowed_domains = [\n");
    for pattern in patterns {
        text.push_str(&format!("    \"{pattern}\",\n"));
    }
    text + "]\n"
}

/// The policy of a file.
pub fn policy(text: &str) -> Policy {
    let review = Review::of(text.as_bytes(), &Arc::new(Source::file("bench.toml")), 7);
    let Outcome::Ruleset(ruleset) = review.outcome else { panic!("{:?}", review.problems) };
    Policy::new(*ruleset, Egress::default(), 1)
}

/// As many hosts of a class, for rules as [`patterns`] makes them.
pub fn hosts(names: &[String], class: Class, count: usize) -> Vec<Authority> {
    let mut dice = Dice::new(2);
    (0..count).map(|_| authority(&host(names, class, &mut dice))).collect()
}

fn host(names: &[String], class: Class, dice: &mut Dice) -> String {
    // Places of `**.` rules are even; those of `*.` leave 1 when divided by 4.
    let tree = dice.roll(names.len().div_ceil(2)) * 2;
    let name = &names[tree];
    match class {
        Class::Hit if dice.roll(2) == 0 => name.clone(),
        Class::Hit => format!("{}.{name}", word(dice)),
        Class::Near => match name.split_once('.') {
            Some((first, end)) => format!("{}.x{first}.{end}", word(dice)),
            None => format!("x{name}"),
        },
        Class::Miss => format!("www.{}-x.info", word(dice)),
        Class::Glob => {
            let number = dice.roll(20);
            format!("region{}-{number}.v{}.tunnel.example", dice.roll(100), number % 7)
        }
        Class::Deep => {
            let labels = 4 + dice.roll(3);
            (0..labels).map(|_| word(dice) + ".").collect::<String>() + name
        }
    }
}

pub fn authority(host: &str) -> Authority {
    Authority::parse_connect(format!("{host}:443").as_bytes()).unwrap()
}
