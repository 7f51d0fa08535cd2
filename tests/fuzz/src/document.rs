//! Policy files: no panic, every problem lies in the text, and rules survive being written down.

use std::sync::Arc;

use exeat::policy::{LineIndex, List, Outcome, Review, Rules, Ruleset, Severity, Source};

/// The bytes are a whole `requirements.toml`.
pub fn document(input: &[u8]) {
    let review = review(input);
    let lossy = String::from_utf8_lossy(input);
    let lines = LineIndex::new(&lossy);
    for problem in &review.problems {
        let span = &problem.span;
        assert!(span.start <= span.end && span.end <= input.len(), "{problem:?}");
        if let Ok(text) = std::str::from_utf8(input) {
            assert!(text.get(span.clone()).is_some(), "{problem:?}");
        }
        assert!(
            !problem.message.is_empty() && !problem.draw(&lines, "fuzz.toml", false).is_empty()
        );
        let at = lines.position(span.start);
        assert!(at.line >= 1 && at.column >= 1);
    }
    let has_error = review.problems.iter().any(|problem| problem.severity == Severity::Error);
    match review.outcome {
        Outcome::Broken => assert!(has_error),
        Outcome::NoTable => assert!(!has_error),
        Outcome::Ruleset(ruleset) => {
            assert!(!has_error);
            is_written_down(&ruleset);
        }
    }
}

fn review(text: &[u8]) -> Review {
    Review::of(text, &Arc::new(Source::file("fuzz.toml")), 7)
}

/// The rules, written as two lists, are the same rules.
fn is_written_down(ruleset: &Ruleset) {
    let rules = ruleset.rules();
    let list = |list| {
        let of_list = rules.iter().filter(|(_, rule)| rule.list == list);
        of_list.map(|(_, rule)| format!("\"{}\",\n", rule.pattern)).collect::<String>()
    };
    let text = format!(
        "[experimental_network]\nallowed_domains = [{}]\ndenied_domains = [{}]\n",
        list(List::Allow),
        list(List::Deny)
    );
    let review = review(text.as_bytes());
    let Outcome::Ruleset(again) = review.outcome else {
        panic!("{text}: {:?}", review.problems);
    };
    assert_eq!(sorted(again.rules()), sorted(rules), "{text}");
    assert_eq!(again.count(List::Allow), ruleset.count(List::Allow));
    assert_eq!(again.count(List::Deny), ruleset.count(List::Deny));
}

fn sorted(rules: &Rules) -> Vec<(List, String)> {
    let mut sorted: Vec<_> =
        rules.iter().map(|(_, rule)| (rule.list, rule.pattern.to_string())).collect();
    sorted.sort();
    sorted
}
