//! What a tunnel has carried so far, and when the last of it moved.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// Counts the payload of both directions, in bytes.
#[derive(Debug)]
pub(super) struct Meter {
    begun: Instant,
    sent: AtomicU64,
    received: AtomicU64,
    /// Milliseconds after `begun`.
    last_move: AtomicU64,
}

/// A direction, as the client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the client to the origin.
    Sent,
    /// From the origin to the client.
    Received,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            last_move: AtomicU64::new(0),
        }
    }

    pub(super) fn count(&self, direction: Direction, bytes: usize) {
        self.moved(direction)
            .fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_move.store(now, Ordering::Relaxed);
    }

    pub(super) fn total(&self, direction: Direction) -> u64 {
        self.moved(direction).load(Ordering::Relaxed)
    }

    /// Returns once nothing has moved for that long. Wakes up once in that time, not per byte.
    pub(super) async fn idle(&self, limit: Duration) {
        loop {
            let last = Duration::from_millis(self.last_move.load(Ordering::Relaxed));
            let deadline = self.begun + last + limit;
            if Instant::now() >= deadline {
                return;
            }
            sleep_until(deadline).await;
        }
    }

    fn moved(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::Sent => &self.sent,
            Direction::Received => &self.received,
        }
    }
}
