//! `exeat check`: the very decision the proxy would make, by name only, without DNS.

use std::{
    borrow::Cow,
    io::{self, BufRead as _, BufWriter, Write},
    net::IpAddr,
    path::Path,
};

use clap::Args;
use serde::Serialize;

use super::{
    Exit, complain,
    place::Place,
    policy::{PolicyArgs, show_rejected},
    settings::SettingsArgs,
    written,
};
use crate::{
    app::random_seed,
    net::{Authority, Host, Port, Target, TargetError},
    policy::{Policy, Reason, Rule},
    requirements,
    settings::{Environment, Flags, Permissions, Settings},
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
    rule: Option<Place<'a>>,
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
            let checked = match target.as_str() {
                "-" => check_stdin(&policy, format, &mut out),
                target => check_one(&policy, target, format, &mut out),
            };
            match checked {
                Ok(true) => {}
                Ok(false) => exit = Exit::No,
                Err(error) => return written(Err(error), exit),
            }
        }
        written(out.flush(), exit)
    }
}

/// The policy that is meant.
///
/// # Errors
///
/// What is wrong with it has been shown.
pub(super) fn load(
    arguments: PolicyArgs,
    settings: &SettingsArgs,
    environment: Environment,
) -> Result<Policy, Exit> {
    let file = settings.read(&environment, Permissions::Insecure)?;
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
        let line = line.trim_ascii();
        let text =
            std::str::from_utf8(line).map_or_else(|_| String::from_utf8_lossy(line), Cow::Borrowed);
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
            // A checker enforces: every permit of its policy is given by a rule.
            Ok(permit) => {
                let rule = permit.rule().and_then(|rule| policy.rule(rule));
                rule.ok_or((Reason::NotAllowed, None))
            }
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

/// A host or `host:port`, a URL, or a bare IPv6 address.
pub(super) fn parse(target: &str) -> Result<Authority, TargetError> {
    // No text can be two of them: the first has no slash, and no second colon without brackets.
    Authority::parse_or(target.as_bytes(), Port::HTTPS).or_else(|error| {
        if target.contains("://") {
            return Target::parse(target.as_bytes()).map(|target| target.authority);
        }
        let address = target.parse().map_err(|_| TargetError::Authority(error))?;
        Ok(Authority { host: Host::from(IpAddr::V6(address)), port: Port::HTTPS })
    })
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
            rule: rule.map(Place::of),
        }
    }

    /// One line. A million of them are nothing unusual, so nothing is put together that could be
    /// written piece by piece.
    fn write(&self, policy: &Policy, out: &mut impl Write) -> io::Result<()> {
        match &self.outcome {
            Ok((authority, Ok(rule))) => {
                write_authority(out, b"allow    ", authority)?;
                out.write_all(b"  by ")?;
                write_place(out, rule)
            }
            Ok((authority, Err((reason, by)))) => {
                write_authority(out, b"deny     ", authority)?;
                out.write_all(b"  ")?;
                out.write_all(reason.as_str().as_bytes())?;
                match by {
                    Some(rule) => {
                        out.write_all(b" by ")?;
                        write_place(out, rule)
                    }
                    None => write_built_in(out, policy, *reason),
                }
            }
            // The target may hold anything; a terminal must not act on it.
            Err(error) => writeln!(out, "invalid  {}  {error}", self.target.escape_debug()),
        }
    }
}

fn write_authority(out: &mut impl Write, verdict: &[u8], authority: &Authority) -> io::Result<()> {
    out.write_all(verdict)?;
    match &authority.host {
        Host::Name(name) => out.write_all(name.as_bytes())?,
        host @ Host::Ip(_) => write!(out, "{host}")?,
    }
    match authority.port {
        Port::HTTPS => out.write_all(b":443"),
        port => write!(out, ":{port}"),
    }
}

fn write_place(out: &mut impl Write, rule: &Rule<'_>) -> io::Result<()> {
    writeln!(out, "{} ({}:{})", rule.pattern, rule.source.path(), rule.line)
}

/// What decided when no rule did, and where the list stands that did not help.
fn write_built_in(out: &mut impl Write, policy: &Policy, reason: Reason) -> io::Result<()> {
    let ruleset = policy.ruleset();
    out.write_all(match reason {
        Reason::NotAllowedLocal => {
            b": local or private, and no pattern of allowed_domains names it ("
        }
        Reason::ProxyDisabled => b": enabled = false (",
        Reason::Denied | Reason::NotAllowed | Reason::PortNotAllowed => {
            b": no pattern of allowed_domains matches ("
        }
    })?;
    out.write_all(ruleset.source.path().as_bytes())?;
    match (reason, ruleset.allow_line) {
        (Reason::ProxyDisabled, _) | (_, None) => out.write_all(b")\n"),
        (_, Some(line)) => writeln!(out, ":{line})"),
    }
}
