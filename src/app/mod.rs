//! Composition: from settings to a running proxy. The only place that picks implementations.
//!
//! The invariant: a policy that cannot be compiled never replaces one that could; at the start it
//! stops the program.

mod descriptors;
mod open;
mod parent;
mod reload;

use std::{
    borrow::Cow,
    future::{Future, pending},
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::{MissedTickBehavior, interval, timeout},
};

pub use self::open::{Opened, StartError};
use self::{parent::ParentFound, reload::Reloader};
use crate::{
    observe::AuditEnd,
    policy::{Egress, Mode, Policy, Problem},
    proxy::{Context, Workers},
    settings::Place,
    source::{self, PolicySource, Snapshot},
};

/// A proxy that accepts, and has shown that it refuses; made by [`Opened::start`].
pub struct App {
    place: Place,
    socks: Option<Place>,
    transparent: Vec<Place>,
    context: Arc<Context>,
    workers: Workers,
    policies: watch::Sender<Arc<Policy>>,
    egress: Egress,
    source: Arc<PolicySource>,
    /// What is in force.
    snapshot: Snapshot,
    parent: Option<ParentFound>,
    summary: String,
    lowered: Option<String>,
    warnings: Vec<Problem>,
    audit_end: AuditEnd,
    drain: Duration,
}

/// How often idle origin connections and pipes are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(15);

/// How long the last audit records may take to be written.
const AUDIT_GRACE: Duration = Duration::from_secs(2);

/// How long tasks have to notice that they are aborted.
const ABORT_GRACE: Duration = Duration::from_secs(2);

impl App {
    /// Where it listens for HTTP.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Where it listens for SOCKS5, if it does.
    #[must_use]
    pub fn socks_place(&self) -> Option<&Place> {
        self.socks.as_ref()
    }

    /// Where connections that were meant for others are served.
    #[must_use]
    pub fn transparent_places(&self) -> &[Place] {
        &self.transparent
    }

    /// What happens to hosts that no rule speaks about.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.egress.mode
    }

    /// The policy it starts with, in one line: where from, and how many rules.
    #[must_use]
    pub fn policy_summary(&self) -> &str {
        &self.summary
    }

    /// To which limits there are descriptors, if not to the default ones.
    #[must_use]
    pub fn lowered_limits(&self) -> Option<&str> {
        self.lowered.as_deref()
    }

    /// Warnings about the chosen policy, with its text.
    #[must_use]
    pub fn warnings(&self) -> (&[Problem], Cow<'_, str>) {
        (&self.warnings, String::from_utf8_lossy(&self.snapshot.chosen.bytes))
    }

    /// What the chosen policy is called, for the operator.
    #[must_use]
    pub fn policy_name(&self) -> &str {
        self.source.name()
    }

    /// Serves until `shutdown` is ready, then lets work finish. `hangup` is notified to read the
    /// policy at once and to reopen the audit file.
    pub async fn run(self, shutdown: impl Future<Output = ()>, hangup: Arc<Notify>) {
        self.go(shutdown, Some(hangup)).await;
    }

    /// The same with the policy it has: whoever is served could write the file.
    pub async fn run_unwatched(self, shutdown: impl Future<Output = ()>) {
        self.go(shutdown, None).await;
    }

    async fn go(self, shutdown: impl Future<Output = ()>, hangup: Option<Arc<Notify>>) {
        let Self {
            context,
            workers,
            policies,
            egress,
            source,
            snapshot,
            parent,
            audit_end,
            drain,
            ..
        } = self;
        let force = Arc::new(Notify::new());
        let (news, mut changes) = mpsc::channel(1);
        let watching = {
            let (source, force) = (Arc::clone(&source), Arc::clone(&force));
            let is_watched = hangup.is_some();
            async move {
                match is_watched {
                    true => source::watch(source, snapshot, force, news).await,
                    false => pending().await,
                }
            }
        };
        let mut watching = std::pin::pin!(watching);
        let counters = Arc::clone(&context.counters);
        let reloader = Reloader { source, policies, egress, parent, counters };
        let mut sweep = interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The policy is watched to the end: tunnels that drain are judged too.
        let ending = async {
            shutdown.await;
            finish(&context, drain).await;
        };
        {
            let mut ending = std::pin::pin!(ending);
            loop {
                tokio::select! {
                    () = ending.as_mut() => break,
                    () = watching.as_mut() => break,
                    () = told(hangup.as_deref()) => {
                        context.audit.reopen();
                        force.notify_one();
                    }
                    Some(change) = changes.recv() => reloader.take(change).await,
                    _ = sweep.tick() => {
                        context.pool.sweep();
                        context.pipes.sweep();
                    }
                }
            }
        }
        workers.end(ABORT_GRACE).await;
        // The last senders go, the writer empties its queue and ends.
        drop(reloader);
        drop(context);
        if !audit_end.wait(AUDIT_GRACE).await {
            tracing::error!("the audit target takes nothing; the last records are lost");
        }
    }
}

/// Ready when notified; never, if there is nothing that could be.
async fn told(hangup: Option<&Notify>) {
    match hangup {
        Some(hangup) => hangup.notified().await,
        None => pending().await,
    }
}

/// Stops accepting, waits for what is under way, and ends what takes too long.
async fn finish(context: &Context, drain: Duration) {
    context.drain.cancel();
    context.pool.close();
    context.tasks.close();
    tracing::info!(tasks = context.tasks.len(), "draining");
    if timeout(drain, context.tasks.wait()).await.is_err() {
        tracing::warn!(tasks = context.tasks.len(), "closing what has not finished");
        context.abort.cancel();
        timeout(ABORT_GRACE, context.tasks.wait()).await.ok();
    }
}

/// A seed for the policy's table, different in every call.
#[must_use]
pub fn random_seed() -> u64 {
    RandomState::new().hash_one(0)
}
