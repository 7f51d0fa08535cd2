//! From the text of a policy file to rules, or to everything that is wrong with it.
//!
//! The one way to rules: `serve`, `check`, `validate` and a reload all come through here. It does
//! not judge hosts; [`super::Policy`] does.

use std::{
    collections::{HashMap, hash_map},
    sync::Arc,
};

use super::{
    List, Pattern, PatternError, Problem, Rule, Severity, Shape, Source,
    document::{self, Document, Entry, Network},
    lint,
    problem::LineIndex,
};
use crate::net::{DnsName, Port};

/// What a policy file turned out to be.
#[derive(Debug)]
pub struct Review {
    /// The rules, if the file is a policy without errors.
    pub outcome: Outcome,
    /// Everything worth saying about it, in the order of the file.
    pub problems: Vec<Problem>,
    /// Top-level keys and tables that belong to somebody else, and are ignored.
    pub foreign: Vec<String>,
}

/// The three things a file can be.
#[derive(Debug)]
pub enum Outcome {
    /// It has errors, and nothing of it is used.
    Broken,
    /// A sound file without `[experimental_network]`: not a policy.
    NoTable,
    /// A policy.
    Ruleset(Ruleset),
}

/// A policy file that holds: its switches and its rules, in the order of the file.
#[derive(Debug, Clone)]
pub struct Ruleset {
    /// Whether anything may leave at all.
    pub enabled: bool,
    /// `allow_local_binding`, as written.
    pub allow_local_binding: Option<bool>,
    /// `dangerously_allow_non_loopback_proxy`, as written.
    pub allow_non_loopback_proxy: Option<bool>,
    /// `http_port`.
    pub http_port: Option<Port>,
    /// Allow and deny rules.
    pub rules: Vec<Rule>,
    /// The file they come from.
    pub source: Arc<Source>,
    /// The line of the list of allows, to point at when nothing in it matches.
    pub allow_line: Option<usize>,
}

impl Review {
    /// Reads a policy file. All problems are found, not just the first.
    #[must_use]
    pub fn of(bytes: &[u8], source: &Arc<Source>) -> Self {
        let (document, mut problems) = document::read(bytes);
        let Document { network, foreign } = document;
        let text = std::str::from_utf8(bytes).unwrap_or("");
        let outcome = match network {
            Some(network) => {
                let lines = LineIndex::new(text);
                let rules = compile(&network.entries, source, &lines, &mut problems);
                Outcome::Ruleset(ruleset(&network, rules, source, &lines))
            }
            None => Outcome::NoTable,
        };
        problems.sort_by_key(|problem| problem.span.start);
        let broken = problems.iter().any(|problem| problem.severity == Severity::Error);
        let outcome = if broken { Outcome::Broken } else { outcome };
        if matches!(outcome, Outcome::NoTable) {
            problems.push(no_table());
        }
        Self { outcome, problems, foreign }
    }
}

impl Ruleset {
    /// Where the list of allows stands: `file:line`, by the file's name or its whole path.
    #[must_use]
    pub fn allow_place(&self, file: &str) -> String {
        match self.allow_line {
            Some(line) => format!("{file}:{line}"),
            None => file.to_owned(),
        }
    }

    /// How many rules stand in a list.
    #[must_use]
    pub fn count(&self, list: List) -> usize {
        self.rules.iter().filter(|rule| rule.list == list).count()
    }

    /// Adds the denies of another file, which no layer can lift.
    #[must_use]
    pub fn with_denies_of(mut self, other: &Self) -> Self {
        self.rules.extend(other.rules.iter().filter(|rule| rule.list == List::Deny).cloned());
        self
    }
}

fn no_table() -> Problem {
    Problem::warning(0..0, "no `[experimental_network]` table: this file is not a network policy")
        .with_help("without one, nothing that enforces or decides will start")
}

fn ruleset(
    network: &Network,
    rules: Vec<Rule>,
    source: &Arc<Source>,
    lines: &LineIndex<'_>,
) -> Ruleset {
    Ruleset {
        enabled: network.enabled.unwrap_or(true),
        allow_local_binding: network.allow_local_binding,
        allow_non_loopback_proxy: network.allow_non_loopback_proxy,
        http_port: network.http_port,
        rules,
        source: Arc::clone(source),
        allow_line: network.allow_at.map(|at| lines.line(at)),
    }
}

fn compile(
    entries: &[Entry],
    source: &Arc<Source>,
    lines: &LineIndex<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<Rule> {
    let mut rules = Vec::with_capacity(entries.len());
    let mut spans = Vec::with_capacity(entries.len());
    let mut seen = Seen::default();
    for entry in entries {
        let Some(pattern) = parse(entry, problems) else { continue };
        let Some(pattern) = fit_list(entry, pattern, problems) else { continue };
        match seen.meet(entry, &pattern, lines) {
            Met::New => {}
            Met::Duplicate(problem) => {
                problems.push(problem);
                continue;
            }
            Met::Opposite(problem) => problems.push(problem),
        }
        let line = lines.line(entry.span.start);
        spans.push(entry.span.clone());
        rules.push(Rule { pattern, list: entry.list, source: Arc::clone(source), line });
    }
    problems.extend(lint::shadowed(&rules, &spans));
    rules
}

fn parse(entry: &Entry, problems: &mut Vec<Problem>) -> Option<Pattern> {
    let quoted = document::shorten(&entry.text);
    if entry.text.trim().len() != entry.text.len() && !entry.text.trim().is_empty() {
        let message = format!("white space around `{quoted}` in `{}` is trimmed", entry.key);
        problems.push(Problem::warning(entry.span.clone(), message));
    }
    match Pattern::parse(&entry.text) {
        Ok(pattern) => Some(pattern),
        Err(PatternError::Zone(address)) => {
            let message = format!("`{quoted}` in `{}` has an IPv6 zone identifier", entry.key);
            let (effect, kept) = match entry.list {
                List::Allow => ("requests with a zone are refused: this rule is dead", None),
                List::Deny => ("the address is denied in every zone", Some(address)),
            };
            let help = format!("{effect}; write `{address}` without the zone");
            problems.push(Problem::warning(entry.span.clone(), message).with_help(help));
            kept.map(Pattern::address)
        }
        Err(error) => {
            let message = format!("`{quoted}` in `{}` {error}", entry.key);
            let help = error.help(&entry.text);
            problems.push(Problem::error(entry.span.clone(), message).with_help(help));
            None
        }
    }
}

/// What a pattern means in the list it stands in.
fn fit_list(entry: &Entry, pattern: Pattern, problems: &mut Vec<Problem>) -> Option<Pattern> {
    let span = entry.span.clone();
    match (entry.list, pattern.shape()) {
        (List::Deny, Shape::Any) => {
            problems.push(
                Problem::error(span, format!("`*` in `{}` would deny every host", entry.key))
                    .with_help("write `enabled = false` to switch the network off"),
            );
            return None;
        }
        (List::Allow, Shape::Any) => problems.push(
            Problem::warning(span, format!("`*` in `{}` allows every public host", entry.key))
                .with_help("list the hosts that are needed"),
        ),
        (List::Allow, Shape::Glob(glob)) if !glob.is_over_address() => problems.push(
            Problem::warning(
                span,
                format!("`{pattern}` in `{}` may be wider than it looks", entry.key),
            )
            .with_help(
                "`*` matches any run of characters and `?` any one, dots included: other domains \
                 can match too",
            ),
        ),
        (List::Allow, Shape::Subdomains(base) | Shape::Tree(base)) if is_public_suffix(base) => {
            let message = format!(
                "`{pattern}` in `{}` covers a whole public suffix, under which anybody can get a name",
                entry.key
            );
            problems.push(
                Problem::warning(span, message)
                    .with_help(format!("name the organisation too: `*.organisation.{base}`")),
            );
        }
        (List::Deny, _) if pattern.port().is_some() => {
            let message = format!("the port of `{pattern}` in `{}` is ignored", entry.key);
            problems.push(
                Problem::warning(span, message)
                    .with_help("a denied host is denied on every port; write it without one"),
            );
            return Some(pattern.without_port());
        }
        (List::Allow | List::Deny, _) => {}
    }
    Some(pattern)
}

/// A top-level domain, or a name under which a provider hands out names (`github.io`).
fn is_public_suffix(name: &DnsName) -> bool {
    let suffix = psl::suffix(name.as_str().as_bytes());
    suffix.is_some_and(|suffix| suffix.is_known() && suffix == name.as_str().as_bytes())
}

/// Patterns met so far, so that one host written twice is noticed.
#[derive(Default)]
struct Seen {
    first: HashMap<(Pattern, List), (String, usize)>,
}

/// What meeting a pattern says.
enum Met {
    New,
    /// It stands in this list already.
    Duplicate(Problem),
    /// It stands in the other list.
    Opposite(Problem),
}

impl Seen {
    fn meet(&mut self, entry: &Entry, pattern: &Pattern, lines: &LineIndex<'_>) -> Met {
        let now = document::shorten(&entry.text);
        let other = match entry.list {
            List::Allow => List::Deny,
            List::Deny => List::Allow,
        };
        let place = |(text, at): &(String, usize)| {
            format!("`{}` on line {}", document::shorten(text), lines.line(*at))
        };
        let opposite = self.first.get(&(pattern.clone(), other)).map(place);
        match self.first.entry((pattern.clone(), entry.list)) {
            hash_map::Entry::Occupied(first) => {
                let message = format!("`{now}` is a duplicate of {}", place(first.get()));
                Met::Duplicate(
                    Problem::warning(entry.span.clone(), message).with_help("remove one of them"),
                )
            }
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert((entry.text.clone(), entry.span.start));
                let Some(opposite) = opposite else { return Met::New };
                let message = format!(
                    "`{now}` is allowed and denied: {opposite} says the opposite, and deny wins"
                );
                Met::Opposite(
                    Problem::warning(entry.span.clone(), message).with_help("remove the allow"),
                )
            }
        }
    }
}
