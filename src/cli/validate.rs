//! `exeat validate`: everything about policy files that an administrator should know before
//! rolling them out.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use serde_json::{Value, json};

use super::{Exit, complain, policy::show};
use crate::policy::{LineIndex, List, Outcome, Problem, Review, Severity, Source};

#[derive(Debug, Args)]
pub(super) struct Validate {
    /// Take every warning for an error
    #[arg(long)]
    strict: bool,
    /// One JSON object a file
    #[arg(long)]
    json: bool,
    /// Policy files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// What was found about one file.
struct Report {
    path: String,
    text: String,
    rules: (usize, usize),
    problems: Vec<Problem>,
    foreign: Vec<String>,
    is_policy: bool,
}

impl Validate {
    pub(super) fn run(self) -> Exit {
        let mut exit = Exit::Success;
        for path in &self.files {
            let report = match review(path, self.strict) {
                Ok(report) => report,
                Err(error) => {
                    self.show_unreadable(path, &error);
                    exit = Exit::Config;
                    continue;
                }
            };
            if self.json {
                print(&report.to_json());
            } else {
                report.show();
            }
            if !report.is_ok() {
                exit = Exit::Config;
            }
        }
        exit
    }

    fn show_unreadable(&self, path: &Path, error: &io::Error) {
        let message = format!("cannot read {}: {error}", path.display());
        if !self.json {
            complain(&message, Exit::Config);
            return;
        }
        print(&json!({
            "file": path.to_string_lossy(),
            "ok": false,
            "rules": { "allow": 0, "deny": 0 },
            "problems": [{
                "severity": "error",
                "line": null,
                "column": null,
                "message": message,
                "help": "name a file that can be read",
            }],
            "ignored": [],
        }));
    }
}

fn review(path: &Path, strict: bool) -> io::Result<Report> {
    let bytes = std::fs::read(path)?;
    let name = path.to_string_lossy().into_owned();
    let review = Review::of(&bytes, &Arc::new(Source::file(name.clone())));
    let mut problems = review.problems;
    if strict {
        for problem in &mut problems {
            problem.severity = Severity::Error;
        }
    }
    let (rules, is_policy) = match &review.outcome {
        Outcome::Ruleset(rules) => ((rules.count(List::Allow), rules.count(List::Deny)), true),
        Outcome::Broken | Outcome::NoTable => ((0, 0), false),
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Report { path: name, text, rules, problems, foreign: review.foreign, is_policy })
}

impl Report {
    fn is_ok(&self) -> bool {
        self.problems.iter().all(|problem| problem.severity == Severity::Warning)
    }

    fn to_json(&self) -> Value {
        let lines = LineIndex::new(&self.text);
        let problems: Vec<Value> = self
            .problems
            .iter()
            .map(|problem| {
                let at = lines.position(problem.span.start);
                json!({
                    "severity": match problem.severity {
                        Severity::Error => "error",
                        Severity::Warning => "warning",
                    },
                    "line": at.line,
                    "column": at.column,
                    "message": problem.message,
                    "help": problem.help,
                })
            })
            .collect();
        json!({
            "file": self.path,
            "ok": self.is_ok(),
            "rules": { "allow": self.rules.0, "deny": self.rules.1 },
            "problems": problems,
            "ignored": self.foreign,
        })
    }

    fn show(&self) {
        show(&self.problems, &self.text, &self.path);
        let mut line = format!("{}: ", self.path);
        line.push_str(match (self.is_ok(), self.is_policy) {
            (true, true) => "ok",
            (true, false) => "ok, but not a network policy",
            (false, _) => "not usable",
        });
        if self.is_policy {
            line.push_str(&format!(", {} allow and {} deny rules", self.rules.0, self.rules.1));
        }
        if !self.foreign.is_empty() {
            line.push_str("; not ours and ignored: ");
            line.push_str(&self.foreign.join(", "));
        }
        writeln!(io::stdout(), "{line}").ok();
    }
}

fn print(value: &Value) {
    writeln!(io::stdout(), "{value}").ok();
}
