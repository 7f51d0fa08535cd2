//! `exeat check`: the very decision the proxy would make, by name only, without DNS.

use std::{
    io::{self, BufRead as _, BufWriter, Write},
    path::Path,
};

use clap::Args;
use serde::Serialize;

use super::{
    Exit, complain,
    policy::{PolicyArgs, show_rejected},
    settings::SettingsArgs,
};
use crate::{
    app::random_seed,
    net::{Authority, AuthorityError, Host, Port, Target, TargetError},
    policy::{Policy, Reason, Rule},
    requirements,
    settings::{Environment, Flags, Settings},
    source::{PolicySource, SYSTEM_FILE},
};

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    settings: SettingsArgs,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// URLs, hosts or host:port (443 if there is none); `-` reads one a line from stdin
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
}

/// For programs or for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Text,
}

/// What is said about one target.
struct Verdict<'a> {
    target: &'a str,
    outcome: Result<(Authority, Decided<'a>), TargetError>,
}

/// The rule that allows, or the reason and the rule that denies, if one does.
type Decided<'a> = Result<Rule<'a>, (Reason, Option<Rule<'a>>)>;

/// A verdict as JSON. Scripts rely on the names.
#[derive(Serialize)]
struct Line<'a> {
    target: &'a str,
    /// Canonical; null if the target is invalid.
    host: Option<String>,
    port: Option<u16>,
    decision: &'static str,
    reason: String,
    rule: Option<LineRule<'a>>,
}

#[derive(Serialize)]
struct LineRule<'a> {
    pattern: String,
    list: &'static str,
    file: &'a str,
    line: usize,
}

/// A line longer than this is no target.
const MAX_LINE: usize = 64 << 10;

impl Check {
    pub(super) fn run(self, environment: Environment) -> Exit {
        let policy = match load(self.policy, &self.settings, environment) {
            Ok(policy) => policy,
            Err(exit) => return exit,
        };
        let format = if self.json { Format::Json } else { Format::Text };
        let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
        let mut exit = Exit::Success;
        for target in &self.targets {
            let written = match target.as_str() {
                "-" => check_stdin(&policy, format, &mut out),
                target => check_one(&policy, target, format, &mut out),
            };
            match written {
                Ok(true) => {}
                Ok(false) => exit = Exit::No,
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return exit,
                Err(error) => return complain(&error, Exit::Unavailable),
            }
        }
        match out.flush() {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                complain(&error, Exit::Unavailable)
            }
            Ok(()) | Err(_) => exit,
        }
    }
}

fn load(
    arguments: PolicyArgs,
    settings: &SettingsArgs,
    environment: Environment,
) -> Result<Policy, Exit> {
    let file = settings.read(&environment)?;
    let flags = Flags {
        requirements: arguments.requirements,
        preset: arguments.preset,
        ..Flags::default()
    };
    let settings = Settings::resolve(flags, environment, file);
    let source = PolicySource::locate(&settings.chosen, Path::new(SYSTEM_FILE))
        .map_err(|error| complain(&error, Exit::Config))?;
    let snapshot = source.read().map_err(|error| complain(&error, Exit::Config))?;
    let applied =
        requirements::apply(snapshot.chosen_layer(), snapshot.system_layer(), random_seed())
            .map_err(|rejected| show_rejected(&rejected))?;
    let egress = settings.egress();
    Ok(Policy::new(applied.ruleset, egress, 1))
}

/// Reads line by line, in constant memory; empty lines are skipped.
fn check_stdin(policy: &Policy, format: Format, out: &mut impl Write) -> io::Result<bool> {
    let mut input = io::stdin().lock();
    let mut all_allowed = true;
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        let read = io::Read::take(&mut input, limit).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(all_allowed);
        }
        let text = String::from_utf8_lossy(line.trim_ascii());
        if !text.is_empty() {
            all_allowed &= check_one(policy, &text, format, out)?;
        }
    }
}

fn check_one(
    policy: &Policy,
    target: &str,
    format: Format,
    out: &mut impl Write,
) -> io::Result<bool> {
    let outcome = parse(target).map(|authority| {
        let decided = match policy.decide(&authority) {
            Ok(permit) => policy.rule(permit.rule()).ok_or((Reason::NotAllowed, None)),
            Err(denial) => Err((denial.reason, denial.rule.and_then(|rule| policy.rule(rule)))),
        };
        (authority, decided)
    });
    let verdict = Verdict { target, outcome };
    match format {
        Format::Json => {
            serde_json::to_writer(&mut *out, &verdict.to_json())?;
            out.write_all(b"\n")?;
        }
        Format::Text => verdict.write(policy, out)?,
    }
    Ok(verdict.is_allowed())
}

/// A URL, `host:port`, `host`, or a bare IPv6 address.
fn parse(target: &str) -> Result<Authority, TargetError> {
    if target.contains("://") {
        return Target::parse(target.as_bytes()).map(|target| target.authority);
    }
    match target.parse() {
        Ok(address) => {
            Ok(Authority { host: Host::from(std::net::IpAddr::V6(address)), port: Port::HTTPS })
        }
        Err(_) => Ok(Authority::parse_or(target.as_bytes(), Port::HTTPS)
            .map_err(|error: AuthorityError| TargetError::Authority(error))?),
    }
}

impl Verdict<'_> {
    fn is_allowed(&self) -> bool {
        matches!(self.outcome, Ok((_, Ok(_))))
    }

    fn to_json(&self) -> Line<'_> {
        let (decision, reason, rule) = match &self.outcome {
            Ok((_, Ok(by))) => ("allow", "allow".to_owned(), Some(by)),
            Ok((_, Err((reason, by)))) => ("deny", reason.as_str().to_owned(), by.as_ref()),
            Err(error) => ("invalid", error.to_string(), None),
        };
        let authority = self.outcome.as_ref().ok().map(|(authority, _)| authority);
        Line {
            target: self.target,
            host: authority.map(|authority| authority.host.to_bare_string()),
            port: authority.map(|authority| authority.port.number()),
            decision,
            reason,
            rule: rule.map(|rule| LineRule {
                pattern: rule.pattern.to_string(),
                list: rule.list.as_str(),
                file: rule.source.path(),
                line: rule.line,
            }),
        }
    }

    fn write(&self, policy: &Policy, out: &mut impl Write) -> io::Result<()> {
        match &self.outcome {
            Ok((authority, Ok(rule))) => {
                writeln!(out, "allow    {authority}  by {}", place(rule))
            }
            Ok((authority, Err((reason, Some(rule))))) => {
                writeln!(out, "deny     {authority}  {} by {}", reason.as_str(), place(rule))
            }
            Ok((authority, Err((reason, None)))) => {
                let why = built_in(policy, *reason);
                writeln!(out, "deny     {authority}  {}: {why}", reason.as_str())
            }
            // The target may hold anything; a terminal must not act on it.
            Err(error) => writeln!(out, "invalid  {}  {error}", self.target.escape_debug()),
        }
    }
}

fn place(rule: &Rule<'_>) -> String {
    format!("{} ({}:{})", rule.pattern, rule.source.path(), rule.line)
}

/// What decided when no rule did, and where the list stands that did not help.
fn built_in(policy: &Policy, reason: Reason) -> String {
    let ruleset = policy.ruleset();
    let path = ruleset.source.path();
    let list = ruleset.allow_place(path);
    match reason {
        Reason::NotAllowedLocal => {
            format!("local or private, and no pattern of allowed_domains names it ({list})")
        }
        Reason::ProxyDisabled => format!("enabled = false ({path})"),
        Reason::Denied | Reason::NotAllowed | Reason::PortNotAllowed => {
            format!("no pattern of allowed_domains matches ({list})")
        }
    }
}
