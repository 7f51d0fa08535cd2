//! Properties of patterns: the served matcher answers as the reference does, a pattern means what
//! it means in Codex, what is shown reads back, and no text makes a parser panic.
//!
//! `PROPTEST_CASES` raises the number of cases.

use std::{collections::BTreeMap, env, fmt, ops::Range, sync::Arc};

use exeat::{
    net::{Authority, DnsName, Host, Port, Target, to_a_labels},
    policy::{
        Egress, LineIndex, List, Outcome, Pattern, Policy, Problem, Review, RuleId, Severity,
        Shape, Source, reference,
    },
};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    strategy::ValueTree,
    test_runner::{Config, TestCaseResult, TestRunner},
};

// What is generated often matches, because everything is made of these few words.
const LABELS: &[&str] = &["a", "b", "ab", "8"];
const LAST_LABELS: &[&str] = &["a", "test", "local", "localhost"];
const WILD_LABELS: &[&str] = &["*", "?", "a*", "*b", "?b", "*a*"];
const PREFIXES: &[&str] = &["", "*.", "**."];
const PORTS: &[u16] = &[80, 443, 8443];
const ADDRESS_GLOBS: &[&str] = &[
    "10.*",
    "8.*",
    "8.8.*",
    "8.8.4.?",
    "8*4",
    "*.4.4",
    "*.0.1",
    "**.8.*",
    "?.?.?.?",
    "*.*",
    "169.254.*",
    "64:ff9b::*",
    "2001:*:1",
    "*::*",
];

/// An address as it is asked for, how local it is, and the IPv4 address it embeds.
type Place = (&'static str, Locality, Option<&'static str>);

const PLACES: &[Place] = &[
    ("8.8.4.4", Locality::Public, None),
    ("8.8.8.8", Locality::Public, None),
    ("[::ffff:8.8.4.4]", Locality::Public, None),
    ("[64:ff9b::808:404]", Locality::Public, Some("8.8.4.4")),
    ("[2001:4860:4860::8844]", Locality::Public, None),
    ("10.0.0.1", Locality::Local, None),
    ("10.0.0.2", Locality::Local, None),
    ("127.0.0.1", Locality::Local, None),
    ("[::ffff:a00:1]", Locality::Local, None),
    ("[64:ff9b::a00:1]", Locality::Local, Some("10.0.0.1")),
    ("[2001:db8::1]", Locality::Local, None),
    ("[::1]", Locality::Local, None),
    ("169.254.169.254", Locality::Metadata, None),
    ("[64:ff9b::a9fe:a9fe]", Locality::Metadata, Some("169.254.169.254")),
    ("[fd00:ec2::254]", Locality::Metadata, None),
];

#[test]
fn served_as_the_reference_says() {
    check(2000, &scene(), |scene| {
        let policy = scene.policy();
        for request in &scene.requests {
            let found = served(&policy, request);
            let expected = oracle(&scene, &policy, request);
            prop_assert_eq!(found, expected, "{} port {}", request.host, request.port);
        }
        Ok(())
    });
}

#[test]
fn meaning_is_that_of_codex() {
    check(3000, &pattern_and_hosts(), |(text, hosts)| {
        let pattern = Pattern::parse(&text).unwrap();
        let codex = codex_globs(&text);
        for host in &hosts {
            let expected = codex.is_match(host.to_bare_string());
            prop_assert_eq!(pattern.matches(host), expected, "`{}` on {}", text, host);
        }
        Ok(())
    });
}

#[test]
fn shown_patterns_read_back() {
    check(20_000, &pattern_text(), |text| {
        match Pattern::parse(&text) {
            Ok(pattern) => {
                let shown = pattern.to_string();
                let canonical = shown.is_ascii() && shown == shown.to_ascii_lowercase();
                prop_assert!(canonical, "`{}` is not canonical", shown);
                prop_assert_eq!(Pattern::parse(&shown), Ok(pattern), "{}", shown);
            }
            Err(error) => prop_assert!(!error.help(&text).is_empty()),
        }
        Ok(())
    });
}

#[test]
fn what_is_accepted_matches_some_host() {
    check(4000, &prop_oneof![2 => pattern_text(), 1 => long_glob()], |text| {
        let pattern = Pattern::parse(&text);
        // What completes an `xn--` label is found by no such search.
        if let Some(pattern) = pattern.ok().filter(|pattern| !has_wild_a_label(pattern)) {
            let witness = witness(&pattern);
            prop_assert!(witness.is_some(), "nothing matches `{}`", pattern);
            let denied = witness.is_none_or(|host| denies(&pattern, &host));
            prop_assert!(denied, "the reference says no: `{}`", pattern);
        }
        Ok(())
    });
}

#[test]
fn any_file_is_reviewed() {
    check(4000, &policy_file(), |bytes| {
        let review = Review::of(&bytes, &source(), 7);
        let text = String::from_utf8_lossy(&bytes);
        let lines = LineIndex::new(&text);
        for problem in &review.problems {
            let Range { start, end } = problem.span;
            prop_assert!(start <= end && end <= bytes.len(), "{:?}", problem);
            prop_assert!(lines.position(start).line <= text.split('\n').count(), "{:?}", problem);
            let drawn = problem.draw(&lines, "requirements.toml", false);
            prop_assert!(drawn.starts_with(severity_word(problem)), "{}", drawn);
            let styled = problem.draw(&lines, "requirements.toml", true);
            prop_assert!(styled.contains('\x1b'), "{}", styled);
        }
        let error = review.problems.iter().any(|problem| problem.severity == Severity::Error);
        prop_assert_eq!(matches!(review.outcome, Outcome::Broken), error);
        Ok(())
    });
}

#[test]
fn any_target_is_parsed() {
    check(20_000, &target_bytes(), |bytes| {
        let hosts = [
            Host::parse(&bytes).ok(),
            Authority::parse_connect(&bytes).ok().map(|authority| authority.host),
            Authority::parse_or(&bytes, Port::HTTPS).ok().map(|authority| authority.host),
            Target::parse(&bytes).ok().map(|target| target.authority.host),
        ];
        for host in hosts.into_iter().flatten() {
            if let Host::Name(name) = &host {
                well_formed(name)?;
                let spelled = format!("{}.", name.as_str().to_ascii_uppercase());
                prop_assert_eq!(Host::parse(spelled.as_bytes()), Ok(host.clone()));
            }
            prop_assert_eq!(Host::parse(host.to_string().as_bytes()), Ok(host));
        }
        if let Ok(name) = DnsName::parse(&bytes) {
            well_formed(&name)?;
        }
        let _ = to_a_labels(&String::from_utf8_lossy(&bytes));
        Ok(())
    });
}

// The properties above say something only if what is generated meets every kind of answer.

#[test]
fn scenes_meet_every_verdict() {
    let mut verdicts = BTreeMap::new();
    for scene in samples(100, &scene()) {
        let policy = scene.policy();
        for request in &scene.requests {
            *verdicts.entry(served(&policy, request).0).or_insert(0) += 1;
        }
    }
    assert_eq!(verdicts.len(), 6, "{verdicts:?}");
    assert!(verdicts.values().all(|count| *count >= 20), "{verdicts:?}");
}

#[test]
fn patterns_meet_what_they_match() {
    let mut answers = BTreeMap::new();
    for (text, hosts) in samples(500, &pattern_and_hosts()) {
        let pattern = Pattern::parse(&text).unwrap();
        for host in &hosts {
            let key = (shape_word(&pattern), host_word(host), pattern.matches(host));
            *answers.entry(key).or_insert(0) += 1;
        }
    }
    // Neither a name below an address nor an address below a name.
    let never =
        [("address", "name"), ("exact", "address"), ("subdomains", "address"), ("tree", "address")];
    for shape in ["address", "any", "exact", "glob", "glob over address", "subdomains", "tree"] {
        for host in ["name", "address"] {
            let yes = answers.get(&(shape, host, true)).copied().unwrap_or(0);
            let no = answers.get(&(shape, host, false)).copied().unwrap_or(0);
            assert!(yes >= 10 || never.contains(&(shape, host)), "{shape}, {host}: {answers:?}");
            assert!(no >= 10 || shape == "any", "{shape}, {host}: {answers:?}");
        }
    }
}

#[test]
fn nonsense_is_partly_sense() {
    partly(&samples(1000, &pattern_text()), |text| Pattern::parse(text).is_ok());
    let targets = samples(1000, &target_bytes());
    partly(&targets, |bytes| Host::parse(bytes).is_ok());
    partly(&targets, |bytes| Authority::parse_connect(bytes).is_ok());
    partly(&targets, |bytes| Target::parse(bytes).is_ok());
    let files = samples(1000, &policy_file());
    let outcomes: Vec<_> =
        files.iter().map(|file| Review::of(file, &source(), 7).outcome).collect();
    partly(&outcomes, |outcome| matches!(outcome, Outcome::Broken));
    partly(&outcomes, |outcome| matches!(outcome, Outcome::Ruleset(_)));
}

#[track_caller]
fn partly<T>(values: &[T], makes_sense: impl Fn(&T) -> bool) {
    let count = values.iter().filter(|value| makes_sense(value)).count();
    assert!(count >= 50 && values.len() - count >= 50, "{count} of {}", values.len());
}

/// A host that a pattern matches, found by what is accepted: wildcards are replaced one after the
/// other by something that leaves a pattern.
fn witness(pattern: &Pattern) -> Option<Host> {
    let bare = |text: &str| bare_host(text).filter(|host| pattern.matches(host));
    match pattern.shape() {
        Shape::Address(address) => Some(Host::from(*address)),
        Shape::Any => bare("a.test"),
        Shape::Exact(name) | Shape::Tree(name) => bare(name.as_str()),
        Shape::Subdomains(base) => bare(&format!("a.{base}")),
        Shape::Glob(glob) => {
            let text = glob.to_string();
            let bodies = match (text.strip_prefix("**."), text.strip_prefix("*.")) {
                (Some(body), _) => vec![body.to_owned(), format!("?*.{body}")],
                (None, Some(body)) => vec![format!("?*.{body}")],
                (None, None) => vec![text],
            };
            bodies.into_iter().filter_map(fully_filled).find_map(|text| bare(&text))
        }
    }
}

fn fully_filled(mut text: String) -> Option<String> {
    while let Some(at) = text.find(['*', '?']) {
        let (before, rest) = text.split_at(at);
        let fills = if rest.starts_with('*') { STAR_FILLS } else { MARK_FILLS };
        let behind = rest.strip_prefix(['*', '?']).unwrap_or(rest);
        let texts = fills.iter().map(|fill| format!("{before}{fill}{behind}"));
        let mut texts = texts.filter(|text| !text.contains("**") && !text.ends_with('.'));
        text = texts.find(|text| Pattern::parse(text).is_ok())?;
    }
    Some(text)
}

fn has_wild_a_label(pattern: &Pattern) -> bool {
    let is_wild = |label: &str| label.starts_with("xn--") && label.contains(['*', '?']);
    pattern.to_string().split('.').any(is_wild)
}

const MARK_FILLS: &[&str] = &["g", "1", ".", ":", "0", "5", "f"];

const STAR_FILLS: &[&str] =
    &["", "g", "tda", "1", "g*", "1*", "0*", "5*", ".*", ":*", "f*", "2*", "3*", "g.*"];

/// Whether a rule of that pattern denies the host, by the definition. `*` stands in no such list.
fn denies(pattern: &Pattern, host: &Host) -> bool {
    if matches!(pattern.shape(), Shape::Any) {
        return true;
    }
    let quoted = toml_string(&pattern.to_string());
    let file = format!("[experimental_network]\nenabled = true\ndenied_domains = [{quoted}]\n");
    match Review::of(file.as_bytes(), &source(), 7).outcome {
        Outcome::Ruleset(ruleset) => {
            !reference::matching(ruleset.rules(), List::Deny, host).is_empty()
        }
        Outcome::Broken | Outcome::NoTable => false,
    }
}

/// Runs a property on that many cases, or on as many as `PROPTEST_CASES` says.
fn check<S: Strategy>(cases: u32, strategy: &S, property: impl Fn(S::Value) -> TestCaseResult) {
    let mut config =
        Config { failure_persistence: None, max_local_rejects: u32::MAX, ..Config::default() };
    if env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    if let Err(error) = TestRunner::new(config).run(strategy, property) {
        panic!("{error}");
    }
}

/// The same values on every run.
fn samples<S: Strategy>(count: usize, strategy: &S) -> Vec<S::Value> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

fn source() -> Arc<Source> {
    Arc::new(Source::file("requirements.toml"))
}

/// A policy file in parts, and what is asked of it.
#[derive(Clone)]
struct Scene {
    enabled: bool,
    binding: Option<bool>,
    allow_first: bool,
    allow: Vec<String>,
    deny: Vec<String>,
    requests: Vec<Request>,
}

#[derive(Debug, Clone)]
struct Request {
    host: String,
    port: u16,
    locality: Locality,
    embedded: Option<&'static str>,
}

/// How local a host is, whatever the policy says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Locality {
    Local,
    LocalZone,
    Metadata,
    Public,
}

/// The verdict, and the rule that decided.
type Answer = (&'static str, Option<RuleId>);

impl Scene {
    fn policy(&self) -> Policy {
        let review = Review::of(self.to_string().as_bytes(), &source(), 7);
        let Outcome::Ruleset(ruleset) = review.outcome else {
            panic!("{self}{:?}", review.problems)
        };
        Policy::new(*ruleset, Egress::default(), 1)
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[experimental_network]\nenabled = {}", self.enabled)?;
        if let Some(binding) = self.binding {
            writeln!(f, "allow_local_binding = {binding}")?;
        }
        let mut lists = [("allowed_domains", &self.allow), ("denied_domains", &self.deny)];
        if !self.allow_first {
            lists.reverse();
        }
        lists.iter().try_for_each(|(key, patterns)| writeln!(f, "{key} = {patterns:?}"))
    }
}

/// A failure shows the file as it is written.
impl fmt::Debug for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}{:?}", self.requests)
    }
}

fn served(policy: &Policy, request: &Request) -> Answer {
    let host = parse_host(&request.host);
    match policy.decide(&Authority { host, port: Port::new(request.port).unwrap() }) {
        Ok(permit) => ("allow", permit.rule()),
        Err(denial) => (denial.reason.as_str(), denial.rule),
    }
}

/// The order of a decision, written down once more over the slow matcher.
fn oracle(scene: &Scene, policy: &Policy, request: &Request) -> Answer {
    if !scene.enabled {
        return ("proxy_disabled", None);
    }
    let rules = policy.ruleset().rules();
    let host = parse_host(&request.host);
    let shape = |id: &RuleId| policy.rule(*id).unwrap().pattern.shape().clone();
    let denying = reference::matching(rules, List::Deny, &host);
    // A literal that embeds an IPv4 address is judged by that address too.
    let embedded = request.embedded.map(parse_host);
    let embedded = embedded.iter().flat_map(|host| reference::matching(rules, List::Deny, host));
    if let Some(rule) = denying.into_iter().chain(embedded).next() {
        return ("denied", Some(rule));
    }
    let locality = match (request.locality, scene.binding) {
        (Locality::Local | Locality::LocalZone, Some(true)) => Locality::Public,
        (locality, _) => locality,
    };
    let allowing = reference::matching(rules, List::Allow, &host);
    let opening: Vec<RuleId> =
        allowing.iter().copied().filter(|id| is_narrow_enough(&shape(id), locality)).collect();
    let fits = |id: &&RuleId| {
        let port = policy.rule(**id).unwrap().pattern.port();
        port.is_none_or(|port| port.number() == request.port)
    };
    let is_local = matches!(locality, Locality::Local | Locality::Metadata);
    match (opening.iter().find(fits), opening.first()) {
        (Some(rule), _) => ("allow", Some(*rule)),
        (None, Some(rule)) => ("port_not_allowed", Some(*rule)),
        (None, None) if is_local || !allowing.is_empty() => ("not_allowed_local", None),
        (None, None) => ("not_allowed", None),
    }
}

fn is_narrow_enough(shape: &Shape, locality: Locality) -> bool {
    match locality {
        Locality::Local | Locality::Metadata => {
            matches!(shape, Shape::Address(_) | Shape::Exact(_))
        }
        Locality::LocalZone => !matches!(shape, Shape::Any),
        Locality::Public => true,
    }
}

fn name_locality(name: &str) -> Locality {
    let under = |zone: &str| name == zone || name.ends_with(&format!(".{zone}"));
    if under("localhost") {
        Locality::Local
    } else if under("local") || !name.contains('.') {
        Locality::LocalZone
    } else {
        Locality::Public
    }
}

fn scene() -> impl Strategy<Value = Scene> {
    let enabled = prop::bool::weighted(0.95);
    let binding = select(vec![None, Some(false), Some(true), Some(true)]);
    let deny = vec(rule_text(), 0..6);
    let allow = vec(prop_oneof![12 => rule_text(), 1 => with_port(Just("*".to_owned()))], 0..16);
    (enabled, binding, any::<bool>(), allow, deny, vec(request(), 1..16)).prop_map(
        |(enabled, binding, allow_first, allow, deny, requests)| Scene {
            enabled,
            binding,
            allow_first,
            allow,
            deny,
            requests,
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let named = name(4).prop_map(|host| {
        let locality = name_locality(&host);
        (host, locality, None)
    });
    let places =
        select(PLACES).prop_map(|(host, locality, inner)| (host.to_owned(), locality, inner));
    (prop_oneof![2 => named, 1 => places], select(PORTS))
        .prop_map(|((host, locality, embedded), port)| Request { host, port, locality, embedded })
}

/// A pattern that is legal in both lists.
fn rule_text() -> impl Strategy<Value = String> {
    let below = (select(PREFIXES), name(2)).prop_map(|(prefix, base)| format!("{prefix}{base}"));
    let address = select(PLACES).prop_map(|(address, ..)| address.to_owned());
    let address_glob = select(ADDRESS_GLOBS).prop_map(str::to_owned);
    with_port(prop_oneof![4 => below, 2 => name_glob(), 2 => address, 1 => address_glob])
}

fn with_port(text: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let port = prop::option::weighted(0.3, select(PORTS));
    (text, port).prop_map(|(text, port)| match port {
        // What follows the last colon of a glob over IPv6 addresses is no port.
        Some(port) if text.ends_with(']') || !text.contains(':') => format!("{text}:{port}"),
        _ => text,
    })
}

fn name(most: usize) -> impl Strategy<Value = String> {
    (vec(select(LABELS), 0..most), select(LAST_LABELS))
        .prop_map(|(labels, last)| dotted(&labels, last))
}

fn name_glob() -> impl Strategy<Value = String> {
    let inner = prop_oneof![select(LABELS), select(WILD_LABELS)];
    let last = prop_oneof![3 => select(LAST_LABELS), 1 => select(WILD_LABELS)];
    let glob = (select(PREFIXES), vec(inner, 1..3), last)
        .prop_map(|(prefix, labels, last)| format!("{prefix}{}", dotted(&labels, last)));
    glob.prop_filter("legal in both lists", |text| may_allow(text))
}

/// Whether a pattern is not refused where it would allow: one over addresses must match an address
/// there.
fn may_allow(text: &str) -> bool {
    let file = format!("[experimental_network]\nenabled = true\nallowed_domains = [\"{text}\"]\n");
    matches!(Review::of(file.as_bytes(), &source(), 7).outcome, Outcome::Ruleset(_))
}

fn dotted(labels: &[&str], last: &str) -> String {
    labels.iter().chain([&last]).copied().collect::<Vec<_>>().join(".")
}

fn parse_host(text: &str) -> Host {
    Host::parse(text.as_bytes()).unwrap()
}

/// The globs Codex makes of a pattern, and how it compiles them.
fn codex_globs(text: &str) -> GlobSet {
    let expanded = match (text.strip_prefix("**."), text.strip_prefix("*.")) {
        (Some(base), _) => vec![base.to_owned(), format!("?*.{base}")],
        (None, Some(base)) => vec![format!("?*.{base}")],
        (None, None) => vec![text.to_owned()],
    };
    let mut globs = GlobSetBuilder::new();
    for glob in &expanded {
        let mut builder = GlobBuilder::new(glob);
        globs.add(builder.case_insensitive(true).literal_separator(false).build().unwrap());
    }
    globs.build().unwrap()
}

/// A pattern without a port, addresses in it as they are shown, and hosts it could match.
fn pattern_and_hosts() -> impl Strategy<Value = (String, Vec<Host>)> {
    let fills = vec(vec(select(&["", "a", "b", "1", "0", "a.b", "10.0", "db8:", "::"][..]), 3), 4);
    (codex_pattern(), fills, vec(any_host(), 6)).prop_map(|(text, fills, mut hosts)| {
        let lower = text.to_ascii_lowercase();
        let base = lower.trim_start_matches("**.").trim_start_matches("*.");
        let filled = fills.iter().flat_map(|fills| [fill(&lower, fills), fill(base, fills)]);
        hosts.extend(filled.filter_map(|text| bare_host(&text)));
        (text, hosts)
    })
}

fn codex_pattern() -> impl Strategy<Value = String> {
    let label = vec(select(&["a", "b", "1", "-", "*", "?"][..]), 1..4).prop_map(|l| l.concat());
    let names = vec(label, 1..4).prop_map(|labels| labels.join("."));
    let part = select(&["1", "10", "0", "8", "*", "?", "1*", "?0"][..]);
    let quads = vec(part, 1..5).prop_map(|parts| parts.join("."));
    let group = select(&["2001", "db8", "1", "", "*", "?"][..]);
    let sixes = vec(group, 3..6).prop_map(|groups| groups.join(":"));
    let plain = any_host().prop_map(|host| host.to_bare_string());
    let body =
        prop_oneof![6 => names, 3 => quads, 2 => sixes, 2 => plain, 1 => Just("*".to_owned())];
    (select(PREFIXES), body, any::<bool>()).prop_filter_map("a pattern", |(prefix, body, loud)| {
        let text = format!("{prefix}{body}");
        let pattern = Pattern::parse(&text).ok()?;
        let is_address = matches!(pattern.shape(), Shape::Address(_));
        let as_shown = !is_address || pattern.to_string() == text;
        let spelled = if loud { text.to_ascii_uppercase() } else { text };
        (as_shown && pattern.port().is_none()).then_some(spelled)
    })
}

fn any_host() -> impl Strategy<Value = Host> {
    let label = select(&["a", "b", "ab", "1", "a-b", "10", "1a"][..]);
    let names = vec(label, 1..5).prop_map(|labels| labels.join("."));
    let quads = vec(select(&["1", "10", "0", "8"][..]), 4).prop_map(|parts| parts.join("."));
    let sixes = vec(select(&["2001", "db8", "1", "0"][..]), 8).prop_map(|groups| groups.join(":"));
    let any = prop_oneof![4 => names, 1 => quads, 1 => sixes];
    any.prop_filter_map("a host", |text| bare_host(&text))
}

/// The pattern with something in place of every wildcard.
fn fill(pattern: &str, fills: &[&str]) -> String {
    let mut fills = fills.iter().cycle().copied();
    let mut text = String::new();
    for character in pattern.chars() {
        match character {
            '*' => text.push_str(fills.next().unwrap()),
            '?' => text.push(fills.next().unwrap().chars().last().unwrap_or('.')),
            other => text.push(other),
        }
    }
    text
}

fn bare_host(text: &str) -> Option<Host> {
    let bracketed = if text.contains(':') { format!("[{text}]") } else { text.to_owned() };
    Host::parse(bracketed.as_bytes()).ok()
}

fn shape_word(pattern: &Pattern) -> &'static str {
    match pattern.shape() {
        Shape::Address(_) => "address",
        Shape::Any => "any",
        Shape::Exact(_) => "exact",
        Shape::Glob(glob) if glob.is_over_address() => "glob over address",
        Shape::Glob(_) => "glob",
        Shape::Subdomains(_) => "subdomains",
        Shape::Tree(_) => "tree",
    }
}

fn host_word(host: &Host) -> &'static str {
    match host {
        Host::Ip(_) => "address",
        Host::Name(_) => "name",
    }
}

/// What patterns, hosts and URLs are made of, one piece between two bars.
const PIECES: &str = "a|B|com|example.com|1|0|10|0x|255|10.0.0.1|2001:db8|::|::1|::ffff:10.0.0.1|\
    fe80::1%eth0|localhost|xn--|xn--bcher-kva|*|?|*.|**.|**|.|..|-|_|:|:443|:0|[|]|[::1]|%|%25|/|\
    @|#|{|\\|,|\u{20}|\t|\0|\u{7f}|http://|HTTPS://";

/// Letters and digits of other scripts, and characters that Unicode folds into ASCII ones.
const FOREIGN: &str = "\u{a0}\u{ad}\u{df}\u{fc}\u{130}\u{301}\u{3b1}\u{5d0}\u{661}\u{200d}\
    \u{2024}\u{2025}\u{2047}\u{2100}\u{2460}\u{3002}\u{feff}\u{ff0a}\u{ff0d}\u{ff0e}\u{ff0f}\
    \u{ff10}\u{ff1a}\u{ff1f}\u{ff20}\u{ff21}\u{ff3b}\u{ff61}\u{1f600}";

/// What policy files are made of.
const TOML_PIECES: &str = "[experimental_network]\n|[experimental_network|experimental_network.|\
    domains|allowed_domains|denied_domains|allow_local_binding|enabled|http_port|unix_sockets|\
    deny_domains|mitm|\u{20}= |.|[|]|{|}|,|\"|'|\"\"\"|\"a.test\"|\"*\"|\"**.a\"|\"b\u{fc}.test\"|\
    \"allow\"|\"deny\"|true|false|443|0x1_0|99999|1.5|1979-05-27|\n|\r\n|\r|\t|# c\u{fc}\n|\\|\0|\
    \u{feff}|\u{1f600}|\u{5d0}|\u{301}|\u{202e}";

fn pieces() -> Vec<String> {
    let foreign = FOREIGN.chars().map(String::from);
    PIECES.split('|').map(String::from).chain(foreign).collect()
}

fn toml_pieces() -> Vec<String> {
    TOML_PIECES.split('|').map(String::from).collect()
}

fn soup(pieces: Vec<String>, most: usize) -> impl Strategy<Value = String> {
    vec(select(pieces), 0..most).prop_map(|pieces| pieces.concat())
}

fn any_text(most: usize) -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..most).prop_map(String::from_iter)
}

/// Names at the limits: 63 bytes in a label, 253 in all.
fn long_name() -> impl Strategy<Value = String> {
    let label = (select(vec![1, 61, 62, 63, 63, 63, 64]), select(&["a", "A", "_"][..]));
    vec(label.prop_map(|(length, letter)| letter.repeat(length)), 1..6)
        .prop_map(|labels| labels.join("."))
}

/// Globs at the same limits; a dot may be where a wildcard is.
fn long_glob() -> impl Strategy<Value = String> {
    let run = (select(vec![1, 30, 61, 62, 63, 64]), select(&["a", "-", "?", "1"][..]));
    let run = run.prop_map(|(length, byte)| byte.repeat(length));
    let between = select(&["*", "?", ".", ".*", "*.", "-*", "*-", "??"][..]);
    (select(PREFIXES), vec((run, between), 1..7), select(&["", "a", "test"][..])).prop_map(
        |(prefix, runs, last)| {
            let runs: String = runs.into_iter().map(|(run, between)| run + between).collect();
            format!("{prefix}{runs}{last}")
        },
    )
}

fn pattern_text() -> impl Strategy<Value = String> {
    let long = (select(PREFIXES), long_name()).prop_map(|(prefix, name)| format!("{prefix}{name}"));
    let text = prop_oneof![
        3 => soup(pieces(), 7),
        1 => any_text(16),
        2 => rule_text(),
        1 => codex_pattern(),
        1 => long,
    ];
    let after = select(&["", "", "", ".", "..", "\u{3002}", ":443", ".:443", " "][..]);
    (text, after).prop_map(|(text, after)| format!("{text}{after}"))
}

fn target_bytes() -> impl Strategy<Value = Vec<u8>> {
    let host = prop_oneof![soup(pieces(), 5), name(4), long_name()];
    let around = (select(&["", "", "http://"][..]), host, select(&["", "", ":80", "/x"][..]));
    let around = around.prop_map(|(before, host, after)| format!("{before}{host}{after}"));
    prop_oneof![
        1 => vec(any::<u8>(), 0..24),
        5 => around.prop_map(String::into_bytes),
    ]
}

fn policy_file() -> impl Strategy<Value = Vec<u8>> {
    let listed = (select(&["allowed_domains", "denied_domains"][..]), vec(pattern_text(), 0..3));
    let listed = listed.prop_map(|(key, patterns)| {
        let quoted: Vec<String> = patterns.iter().map(|pattern| toml_string(pattern)).collect();
        format!("[experimental_network]\n{key} = [{}]\n", quoted.join(", ")).into_bytes()
    });
    let headed = soup(toml_pieces(), 12)
        .prop_map(|text| format!("[experimental_network]\n{text}").into_bytes());
    let cut = (soup(toml_pieces(), 12), vec(any::<u8>(), 0..4))
        .prop_map(|(text, bytes)| [text.as_bytes(), &bytes, b"\n"].concat());
    prop_oneof![
        3 => listed,
        2 => headed,
        1 => cut,
        1 => vec(any::<u8>(), 0..64),
        1 => any_text(64).prop_map(String::into_bytes),
    ]
}

fn toml_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

fn severity_word(problem: &Problem) -> &'static str {
    match problem.severity {
        Severity::Error => "error: ",
        Severity::Warning => "warning: ",
    }
}

fn well_formed(name: &DnsName) -> TestCaseResult {
    let text = name.as_str();
    let lower = text.is_ascii() && !text.bytes().any(|byte| byte.is_ascii_uppercase());
    prop_assert!(lower, "`{}` is not lower-case ASCII", text);
    prop_assert!(!text.is_empty() && !text.ends_with('.'), "`{}` ends in a dot", text);
    prop_assert!(text.len() <= 253, "{} bytes", text.len());
    prop_assert!(text.split('.').all(|label| (1..=63).contains(&label.len())), "`{}`", text);
    prop_assert_eq!(DnsName::parse(text.as_bytes()), Ok(name.clone()));
    Ok(())
}
