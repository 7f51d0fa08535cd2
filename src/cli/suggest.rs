//! `exeat suggest`, and `--suggest` of `exeat run`: the policy that would have allowed what was asked
//! for.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use clap::Args;

use super::{Exit, complain, diff::load, print, say, slot::Slot};
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

/// A policy that `exeat run` writes at its end.
pub(super) struct Suggested {
    slot: Slot,
    /// As it was given.
    path: PathBuf,
}

/// From where it is known what was asked for.
enum Seen {
    /// From an audit at this place.
    Audit(String),
    /// By `exeat run`, as it happened.
    Run,
}

/// What an audit comes to, put against a policy.
struct Answer<'a> {
    seen: Seen,
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
        let seen = Seen::Audit(path.to_string());
        print(Answer::new(seen, demand, base.as_ref()).text(), Exit::Success)
    }
}

impl Suggested {
    /// Takes the place, before the program is there that could change where it is.
    pub(super) fn open(path: PathBuf) -> Result<Self, Exit> {
        match Slot::open(&path) {
            Ok(slot) => Ok(Self { slot, path }),
            Err(error) => Err(cannot_write(&path, &error)),
        }
    }

    pub(super) fn write(self, demand: Demand) -> Result<(), Exit> {
        let policy = Answer::new(Seen::Run, demand, None).text();
        self.slot.fill(&policy).map_err(|error| cannot_write(&self.path, &error))?;
        let path = shown(&self.path);
        say(&format!("exeat: {path} allows what was let through: read it before you use it"));
        Ok(())
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Exit {
    complain(&format!("cannot write {}: {error}", shown(path)), Exit::Unavailable)
}

fn shown(path: &Path) -> String {
    path.display().to_string().escape_debug().to_string()
}

impl<'a> Answer<'a> {
    fn new(seen: Seen, demand: Demand, base: Option<&'a Policy>) -> Self {
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
        Self { seen, base, refused, suggestions: suggest(&wanted), demand }
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
        let seen = match &self.seen {
            // A path may hold anything; a line of a comment must not end in it.
            Seen::Audit(path) => {
                format!("as `exeat suggest` reads it from {}", path.escape_debug())
            }
            Seen::Run => "as `exeat run --suggest` saw it".to_owned(),
        };
        writeln!(text, "# What was let through, {seen}:")?;
        write!(text, "# {} to {} destinations", counted(requests), self.demand.allowed.len())?;
        match &self.demand.span {
            Some((first, last)) => {
                writeln!(text, ", {} to {}", first.escape_debug(), last.escape_debug())?;
            }
            None => writeln!(text)?,
        }
        if self.demand.left_out > 0 {
            let rest = counted(self.demand.left_out);
            writeln!(text, "# NOT ALL OF IT: {rest} to more destinations are left out.")?;
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
