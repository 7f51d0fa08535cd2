//! Every policy file of the corpus comes out as `expectations.jsonl` says.

use std::{path::PathBuf, sync::Arc};

use exeat::policy::{LineIndex, List, Outcome, Problem, Review, Rule, Severity, Shape, Source};
use serde_json::Value;

fn corpus() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/policy_files"))
}

#[test]
fn expectations() {
    let rows = std::fs::read_to_string(corpus().join("expectations.jsonl")).unwrap();
    let mut faults = Vec::new();
    let mut count = 0;
    for row in rows.lines() {
        let row: Value = serde_json::from_str(row).unwrap();
        let (name, bytes) = file(&row);
        let source = Arc::new(Source::file(name.clone()));
        let review = Review::of(&bytes, &source, 7);
        let text = String::from_utf8_lossy(&bytes);
        count += 1;
        let fault = match row["expect"].as_str().unwrap() {
            "ok" => check_ok(&row, &review, &text),
            "error" => check_error(&row, &review, &text),
            other => Err(format!("unknown expectation {other}")),
        };
        if let Err(fault) = fault {
            faults.push(format!("{name}: {fault}\n   {:?}", review.problems));
        }
        // Drawing never panics, whatever the bytes.
        for problem in &review.problems {
            assert!(!problem.draw(&LineIndex::new(&text), &name, false).is_empty());
        }
    }
    assert!(faults.is_empty(), "{} of {count}:\n{}", faults.len(), faults.join("\n"));
    assert!(count >= 55, "the corpus has shrunk to {count} rows");
}

/// The bytes of a row: a file beside it, or made from its recipe.
fn file(row: &Value) -> (String, Vec<u8>) {
    if let Some(name) = row["file"].as_str() {
        return (name.to_owned(), std::fs::read(corpus().join(name)).unwrap());
    }
    let name = row["generated"].as_str().unwrap();
    assert_eq!(name, "404_deep_dotted_key.toml", "a recipe this test does not know");
    let bytes = format!("{} = 1\n", vec!["a"; 20_000].join(".")).into_bytes();
    assert_eq!(bytes.len() as u64, row["bytes"].as_u64().unwrap());
    (name.to_owned(), bytes)
}

fn check_ok(row: &Value, review: &Review, text: &str) -> Result<(), String> {
    let Outcome::Ruleset(ruleset) = &review.outcome else {
        return match row["rules"].is_null() {
            true if matches!(review.outcome, Outcome::NoTable) => Ok(()),
            _ => Err("should be ok".into()),
        };
    };
    for (list, key) in [(List::Allow, "allow"), (List::Deny, "deny")] {
        let Some(expected) = row["rules"][key].as_array() else { continue };
        let expected: Vec<String> = expected
            .iter()
            .map(|rule| {
                format!("{} {}", rule["pattern"].as_str().unwrap(), rule["kind"].as_str().unwrap())
            })
            .collect();
        let found: Vec<String> = ruleset
            .rules()
            .iter()
            .filter(|(_, rule)| rule.list == list)
            .map(|(_, rule)| describe(&rule))
            .collect();
        if sorted(&found) != sorted(&expected) {
            return Err(format!("{key} rules are {found:?}, not {expected:?}"));
        }
    }
    if let Some(enabled) = row["settings"]["enabled"].as_bool()
        && ruleset.enabled != enabled
    {
        return Err("enabled is wrong".into());
    }
    if let Some(binding) = row["settings"]["allow_local_binding"].as_bool()
        && ruleset.allow_local_binding != Some(binding)
    {
        return Err("allow_local_binding is wrong".into());
    }
    if let Some(port) = row["settings"]["http_port"].as_u64()
        && ruleset.http_port.map(|p| u64::from(p.number())) != Some(port)
    {
        return Err("http_port is wrong".into());
    }
    for warning in row["warnings"].as_array().into_iter().flatten() {
        let named = names(warning);
        let line = warning["line"].as_u64();
        let lines = LineIndex::new(text);
        let found = review.problems.iter().any(|problem| {
            problem.severity == Severity::Warning
                && mentions(problem, &named)
                && line.is_none_or(|line| lines.line(problem.span.start) as u64 == line)
        });
        if !found {
            return Err(format!("no warning names {named:?}"));
        }
    }
    Ok(())
}

fn check_error(row: &Value, review: &Review, text: &str) -> Result<(), String> {
    let error = &row["error"];
    if !matches!(review.outcome, Outcome::Broken) {
        let tolerated = row["also_ok"].as_str().is_some_and(|also| also.starts_with("ok"));
        return if tolerated { Ok(()) } else { Err("should be refused".into()) };
    }
    let lines = LineIndex::new(text);
    let mut places = vec![(error["line"].as_u64(), error["column"].as_u64())];
    for also in error["also_at"].as_array().into_iter().flatten() {
        places.push((also["line"].as_u64(), also["column"].as_u64()));
    }
    let named = names(error);
    let at_place = |problem: &&Problem| {
        let position = lines.position(problem.span.start);
        problem.severity == Severity::Error
            && places.iter().any(|(line, column)| {
                line.is_none_or(|line| line == position.line as u64)
                    && column.is_none_or(|column| column == position.column as u64)
            })
    };
    let there: Vec<_> = review.problems.iter().filter(at_place).collect();
    if there.is_empty() {
        let found: Vec<_> = review.problems.iter().map(|p| lines.position(p.span.start)).collect();
        return Err(format!("no error at {places:?}, but at {found:?}"));
    }
    let deep = row["generated"].is_string();
    let all_named = there.iter().any(|problem| mentions(problem, &named));
    // The two words of the generated row are alternatives.
    let any_named = deep
        && named.iter().any(|name| there.iter().any(|p| mentions(p, std::slice::from_ref(name))));
    if all_named || any_named { Ok(()) } else { Err(format!("does not name {named:?}")) }
}

fn names(row: &Value) -> Vec<String> {
    row["names"].as_array().unwrap().iter().map(|n| n.as_str().unwrap().to_owned()).collect()
}

fn mentions(problem: &Problem, names: &[String]) -> bool {
    let text = format!("{} {}", problem.message, problem.help.as_deref().unwrap_or(""));
    names.iter().all(|name| text.contains(name.as_str()))
}

fn describe(rule: &Rule<'_>) -> String {
    let kind = match rule.pattern.shape() {
        Shape::Address(_) => "address",
        Shape::Any => "any",
        Shape::Exact(_) => "exact",
        Shape::Glob(_) => "glob",
        Shape::Subdomains(_) => "subdomains",
        Shape::Tree(_) => "apex_and_subdomains",
    };
    format!("{} {kind}", rule.pattern)
}

fn sorted(items: &[String]) -> Vec<String> {
    let mut items = items.to_vec();
    items.sort();
    items
}
