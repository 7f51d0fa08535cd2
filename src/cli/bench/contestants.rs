//! What the same rules can be matched with instead.
//!
//! All of them say whether a host may leave: denied no, else allowed yes. They know no ports and no
//! local destinations, and get the host in lower case; but for one, which begins with the bytes of
//! a request as Codex does.

use std::net::IpAddr;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use regex_automata::{meta, util::syntax};
use rustc_hash::FxHashMap;

use super::{hosts::Asked, measure::Progress};
use crate::policy::{List, Pattern, Policy, Shape};

/// The others, each built or left out with a reason.
pub(super) struct Contestants {
    pub(super) all: Vec<(&'static str, Result<Matcher, String>)>,
}

/// One of the others.
pub(super) enum Matcher {
    /// Every pattern, one after the other, as smokescreen or tinyproxy do.
    Scan { allow: Vec<Pattern>, deny: Vec<Pattern> },
    /// A hash of bases, asked for the host and every suffix of it.
    Walk { allow: Walk, deny: Walk },
    /// Two sets of globs, configured as Codex configures them.
    Globs { allow: GlobSet, deny: GlobSet },
    /// The same, with what Codex does to a host before.
    Codex { allow: GlobSet, deny: GlobSet },
    /// Two sets of regular expressions.
    Regexes { allow: meta::Regex, deny: meta::Regex },
}

/// The bases of one list; what is no name is scanned.
#[derive(Default)]
pub(super) struct Walk {
    bases: FxHashMap<Box<[u8]>, Reach>,
    rest: Vec<Pattern>,
}

#[derive(Default, Clone, Copy)]
struct Reach {
    here: bool,
    below: bool,
}

/// More patterns than that take minutes to build, or milliseconds to ask.
const MOST_GLOBS: usize = 2_000;

impl Contestants {
    pub(super) fn of(policy: &Policy, progress: &mut Progress) -> Self {
        let rules = policy.ruleset().rules();
        let of_list = |list| {
            let of_list = rules.iter().filter(move |(_, rule)| rule.list == list);
            of_list.map(|(_, rule)| rule.pattern).collect::<Vec<_>>()
        };
        let (allow, deny) = (of_list(List::Allow), of_list(List::Deny));
        let count = allow.len() + deny.len();
        let few = |build: &mut dyn FnMut() -> Result<Matcher, String>| match count {
            0..=MOST_GLOBS => build(),
            _ => Err(format!("skipped: more than {MOST_GLOBS} rules would take minutes")),
        };
        progress.say("building the others");
        let walk = Matcher::Walk { allow: Walk::of(&allow), deny: Walk::of(&deny) };
        let codex = few(&mut || Ok(Matcher::Codex { allow: globs(&allow)?, deny: globs(&deny)? }));
        let globs = few(&mut || Ok(Matcher::Globs { allow: globs(&allow)?, deny: globs(&deny)? }));
        let regexes =
            few(&mut || Ok(Matcher::Regexes { allow: regexes(&allow)?, deny: regexes(&deny)? }));
        Self {
            all: vec![
                ("linear scan", Ok(Matcher::Scan { allow, deny })),
                ("hash walk", Ok(walk)),
                ("globset", globs),
                ("globset, from bytes", codex),
                ("regex set", regexes),
            ],
        }
    }
}

impl Matcher {
    /// Whether the host may leave.
    #[inline]
    pub(super) fn allows(&self, asked: &Asked) -> bool {
        let host = &asked.authority.host;
        match self {
            Self::Scan { allow, deny } => {
                let any = |list: &[Pattern]| list.iter().any(|pattern| pattern.matches(host));
                !any(deny) && any(allow)
            }
            Self::Walk { allow, deny } => !deny.matches(asked) && allow.matches(asked),
            Self::Globs { allow, deny } => {
                !deny.is_match(&asked.text) && allow.is_match(&asked.text)
            }
            Self::Codex { allow, deny } => {
                let host = normalized(&asked.target);
                !deny.is_match(&host) && allow.is_match(&host)
            }
            Self::Regexes { allow, deny } => {
                !deny.is_match(&asked.text) && allow.is_match(&asked.text)
            }
        }
    }
}

impl Walk {
    fn of(patterns: &[Pattern]) -> Self {
        let mut walk = Self::default();
        for pattern in patterns {
            let (base, here, below) = match pattern.shape() {
                Shape::Exact(name) => (name, true, false),
                Shape::Subdomains(base) => (base, false, true),
                Shape::Tree(base) => (base, true, true),
                Shape::Address(_) | Shape::Any | Shape::Glob(_) => {
                    walk.rest.push(pattern.clone());
                    continue;
                }
            };
            let reach = walk.bases.entry(base.as_str().as_bytes().into()).or_default();
            reach.here |= here;
            reach.below |= below;
        }
        walk
    }

    #[inline]
    fn matches(&self, asked: &Asked) -> bool {
        self.walks_into(asked.text.as_bytes())
            || self.rest.iter().any(|pattern| pattern.matches(&asked.authority.host))
    }

    /// The host itself first, then what is behind each dot.
    #[inline]
    fn walks_into(&self, host: &[u8]) -> bool {
        if self.bases.is_empty() {
            return false;
        }
        if self.bases.get(host).is_some_and(|reach| reach.here) {
            return true;
        }
        let mut rest = host;
        while let Some(dot) = rest.iter().position(|byte| *byte == b'.') {
            rest = rest.get(dot + 1..).unwrap_or_default();
            if self.bases.get(rest).is_some_and(|reach| reach.below) {
                return true;
            }
        }
        false
    }
}

/// A host as Codex asks for it: trimmed, without its port, brackets and last dots, in lower case.
fn normalized(target: &str) -> String {
    let host = target.trim();
    let inner = host.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let host = match (inner, host.split_once(':')) {
        (Some((inner, _)), _) => inner,
        (None, Some((name, rest))) if !rest.contains(':') => name,
        (None, _) => host,
    };
    match host.parse::<IpAddr>() {
        Ok(_) => host.to_owned(),
        Err(_) => host.to_ascii_lowercase().trim_end_matches('.').to_owned(),
    }
}

/// The globs that Codex makes of patterns.
fn globs(patterns: &[Pattern]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for text in patterns.iter().flat_map(expanded) {
        let glob = GlobBuilder::new(&text).case_insensitive(true).literal_separator(false).build();
        set.add(glob.map_err(|error| error.to_string())?);
    }
    set.build().map_err(|error| error.to_string())
}

fn regexes(patterns: &[Pattern]) -> Result<meta::Regex, String> {
    let texts: Vec<String> = patterns
        .iter()
        .flat_map(expanded)
        .map(|text| {
            let inner = text.chars().map(|character| match character {
                '*' => ".*".to_owned(),
                '?' => ".".to_owned(),
                literal if literal.is_ascii_alphanumeric() => literal.to_string(),
                literal => format!("\\{literal}"),
            });
            format!("^(?:{})$", inner.collect::<String>())
        })
        .collect();
    let bytes = syntax::Config::new().unicode(false).utf8(false).dot_matches_new_line(true);
    let config = meta::Config::new().utf8_empty(false);
    let built = meta::Builder::new().syntax(bytes).configure(config).build_many(&texts);
    built.map_err(|error| error.to_string())
}

/// A pattern as one or two globs, without its port.
fn expanded(pattern: &Pattern) -> Vec<String> {
    let text = match pattern.shape() {
        Shape::Address(address) => address.to_string(),
        Shape::Any => "*".to_owned(),
        Shape::Exact(name) => name.to_string(),
        Shape::Glob(glob) => glob.to_string(),
        Shape::Subdomains(base) => format!("*.{base}"),
        Shape::Tree(base) => format!("**.{base}"),
    };
    match (text.strip_prefix("**."), text.strip_prefix("*.")) {
        (Some(base), _) => vec![base.to_owned(), format!("?*.{base}")],
        (None, Some(base)) => vec![format!("?*.{base}")],
        (None, None) => vec![text],
    }
}
