//! What was refused, counted by destination and reason: the end of `exeat run` tells of it.
//!
//! Not the audit: a bounded table in memory, which says nothing about what was allowed.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Destination, Ending, Inside, Record, Refused, Subject};

/// The refusals of one proxy so far.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
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
    /// Counts a record, if it is of a refusal.
    pub(super) fn note(&self, record: &Record) {
        let (subject, why) = match record {
            Record::Decision { verdict: Err(refused), subject, .. } => {
                (subject, why_refused(refused, subject))
            }
            Record::End { ending, subject, inside, .. } => {
                match why_ended(*ending, inside.as_deref()) {
                    Some(why) => (subject, why),
                    None => return,
                }
            }
            Record::Decision { verdict: Ok(_), .. } | Record::Dropped { .. } => return,
        };
        let mut counts = self.lock();
        let counts = &mut *counts;
        let key = (subject.destination.clone(), why);
        let has_room = counts.by_reason.len() < MAX_REASONS;
        match counts.by_reason.get_mut(&key) {
            Some(count) => *count += 1,
            None if has_room => {
                counts.by_reason.insert(key, 1);
            }
            None => counts.others += 1,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The most frequent first, a line each; nothing if nothing was refused.
impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.lock();
        let total = counts.by_reason.values().sum::<u64>() + counts.others;
        if total == 0 {
            return Ok(());
        }
        write!(f, "exeat: refused {total} {}:", if total == 1 { "request" } else { "requests" })?;
        let mut shown: Vec<_> = counts.by_reason.iter().collect();
        shown.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for ((destination, why), count) in shown.iter().take(MAX_SHOWN) {
            write!(f, "\nexeat: {count:>6}  {destination}  {why}")?;
        }
        let rest = shown.iter().skip(MAX_SHOWN).map(|(_, count)| **count).sum::<u64>();
        match rest + counts.others {
            0 => Ok(()),
            rest => write!(f, "\nexeat: {rest:>6}  to other destinations"),
        }
    }
}

fn why_refused(refused: &Refused, subject: &Subject) -> String {
    let ruleset = subject.policy.ruleset();
    match refused.rule.and_then(|rule| subject.policy.rule(rule)) {
        Some(rule) => format!("{} by {rule}", refused.reason),
        None => format!("{} ({})", refused.reason, ruleset.allow_place(ruleset.source.name())),
    }
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
