//! `exeat validate`: everything about policy files that an administrator should know before
//! rolling them out.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use serde::Serialize;

use super::{Exit, complain, policy::show};
use crate::{
    app::random_seed,
    policy::{LineIndex, List, Outcome, Problem, Review, Severity, Source},
    source::read_limited,
};

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

/// A report as JSON. Scripts rely on the names.
#[derive(Serialize)]
struct Line<'a> {
    file: &'a str,
    ok: bool,
    rules: LineRules,
    problems: Vec<LineProblem>,
    /// Keys and tables that belong to somebody else.
    ignored: &'a [String],
}

#[derive(Serialize)]
struct LineRules {
    allow: usize,
    deny: usize,
}

#[derive(Serialize)]
struct LineProblem {
    severity: &'static str,
    line: Option<usize>,
    column: Option<usize>,
    message: String,
    help: Option<String>,
}

impl Validate {
    pub(super) fn run(self) -> Exit {
        let mut exit = Exit::Success;
        for path in &self.files {
            let report = match review(path) {
                Ok(report) if self.strict => report.strict(),
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
        print(&Line {
            file: &path.to_string_lossy(),
            ok: false,
            rules: LineRules { allow: 0, deny: 0 },
            problems: vec![LineProblem {
                severity: Severity::Error.as_str(),
                line: None,
                column: None,
                message,
                help: Some("name a file that can be read".into()),
            }],
            ignored: &[],
        });
    }
}

fn review(path: &Path) -> io::Result<Report> {
    let bytes = read_limited(path)?;
    let name = path.to_string_lossy().into_owned();
    let review = Review::of(&bytes, &Arc::new(Source::file(name.clone())), random_seed());
    let problems = review.problems;
    let (rules, is_policy) = match &review.outcome {
        Outcome::Ruleset(rules) => ((rules.count(List::Allow), rules.count(List::Deny)), true),
        Outcome::Broken | Outcome::NoTable => ((0, 0), false),
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Report { path: name, text, rules, problems, foreign: review.foreign, is_policy })
}

impl Report {
    /// Every warning counts as an error.
    fn strict(mut self) -> Self {
        for problem in &mut self.problems {
            problem.severity = Severity::Error;
        }
        self
    }

    fn is_ok(&self) -> bool {
        self.problems.iter().all(|problem| problem.severity == Severity::Warning)
    }

    fn to_json(&self) -> Line<'_> {
        let lines = LineIndex::new(&self.text);
        let problem = |problem: &'_ Problem| {
            let at = lines.position(problem.span.start);
            LineProblem {
                severity: problem.severity.as_str(),
                line: Some(at.line),
                column: Some(at.column),
                message: problem.message.clone(),
                help: problem.help.clone(),
            }
        };
        Line {
            file: &self.path,
            ok: self.is_ok(),
            rules: LineRules { allow: self.rules.0, deny: self.rules.1 },
            problems: self.problems.iter().map(problem).collect(),
            ignored: &self.foreign,
        }
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

fn print(line: &Line<'_>) {
    if let Ok(text) = serde_json::to_string(line) {
        writeln!(io::stdout(), "{text}").ok();
    }
}
