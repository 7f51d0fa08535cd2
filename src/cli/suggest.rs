//! `exeat suggest`: the policy that would have allowed what an audit says was asked for.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::{self, BufReader},
    path::PathBuf,
};

use clap::Args;

use super::{Exit, complain, diff::load, print, say};
use crate::{
    net::Authority,
    observe::Demand,
    policy::{Policy, Reason, Suggestion, suggest},
};

#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(super) struct Suggest {
    /// The audit file; `-` reads stdin
    #[arg(long, value_name = "FILE")]
    audit: PathBuf,
    /// A policy: only what it does not allow yet is listed, and nothing that it denies
    #[arg(long, value_name = "FILE")]
    requirements: Option<PathBuf>,
}

const NOTES: &str = "Reads the audit of a proxy that ran with `--mode observe`, or of any other, \
    and prints a requirements.toml that allows what was let through: exact names; one wildcard only \
    where five or more names stand side by side, and none over names that belong to many. What was \
    refused stands in it as comments.\n\n\
    Whether any of it should be allowed is for you to judge: an audit knows what was asked for, not \
    what was needed.";

/// What an audit comes to, put against a policy.
struct Answer<'a> {
    audit: String,
    base: Option<&'a Policy>,
    demand: Demand,
    /// Refused in the audit, or by the policy; how often.
    refused: BTreeMap<(Authority, Reason), u64>,
    suggestions: Vec<Suggestion>,
}

impl Suggest {
    pub(super) fn run(self) -> Exit {
        let base = match self.requirements.as_deref().map(load).transpose() {
            Ok(base) => base,
            Err(exit) => return exit,
        };
        let read = match self.audit.as_os_str() == "-" {
            true => Demand::read(io::stdin().lock()),
            false => File::open(&self.audit).and_then(|file| Demand::read(BufReader::new(file))),
        };
        let path = self.audit.display();
        let demand = match read {
            Ok(demand) => demand,
            Err(error) => {
                return complain(&format!("cannot read audit {path}: {error}"), Exit::Unavailable);
            }
        };
        if demand.odd_lines > 0 {
            say(&format!("exeat: {} lines of {path} are no audit records", demand.odd_lines));
        }
        let policy = policy_for(path.to_string(), demand, base.as_ref());
        print(policy, Exit::Success)
    }
}

/// The policy, as TOML, that allows what was let through; beside `base` only what that does not.
/// `audit` says where the demand was read from.
pub(super) fn policy_for(audit: String, demand: Demand, base: Option<&Policy>) -> String {
    Answer::new(audit, demand, base).text()
}

impl<'a> Answer<'a> {
    fn new(audit: String, demand: Demand, base: Option<&'a Policy>) -> Self {
        let mut refused = demand.refused.clone();
        let mut wanted = BTreeMap::new();
        for (authority, count) in &demand.allowed {
            match base.map(|base| base.decide(authority)) {
                Some(Ok(_)) => {}
                Some(Err(denial)) if denial.reason != Reason::NotAllowed => {
                    *refused.entry((authority.clone(), denial.reason)).or_default() += count;
                }
                Some(Err(_)) | None => {
                    wanted.insert(authority.clone(), *count);
                }
            }
        }
        Self { audit, base, refused, suggestions: suggest(&wanted), demand }
    }

    /// The policy as TOML.
    fn text(&self) -> String {
        let mut text = String::new();
        self.head(&mut text).ok();
        text.push_str("\n[experimental_network]\nenabled = true\nallowed_domains = [\n");
        let quoted = |suggestion: &Suggestion| format!("\"{}\",", suggestion.pattern);
        let width = self.suggestions.iter().map(|said| quoted(said).len()).max().unwrap_or(0);
        for suggestion in &self.suggestions {
            let Suggestion { pattern, requests, hosts } = suggestion;
            let of = if pattern.is_exact() { String::new() } else { format!(" for {hosts} names") };
            let private = self.demand.private.iter().any(|host| pattern.matches(host));
            let note = match private {
                true => "; not public: needs `[egress] private` in exeat.toml too",
                false => "",
            };
            let quoted = quoted(suggestion);
            writeln!(text, "    {quoted:width$} # {}{of}{note}", counted(*requests)).ok();
        }
        text.push_str("]\n");
        self.refused(&mut text).ok();
        text
    }

    fn head(&self, text: &mut String) -> std::fmt::Result {
        let requests: u64 = self.demand.allowed.values().sum();
        // A path may hold anything; a line of a comment must not end in it.
        writeln!(
            text,
            "# What was let through, as `exeat suggest` reads it from {}:",
            self.audit.escape_debug()
        )?;
        write!(text, "# {} to {} destinations", counted(requests), self.demand.allowed.len())?;
        match &self.demand.span {
            Some((first, last)) => {
                writeln!(text, ", {} to {}", first.escape_debug(), last.escape_debug())?;
            }
            None => writeln!(text)?,
        }
        if let Some(base) = self.base {
            let path = base.ruleset().source.path().escape_debug();
            writeln!(text, "# Only what {path} does not allow yet: add it there.")?;
        }
        writeln!(
            text,
            "# Take out what should not be allowed: it was asked for, not shown to be needed."
        )
    }

    fn refused(&self, text: &mut String) -> std::fmt::Result {
        if self.refused.is_empty() {
            return Ok(());
        }
        writeln!(text, "\n# Refused, and not in the list:")?;
        for ((authority, reason), count) in &self.refused {
            writeln!(text, "#   {authority}  {}  {}", reason.as_str(), counted(*count))?;
        }
        Ok(())
    }
}

fn counted(requests: u64) -> String {
    if requests == 1 { "1 request".to_owned() } else { format!("{requests} requests") }
}
