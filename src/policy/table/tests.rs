//! The table against the slow matcher, and full lines.

use std::sync::Arc;

use super::*;
use crate::policy::{List, Pattern, Source, reference};

/// Rules of those patterns, and their ids.
fn rules(patterns: &[(&str, List)]) -> (Rules, Vec<RuleId>) {
    let mut rules = Rules::default();
    let source = rules.add_source(&Arc::new(Source::file("r.toml"))).unwrap();
    let ids = patterns
        .iter()
        .enumerate()
        .map(|(line, (text, list))| {
            rules.push(Pattern::parse(text).unwrap(), *list, source, line).unwrap()
        })
        .collect();
    (rules, ids)
}

fn table(rules: &Rules, seed: u64) -> Table {
    Table::new(rules, seed).unwrap().0
}

fn name(text: &str) -> DnsName {
    DnsName::parse(text.as_bytes()).unwrap()
}

fn lookup(table: &Table, rules: &Rules, name: &DnsName) -> Verdict {
    if let Some(key) = Key::of_last(name.last_32(), name.anchor_len())
        && matches!(table.probe(key), Probe::Missing)
    {
        assert_eq!(table.find(rules, name.anchor()), None);
    }
    table.lookup(rules, name)
}

/// What the slow matcher says, in the words of the table.
fn expected(rules: &Rules, name: &DnsName) -> Verdict {
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
    let (rules, _) = rules(&[
        ("**.example.com", List::Allow),
        ("*.exfil.example.com", List::Deny),
        ("good.exfil.example.com", List::Allow),
        ("a.b.c.d.e.f.g.h.i.j.k.l.m.deep.test", List::Allow),
        ("*.d.e.f.g.h.i.j.k.l.m.deep.test", List::Deny),
        ("*.com", List::Allow),
        ("intranet", List::Allow),
        ("*.blocked", List::Deny),
    ]);
    let table = table(&rules, 7);
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
        assert_eq!(lookup(&table, &rules, &name), expected(&rules, &name), "{text}");
    }
}

#[test]
fn what_a_record_cannot_say_is_asked() {
    let (rules, ids) = rules(&[
        ("a.test:8443", List::Allow),
        ("*.b.test", List::Allow),
        ("ads*.b.test", List::Deny),
        ("x.b.test", List::Allow),
        ("*.c.b.test", List::Deny),
    ]);
    let table = table(&rules, 7);
    let verdict = |text| lookup(&table, &rules, &name(text));
    let ask = |text| {
        let Verdict::Ask(ask) = verdict(text) else { panic!("{text} is not asked") };
        ask
    };
    let allowing = |text| {
        let mut found = Vec::new();
        let take = |candidate: Candidate| found.push((candidate.rule, candidate.port));
        table.each_allowing(ask(text), text.as_bytes(), take);
        found
    };
    let denying = |text| table.denying(ask(text), text.as_bytes()).map(|found| found.rule);
    assert_eq!(allowing("a.test"), [(ids[0], Some(crate::net::Port::new(8443).unwrap()))]);
    assert_eq!(denying("a.test"), None);
    assert_eq!(denying("ads1.b.test"), Some(ids[2]));
    assert_eq!((denying("y.b.test"), allowing("y.b.test")), (None, vec![(ids[1], None)]));
    assert_eq!((denying("x.b.test"), allowing("x.b.test")), (None, vec![(ids[3], None)]));
    assert_eq!(verdict("ads.c.b.test"), Verdict::Deny(ids[4]));
    assert_eq!(verdict("b.test"), Verdict::Nothing);
}

#[test]
fn a_full_line_goes_on_in_the_next() {
    // As many as fit into 512 lines at their usual fill.
    let texts: Vec<String> = (0..4_095).map(|n| format!("n{n}.test")).collect();
    let patterns: Vec<(&str, List)> =
        texts.iter().map(|text| (text.as_str(), List::Deny)).collect();
    let (rules, ids) = rules(&patterns);
    let table = table(&rules, 3);
    assert_eq!(table.lines.len(), 512);
    assert!(table.lines.iter().filter(|line| line.used() == 12).count() > 5);
    for (id, text) in ids.iter().zip(&texts) {
        assert_eq!(lookup(&table, &rules, &name(text)), Verdict::Deny(*id), "{text}");
    }
    assert_eq!(lookup(&table, &rules, &name("n4095.test")), Verdict::Nothing);
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
    let (rules, ids) = rules(&patterns);
    for seed in [0, 1, u64::MAX] {
        let table = table(&rules, seed);
        for (id, text) in texts.iter().enumerate() {
            let base = name(text.trim_start_matches(['*', '.']));
            let below = name(&format!("www.{base}"));
            let own = ids[id];
            let verdict = match patterns[id].1 {
                List::Allow => Verdict::Allow(own),
                List::Deny => Verdict::Deny(own),
            };
            let reached = if text.starts_with('*') { &below } else { &base };
            assert_eq!(lookup(&table, &rules, reached), verdict, "{text}");
        }
        assert_eq!(lookup(&table, &rules, &name("n1.n0x.test")), Verdict::Nothing);
    }
}

#[test]
fn depths_know_the_deepest() {
    let mut depths = Depths::default();
    for (labels, most) in [(3, 3), (5, 5), (4, 5), (33, 33), (34, usize::MAX), (127, usize::MAX)] {
        depths.insert(labels);
        assert_eq!(depths.most(), most, "{labels}");
        assert!(depths.contain(labels));
    }
}

#[test]
fn last_labels_of_a_name() {
    for (most, expected, labels) in [
        (usize::MAX, "a.bb.ccc.example.com", 5),
        (6, "a.bb.ccc.example.com", 5),
        (5, "a.bb.ccc.example.com", 5),
        (4, "bb.ccc.example.com", 4),
        (1, "com", 1),
    ] {
        let found = last_labels(b"a.bb.ccc.example.com", most);
        assert_eq!(found, (expected.as_bytes(), labels));
    }
}
