//! Putting a changed policy in force: compiled aside, then swapped; what is wrong changes nothing.

use std::{fmt, sync::Arc};

use tokio::sync::watch;

use super::{parent::ParentFound, random_seed};
use crate::{
    observe::Counters,
    policy::{Egress, LineIndex, List, Policy, Problem, Source},
    requirements::{self, Applied, Rejected},
    source::{PolicySource, ReadError, Snapshot, Text},
};

/// Puts changed policies in force.
pub(super) struct Reloader {
    pub(super) source: Arc<PolicySource>,
    pub(super) policies: watch::Sender<Arc<Policy>>,
    pub(super) egress: Egress,
    /// What everything leaves through, if there is one. It was chosen under the first policy.
    pub(super) parent: Option<ParentFound>,
    pub(super) counters: Arc<Counters>,
}

/// Problems of a policy with place and cure, for a log line.
struct OneLine<'a> {
    path: &'a str,
    text: &'a str,
    problems: &'a [Problem],
}

impl Reloader {
    /// Takes what the documents say by now, or why they cannot be read.
    pub(super) async fn take(&self, change: Result<Snapshot, ReadError>) {
        let snapshot = match change {
            Ok(snapshot) => snapshot,
            Err(ReadError::Closed { file, error }) => {
                self.counters.reload_failures.increment();
                tracing::error!(
                    "{} was not there at the start, and a confined proxy does not read it later: \
                     {error}: everything is refused until exeat is restarted, because denies in it \
                     would apply",
                    file.path()
                );
                nothing_goes_out(&file, "came late")
            }
            Err(error) if error.is_forbidden() => {
                return self.keep_old(&format!(
                    "{error}: a confined proxy reads only where its files were at the start, as \
                     its first line says; restart it if they have moved"
                ));
            }
            Err(error) => return self.keep_old(&error),
        };
        let egress = self.egress.clone();
        let generation = self.policies.borrow().generation() + 1;
        let source = Arc::clone(&self.source);
        let parent = self.parent.clone();
        let compiled = tokio::task::spawn_blocking(move || {
            let mut applied = apply(&snapshot)?;
            if parent.is_some_and(|parent| !parent.is_permitted(&applied.ruleset)) {
                let file = &snapshot.chosen.source;
                tracing::error!(
                    "{} no longer lets anything leave through the parent proxy: everything is \
                     refused until it does, or exeat is restarted without one",
                    file.path()
                );
                applied = apply(&nothing_goes_out(file, "forbids the parent proxy"))?;
            }
            let summary = summary(&source, &applied);
            warn(&source, &snapshot, &applied);
            Ok((Policy::new(applied.ruleset, egress, generation), summary))
        });
        match compiled.await {
            Ok(Ok((policy, summary))) => self.swap(policy, &summary),
            Ok(Err(rejected)) => self.keep_old(&OneLine::of(&rejected)),
            Err(error) => self.keep_old(&error),
        }
    }

    fn swap(&self, policy: Policy, summary: &str) {
        let generation = policy.generation();
        let old = self.policies.send_replace(Arc::new(policy));
        self.counters.reloads.increment();
        tracing::info!(generation, "policy reloaded: {summary}");
        let ports = |policy: &Policy| (policy.ruleset().http_port, policy.ruleset().socks_port);
        if !old.ruleset().allows_sockets() && self.policies.borrow().ruleset().allows_sockets() {
            tracing::warn!("unix sockets have been allowed: restart to open them");
        }
        if ports(&old) != ports(&self.policies.borrow()) {
            tracing::warn!("http_port or socks_port has changed: restart to listen there");
        }
    }

    fn keep_old(&self, why: &dyn fmt::Display) {
        self.counters.reload_failures.increment();
        let generation = self.policies.borrow().generation();
        tracing::error!(generation, "policy not reloaded, the old one stays in force: {why}");
    }
}

/// In place of documents with denies that cannot be known, or that what is running does not follow.
/// Clients see the name of the file, and with it what to do.
fn nothing_goes_out(file: &Source, why: &str) -> Snapshot {
    let source = Source::file(format!("{}, which {why}: restart exeat", file.path()));
    let bytes = b"[experimental_network]\nenabled = false\n".to_vec();
    Snapshot { chosen: Text { bytes, source: Arc::new(source) }, system: None }
}

/// Reads the layers of a snapshot.
///
/// # Errors
///
/// The layer that cannot be used.
pub(super) fn apply(snapshot: &Snapshot) -> Result<Applied, Rejected> {
    requirements::apply(snapshot.chosen_layer(), snapshot.system_layer(), random_seed())
}

/// A policy in one line: where from, how many rules, and what the system file adds.
pub(super) fn summary(source: &PolicySource, applied: &Applied) -> String {
    let Applied { ruleset, system, .. } = applied;
    let system_denies = system.as_ref().map_or(0, |(_, denies)| *denies);
    let mut text = format!(
        "policy {}: {} allow and {} deny rules",
        source.name(),
        ruleset.count(List::Allow),
        ruleset.count(List::Deny) - system_denies
    );
    if let Some((file, denies)) = system {
        text.push_str(&format!("; {} applies too: {denies} deny rules", file.path()));
    }
    if !ruleset.enabled {
        text.push_str("; enabled = false: everything is refused");
    }
    text
}

fn warn(source: &PolicySource, snapshot: &Snapshot, applied: &Applied) {
    if !applied.warnings.is_empty() {
        let text = String::from_utf8_lossy(&snapshot.chosen.bytes);
        let problems = applied.warnings.as_slice();
        tracing::warn!("{}", OneLine { path: source.name(), text: &text, problems });
    }
}

impl<'a> OneLine<'a> {
    fn of(rejected: &'a Rejected) -> Self {
        let Rejected { source, text, problems } = rejected;
        Self { path: source.path(), text, problems }
    }
}

/// More than that nobody reads in a log.
const MAX_PROBLEMS: usize = 10;

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = LineIndex::new(self.text);
        for (count, problem) in self.problems.iter().take(MAX_PROBLEMS).enumerate() {
            let at = lines.position(problem.span.start);
            let separator = if count == 0 { "" } else { "; " };
            write!(f, "{separator}{}:{}:{}: {}", self.path, at.line, at.column, problem.message)?;
            if let Some(help) = &problem.help {
                write!(f, " ({help})")?;
            }
        }
        match self.problems.len().saturating_sub(MAX_PROBLEMS) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
