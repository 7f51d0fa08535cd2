//! Idle connections to origins, kept for the next request to the same authority.
//!
//! A kept connection is used again only if where it leads would be vetted under the policy of the
//! moment. Those of the thread that asks come first: what arrives there wakes no other. Bounded in
//! all directions; what is too old is closed when it is met, and by [`Pool::sweep`].

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
    time::Duration,
};

use tokio::time::Instant;

use super::Origin;
use crate::{
    net::Authority,
    policy::{Permit, Policy},
};

/// The idle connections of one proxy.
#[derive(Debug)]
pub struct Pool {
    idle: Mutex<Idle>,
    per_origin: usize,
    in_all: usize,
    max_age: Duration,
}

#[derive(Debug, Default)]
struct Idle {
    by_authority: HashMap<Authority, VecDeque<Kept>>,
    count: usize,
    closed: bool,
    /// When those that are closed were looked for.
    looked_at: Option<Instant>,
}

/// So often at most a full pool looks for connections that their origins have closed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Kept {
    origin: Origin,
    since: Instant,
    /// Where its socket is watched.
    thread: ThreadId,
}

impl Idle {
    fn close_dead(&mut self, max_age: Duration) {
        let Self { by_authority, count, looked_at, .. } = self;
        *looked_at = Some(Instant::now());
        by_authority.retain(|_, kept| {
            let before = kept.len();
            kept.retain(|kept| kept.origin.is_open() && kept.since.elapsed() < max_age);
            *count -= before - kept.len();
            !kept.is_empty()
        });
    }
}

impl Pool {
    /// An empty pool with its bounds; a connection idle for `max_age` is closed.
    #[must_use]
    pub fn new(per_origin: usize, in_all: usize, max_age: Duration) -> Self {
        Self { idle: Mutex::default(), per_origin, in_all, max_age }
    }

    /// A kept connection for the permit's authority, the youngest of this thread's first, then of
    /// any. Those that the policy refuses by now are closed.
    #[must_use]
    pub fn take(&self, policy: &Policy, permit: &Permit) -> Option<Origin> {
        let mut idle = self.lock();
        let Idle { by_authority, count, .. } = &mut *idle;
        let kept = by_authority.get_mut(permit.authority())?;
        let mut found = None;
        while let Some(Kept { origin, since, .. }) = nearest(kept) {
            *count -= 1;
            let vetted = policy.judge(permit, origin.peer()).is_ok();
            if vetted && origin.is_open() && since.elapsed() < self.max_age {
                found = Some(origin);
                break;
            }
        }
        if kept.is_empty() {
            by_authority.remove(permit.authority());
        }
        found
    }

    /// Keeps a connection whose answer has been read to its end; closes it if there is no room.
    pub fn keep(&self, origin: Origin) {
        let mut idle = self.lock();
        let is_full = |idle: &Idle| {
            let kept = idle.by_authority.get(origin.authority()).map_or(0, VecDeque::len);
            idle.count >= self.in_all || kept >= self.per_origin
        };
        if is_full(&idle) && idle.looked_at.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            idle.close_dead(self.max_age);
        }
        if idle.closed || is_full(&idle) {
            return;
        }
        idle.count += 1;
        let thread = thread::current().id();
        let kept = idle.by_authority.entry(origin.authority().clone()).or_default();
        kept.push_back(Kept { origin, since: Instant::now(), thread });
    }

    /// Closes what is too old or was closed by its origin.
    pub fn sweep(&self) {
        self.lock().close_dead(self.max_age);
    }

    /// Closes everything and keeps nothing from here on.
    pub fn close(&self) {
        *self.lock() = Idle { closed: true, ..Idle::default() };
    }

    /// No code that can panic runs under the lock, so a poisoned one is sound.
    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The youngest of this thread's, or of all.
fn nearest(kept: &mut VecDeque<Kept>) -> Option<Kept> {
    let here = thread::current().id();
    match kept.iter().rposition(|kept| kept.thread == here) {
        Some(place) => kept.remove(place),
        None => kept.pop_back(),
    }
}
