//! The table against the slow matcher, and full lines.

use std::sync::Arc;

use super::*;
use crate::policy::{List, Pattern, Rule, Source, reference};

fn rules(patterns: &[(&str, List)]) -> Vec<Rule> {
    let source = Arc::new(Source::file("r.toml"));
    let rule = |(line, (text, list)): (usize, &(&str, List))| Rule {
        pattern: Pattern::parse(text).unwrap(),
        list: *list,
        source: Arc::clone(&source),
        line,
    };
    patterns.iter().enumerate().map(rule).collect()
}

fn name(text: &str) -> DnsName {
    DnsName::parse(text.as_bytes()).unwrap()
}

/// What the slow matcher says, in the words of the table.
fn expected(rules: &[Rule], name: &DnsName) -> Verdict {
    let host = crate::net::Host::Name(name.clone());
    if let Some(rule) = reference::matching(rules, List::Deny, &host).first() {
        return Verdict::Deny(*rule);
    }
    match reference::matching(rules, List::Allow, &host).first() {
        Some(rule) => Verdict::Allow(*rule),
        None => Verdict::Nothing,
    }
}

#[test]
fn verdicts_are_inherited_and_deny_wins() {
    let rules = rules(&[
        ("**.example.com", List::Allow),
        ("*.exfil.example.com", List::Deny),
        ("good.exfil.example.com", List::Allow),
        ("a.b.c.d.e.f.g.h.i.j.k.l.m.deep.test", List::Allow),
        ("*.d.e.f.g.h.i.j.k.l.m.deep.test", List::Deny),
        ("*.com", List::Allow),
        ("intranet", List::Allow),
        ("*.blocked", List::Deny),
    ]);
    let table = Table::new(&rules, 7);
    for text in [
        "example.com",
        "x.example.com",
        "exfil.example.com",
        "good.exfil.example.com",
        "x.y.exfil.example.com",
        "other.com",
        "com",
        "intranet",
        "x.intranet",
        "a.b.c.d.e.f.g.h.i.j.k.l.m.deep.test",
        "b.c.d.e.f.g.h.i.j.k.l.m.deep.test",
        "d.e.f.g.h.i.j.k.l.m.deep.test",
        "deep.test",
        "evil.blocked",
        "x.evil.blocked",
        "nothing.test",
    ] {
        let name = name(text);
        assert_eq!(table.lookup(&name), expected(&rules, &name), "{text}");
    }
}

#[test]
fn an_allow_with_a_port_makes_the_table_ask() {
    let rules = rules(&[("a.test:8443", List::Allow), ("*.b.test", List::Allow)]);
    let table = Table::new(&rules, 7);
    assert_eq!(table.lookup(&name("a.test")), Verdict::Ask);
    assert_eq!(table.lookup(&name("x.b.test")), Verdict::Allow(RuleId(1)));
}

#[test]
fn a_full_line_goes_on_in_the_next() {
    // As many as fit into 512 lines at their usual fill.
    let texts: Vec<String> = (0..4_095).map(|n| format!("n{n}.test")).collect();
    let patterns: Vec<(&str, List)> =
        texts.iter().map(|text| (text.as_str(), List::Deny)).collect();
    let table = Table::new(&rules(&patterns), 3);
    assert_eq!(table.lines.len(), 512);
    assert!(table.lines.iter().filter(|line| line.is_full()).count() > 5);
    for (id, text) in (0..).zip(&texts) {
        assert_eq!(table.lookup(&name(text)), Verdict::Deny(RuleId(id)), "{text}");
    }
    assert_eq!(table.lookup(&name("n4095.test")), Verdict::Nothing);
}

/// Thousands of rules at all depths.
#[test]
fn many_rules_are_all_found_whatever_the_seed() {
    let texts: Vec<String> = (0..6_000_u32)
        .map(|n| match n % 4 {
            0 => format!("**.n{n}.test"),
            1 => format!("h{n}.zone{}.test", n % 50),
            2 => format!("*.a.b{}.c.d.e.f.g.h.i.deep{}.test", n, n % 7),
            _ => format!("n{n}.example"),
        })
        .collect();
    let lists = [List::Allow, List::Allow, List::Deny];
    let patterns: Vec<(&str, List)> = texts
        .iter()
        .zip(lists.into_iter().cycle())
        .map(|(text, list)| (text.as_str(), list))
        .collect();
    let rules = rules(&patterns);
    for seed in [0, 1, u64::MAX] {
        let table = Table::new(&rules, seed);
        for (id, text) in texts.iter().enumerate() {
            let base = name(text.trim_start_matches(['*', '.']));
            let below = name(&format!("www.{base}"));
            let own = RuleId(u32::try_from(id).unwrap());
            let verdict = match patterns[id].1 {
                List::Allow => Verdict::Allow(own),
                List::Deny => Verdict::Deny(own),
            };
            let reached = if text.starts_with('*') { &below } else { &base };
            assert_eq!(table.lookup(reached), verdict, "{text}");
        }
        assert_eq!(table.lookup(&name("n1.n0x.test")), Verdict::Nothing);
    }
}
