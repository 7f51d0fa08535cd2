//! From the patterns of a document to rules and their table, with everything worth saying about
//! them.
//!
//! Patterns are read where they stand in the text; of a million plain names, none is ever a value
//! of its own.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map},
    ops::Range,
    sync::Arc,
};

use super::{
    List, Pattern, PatternError, Problem, RuleId, Rules, Ruleset, Shape, Source, Switch,
    addresses::Addresses,
    document::{self, Network, shorten},
    problems::Problems,
    public_suffix::is_public_suffix,
    rules::{Full, Reach, SourceId},
    table::{Finding, Table},
};
use crate::net::DnsName;

/// Rules in the making.
struct Compiler<'t, 'p> {
    text: &'t str,
    source: SourceId,
    rules: Rules,
    written: Vec<Written>,
    /// Keys of `domains` that may be the same to TOML, which would have refused them had it read
    /// them all: every two that are the same pattern, and those that patterns do not tell.
    suspects: Vec<Place>,
    lines: Lines<'t>,
    problems: &'p mut Problems,
}

/// Where a rule stands.
#[derive(Debug, Clone, Copy)]
struct Written {
    rule: RuleId,
    place: Place,
    /// Whether it is a key of `domains`, which must not stand twice.
    is_key: bool,
}

/// A part of the text, quotes included, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    start: u32,
    end: u32,
}

/// A pattern of the document.
struct Entry<'e> {
    text: &'e str,
    span: Range<usize>,
    list: List,
    key: &'static str,
}

/// Counts lines, going forward.
struct Lines<'t> {
    text: &'t str,
    at: usize,
    line: usize,
}

/// Compiles a table of the document. None, if there is a problem that keeps it from being used.
pub(super) fn compile(
    network: &Network,
    text: &str,
    source: &Arc<Source>,
    seed: u64,
    problems: &mut Problems,
) -> Option<Ruleset> {
    let (rules, table) = match compile_rules(network, text, source, seed, problems) {
        Ok(compiled) => compiled,
        Err(Full) => {
            problems.push(
                Problem::error(0..0, "the policy has more rules than can be kept")
                    .with_help("deny or allow whole domains with `**.`"),
            );
            return None;
        }
    };
    Some(Ruleset {
        enabled: network.enabled.unwrap_or(true),
        allow_local_binding: network.allow_local_binding,
        allow_non_loopback_proxy: network.allow_non_loopback_proxy,
        allow_upstream_proxy: network.allow_upstream_proxy,
        http_port: network.http_port,
        socks_port: network.socks_port,
        sockets: network.sockets.clone(),
        switches: switches(network, text),
        source: Arc::clone(source),
        allow_line: network.allow_at.map(|at| Lines::new(text).line(at)),
        rules,
        table,
    })
}

fn switches(network: &Network, text: &str) -> Vec<Switch> {
    let mut lines = Lines::new(text);
    let mut switch = |written: &document::Written| Switch {
        key: written.key,
        value: written.value.clone(),
        line: lines.line(written.at),
    };
    network.switches.iter().map(&mut switch).collect()
}

fn compile_rules(
    network: &Network,
    text: &str,
    source: &Arc<Source>,
    seed: u64,
    problems: &mut Problems,
) -> Result<(Rules, Table), Full> {
    let mut rules = Rules::for_text(text.len());
    let source = rules.add_source(source)?;
    let (written, suspects, lines) = (Vec::new(), Vec::new(), Lines::new(text));
    let mut compiler = Compiler { text, source, rules, written, suspects, lines, problems };
    for entries in &network.entries {
        let key = entries.key;
        for item in &entries.lifted {
            let span = item.span();
            // A lifted string means what stands between its quotes.
            let inner = text.get(span.start + 1..span.end - 1).unwrap_or("");
            compiler.add(&Entry { text: inner, span, list: item.list, key })?;
        }
        for entry in &entries.read {
            let span = entry.span.clone();
            compiler.add(&Entry { text: &entry.text, span, list: entry.list, key })?;
        }
    }
    compiler.finish(seed)
}

impl<'t> Compiler<'t, '_> {
    fn add(&mut self, entry: &Entry<'_>) -> Result<(), Full> {
        let (reach, base) = if let Some(base) = entry.text.strip_prefix("**.") {
            (Reach::Tree, base)
        } else if let Some(base) = entry.text.strip_prefix("*.") {
            (Reach::Below, base)
        } else {
            (Reach::Exact, entry.text)
        };
        // Nearly every pattern is a name as it is kept; the rest is read with care.
        let line = self.lines.line(entry.span.start);
        if DnsName::is_canonical(base.as_bytes())
            && (reach != Reach::Below || base.len() <= DnsName::MAX_BASE_LEN)
            && (reach == Reach::Exact || entry.list == List::Deny || !is_public_suffix(base))
        {
            let rule =
                self.rules.push_name(reach, base.as_bytes(), entry.list, self.source, line)?;
            self.note(rule, entry);
            return Ok(());
        }
        let parsed = parse(entry, self.problems);
        // A port and a zone count in one list only, so that one key can be two patterns, or none.
        if parsed.as_ref().is_none_or(|pattern| pattern.port().is_some()) {
            self.suspects.extend(entry.is_key().then(|| Place::of(&entry.span)));
        }
        let Some(pattern) = parsed else { return Ok(()) };
        let Some(pattern) = fit_list(entry, pattern, self.problems) else { return Ok(()) };
        let rule = self.rules.push(pattern, entry.list, self.source, line)?;
        self.note(rule, entry);
        Ok(())
    }

    fn note(&mut self, rule: RuleId, entry: &Entry<'_>) {
        self.written.push(Written { rule, place: Place::of(&entry.span), is_key: entry.is_key() });
    }

    fn finish(mut self, seed: u64) -> Result<(Rules, Table), Full> {
        self.rules.shrink();
        for finding in self.others_written_twice() {
            self.report(finding);
        }
        let (table, findings) = Table::new(&self.rules, seed)?;
        for finding in findings {
            self.report(finding);
        }
        self.shadowed_addresses();
        self.duplicate_keys();
        Ok((self.rules, table))
    }

    /// The suspects that are the same to TOML.
    fn duplicate_keys(&mut self) {
        let mut suspects = std::mem::take(&mut self.suspects);
        suspects.sort_unstable();
        suspects.dedup();
        let mut lines = Lines::new(self.text);
        let mut firsts = HashMap::new();
        for place in suspects {
            let span = place.span();
            let key = document::key_text(self.text.get(span.clone()).unwrap_or(""));
            match firsts.entry(key) {
                hash_map::Entry::Vacant(vacant) => {
                    vacant.insert((span.start, lines.line(span.start)));
                }
                hash_map::Entry::Occupied(first) => {
                    self.problems.push(document::duplicate_key(self.text, span, *first.get()));
                }
            }
        }
    }

    /// What [`Table::new`] says of rules about names, of all others.
    fn others_written_twice(&self) -> Vec<Finding> {
        let of = |list| self.rules.others(list).map(move |(rule, pattern)| (pattern, rule, list));
        let mut others: Vec<(&Pattern, RuleId, List)> =
            of(List::Allow).chain(of(List::Deny)).collect();
        others.sort_unstable();
        let mut findings = Vec::new();
        for same in others.chunk_by(|(pattern, ..), (next, ..)| pattern == next) {
            let mut firsts = [None; 2];
            for (_, rule, list) in same {
                let rule = *rule;
                let [own, other] = match list {
                    List::Allow => firsts.each_mut(),
                    List::Deny => {
                        let [allow, deny] = firsts.each_mut();
                        [deny, allow]
                    }
                };
                match (*own, *other) {
                    (Some(first), _) => findings.push(Finding::Duplicate { rule, first }),
                    (None, Some(first)) => findings.push(Finding::Opposite { rule, first }),
                    (None, None) => {}
                }
                own.get_or_insert(rule);
            }
        }
        findings
    }

    fn report(&mut self, finding: Finding) {
        let problem = match finding {
            Finding::Duplicate { rule, first } => {
                let problem = self.problem_of_two(rule, first, |rule, first| {
                    (format!("{rule} is a duplicate of {first}"), "remove one of them")
                });
                self.rules.drop_duplicate(rule);
                problem
            }
            Finding::Opposite { rule, first } => self.problem_of_two(rule, first, |rule, first| {
                let message = format!(
                    "{rule} is allowed and denied: {first} says the opposite, and deny wins"
                );
                (message, "remove the allow")
            }),
            Finding::Shadowed { allow, deny } => self.shadowed(allow, deny),
        };
        if let Some(problem) = problem {
            self.problems.push(problem);
        }
    }

    /// What is wrong with a rule because of an earlier one; nothing, if both are one key of TOML,
    /// which is worse.
    fn problem_of_two(
        &mut self,
        rule: RuleId,
        first: RuleId,
        words: impl FnOnce(String, String) -> (String, &'static str),
    ) -> Option<Problem> {
        let (now, before) = (self.written(rule)?, self.written(first)?);
        let (now_text, before_text) = (self.inner(now), self.inner(before));
        if now.is_key && before.is_key {
            self.suspects.extend([now.place, before.place]);
            if now_text == before_text {
                return None;
            }
        }
        let line = self.rules.get(first)?.line;
        let (message, help) = words(
            format!("`{}`", shorten(&now_text)),
            format!("`{}` on line {line}", shorten(&before_text)),
        );
        Some(Problem::warning(now.place.span(), message).with_help(help))
    }

    fn shadowed(&self, allow: RuleId, deny: RuleId) -> Option<Problem> {
        let span = self.written(allow)?.place.span();
        let (allow, deny) = (self.rules.get(allow)?, self.rules.get(deny)?);
        // The same pattern in both lists has its own warning.
        (deny.pattern != allow.pattern).then(|| {
            let message = format!(
                "`{}` can never allow anything: `{}` on line {} denies it all",
                allow.pattern, deny.pattern, deny.line
            );
            Problem::warning(span, message).with_help("remove one of the two: deny wins, always")
        })
    }

    /// Allowed literals that a denied glob covers.
    fn shadowed_addresses(&mut self) {
        let denies = Addresses::new(&self.rules, List::Deny);
        let shadowed = self.rules.others(List::Allow).filter_map(|(allow, pattern)| {
            let Shape::Address(address) = pattern.shape() else { return None };
            let deny = denies.matching(*address).into_iter().min()?;
            Some((allow, deny.rule))
        });
        let shadowed: Vec<(RuleId, RuleId)> = shadowed.collect();
        for (allow, deny) in shadowed {
            self.report(Finding::Shadowed { allow, deny });
        }
    }

    /// Rules are noted in the order of their ids.
    fn written(&self, rule: RuleId) -> Option<Written> {
        let place = self.written.binary_search_by_key(&rule, |written| written.rule).ok()?;
        self.written.get(place).copied()
    }

    /// The pattern as it is written, without its quotes and escapes.
    fn inner(&self, written: Written) -> Cow<'t, str> {
        document::key_text(self.text.get(written.place.span()).unwrap_or(""))
    }
}

impl Entry<'_> {
    fn is_key(&self) -> bool {
        self.key == "domains"
    }
}

impl Place {
    fn of(span: &Range<usize>) -> Self {
        let place = |at| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: place(span.start), end: place(span.end) }
    }

    fn span(self) -> Range<usize> {
        let place = |at| usize::try_from(at).unwrap_or(usize::MAX);
        place(self.start)..place(self.end)
    }
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        Self { text, at: 0, line: 1 }
    }

    /// The line of an offset, from 1. Going back begins anew.
    fn line(&mut self, offset: usize) -> usize {
        if offset < self.at {
            *self = Self::new(self.text);
        }
        let between = self.text.as_bytes().get(self.at..offset).unwrap_or_default();
        self.line += between.iter().filter(|byte| **byte == b'\n').count();
        self.at = offset;
        self.line
    }
}

fn parse(entry: &Entry<'_>, problems: &mut Problems) -> Option<Pattern> {
    let quoted = shorten(entry.text);
    if entry.text.trim().len() != entry.text.len() && !entry.text.trim().is_empty() {
        let message = format!("white space around `{quoted}` in `{}` is trimmed", entry.key);
        problems.push(Problem::warning(entry.span.clone(), message));
    }
    match Pattern::parse(entry.text) {
        Ok(pattern) => Some(pattern),
        Err(PatternError::Zone(address)) => {
            let message = format!("`{quoted}` in `{}` has an IPv6 zone identifier", entry.key);
            let (effect, kept) = match entry.list {
                List::Allow => ("requests with a zone are refused: this rule is dead", None),
                List::Deny => ("the address is denied in every zone", Some(address)),
            };
            let help = format!("{effect}; write `{address}` without the zone");
            problems.push(Problem::warning(entry.span.clone(), message).with_help(help));
            kept.map(|address| Pattern::of(Shape::Address(address)))
        }
        Err(error) => {
            let message = format!("`{quoted}` in `{}` {error}", entry.key);
            let help = error.help(entry.text);
            problems.push(Problem::error(entry.span.clone(), message).with_help(help));
            None
        }
    }
}

/// What a pattern means in the list it stands in.
fn fit_list(entry: &Entry<'_>, pattern: Pattern, problems: &mut Problems) -> Option<Pattern> {
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
        (List::Allow, Shape::Glob(glob)) if !glob.matches_an_address() => {
            // In this list it speaks about addresses only.
            let error = PatternError::AddressGlob;
            let message = format!("`{pattern}` in `{}` {error}", entry.key);
            problems.push(Problem::error(span, message).with_help(error.help(entry.text)));
            return None;
        }
        (List::Allow, Shape::Subdomains(base) | Shape::Tree(base))
            if is_public_suffix(base.as_str()) =>
        {
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

#[cfg(test)]
mod tests {
    use crate::policy::{Outcome, Review, Severity, Source};

    use super::*;

    /// What is said about a text, and about which part of it.
    fn said(text: &str) -> (Vec<(String, String)>, bool) {
        let review = Review::of(text.as_bytes(), &Arc::new(Source::file("r.toml")), 7);
        let said = review.problems.iter().map(|problem| {
            (text.get(problem.span.clone()).unwrap().to_owned(), problem.message.clone())
        });
        let errors = review.problems.iter().any(|problem| problem.severity == Severity::Error);
        assert_eq!(matches!(review.outcome, Outcome::Broken), errors);
        (said.collect(), errors)
    }

    #[test]
    fn swallowed_allows_are_named() {
        let text = "[experimental_network]\nenabled = true\nallowed_domains = [\
                    \"a.evil.test\", \"*.b.evil.test\", \"**.evil.test\", \"**.c.evil.test\", \
                    \"good.test\", \"10.1.2.3\", \"ads7.test\", \"d.evil.test:8443\"]\n\
                    denied_domains = [\"*.evil.test\", \"10.1.*\", \"ads?.test\"]\n";
        let (said, _) = said(text);
        let shadowed = said.iter().filter(|(_, message)| message.contains("can never allow"));
        let shadowed: Vec<_> = shadowed.map(|(pattern, _)| pattern.as_str()).collect();
        assert_eq!(
            shadowed,
            [
                "\"a.evil.test\"",
                "\"*.b.evil.test\"",
                "\"**.c.evil.test\"",
                "\"10.1.2.3\"",
                "\"ads7.test\"",
                "\"d.evil.test:8443\""
            ]
        );
    }

    #[test]
    fn what_can_match_nothing_is_refused() {
        let label = "a".repeat(63);
        let base = |last: usize| format!("{label}.{label}.{label}.{}", "b".repeat(last));
        for (list, pattern, is_error) in [
            ("allowed_domains", format!("*.{}", base(59)), false),
            ("allowed_domains", format!("*.{}", base(60)), true),
            ("denied_domains", format!("*.{}", base(60)), true),
            ("denied_domains", format!("*.{}", base(60).to_uppercase()), true),
            ("denied_domains", format!("**.{}", base(61)), false),
            ("denied_domains", format!("*{}", "?".repeat(300)), true),
            ("denied_domains", format!("*{label}a*"), true),
            // What denies names as well may allow nothing.
            ("denied_domains", "300.*".to_owned(), false),
            ("allowed_domains", "300.*".to_owned(), true),
            ("allowed_domains", "8.*".to_owned(), false),
        ] {
            let text =
                format!("[experimental_network]\nenabled = true\n{list} = [\"{pattern}\"]\n");
            let (said, errors) = said(&text);
            assert_eq!(errors, is_error, "{said:?}");
            let span = format!("\"{pattern}\"");
            let is_there =
                said.iter().any(|(at, said)| *at == span && said.contains("can match no"));
            assert_eq!(is_there, is_error, "{said:?}");
        }
    }

    #[test]
    fn what_is_written_twice_is_named() {
        let head = "[experimental_network]\nenabled = true\n";
        for (rules, at, message, is_error) in [
            (
                "denied_domains = [\"a.b\", \"A.b.\"]",
                "\"A.b.\"",
                "duplicate of `a.b` on line 3",
                false,
            ),
            ("denied_domains = [\"a\", \"a\"]", "\"a\"", "duplicate of `a` on line 3", false),
            ("denied_domains = [\"8.*\", \"8.*\"]", "\"8.*\"", "duplicate of `8.*`", false),
            (
                "allowed_domains = [\"*.a.b\"]\ndenied_domains = [\"*.a.b\"]",
                "\"*.a.b\"",
                "`*.a.b` is allowed and denied: `*.a.b` on line 3",
                false,
            ),
            (
                "[experimental_network.domains]\n\"a.b\" = \"allow\"\n\"a.b\" = \"deny\"",
                "\"a.b\"",
                "invalid TOML: duplicate key",
                true,
            ),
            (
                "[experimental_network.domains]\n\"a.b\" = \"deny\"\n\"a.b\" = \"deny\"",
                "\"a.b\"",
                "invalid TOML: duplicate key",
                true,
            ),
            (
                "[experimental_network.domains]\n\"a*b.c\" = \"deny\"\n\"a*b.c\" = \"allow\"",
                "\"a*b.c\"",
                "invalid TOML: duplicate key",
                true,
            ),
            (
                "[experimental_network.domains]\n\"a.b\" = \"deny\"\n\"\\u0061.b\" = \"deny\"",
                "\"\\u0061.b\"",
                "stands on line 4, column 1 already",
                true,
            ),
            (
                "domains = { \"a.b\" = \"deny\", \"\\u0061.b\" = \"deny\" }",
                "\"\\u0061.b\"",
                "stands on line 3, column 13 already",
                true,
            ),
            (
                "domains.\"a.b\" = \"deny\"\ndomains.'a.b' = \"allow\"",
                "'a.b'",
                "stands on line 3, column 9 already",
                true,
            ),
            (
                "[experimental_network.domains]\n\"a\" = \"deny\"\na = \"allow\"",
                "a",
                "duplicate key: `a` stands on line 4, column 1 already",
                true,
            ),
            (
                "[experimental_network.domains]\n'a' = \"deny\"\n  \"a\" = \"deny\"",
                "\"a\"",
                "stands on line 4, column 1 already",
                true,
            ),
            (
                "[experimental_network.domains]\n\"a\" = \"deny\"\n[x]\n[experimental_network.'domains']",
                "'domains'",
                "stands on line 3, column 23 already",
                true,
            ),
            (
                "domains.\"a\" = \"deny\"\n[experimental_network.domains]\n\"b\" = \"deny\"",
                "domains",
                "stands on line 3, column 1 already",
                true,
            ),
            (
                "allowed_domains = [\"a\"]\n\"allowed\\u005fdomains\" = [\"b\"]",
                "\"allowed\\u005fdomains\"",
                "stands on line 3, column 1 already",
                true,
            ),
            // Not the one before it, which is another key to TOML, but the first.
            (
                "[experimental_network.domains]\n\"A.b\" = \"deny\"\n\"a.b\" = \"deny\"\n\"a.b\" = \"deny\"",
                "\"a.b\"",
                "stands on line 5, column 1 already",
                true,
            ),
            (
                "[experimental_network.domains]\n\"a.b:80\" = \"allow\"\n\"a.b:80\" = \"deny\"",
                "\"a.b:80\"",
                "stands on line 4, column 1 already",
                true,
            ),
            (
                "[experimental_network.domains]\n\"fe80::1%a\" = \"allow\"\n\"fe80::1%a\" = \"allow\"",
                "\"fe80::1%a\"",
                "stands on line 4, column 1 already",
                true,
            ),
            (
                "[experimental_network.domains]\n\"a.b\" = \"allow\"\n\"a.b.\" = \"deny\"",
                "\"a.b.\"",
                "`a.b.` is allowed and denied: `a.b` on line 4",
                false,
            ),
            (
                "[experimental_network.domains]\n\"a.b\" = \"deny\"\n\"A.b\" = \"deny\"",
                "\"A.b\"",
                "duplicate of `a.b` on line 4",
                false,
            ),
        ] {
            let (said, errors) = said(&format!("{head}{rules}\n"));
            let found = said.iter().any(|(span, said)| span == at && said.contains(message));
            assert!(found, "{rules}: {said:?}");
            assert_eq!(errors, is_error, "{rules}");
        }
    }
}
