//! `exeat diff`: what changes from one policy file to another, in words and in effect.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use serde::Serialize;

use super::{Exit, complain, place::Place, policy::show_rejected, print};
use crate::{
    app::random_seed,
    policy::{
        Denial, Difference, Egress, Leave, LeaveChange, List, Policy, RuleChange, RuleId, Source,
        SwitchChange, Witness,
    },
    requirements::{self, Layer},
    source::read_limited,
};

#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(super) struct Diff {
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// The policy file as it is
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The policy file as it is to be
    #[arg(value_name = "NEW")]
    new: PathBuf,
}

const NOTES: &str = "The two files are compared alone, without what exeat.toml or a system file \
    would add. Hosts that stand for all others are put to both policies, by name and without DNS: \
    each pattern and a name below it, what wildcards overlap in, and one host of each kind that \
    only `*` speaks about.\n\n\
    Exit codes: 0 nothing differs, 1 something does, even if no host gains or loses leave, 78 a file \
    is no policy";

/// Both policies, and what changes.
struct Compared {
    old: Policy,
    new: Policy,
    difference: Difference,
}

/// The difference as JSON. Scripts rely on the names.
#[derive(Serialize)]
struct Report<'a> {
    old: &'a str,
    new: &'a str,
    same: bool,
    keys: Vec<ReportKey<'a>>,
    rules: Vec<ReportRule<'a>>,
    leave: Vec<ReportLeave<'a>>,
    overlaps_left_out: usize,
}

#[derive(Serialize)]
struct ReportKey<'a> {
    key: &'a str,
    /// As text; null if it was not set.
    old: Option<&'a str>,
    new: Option<&'a str>,
}

#[derive(Serialize)]
struct ReportRule<'a> {
    change: &'static str,
    pattern: String,
    old: Option<Place<'a>>,
    new: Option<Place<'a>>,
}

#[derive(Serialize)]
struct ReportLeave<'a> {
    change: &'static str,
    host: String,
    /// The port that was asked about.
    port: u16,
    /// `all`, `one` (this port) or `others` (every port that no rule about the host names).
    ports: &'static str,
    /// The hosts it stands for, if it is not for itself.
    stands_for: Option<String>,
    old: ReportVerdict<'a>,
    new: ReportVerdict<'a>,
}

#[derive(Serialize)]
struct ReportVerdict<'a> {
    decision: &'static str,
    reason: &'static str,
    rule: Option<Place<'a>>,
}

impl Diff {
    pub(super) fn run(self) -> Exit {
        let compared = match (load(&self.old), load(&self.new)) {
            (Ok(old), Ok(new)) => {
                let difference = Difference::between(&old, &new);
                Compared { old, new, difference }
            }
            // Both are looked at, so that both can be mended.
            (Err(exit), _) | (_, Err(exit)) => return exit,
        };
        let text = match self.json {
            true => serde_json::to_string(&compared.report()).unwrap_or_default() + "\n",
            false => compared.text(),
        };
        let exit = if compared.difference.is_empty() { Exit::Success } else { Exit::No };
        print(text, exit)
    }
}

/// A policy file by itself.
///
/// # Errors
///
/// What is wrong with it has been shown.
pub(super) fn load(path: &Path) -> Result<Policy, Exit> {
    let bytes = read_limited(path).map_err(|error| {
        complain(&format!("cannot read policy {}: {error}", path.display()), Exit::Config)
    })?;
    let source = Arc::new(Source::file(path.to_string_lossy()));
    let layer = Layer { bytes: &bytes, source: &source };
    let applied = requirements::apply(layer, None, random_seed())
        .map_err(|rejected| show_rejected(&rejected))?;
    Ok(Policy::new(applied.ruleset, Egress::default(), 1))
}

impl Compared {
    fn report(&self) -> Report<'_> {
        let Self { old, new, difference } = self;
        let keys = difference.switches.iter().map(|change| ReportKey {
            key: change.key,
            old: change.old.as_deref(),
            new: change.new.as_deref(),
        });
        let rules = difference.rules.iter().map(|change| ReportRule {
            change: word(change),
            pattern: change.pattern.to_string(),
            old: change.old.and_then(|(_, rule)| place(old, rule)),
            new: change.new.and_then(|(_, rule)| place(new, rule)),
        });
        let leave = difference.leave.iter().map(|change| ReportLeave {
            change: change.change.as_str(),
            host: change.authority.host.to_bare_string(),
            port: change.authority.port.number(),
            ports: change.ports.as_str(),
            stands_for: stands_for(change),
            old: verdict(old, change.old),
            new: verdict(new, change.new),
        });
        Report {
            old: old.ruleset().source.path(),
            new: new.ruleset().source.path(),
            same: difference.is_empty(),
            keys: keys.collect(),
            rules: rules.collect(),
            leave: leave.collect(),
            overlaps_left_out: difference.left_out,
        }
    }

    fn text(&self) -> String {
        let Self { old, new, difference } = self;
        let Difference { switches, rules, leave, left_out } = difference;
        let mut text = String::new();
        let mut section = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                text.push_str(title);
                text.push('\n');
                lines.iter().for_each(|line| text.extend(["  ", line, "\n"]));
            }
        };
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "unset".to_owned());
        let line = |change: &SwitchChange| {
            format!("{}: {} -> {}", change.key, value(&change.old), value(&change.new))
        };
        section("keys", switches.iter().map(line).collect());
        section("rules", rules.iter().map(|change| rule_line(old, new, change)).collect());
        let line = |change: &LeaveChange| {
            let stands_for =
                stands_for(change).map_or_else(String::new, |of| format!(", for {of}"));
            let verdict = |policy, verdict| words(policy, verdict);
            let (was, is) = (verdict(old, change.old), verdict(new, change.new));
            format!("{} {change}{stands_for}: was {was}, is {is}", change.change.as_str())
        };
        section("leave", leave.iter().map(line).collect());
        text.push_str(&match (difference.is_empty(), leave.is_empty()) {
            (true, _) => "nothing differs\n".to_owned(),
            (false, true) => "no host gains or loses leave\n".to_owned(),
            (false, false) => String::new(),
        });
        if *left_out > 0 {
            text.push_str(&format!(
                "{left_out} overlaps of wildcards were not looked at: there are too many\n"
            ));
        }
        text
    }
}

fn rule_line(old: &Policy, new: &Policy, change: &RuleChange) -> String {
    let at = |policy: &Policy, side: Option<(List, RuleId)>| {
        let rule = side.and_then(|(_, rule)| place(policy, rule));
        rule.map_or_else(String::new, |rule| format!("{}:{}", rule.file, rule.line))
    };
    let RuleChange { pattern, .. } = change;
    let (before, after) = (at(old, change.old), at(new, change.new));
    match (change.old, change.new) {
        (Some((list, _)), None) => format!("- {list} {pattern} ({before})"),
        (None, Some((list, _))) => format!("+ {list} {pattern} ({after})"),
        (Some((was, _)), Some((is, _))) => {
            format!("! {was} -> {is} {pattern} ({before} -> {after})")
        }
        (None, None) => String::new(),
    }
}

fn word(change: &RuleChange) -> &'static str {
    match (change.old, change.new) {
        (_, None) => "removed",
        (None, Some(_)) => "added",
        (Some(_), Some(_)) => "turned",
    }
}

fn stands_for(change: &LeaveChange) -> Option<String> {
    match &change.stands_for {
        Witness::Host => None,
        of @ (Witness::Below(_) | Witness::Both(..) | Witness::Others(_) | Witness::Pattern(_)) => {
            Some(of.to_string())
        }
    }
}

fn words(policy: &Policy, verdict: Result<Leave, Denial>) -> String {
    let by = |rule| {
        place(policy, rule).map_or_else(String::new, |rule| {
            format!(" by {} ({}:{})", rule.pattern, rule.file, rule.line)
        })
    };
    match verdict {
        Ok(leave) => format!("allowed{}", leave.rule().map_or_else(String::new, by)),
        Err(Denial { reason, rule }) => {
            format!("{}{}", reason.as_str(), rule.map_or_else(String::new, by))
        }
    }
}

fn verdict(policy: &Policy, verdict: Result<Leave, Denial>) -> ReportVerdict<'_> {
    let (decision, reason, rule) = match verdict {
        Ok(leave) => ("allow", "allow", leave.rule()),
        Err(Denial { reason, rule }) => ("deny", reason.as_str(), rule),
    };
    ReportVerdict { decision, reason, rule: rule.and_then(|rule| place(policy, rule)) }
}

fn place(policy: &Policy, rule: RuleId) -> Option<Place<'_>> {
    policy.rule(rule).as_ref().map(Place::of)
}
