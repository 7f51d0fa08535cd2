//! The problems of one file while they are found: all are counted, and so many are kept.
//!
//! A file of a hundred thousand wildcards has as many warnings, which nobody reads and which take
//! more memory than its rules. How many are not kept is said at the place of the first of them.

use std::ops::Range;

use super::{Problem, Severity};

/// Problems in the order they are found.
#[derive(Debug, Default)]
pub(super) struct Problems {
    kept: Vec<Problem>,
    errors: Tally,
    warnings: Tally,
}

/// How many problems there are of one severity.
#[derive(Debug, Default)]
struct Tally {
    kept: usize,
    /// How many are not kept, and where the first of them is.
    more: Option<(usize, Range<usize>)>,
}

/// So many errors are kept, and so many warnings: some 3 MB of each.
pub(super) const MAX_KEPT: usize = 10_000;

impl Problems {
    pub(super) fn push(&mut self, problem: Problem) {
        let tally = match problem.severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        if tally.kept < MAX_KEPT {
            tally.kept += 1;
            self.kept.push(problem);
        } else {
            tally.more.get_or_insert((0, problem.span)).0 += 1;
        }
    }

    /// How many are not kept, and then those that are, in the order of the file.
    pub(super) fn in_file_order(mut self) -> Vec<Problem> {
        self.kept.sort_by_key(|problem| problem.span.start);
        let errors = self.errors.more.map(|(count, span)| {
            Problem::error(span, format!("{count} more errors are not shown, this one among them"))
        });
        let warnings = self.warnings.more.map(|(count, span)| {
            let message = format!("{count} more warnings are not shown, this one among them");
            Problem::warning(span, message)
        });
        errors.into_iter().chain(warnings).chain(self.kept).collect()
    }
}

impl FromIterator<Problem> for Problems {
    fn from_iter<I: IntoIterator<Item = Problem>>(from: I) -> Self {
        let mut problems = Self::default();
        from.into_iter().for_each(|problem| problems.push(problem));
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_is_counted() {
        let last = MAX_KEPT + 5;
        let warnings = (0..last).rev().map(|at| Problem::warning(at..at + 1, "odd"));
        let mut problems: Problems = warnings.collect();
        problems.push(Problem::error(3..4, "wrong"));
        let problems = problems.in_file_order();
        assert_eq!(problems.len(), MAX_KEPT + 2);
        let with = |words: &str| problems.iter().find(|problem| problem.message.contains(words));
        let (more, wrong) = (with("5 more warnings"), with("wrong"));
        assert_eq!(more.map(|problem| problem.span.clone()), Some(4..5));
        assert_eq!(wrong.map(|problem| problem.severity), Some(Severity::Error));
        assert!(problems[0].message.contains("more") && problems[1].message == "wrong");
        assert!(problems[1..].is_sorted_by_key(|problem| problem.span.start));
    }
}
