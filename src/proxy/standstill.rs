//! A deadline for what stands still: it runs from the first time that something is waited for in
//! vain, and anew after each time that it moved. What always moves costs no timer.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

/// How long one thing has been waited for.
#[derive(Debug, Default)]
pub(super) struct Standstill {
    timer: Option<Pin<Box<Sleep>>>,
    running: bool,
}

impl Standstill {
    /// It moved.
    pub(super) fn end(&mut self) {
        self.running = false;
    }

    /// It did not move. Ready once that has been so for `limit`.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let timer = match &mut self.timer {
            Some(timer) => {
                if !self.running {
                    timer.as_mut().reset(Instant::now() + limit);
                }
                timer
            }
            none => none.insert(Box::pin(sleep(limit))),
        };
        self.running = true;
        timer.as_mut().poll(cx)
    }
}
