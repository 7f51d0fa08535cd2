//! Which policy is in force, and what it says: two policies take turns.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts changes: odd while one is under way, and then nobody knows which policy decides.
#[derive(Debug, Default)]
pub(crate) struct Moment(AtomicU64);

/// A host, and whether either policy allows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) name: &'static str,
    allowed: [bool; 2],
}

/// The rules of both, and what they say below.
pub(crate) const POLICIES: [&str; 2] = [
    "allowed_domains = [\"ok.test\", \"*.ok.test\", \"slow.test\", \"fail.test\", \"late.test\", \
     \"none.test\", \"even.test\"]\ndenied_domains = [\"denied.ok.test\"]",
    "allowed_domains = [\"ok.test\", \"*.ok.test\", \"slow.test\", \"fail.test\", \"late.test\", \
     \"none.test\", \"odd.test\"]\ndenied_domains = [\"denied.ok.test\", \"**.even.test\"]",
];

pub(crate) const OK: Place = Place { name: "ok.test", allowed: [true, true] };

/// Hosts that have addresses, here and now.
pub(crate) const PLACES: &[Place] = &[
    OK,
    Place { name: "a.b.ok.test", allowed: [true, true] },
    Place { name: "slow.test", allowed: [true, true] },
    Place { name: "denied.ok.test", allowed: [false, false] },
    Place { name: "evil.test", allowed: [false, false] },
    Place { name: "even.test", allowed: [true, false] },
    Place { name: "odd.test", allowed: [false, true] },
];

/// Allowed hosts whose names lead nowhere.
pub(crate) const LOST: &[&str] = &["fail.test", "late.test", "none.test"];

impl Moment {
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// A change begins, or has been made.
    pub(crate) fn step(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// What all of the time since `then` was decided by; none: a change came in between.
    pub(crate) fn policy_since(&self, then: u64) -> Option<usize> {
        (then.is_multiple_of(2) && self.now() == then).then_some(usize::from(then % 4 == 2))
    }

    /// Whether a host was allowed all that time; none: nobody knows.
    pub(crate) fn allows(&self, place: Place, then: u64) -> Option<bool> {
        self.policy_since(then).map(|policy| place.allowed[policy])
    }
}
