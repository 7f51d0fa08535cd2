//! What was refused, and what would have been if the policy did not only observe, counted by
//! destination and reason: the end of `exeat run` tells of it.
//!
//! Not the audit: bounded tables in memory, which say nothing about what a rule allows.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Destination, Ending, Inside, Record, Refused, Subject};
use crate::policy::{Leave, Reason};

/// The refusals of one proxy so far.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    refused: Tally,
    /// Let through all the same.
    observed: Tally,
}

#[derive(Debug, Default)]
struct Tally {
    /// By destination, and why.
    by_reason: BTreeMap<(Destination, String), u64>,
    /// Those for which there was no room.
    others: u64,
}

/// Whoever asks for more destinations in vain than these gets a number for the rest.
const MAX_REASONS: usize = 1_000;

/// More than that nobody reads.
const MAX_SHOWN: usize = 20;

impl Refusals {
    /// Counts a record, if the policy is against what it tells of.
    pub(super) fn note(&self, record: &Record) {
        match record {
            Record::Decision { verdict: Err(refused), subject, .. } => {
                let why = why_refused(refused, subject);
                self.lock().refused.count(subject, why);
            }
            Record::Decision { verdict: Ok(Leave::Observed), subject, .. } => {
                let why = by_no_rule(Reason::NotAllowed.as_str(), subject);
                self.lock().observed.count(subject, why);
            }
            Record::End { ending, subject, inside, .. } => {
                if let Some(why) = why_ended(*ending, inside.as_deref()) {
                    self.lock().refused.count(subject, why);
                }
            }
            Record::Decision { verdict: Ok(Leave::Rule(_) | Leave::Sockets), .. }
            | Record::Dropped { .. } => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The most frequent first, a line each; nothing if nothing was or would have been refused.
impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.lock();
        let requests = |total| if total == 1 { "request" } else { "requests" };
        let refused = counts.refused.total();
        if refused > 0 {
            write!(f, "exeat: refused {refused} {}:{}", requests(refused), counts.refused)?;
        }
        let observed = counts.observed.total();
        if observed > 0 {
            let line = if refused > 0 { "\n" } else { "" };
            let requests = requests(observed);
            let what = "which the policy would have refused";
            write!(
                f,
                "{line}exeat: let through {observed} {requests}, {what}:{}",
                counts.observed
            )?;
        }
        Ok(())
    }
}

impl Tally {
    fn count(&mut self, subject: &Subject, why: String) {
        let key = (subject.destination.clone(), why);
        let has_room = self.by_reason.len() < MAX_REASONS;
        match self.by_reason.get_mut(&key) {
            Some(count) => *count += 1,
            None if has_room => {
                self.by_reason.insert(key, 1);
            }
            None => self.others += 1,
        }
    }

    fn total(&self) -> u64 {
        self.by_reason.values().sum::<u64>() + self.others
    }
}

/// Each line begins with its line feed.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown: Vec<_> = self.by_reason.iter().collect();
        shown.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for ((destination, why), count) in shown.iter().take(MAX_SHOWN) {
            write!(f, "\nexeat: {count:>6}  {destination}  {why}")?;
        }
        let rest = shown.iter().skip(MAX_SHOWN).map(|(_, count)| **count).sum::<u64>();
        match rest + self.others {
            0 => Ok(()),
            rest => write!(f, "\nexeat: {rest:>6}  to other destinations"),
        }
    }
}

fn why_refused(refused: &Refused, subject: &Subject) -> String {
    match refused.rule.and_then(|rule| subject.policy.rule(rule)) {
        Some(rule) => format!("{} by {rule}", refused.reason),
        None => by_no_rule(refused.reason, subject),
    }
}

/// With the place where a rule would stand.
fn by_no_rule(reason: &str, subject: &Subject) -> String {
    let ruleset = subject.policy.ruleset();
    format!("{reason} ({})", ruleset.allow_place(ruleset.source.name()))
}

/// What was let through and then refused after all.
fn why_ended(ending: Ending, inside: Option<&Inside>) -> Option<String> {
    match ending {
        Ending::AddressRefused => Some("address_refused".into()),
        Ending::PolicyChanged => Some("policy_changed".into()),
        Ending::SniMismatch => {
            let what = inside.and_then(|inside| inside.mismatch).unwrap_or("mismatch");
            Some(format!("sni_mismatch ({what})"))
        }
        Ending::ClientGone
        | Ending::Complete
        | Ending::ConnectFailed
        | Ending::DnsFailed
        | Ending::IdleTimeout
        | Ending::LimitReached
        | Ending::OriginFailed
        | Ending::ParentFailed
        | Ending::ResponseTimeout
        | Ending::Shutdown => None,
    }
}
