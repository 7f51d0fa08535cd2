//! `exeat serve`: the proxy, until SIGTERM or SIGINT.

use std::{net::SocketAddr, num::NonZero, path::Path, sync::Arc, time::Duration};

use clap::Args;
use tokio::{runtime::Builder, sync::Notify};

use super::{
    Exit, complain,
    mode::ModeArg,
    parent::ParentArgs,
    policy::{PolicyArgs, show, show_rejected},
    say,
    settings::SettingsArgs,
};
use crate::{
    app::{Opened, StartError},
    observe::start_log,
    policy::Mode,
    settings::{Confine, Environment, Flags, Permissions, Place, Settings, Socks, parse_duration},
    source::SYSTEM_FILE,
};

/// How long what still blocks at the end may take.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    parent: ParentArgs,
    /// Where to listen: an address and a port, 0 for a free one, or `unix:` and a path [default:
    /// `$EXEAT_LISTEN`, then 127.0.0.1 and the policy's `http_port`, or 3128]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<Place>,
    /// Where to listen for SOCKS5 too, or `off` [default: `$EXEAT_SOCKS`, then 127.0.0.1 and the
    /// policy's `socks_port`, or nowhere]
    #[arg(long, value_name = "ADDR:PORT")]
    socks: Option<Socks>,
    /// Where connections arrive that nftables or iptables redirect, which were meant for other hosts;
    /// once for each address [default: `$EXEAT_TRANSPARENT`]
    #[arg(long, value_name = "ADDR:PORT")]
    transparent: Vec<SocketAddr>,
    /// Allow --listen and its like beyond loopback, for containers [default: `$EXEAT_ALLOW_NON_LOOPBACK`]
    #[arg(long)]
    allow_non_loopback: bool,
    /// Where audit records go: stdout, stderr, off or a file [default: `$EXEAT_AUDIT`, then stdout]
    #[arg(long, value_name = "TARGET")]
    audit: Option<String>,
    /// `observe` lets through and records hosts that no rule speaks about, so that `exeat suggest`
    /// can say what a policy would have to allow. Only what is denied or local is still refused
    #[arg(long, value_name = "MODE", value_enum, default_value_t = ModeArg::Enforce)]
    mode: ModeArg,
    /// How long work in progress may take after SIGTERM or SIGINT [default: `$EXEAT_DRAIN`, then
    /// 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    drain: Option<Duration>,
    /// Take policy and settings files even if another unprivileged user could change them
    #[arg(long)]
    insecure_policy_permissions: bool,
    /// Keep all rights of the user, instead of giving up what a proxy does not need
    #[arg(long)]
    no_confine: bool,
}

impl Serve {
    pub(super) fn run(self, environment: Environment) -> Exit {
        if let Err(error) = start_log(environment.log.as_deref()) {
            return complain(&error, Exit::Config);
        }
        let permissions = Permissions::of_flag(self.insecure_policy_permissions);
        let file = match self.settings.read(&environment, permissions) {
            Ok(file) => file,
            Err(exit) => return exit,
        };
        let parent = match self.parent.read() {
            Ok(parent) => parent,
            Err(exit) => return exit,
        };
        let flags = Flags { parent, ..self.into_flags() };
        let settings = Settings::resolve(flags, environment, file);
        let opened = match Opened::new(settings, Path::new(SYSTEM_FILE)) {
            Ok(opened) => opened,
            Err(error) => return cannot_start(&error),
        };
        // Asked for before confinement, which hides the files that limits of containers are in.
        let threads = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
        // Threads inherit it, so it comes before the first of them.
        match opened.confinement() {
            Confine::Confined => say(&format!("exeat: {}", opened.confine())),
            Confine::Unconfined => say("exeat: not confined (--no-confine)"),
        }
        // For what goes on beside: the threads that serve have their own.
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                return complain(&format!("cannot start: {error}"), Exit::Unavailable);
            }
        };
        let exit = runtime.block_on(serve(opened, threads));
        // A blocking read that never ends must not keep the program.
        runtime.shutdown_timeout(PATIENCE);
        exit
    }

    fn into_flags(self) -> Flags {
        Flags {
            requirements: self.policy.requirements,
            preset: self.policy.preset,
            listen: self.listen,
            socks: self.socks,
            transparent: self.transparent,
            allow_non_loopback: self.allow_non_loopback,
            audit: self.audit,
            mode: self.mode.into(),
            drain: self.drain,
            parent: None,
            insecure_policy_permissions: self.insecure_policy_permissions,
            no_confine: self.no_confine,
        }
    }
}

async fn serve(opened: Opened, threads: NonZero<usize>) -> Exit {
    let app = match opened.start(threads).await {
        Ok(app) => app,
        Err(error) => return cannot_start(&error),
    };
    let hangup = Arc::new(Notify::new());
    let shutdown = match signals(Arc::clone(&hangup)) {
        Ok(shutdown) => shutdown,
        Err(error) => {
            return complain(&format!("cannot listen for signals: {error}"), Exit::Unavailable);
        }
    };
    let (warnings, text) = app.warnings();
    show(warnings, &text, app.policy_name());
    let lowered = app.lowered_limits().map_or_else(String::new, |limits| format!("; {limits}"));
    let observes = match app.mode() {
        Mode::Enforce => "",
        Mode::Observe => {
            say(
                "exeat: OBSERVE MODE: hosts that no rule speaks about are let through and recorded \
                 (`network.policy.override`), not refused; agents can reach nearly everything",
            );
            "; OBSERVING, not enforcing"
        }
    };
    let shown = |scheme: &str, place: &Place| match place {
        Place::Tcp(address) => format!("{scheme}://{address}"),
        Place::Unix(_) => format!("{scheme} at {place}"),
    };
    let socks = app.socks_place().map(|place| format!(" and {}", shown("socks5h", place)));
    let socks = socks.unwrap_or_default();
    let transparent: String = app
        .transparent_places()
        .iter()
        .map(|place| format!(" and transparently at {place}"))
        .collect();
    say(&format!(
        "exeat: listening on {}{socks}{transparent}; {}{lowered}{observes}",
        shown("http", app.place()),
        app.policy_summary()
    ));
    app.run(shutdown, hangup).await;
    Exit::Success
}

pub(super) fn cannot_start(error: &StartError) -> Exit {
    match error {
        StartError::Rejected(rejected) => show_rejected(rejected),
        StartError::Locate(_)
        | StartError::NotLoopback { .. }
        | StartError::ParentForbidden(_)
        | StartError::ParentIsSelf(_)
        | StartError::ParentUrl { .. }
        | StartError::Read(_) => complain(error, Exit::Config),
        StartError::Audit(_)
        | StartError::Dns(_)
        | StartError::Interfaces(_)
        | StartError::Listen(_)
        | StartError::Workers(_) => complain(error, Exit::Unavailable),
        StartError::SelfTest(_) => complain(error, Exit::Software),
    }
}

/// SIGTERM and SIGINT end the future; SIGHUP notifies, as often as it comes.
#[cfg(unix)]
fn signals(hangup: Arc<Notify>) -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hup = signal(SignalKind::hangup())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hup.recv() => hangup.notify_one(),
            }
        }
    })
}

/// Control-C ends the future; there is no SIGHUP, the watched file is enough.
#[cfg(not(unix))]
fn signals(_: Arc<Notify>) -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        tokio::signal::ctrl_c().await.ok();
    })
}
