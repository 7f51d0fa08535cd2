//! What was measured, as a table or as JSON.

use std::io::{self, Write as _};

use serde::Serialize;

use super::{
    super::{Exit, complain},
    hosts::{Class, Hosts},
    measure::{Figure, Timing},
    rules::{Compile, Rules},
};
use crate::policy::{List, Policy};

/// Everything that a run of `exeat bench` has found.
pub(super) struct Report<'a> {
    pub(super) rules: &'a Rules,
    pub(super) policy: &'a Policy,
    pub(super) compile: Compile,
    pub(super) hosts: &'a Hosts,
    pub(super) timings: Vec<Timing>,
}

/// The report as JSON. Scripts rely on the names.
#[derive(Serialize)]
struct Line<'a> {
    rules: LineRules<'a>,
    compile_seconds: f64,
    table_seconds: f64,
    bytes_per_rule: Option<f64>,
    hosts: LineHosts,
    matchers: Vec<LineMatcher<'a>>,
}

#[derive(Serialize)]
struct LineRules<'a> {
    source: &'a str,
    text_bytes: usize,
    allow: usize,
    deny: usize,
}

#[derive(Serialize)]
struct LineHosts {
    hit: usize,
    near: usize,
    miss: usize,
    deep: usize,
    invalid: usize,
}

#[derive(Serialize)]
struct LineMatcher<'a> {
    name: &'a str,
    skipped: Option<&'a str>,
    disagrees: usize,
    hit: Option<LineFigure>,
    near: Option<LineFigure>,
    miss: Option<LineFigure>,
    deep: Option<LineFigure>,
}

#[derive(Serialize)]
struct LineFigure {
    ns_median: f64,
    ns_p99: f64,
}

impl Report<'_> {
    pub(super) fn print(&self, json: bool) -> Result<(), Exit> {
        let written = match json {
            true => {
                let text = serde_json::to_string(&self.to_json()).map_err(io::Error::other);
                text.and_then(|text| writeln!(io::stdout(), "{text}"))
            }
            false => self.write(&mut io::stdout().lock()),
        };
        written.map_err(|error| complain(&error, Exit::Unavailable))
    }

    fn rule_count(&self) -> usize {
        let ruleset = self.policy.ruleset();
        ruleset.count(List::Allow) + ruleset.count(List::Deny)
    }

    fn bytes_per_rule(&self) -> Option<f64> {
        let bytes = as_f64(self.policy.ruleset().heap_bytes());
        Some(bytes / as_f64(self.rule_count())).filter(|bytes| bytes.is_finite())
    }

    fn to_json(&self) -> Line<'_> {
        let ruleset = self.policy.ruleset();
        let hosts = |class| self.hosts.of(class).len();
        Line {
            rules: LineRules {
                source: self.rules.name(),
                text_bytes: self.rules.bytes(),
                allow: ruleset.count(List::Allow),
                deny: ruleset.count(List::Deny),
            },
            compile_seconds: self.compile.whole,
            table_seconds: self.compile.table,
            bytes_per_rule: self.bytes_per_rule(),
            hosts: LineHosts {
                hit: hosts(Class::Hit),
                near: hosts(Class::Near),
                miss: hosts(Class::Miss),
                deep: hosts(Class::Deep),
                invalid: self.hosts.invalid,
            },
            matchers: self.timings.iter().map(LineMatcher::of).collect(),
        }
    }

    fn write(&self, out: &mut impl io::Write) -> io::Result<()> {
        let ruleset = self.policy.ruleset();
        writeln!(
            out,
            "{}: {} allow and {} deny rules, {} bytes of text",
            self.rules.name(),
            ruleset.count(List::Allow),
            ruleset.count(List::Deny),
            self.rules.bytes()
        )?;
        write!(out, "compiled in {:.3} ms, ", self.compile.whole * 1e3)?;
        write!(out, "of which the table {:.3} ms", self.compile.table * 1e3)?;
        match self.bytes_per_rule() {
            Some(bytes) => writeln!(out, "; {bytes:.1} bytes a rule, lookup and text included")?,
            None => writeln!(out)?,
        }
        let counts =
            Class::ALL.map(|class| format!("{} {}", self.hosts.of(class).len(), class.name()));
        write!(out, "hosts: {}", counts.join(", "))?;
        match self.hosts.invalid {
            0 => writeln!(out)?,
            invalid => writeln!(out, "; {invalid} lines are no hosts and are left out")?,
        }
        writeln!(out, "\nns a decision, median (99th percentile)")?;
        write!(out, "{:<22}", "")?;
        for class in Class::ALL {
            write!(out, "{:>22}", class.name())?;
        }
        writeln!(out)?;
        for timing in &self.timings {
            write!(out, "{:<22}", timing.name)?;
            match &timing.classes {
                Ok(figures) => {
                    for figure in figures {
                        write!(out, "{:>22}", figure.map_or("-".to_owned(), shown))?;
                    }
                    writeln!(out)?;
                }
                Err(why) => writeln!(out, "  {why}")?,
            }
        }
        for timing in self.timings.iter().filter(|timing| timing.disagrees > 0) {
            writeln!(
                out,
                "note: {} says otherwise about {} hosts (ports, local destinations)",
                timing.name, timing.disagrees
            )?;
        }
        Ok(())
    }
}

impl<'a> LineMatcher<'a> {
    fn of(timing: &'a Timing) -> Self {
        let figure = |place: usize| {
            let figure = timing.classes.as_ref().ok()?.get(place).copied().flatten()?;
            Some(LineFigure { ns_median: figure.median, ns_p99: figure.p99 })
        };
        Self {
            name: timing.name,
            skipped: timing.classes.as_ref().err().map(String::as_str),
            disagrees: timing.disagrees,
            hit: figure(0),
            near: figure(1),
            miss: figure(2),
            deep: figure(3),
        }
    }
}

fn shown(figure: Figure) -> String {
    let short = |ns: f64| match ns {
        ..100.0 => format!("{ns:.1}"),
        100.0..1e6 => format!("{ns:.0}"),
        _ => format!("{:.1} ms", ns / 1e6),
    };
    format!("{} ({})", short(figure.median), short(figure.p99))
}

fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
