//! The rules that are measured: a policy as `serve` would find it, or a plain list.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    super::{Exit, complain, policy::show},
    measure::{Progress, Stopwatch},
};
use crate::{
    app::random_seed,
    policy::{Egress, Outcome, Policy, Review, Source},
    settings::{Environment, Flags, Settings, SettingsFile},
    source::{PolicySource, SYSTEM_FILE, read_limited},
};

/// The text of a policy, and where it comes from.
pub(super) struct Rules {
    text: Vec<u8>,
    source: Arc<Source>,
}

/// What compiling took, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compile {
    /// From text to a policy that serves.
    pub(super) whole: f64,
    /// Of that, building the table.
    pub(super) table: f64,
}

/// Compiling is timed so often at most, and again only within that many seconds.
const COMPILED: usize = 51;
const COMPILING: f64 = 0.25;

/// What stands before and behind the patterns of a plain list. A pattern stays on its line.
const BEFORE: &str = "experimental_network = { enabled = true, allowed_domains = [";
const BEHIND: &str = "] }\n";

impl Rules {
    /// The policy that `serve` would take.
    pub(super) fn of_policy(
        requirements: Option<PathBuf>,
        preset: Option<String>,
        environment: Environment,
    ) -> Result<Self, Exit> {
        let flags = Flags { requirements, preset, ..Flags::default() };
        let settings = Settings::resolve(flags, environment, SettingsFile::default());
        let source = PolicySource::locate(&settings.chosen, Path::new(SYSTEM_FILE))
            .map_err(|error| complain(&error, Exit::Config))?;
        let chosen = source.read().map_err(|error| complain(&error, Exit::Config))?.chosen;
        Ok(Self { text: chosen.bytes, source: chosen.source })
    }

    /// A list with a pattern a line; empty lines and what follows a `#` do not count.
    pub(super) fn of_list(path: &Path) -> Result<Self, Exit> {
        let unreadable = |error: &dyn std::fmt::Display| {
            complain(&format!("cannot read rules {}: {error}", path.display()), Exit::Config)
        };
        let bytes = read_limited(path).map_err(|error| unreadable(&error))?;
        let list = String::from_utf8(bytes).map_err(|error| unreadable(&error))?;
        let mut text = String::with_capacity(list.len() + list.len() / 2);
        text.push_str(BEFORE);
        for line in list.lines() {
            let pattern = line.split('#').next().unwrap_or("").trim();
            if !pattern.is_empty() {
                text.push('"');
                for character in pattern.chars() {
                    match character {
                        '"' | '\\' => text.extend(['\\', character]),
                        control if control.is_control() => text.push('\u{fffd}'),
                        other => text.push(other),
                    }
                }
                text.push_str("\",");
            }
            text.push('\n');
        }
        text.push_str(BEHIND);
        let source = Arc::new(Source::file(path.to_string_lossy()));
        Ok(Self { text: text.into_bytes(), source })
    }

    /// Rules given as patterns of a list of allows and one of denies.
    pub(super) fn of_patterns(allow: &[String], deny: &[String]) -> Self {
        let list = |patterns: &[String]| {
            patterns.iter().map(|pattern| format!("\"{pattern}\",\n")).collect::<String>()
        };
        let text = format!(
            "[experimental_network]\nenabled = true\nallowed_domains = [{}]\ndenied_domains = [{}]\n",
            list(allow),
            list(deny)
        );
        Self { text: text.into_bytes(), source: Arc::new(Source::preset("part")) }
    }

    /// Where the rules come from, as people know it.
    pub(super) fn name(&self) -> &str {
        self.source.path()
    }

    /// How long the text is, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Compiles as `serve` does: once, and for the clock again until that is worth a median.
    pub(super) fn compile(&self, progress: &mut Progress) -> Result<(Policy, Compile), Exit> {
        progress.say("compiling");
        let (policy, first) = self.compile_once(progress)?;
        let mut times = vec![first];
        let watch = Stopwatch::start();
        while times.len() < COMPILED && watch.seconds() < COMPILING {
            times.push(self.compile_once(progress)?.1);
        }
        let median = |mut times: Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 2).copied().unwrap_or_default()
        };
        let (whole, table) = times.iter().map(|time| (time.whole, time.table)).unzip();
        Ok((policy, Compile { whole: median(whole), table: median(table) }))
    }

    fn compile_once(&self, progress: &mut Progress) -> Result<(Policy, Compile), Exit> {
        let watch = Stopwatch::start();
        let review = Review::of(&self.text, &self.source, random_seed());
        let Outcome::Ruleset(ruleset) = review.outcome else {
            let text = String::from_utf8_lossy(&self.text);
            progress.end();
            show(&review.problems, &text, self.name());
            let message = format!("policy {} cannot be used", self.name());
            return Err(complain(&message, Exit::Config));
        };
        let policy = Policy::new(*ruleset, Egress::default(), 1);
        let whole = watch.seconds();
        let watch = Stopwatch::start();
        policy.ruleset().rebuild(random_seed());
        let table = watch.seconds();
        Ok((policy, Compile { whole, table }))
    }
}

/// Reads a file of hosts.
pub(super) fn read_hosts(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path);
    bytes
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .map_err(|error| format!("cannot read hosts {}: {error}", path.display()))
}
