//! Composition: from settings to a running proxy. The only place that picks implementations.
//!
//! The invariant: a policy that cannot be compiled never replaces one that could; at the start it
//! stops the program.

mod reload;

use std::{
    borrow::Cow,
    future::Future,
    hash::{BuildHasher as _, RandomState},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use ipnet::IpNet;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::reload::{Reloader, apply, summary};
use crate::{
    dns::{DnsStartError, Resolver},
    observe::{Audit, AuditEnd, AuditError, Counters},
    policy::{Egress, Policy, Problem, Ruleset},
    proxy::{Bound, Context, ListenError, listen},
    requirements::{Applied, Rejected},
    settings::{Listen, Settings},
    source::{self, LocateError, PolicySource, ReadError, Snapshot},
    upstream::Pool,
};

/// A proxy that listens but does not accept yet.
pub struct App {
    bound: Bound,
    context: Arc<Context>,
    policies: watch::Sender<Arc<Policy>>,
    egress: Egress,
    source: Arc<PolicySource>,
    /// What is in force.
    snapshot: Snapshot,
    summary: String,
    warnings: Vec<Problem>,
    audit_end: AuditEnd,
    drain: Duration,
}

/// Why a proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The audit target cannot be opened.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// DNS cannot be set up.
    #[error(transparent)]
    Dns(#[from] DnsStartError),
    /// The addresses of this machine cannot be read.
    #[error("cannot read the addresses of this machine: {0}")]
    Interfaces(io::Error),
    /// The socket cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// There is no policy.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// Listening beyond loopback was neither asked for nor allowed, or is forbidden.
    #[error("{address} is not a loopback address: {why}")]
    NotLoopback {
        /// Where it was to listen.
        address: SocketAddr,
        /// What forbids it, and the cure.
        why: &'static str,
    },
    /// The policy cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The policy has errors.
    #[error("policy {} cannot be used", .0.source.path())]
    Rejected(Box<Rejected>),
}

/// How often idle origin connections are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(15);

/// How long the last audit records may take to be written.
const AUDIT_GRACE: Duration = Duration::from_secs(2);

/// How long tasks have to notice that they are aborted.
const ABORT_GRACE: Duration = Duration::from_secs(2);

impl App {
    /// Reads the policy, binds, and puts everything together. `system_file` is
    /// [`source::SYSTEM_FILE`] but for tests.
    ///
    /// # Errors
    ///
    /// Whatever is missing or wrong; nothing is left running.
    pub fn start(settings: Settings, system_file: &Path) -> Result<Self, StartError> {
        let source = Arc::new(PolicySource::locate(&settings.chosen, system_file)?);
        let snapshot = source.read()?;
        let applied =
            apply(&snapshot).map_err(|rejected| StartError::Rejected(Box::new(rejected)))?;
        let summary = summary(&source, &applied);
        let Applied { ruleset, warnings, .. } = applied;
        if ruleset.allow_local_binding == Some(false) && !settings.private.is_empty() {
            tracing::warn!(
                "`[egress] private` has no effect: the policy writes allow_local_binding = false"
            );
        }
        let address = listen_address(&settings, &ruleset)?;
        let bound = Bound::new(address)?;
        let own = own_networks()?;
        let egress = Egress {
            listeners: vec![bound.address()],
            own_addresses: own.iter().map(|(address, _)| *address).collect(),
            ..settings.egress()
        };
        let counters = Arc::new(Counters::default());
        let resolver = Resolver::new(&settings.dns, settings.timeouts.dns)?;
        let (audit, audit_end) =
            Audit::start(&settings.audit, settings.audit_queue, Arc::clone(&counters))?;
        let policy = Policy::new(ruleset, egress.clone(), 1);
        let (policies, policy) = watch::channel(Arc::new(policy));
        let limits = settings.limits;
        let drain = settings.timeouts.drain;
        let context = Arc::new(Context {
            policy,
            resolver,
            pool: Pool::new(
                limits.idle_per_origin,
                limits.idle_origins,
                settings.timeouts.idle_origin,
            ),
            audit,
            counters,
            clients: settings.listen.clients.unwrap_or_else(|| default_clients(&bound, &own)),
            limits,
            timeouts: settings.timeouts,
            tasks: TaskTracker::new(),
            drain: CancellationToken::new(),
            abort: CancellationToken::new(),
            requests: AtomicU64::new(0),
        });
        Ok(Self {
            bound,
            context,
            policies,
            egress,
            source,
            snapshot,
            summary,
            warnings,
            audit_end,
            drain,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.bound.address()
    }

    /// The policy it starts with, in one line: where from, and how many rules.
    #[must_use]
    pub fn policy_summary(&self) -> &str {
        &self.summary
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
        let Self { bound, context, policies, egress, source, snapshot, audit_end, drain, .. } =
            self;
        let tasks = context.tasks.clone();
        tasks.spawn(listen(bound, Arc::clone(&context)));
        let force = Arc::new(Notify::new());
        let (news, mut changes) = mpsc::channel(1);
        let watching = source::watch(Arc::clone(&source), snapshot, Arc::clone(&force), news);
        let mut watching = std::pin::pin!(watching);
        let counters = Arc::clone(&context.counters);
        let reloader = Reloader { source, policies, egress, counters };
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
                    () = hangup.notified() => {
                        context.audit.reopen();
                        force.notify_one();
                    }
                    Some(change) = changes.recv() => reloader.take(change).await,
                    _ = sweep.tick() => context.pool.sweep(),
                }
            }
        }
        // The last senders go, the writer empties its queue and ends.
        drop(reloader);
        drop(context);
        if !audit_end.wait(AUDIT_GRACE).await {
            tracing::error!("the audit target takes nothing; the last records are lost");
        }
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

fn listen_address(settings: &Settings, ruleset: &Ruleset) -> Result<SocketAddr, StartError> {
    let port = ruleset.http_port.map_or(Listen::DEFAULT_PORT, |port| port.number());
    let address =
        settings.listen.http.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    if address.ip().to_canonical().is_loopback() {
        return Ok(address);
    }
    match (ruleset.allow_non_loopback_proxy, settings.listen.allow_non_loopback) {
        (Some(true), _) | (None, true) => Ok(address),
        (Some(false), _) => Err(StartError::NotLoopback {
            address,
            why: "the policy forbids it (dangerously_allow_non_loopback_proxy = false)",
        }),
        (None, false) => Err(StartError::NotLoopback {
            address,
            why: "add --allow-non-loopback if other machines or containers are to use this proxy",
        }),
    }
}

/// The addresses of this machine with their subnets.
fn own_networks() -> Result<Vec<(IpAddr, IpNet)>, StartError> {
    let interfaces = if_addrs::get_if_addrs().map_err(StartError::Interfaces)?;
    let network = |interface: &if_addrs::Interface| {
        let prefix = match &interface.addr {
            if_addrs::IfAddr::V4(v4) => v4.prefixlen,
            if_addrs::IfAddr::V6(v6) => v6.prefixlen,
        };
        let address = interface.ip();
        IpNet::new(address, prefix).ok().map(|network| (address, network.trunc()))
    };
    Ok(interfaces.iter().filter_map(network).collect())
}

/// Loopback; and beyond loopback the subnets this machine is in.
fn default_clients(bound: &Bound, own: &[(IpAddr, IpNet)]) -> Vec<IpNet> {
    let loopback = ["127.0.0.0/8", "::1/128"].iter().filter_map(|range| range.parse().ok());
    let subnets = own.iter().map(|(_, network)| *network).filter(|_| !bound.is_loopback());
    loopback.chain(subnets).collect()
}
