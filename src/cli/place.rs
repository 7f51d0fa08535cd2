//! A rule, and where it stands, as JSON: `check` and `diff` say it in the same words.

use serde::Serialize;

use crate::policy::Rule;

/// Scripts rely on the names.
#[derive(Serialize)]
pub(super) struct Place<'a> {
    pub(super) pattern: String,
    list: &'static str,
    pub(super) file: &'a str,
    pub(super) line: usize,
}

impl<'a> Place<'a> {
    pub(super) fn of(rule: &Rule<'a>) -> Self {
        Self {
            pattern: rule.pattern.to_string(),
            list: rule.list.as_str(),
            file: rule.source.path(),
            line: rule.line,
        }
    }
}
