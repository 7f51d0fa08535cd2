//! Pauses between accepts that fail, as at the limit of descriptors: neither spin, nor die, nor
//! fill the log.

use std::{io, time::Duration};

use tokio::time::{Instant, sleep};

/// How long to wait, and when the log was last told.
#[derive(Debug)]
pub(super) struct Backoff {
    pause: Duration,
    warned: Option<Instant>,
    /// Failures that the log has not been told of.
    untold: u64,
}

/// The first pause; it doubles up to the last.
const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(100);

/// The log is told once in that time.
const WARN_EVERY: Duration = Duration::from_secs(1);

impl Backoff {
    pub(super) fn new() -> Self {
        Self { pause: SHORTEST, warned: None, untold: 0 }
    }

    /// Something was accepted.
    pub(super) fn reset(&mut self) {
        self.pause = SHORTEST;
    }

    /// Tells the log, unless it has just been told.
    pub(super) fn note(&mut self, error: &io::Error) {
        self.untold += 1;
        if self.warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            tracing::warn!(%error, times = self.untold, "cannot accept");
            self.warned = Some(Instant::now());
            self.untold = 0;
        }
    }

    /// Waits before the next attempt.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future shortens the pause, and no more.
    pub(super) async fn pause(&mut self) {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST);
        sleep(pause).await;
    }
}
