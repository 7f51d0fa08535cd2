//! The first half of a start: everything that must come from outside, before the process gives up
//! the right to reach for it.
//!
//! Files are read, sockets bound and the audit opened here, on one thread and without a runtime.
//! Threads started later inherit what the process may still do, so nothing here may start one.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    num::NonZero,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
};

use ipnet::IpNet;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    App, descriptors,
    parent::ParentFound,
    reload::{apply, summary},
};
use crate::{
    confine::{Confinement, Files, confine},
    dns::{DnsStartError, Resolver},
    observe::{Audit, AuditError, AuditOutput, Counters, Memory},
    policy::{Egress, Mode, Policy, Ruleset},
    proxy::{
        Bound, Captured, Context, Destinations, Endpoint, ListenError, Listeners, OwnConnections,
        Pipes, Places, SelfTestError, UnixSockets, Workers, WorkersError, self_test,
    },
    requirements::{Applied, Rejected},
    settings::{
        AuditTarget, Confine, Listen, ParentUrl, ParentUrlError, Permissions, Place, Settings,
        Socks,
    },
    source::{LocateError, PolicySource, ReadError, Snapshot},
    upstream::{Parent, Pool},
};

/// What a proxy needs from outside: its policy, its socket, its audit, its resolver.
pub struct Opened {
    settings: Settings,
    source: Arc<PolicySource>,
    snapshot: Snapshot,
    applied: Applied,
    parent: Option<ParentFound>,
    listeners: Listeners,
    /// They are in another network: nothing that is dialled from here arrives there.
    is_elsewhere: bool,
    /// For the self-test.
    bound_within: Bound,
    own: Vec<(IpAddr, IpNet)>,
    resolver: Resolver,
    audit: AuditOutput,
    counters: Arc<Counters>,
    memory: Option<Arc<Memory>>,
    captured: Option<Captured>,
    lowered: Option<String>,
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
    /// A parent proxy was asked for, and the policy forbids one.
    #[error(
        "the parent proxy {0} may not be used: the policy forbids one (allow_upstream_proxy = false)"
    )]
    ParentForbidden(ParentUrl),
    /// The parent proxy would be this one.
    #[error("the parent proxy {0} is this proxy itself")]
    ParentIsSelf(ParentUrl),
    /// A variable that names the parent proxy is no URL of one.
    #[error(
        "{variable} names no parent proxy: {error}; the policy takes one from there \
         (allow_upstream_proxy = true)"
    )]
    ParentUrl {
        /// Which variable.
        variable: &'static str,
        /// What is wrong with it.
        error: ParentUrlError,
    },
    /// The policy cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The policy has errors.
    #[error("policy {} cannot be used", .0.source.path())]
    Rejected(Box<Rejected>),
    /// The proxy does not refuse what it must.
    #[error(transparent)]
    SelfTest(#[from] SelfTestError),
    /// There are no threads to serve with.
    #[error(transparent)]
    Workers(#[from] WorkersError),
}

impl Opened {
    /// Reads the policy, binds, and opens the rest, with as many descriptors as the process can
    /// get. `system_file` is
    /// [`source::SYSTEM_FILE`](crate::source::SYSTEM_FILE) but for tests.
    ///
    /// # Errors
    ///
    /// Whatever is missing or wrong; nothing is left running.
    pub fn new(mut settings: Settings, system_file: &Path) -> Result<Self, StartError> {
        let lowered = descriptors::raise(&mut settings.limits, settings.asked);
        let source = PolicySource::locate(&settings.chosen, system_file)?;
        let source = Arc::new(match settings.permissions {
            Permissions::Checked => source.guarded(),
            Permissions::Insecure => source,
        });
        let snapshot = source.read()?;
        let applied =
            apply(&snapshot).map_err(|rejected| StartError::Rejected(Box::new(rejected)))?;
        if applied.ruleset.allow_local_binding == Some(false) && !settings.private.is_empty() {
            tracing::warn!(
                "`[egress] private` has no effect: the policy writes allow_local_binding = false"
            );
        }
        let parent = ParentFound::look(&settings.parent, applied.ruleset.allow_upstream_proxy)?;
        let listeners = listeners(&settings, &applied.ruleset)?;
        let bound_within = Bound::on_loopback()?;
        let own = own_networks()?;
        let resolver = Resolver::new(&settings.dns, settings.timeouts.dns)?;
        let audit = AuditOutput::open(&settings.audit)?;
        let counters = Arc::default();
        Ok(Self {
            settings,
            source,
            snapshot,
            applied,
            parent,
            listeners,
            is_elsewhere: false,
            bound_within,
            own,
            resolver,
            audit,
            counters,
            memory: None,
            captured: None,
            lowered,
        })
    }

    /// Accepts on a socket that somebody else listens on already, in another network, in place of its
    /// own.
    ///
    /// # Errors
    ///
    /// It is no socket that can be accepted on.
    pub fn accept_on(self, listener: TcpListener) -> Result<Self, StartError> {
        let http = Endpoint::Tcp(Bound::adopt(listener)?);
        let listeners = Listeners { http, socks: None, transparent: Vec::new() };
        Ok(Self { listeners, is_elsewhere: true, ..self })
    }

    /// Serves connections that were meant for other hosts too, and arrive there.
    ///
    /// # Errors
    ///
    /// It is no socket that can be accepted on.
    pub fn capture(
        self,
        listener: TcpListener,
        destinations: Destinations,
    ) -> Result<Self, StartError> {
        let captured = Captured { socket: Bound::adopt(listener)?, destinations };
        Ok(Self { captured: Some(captured), ..self })
    }

    /// Tells of each record, whatever the audit is.
    #[must_use]
    pub fn remember(self, memory: Arc<Memory>) -> Self {
        Self { memory: Some(memory), ..self }
    }

    /// Where it will listen for HTTP.
    #[must_use]
    pub fn place(&self) -> Place {
        self.listeners.http.place()
    }

    /// Gives up everything that the proxy will not need, and says what that is. To be called before
    /// any other thread runs.
    ///
    /// What must go on working: policy files are replaced or linked anew, the audit file is opened
    /// anew after it was moved away, a unix socket is removed at the end. DNS configuration, hosts file and settings have been read.
    #[must_use]
    pub fn confine(&self) -> Confinement {
        let write = match &self.settings.audit {
            AuditTarget::File(path) => audit_places(path),
            AuditTarget::Off | AuditTarget::Stderr | AuditTarget::Stdout => Vec::new(),
        };
        let counters = Arc::clone(&self.counters);
        let refused = move |number| {
            counters.calls_refused.increment();
            // Whoever tries once may try without end: the log must not grow with it.
            let times = counters.calls_refused.get();
            if times.is_power_of_two() {
                tracing::error!(
                    number,
                    times,
                    "this process made a system call that a proxy never makes, and was refused: \
                     it may be under attack"
                );
            }
        };
        let Listeners { http, socks, .. } = &self.listeners;
        let remove: BTreeSet<PathBuf> = [Some(http), socks.as_ref()]
            .into_iter()
            .filter_map(|endpoint| match endpoint?.place() {
                Place::Tcp(_) => None,
                Place::Unix(path) => path.parent().map(Path::to_owned),
            })
            .collect();
        let ruleset = &self.applied.ruleset;
        // Whether they are there yet or not.
        let sockets = ruleset.allows_sockets().then(|| ruleset.allowed_sockets());
        let connect = sockets.into_iter().flatten().map(PathBuf::from).collect();
        confine(
            &Files {
                read: self.source.places(),
                write,
                remove: remove.into_iter().collect(),
                connect,
            },
            refused,
        )
    }

    /// Whether the operator wants it confined.
    #[must_use]
    pub fn confinement(&self) -> Confine {
        self.settings.confine
    }

    /// Puts everything together, sees a refusal, and starts to accept, with so many threads. Must be
    /// called inside a runtime.
    ///
    /// # Errors
    ///
    /// The runtime cannot watch the listening socket, or what must be refused is not.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves tasks behind that end with the runtime.
    pub async fn start(self, threads: NonZero<usize>) -> Result<App, StartError> {
        let mut summary = summary(&self.source, &self.applied);
        let Applied { ruleset, warnings, .. } = self.applied;
        let settings = self.settings;
        let is_recorded = settings.audit != AuditTarget::Off || self.memory.is_some();
        if settings.mode == Mode::Observe && !is_recorded {
            tracing::warn!("observed requests are not recorded: the audit is off");
        }
        let Listeners { http, socks, transparent } = &self.listeners;
        let transparent: Vec<Place> = transparent.iter().map(Endpoint::place).collect();
        let (place, socks_place) = (http.place(), socks.as_ref().map(Endpoint::place));
        let clients = settings
            .listen
            .clients
            .clone()
            .unwrap_or_else(|| default_clients(&self.listeners, &self.own));
        let egress = Egress {
            listeners: match self.is_elsewhere {
                true => Vec::new(),
                false => [Some(&place), socks_place.as_ref()]
                    .into_iter()
                    .flatten()
                    .chain(&transparent)
                    .filter_map(Place::address)
                    .collect(),
            },
            own_addresses: self.own.iter().map(|(address, _)| *address).collect(),
            ..settings.egress()
        };
        if let Some(found) = &self.parent {
            if found.is_among(&egress) {
                return Err(StartError::ParentIsSelf(found.url.clone()));
            }
            summary.push_str(&format!("; {found}"));
        }
        let (audit, audit_end) =
            Audit::start(self.audit, self.memory, settings.audit_queue, Arc::clone(&self.counters));
        let unix_sockets = match ruleset.allows_sockets() {
            true => UnixSockets::Open,
            false => UnixSockets::Closed,
        };
        let policy = Policy::new(ruleset, egress.clone(), 1);
        let (policies, policy) = watch::channel(Arc::new(policy));
        let limits = settings.limits;
        let drain = settings.timeouts.drain;
        let context = Arc::new(Context {
            policy,
            resolver: self.resolver,
            parent: self.parent.as_ref().map(|found| {
                let settings = settings.parent;
                Parent::new(found.url.clone(), settings.except, settings.ask)
            }),
            pool: Pool::new(
                limits.idle_per_origin,
                limits.idle_origins,
                settings.timeouts.idle_origin,
            ),
            audit,
            counters: self.counters,
            clients,
            own_addresses: egress.own_addresses.clone(),
            own_connections: (!transparent.is_empty()).then(OwnConnections::default),
            places: Places::new(&limits),
            limits,
            pipes: Pipes::new(settings.splice),
            timeouts: settings.timeouts,
            tls: Arc::new(settings.tls),
            tasks: TaskTracker::new(),
            drain: CancellationToken::new(),
            abort: CancellationToken::new(),
            destinations: self.captured.as_ref().map(|it| Arc::clone(&it.destinations)),
            unix_sockets,
            requests: AtomicU64::new(0),
        });
        let own_address = self.bound_within.address();
        let tested = self_test(self.bound_within.into_listener()?, own_address, &context).await?;
        let workers = Workers::start(tested, self.listeners, threads, &context)?;
        if let Some(captured) = self.captured {
            let accepting = captured.listen(Arc::clone(&context))?;
            context.tasks.spawn(accepting);
        }
        Ok(App {
            place,
            socks: socks_place,
            transparent,
            context,
            workers,
            policies,
            egress,
            source: self.source,
            snapshot: self.snapshot,
            parent: self.parent,
            summary,
            lowered: self.lowered,
            warnings,
            audit_end,
            drain,
        })
    }
}

/// The directories in which an audit file is opened anew: of its name, and of what a link leads to.
/// Of a device or a pipe only itself, and of a file in the root directory too.
fn audit_places(path: &Path) -> Vec<PathBuf> {
    let parent =
        |path: &Path| path.parent().filter(|parent| parent.parent().is_some()).map(Path::to_owned);
    let named = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let real = path.canonicalize().unwrap_or_else(|_| named.clone());
    let mut places = match real.is_file() {
        true => [parent(&named), parent(&real)].into_iter().flatten().collect(),
        false => Vec::new(),
    };
    places.dedup();
    if places.is_empty() {
        places.push(real);
    }
    places
}

/// Binds wherever clients are to connect.
fn listeners(settings: &Settings, ruleset: &Ruleset) -> Result<Listeners, StartError> {
    let on_loopback = |port| Place::from(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let http = settings.listen.http.clone().unwrap_or_else(|| {
        on_loopback(ruleset.http_port.map_or(Listen::DEFAULT_PORT, |port| port.number()))
    });
    let socks = match &settings.listen.socks {
        Socks::At(place) => Some(place.clone()),
        Socks::Off => None,
        Socks::OfPolicy => ruleset.socks_port.map(|port| on_loopback(port.number())),
    };
    let bind = |place: Place| -> Result<Endpoint, StartError> {
        if let Place::Tcp(address) = place {
            may_listen(address, settings, ruleset)?;
        }
        Ok(Endpoint::new(&place)?)
    };
    let transparent = settings.listen.transparent.iter().map(|address| bind((*address).into()));
    Ok(Listeners {
        http: bind(http)?,
        socks: socks.map(bind).transpose()?,
        transparent: transparent.collect::<Result<_, _>>()?,
    })
}

/// Loopback, or what is allowed beyond it.
fn may_listen(
    address: SocketAddr,
    settings: &Settings,
    ruleset: &Ruleset,
) -> Result<(), StartError> {
    if address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    match (ruleset.allow_non_loopback_proxy, settings.listen.allow_non_loopback) {
        (Some(true), _) | (None, true) => Ok(()),
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
fn default_clients(listeners: &Listeners, own: &[(IpAddr, IpNet)]) -> Vec<IpNet> {
    let Listeners { http, socks, transparent } = listeners;
    let is_loopback = [http].into_iter().chain(socks).chain(transparent).all(Endpoint::is_local);
    let loopback = ["127.0.0.0/8", "::1/128"].iter().filter_map(|range| range.parse().ok());
    let subnets = own.iter().map(|(_, network)| *network).filter(|_| !is_loopback);
    loopback.chain(subnets).collect()
}
