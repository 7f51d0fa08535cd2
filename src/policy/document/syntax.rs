//! What is wrong with a policy file as TOML, told as everything else that is wrong with one.

use std::{borrow::Cow, ops::Range};

use toml::de::{DeTable, DeValue};

use super::shorten;
use crate::policy::Problem;

/// What is wrong with the text as it is written; `errors` are those of the text without its lists.
pub(super) fn syntax_problems(text: &str, errors: &[toml::de::Error]) -> Vec<Problem> {
    let (_, whole) = DeTable::parse_recoverable(text);
    let errors = if whole.is_empty() { errors } else { whole.as_slice() };
    let mut traced = 0;
    let problem = |error: &toml::de::Error| {
        let traceable = error.span().filter(|_| is_duplicate(error) && traced < MAX_TRACED);
        let Some(span) = traceable else { return syntax_problem(text, error) };
        traced += 1;
        first_of(text, &span).map_or_else(
            || syntax_problem(text, error),
            |first| {
                let line = text.bytes().take(first.start).filter(|byte| *byte == b'\n').count() + 1;
                duplicate_key(text, span, (first.start, line))
            },
        )
    };
    errors.iter().map(problem).collect()
}

/// A key that stands twice; `first` is where it stands before, and the line of that.
pub(in crate::policy) fn duplicate_key(
    text: &str,
    span: Range<usize>,
    first: (usize, usize),
) -> Problem {
    let quoted = shorten(text.get(span.clone()).unwrap_or(""));
    let (start, line) = first;
    let before = text.get(..start).unwrap_or("");
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    let message = format!(
        "invalid TOML: duplicate key: `{quoted}` stands on line {line}, column {column} already"
    );
    Problem::error(span, message).with_help("keep one of them")
}

/// What a key means, of which that is written: TOML compares keys without their quotes and escapes.
pub(in crate::policy) fn key_text(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        let quoted = raw.len() >= 2 && raw.starts_with(['"', '\'']);
        let inner = if quoted { raw.get(1..raw.len() - 1) } else { None };
        return inner.unwrap_or(raw).into();
    }
    let line = format!("{raw} = 0");
    let parsed = DeTable::parse(&line).ok();
    let key = parsed
        .and_then(|table| table.get_ref().iter().next().map(|(key, _)| key.get_ref().to_string()));
    key.map_or(Cow::Borrowed(raw), Cow::Owned)
}

/// Where the key that an error calls a duplicate stands before: the one without which it is none.
fn first_of(text: &str, second: &Range<usize>) -> Option<Range<usize>> {
    let wanted = key_text(text.get(second.clone())?);
    let (before, _) = DeTable::parse_recoverable(text.get(..second.start)?);
    let mut candidates = Vec::new();
    keys_like(&wanted, before.get_ref(), &mut candidates);
    candidates.sort_by_key(|span| std::cmp::Reverse(span.start));
    candidates.into_iter().take(MAX_CANDIDATES).find(|candidate| {
        let mut other = text.to_owned();
        other.replace_range(candidate.clone(), &"_".repeat(candidate.len()));
        let (_, errors) = DeTable::parse_recoverable(&other);
        !errors.iter().any(|error| is_duplicate(error) && error.span().as_ref() == Some(second))
    })
}

/// Each is tried by reading the file once more.
const MAX_CANDIDATES: usize = 8;

/// So many duplicates of a file are told where they stand first.
const MAX_TRACED: usize = 8;

fn keys_like(wanted: &str, table: &DeTable<'_>, found: &mut Vec<Range<usize>>) {
    for (key, value) in table.iter() {
        if key.get_ref() == wanted {
            found.push(key.span());
        }
        keys_in(wanted, value.get_ref(), found);
    }
}

fn keys_in(wanted: &str, value: &DeValue<'_>, found: &mut Vec<Range<usize>>) {
    match value {
        DeValue::Table(table) => keys_like(wanted, table, found),
        DeValue::Array(array) => {
            array.iter().for_each(|item| keys_in(wanted, item.get_ref(), found));
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {}
    }
}

fn is_duplicate(error: &toml::de::Error) -> bool {
    error.message().contains("duplicate")
}

fn syntax_problem(text: &str, error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or(0..0);
    let offending = text.get(span.clone()).unwrap_or("");
    let message = match shorten(offending) {
        quoted if quoted.is_empty() => format!("invalid TOML: {}", error.message()),
        quoted => format!("invalid TOML: {}: `{quoted}`", error.message()),
    };
    let problem = Problem::error(span, message);
    let problem = match error.message() {
        message if message.contains("recursion") => {
            problem.with_help("nesting is limited to 80 levels")
        }
        _ if is_duplicate(error) => problem.with_help("keep one of them"),
        _ => problem,
    };
    match offending.contains('\r') {
        true => problem.with_help("end each line with a line feed"),
        false => problem,
    }
}
