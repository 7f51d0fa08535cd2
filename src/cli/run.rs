//! `exeat run`: a program, with a private proxy that it goes through, in a jail where there is one.

use std::{
    ffi::{OsStr, OsString},
    future::pending,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    num::NonZero,
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus},
    sync::Arc,
    time::Duration,
};

use clap::{Args, ValueEnum};
use tokio::{runtime::Builder, sync::oneshot};

use super::{
    Exit, complain,
    mode::ModeArg,
    parent::ParentArgs,
    policy::{PolicyArgs, show},
    say,
    serve::cannot_start,
    settings::SettingsArgs,
    suggest::Suggested,
};
use crate::{
    app::{Opened, StartError},
    jail::{
        CELL, Cause, Cell, Descriptors, Fault, Loopback, Names, Outlets, Plugs, Published, Signals,
        Variable, Within, can_restrict, exit_code, publishable, variables, wait,
    },
    net::{Authority, Host, Port},
    observe::{Memory, start_log},
    policy::Mode,
    settings::{Environment, Flags, Permissions, Settings, Socks},
    source::SYSTEM_FILE,
};

#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    parent: ParentArgs,
    /// Where audit records go: stdout, stderr, off or a file [default: off, whatever else says so]
    #[arg(long, value_name = "TARGET")]
    audit: Option<String>,
    /// `observe` lets through hosts that no rule speaks about, and says at the end which they were.
    /// Only what is denied or local is still refused
    #[arg(long, value_name = "MODE", value_enum, default_value_t = ModeArg::Enforce)]
    mode: ModeArg,
    /// At the end, write here the requirements.toml that allows what was let through; a file that is
    /// there is replaced
    #[arg(long, value_name = "FILE")]
    suggest: Option<PathBuf>,
    /// Whether the program is kept from going around the proxy
    #[arg(long, value_enum, default_value_t = Jail::Auto)]
    jail: Jail,
    /// A port of the program's that can be connected to at 127.0.0.1 from outside the jail; may be
    /// repeated
    #[arg(long, value_name = "PORT", value_parser = port)]
    publish: Vec<Port>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// How much is asked of the jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Jail {
    /// If the system has one to give; if not, what is left of it, and two lines on stderr say so
    Auto,
    /// Or the program is not run
    Require,
    /// No: variables only
    Off,
}

/// How this program becomes the process that enters the jail (`inside`).
const ENTER: &[&str] = &["jail-inside"];

/// How long what the program leaves behind may take to finish.
const DRAIN: Duration = Duration::from_millis(500);

/// How long what still blocks at the end may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// What names a proxy to ours.
const PARENT: &str = "EXEAT_PARENT";

/// As shells have it: the program is there and cannot be run, or is not there.
const CANNOT_EXECUTE: u8 = 126;
const NOT_FOUND: u8 = 127;

impl Run {
    pub(super) fn run(self, environment: Environment) -> ExitCode {
        // The program has the terminal: what is no trouble is not said.
        if let Err(error) = start_log(environment.log.as_deref().or(Some("warn"))) {
            return complain(&error, Exit::Config).into();
        }
        let file = match self.settings.read(&environment, Permissions::Checked) {
            Ok(file) => file,
            Err(exit) => return exit.into(),
        };
        let parent = match self.parent.read() {
            Ok(parent) => parent,
            Err(exit) => return exit.into(),
        };
        let Self { policy, audit, jail, publish, mode, suggest, command, .. } = self;
        let flags = Flags {
            requirements: policy.requirements,
            preset: policy.preset,
            // Private: a port of the kernel's choice, and nobody but this machine.
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()),
            socks: Some(Socks::Off),
            audit: Some(audit.unwrap_or_else(|| "off".into())),
            mode: mode.into(),
            drain: Some(DRAIN),
            parent,
            ..Flags::default()
        };
        let mut settings = Settings::resolve(flags, environment, file);
        settings.listen.clients = None;
        settings.listen.transparent = Vec::new();
        let suggested = match suggest.map(Suggested::open).transpose() {
            Ok(suggested) => suggested,
            Err(exit) => return exit.into(),
        };
        let memory = Arc::new(Memory::default());
        // Must come before `Opened::new`, which raises the limit for the proxy's own use.
        let descriptors = Descriptors::of_now();
        let opened = match Opened::new(settings, Path::new(SYSTEM_FILE)) {
            Ok(opened) => opened.remember(Arc::clone(&memory)),
            Err(error) => return cannot_start(&error).into(),
        };
        // For what goes on beside: the threads that serve have their own.
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                return complain(&format!("cannot start: {error}"), Exit::Unavailable).into();
            }
        };
        let ended = runtime.block_on(run(opened, jail, &publish, &descriptors, &command));
        runtime.shutdown_timeout(PATIENCE);
        let summary = memory.refusals.to_string();
        if !summary.is_empty() {
            say(&summary);
        }
        let status = match ended {
            Ok(status) => status,
            Err(failed) => return failed,
        };
        match suggested.map(|suggested| suggested.write(memory.demand())) {
            // What went wrong in the program is said rather than this.
            Some(Err(exit)) if status.success() => exit.into(),
            Some(Ok(()) | Err(_)) | None => exit_code(status).into(),
        }
    }
}

/// A program that is there and waits for its proxy.
enum Waiting {
    /// In a jail.
    Jailed(Jailed),
    /// Outside of any, not started yet.
    Unjailed(tokio::process::Command),
}

/// What is served beside the proxy, when there is a jail.
struct Jailed {
    cell: Cell,
    /// With names that stand for nothing outside, if it captures connections.
    names: Option<(Arc<Names>, UdpSocket)>,
    published: Published,
    plugs: Plugs,
}

/// Serves the program until it ends.
async fn run(
    opened: Opened,
    jail: Jail,
    publish: &[Port],
    descriptors: &Descriptors,
    command: &[OsString],
) -> Result<ExitStatus, ExitCode> {
    let signals = Signals::new().map_err(|error| unavailable(&error))?;
    let (waiting, opened) = descriptors.restored(|| prepare(opened, jail, publish, command))?;
    let threads = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let app = opened.start(threads).await.map_err(|error| cannot_start(&error))?;
    let (warnings, text) = app.warnings();
    show(warnings, &text, app.policy_name());
    match app.mode() {
        Mode::Enforce => {}
        Mode::Observe => say(
            "exeat: OBSERVE MODE: hosts that no rule speaks about are let through and counted, not \
             refused; the program can reach nearly everything",
        ),
    }
    let (child, names, published) = match waiting {
        Waiting::Jailed(Jailed { cell, names, published, plugs }) => {
            let child = cell.open().map_err(|fault| no_jail(&fault))?;
            (child, names, Some((published, plugs)))
        }
        Waiting::Unjailed(mut command) => {
            let child = descriptors
                .restored(|| command.spawn())
                .map_err(|error| cannot_run(command.as_std().get_program(), &error))?;
            (child, None, None)
        }
    };
    let naming = async {
        if let Some((names, socket)) = names {
            names.answer(socket).await?;
        }
        pending::<io::Result<()>>().await
    };
    let publishing = async {
        match published {
            Some((published, plugs)) => published.serve(plugs).await,
            None => pending().await,
        }
    };
    let (ended, end) = oneshot::channel::<()>();
    let running = async {
        let status = tokio::select! {
            status = wait(child, signals) => status,
            Err(error) = naming => Err(error),
            () = publishing => Err(io::ErrorKind::Other.into()),
        };
        drop(ended);
        status
    };
    // Whoever is served could write the policy: it is what it was at the start.
    let serving = app.run_unwatched(async { end.await.unwrap_or_default() });
    let (status, ()) = tokio::join!(running, serving);
    status.map_err(|error| unavailable(&error))
}

/// Builds the jail that is asked for, and has the proxy accept in it.
fn prepare(
    opened: Opened,
    jail: Jail,
    publish: &[Port],
    command: &[OsString],
) -> Result<(Waiting, Opened), ExitCode> {
    let variables = |proxy, loopback| told(proxy, loopback).map_err(|error| unavailable(&error));
    // It was told to listen at a port, and at no path.
    let no_port = || unavailable(&io::ErrorKind::AddrNotAvailable.into());
    let address = opened.place().address().ok_or_else(no_port)?;
    if jail == Jail::Off {
        let command = unjailed(command, variables(address, Loopback::Shared)?)?;
        return Ok((Waiting::Unjailed(command), opened));
    }
    let (enter, outlets): (&[&str], Outlets) = match publish {
        [] => (&["--"], Outlets::None),
        [_, ..] => (&["--published", "--"], Outlets::Some),
    };
    let enter = [ENTER, enter].concat();
    match Cell::build(&enter, outlets, command, variables(CELL, Loopback::Own)?) {
        Ok((cell, within)) => jailed(opened, jail, publish, cell, within),
        Err(fault) => match (jail, fault.cause()) {
            (Jail::Auto, Cause::System) => {
                say(&format!("exeat: NOT JAILED, {fault}"));
                let waiting = fall_back(command, address, &variables)?;
                Ok((waiting, opened))
            }
            // Whoever can put something in the way must not be rid of the jail by that.
            (Jail::Auto, Cause::Obstacle) => {
                say("exeat: something is in the way; `--jail off` does without a jail");
                Err(no_jail(&fault))
            }
            (Jail::Require | Jail::Off, _) => Err(no_jail(&fault)),
        },
    }
}

/// Has the proxy accept in a jail, and this process at the ports that are published.
fn jailed(
    opened: Opened,
    jail: Jail,
    publish: &[Port],
    cell: Cell,
    within: Within,
) -> Result<(Waiting, Opened), ExitCode> {
    let Within { http, captured, plugs, missing } = within;
    for fault in &missing {
        if jail == Jail::Require {
            return Err(no_jail(fault));
        }
        say(&format!("exeat: jailed, but {fault}"));
    }
    let published =
        Published::listen(publish).map_err(|fault| complain(&fault, Exit::Unavailable))?;
    let mut opened = opened.accept_on(http).map_err(|error| cannot_start(&error))?;
    let mut names = None;
    if let Some(sockets) = captured {
        let (captured, known) = capture(opened, sockets).map_err(|error| cannot_start(&error))?;
        (opened, names) = (captured, Some(known));
    }
    Ok((Waiting::Jailed(Jailed { cell, names, published, plugs }), opened))
}

/// Has the proxy serve what a jail captures; the names are still to be answered for.
fn capture(
    opened: Opened,
    (listener, dns): (TcpListener, UdpSocket),
) -> Result<(Opened, (Arc<Names>, UdpSocket)), StartError> {
    let names = Arc::new(Names::default());
    let known = Arc::clone(&names);
    let destinations = Arc::new(move |address| known.meant_by(address));
    Ok((opened.capture(listener, destinations)?, (names, dns)))
}

/// What is left without a jail: where the kernel can, TCP to the proxy's port and nothing else of the
/// internet; and what that is worth.
fn fall_back(
    command: &[OsString],
    proxy: SocketAddr,
    variables: &impl Fn(SocketAddr, Loopback) -> Result<Vec<Variable>, ExitCode>,
) -> Result<Waiting, ExitCode> {
    let variables = variables(proxy, Loopback::Shared)?;
    let port = proxy.port();
    if let Err(why) = can_restrict() {
        say(&format!(
            "exeat: NOT JAILED: what ignores the proxy variables goes out unchecked ({why})"
        ));
        return unjailed(command, variables).map(Waiting::Unjailed);
    }
    say(&format!(
        "exeat: NOT JAILED: only port {port} can be connected to, but on any host; unix sockets are \
         open, and servers that it starts are the machine's (Landlock, seccomp)"
    ));
    let mut restricted = Command::new("/proc/self/exe");
    restricted.args([ENTER, &["--port", &port.to_string(), "--"]].concat()).args(command);
    restricted.envs(variables);
    Ok(Waiting::Unjailed(restricted.into()))
}

/// The program as it is.
fn unjailed(
    command: &[OsString],
    variables: Vec<Variable>,
) -> Result<tokio::process::Command, ExitCode> {
    let (program, arguments) =
        command.split_first().ok_or_else(|| unavailable(&io::ErrorKind::InvalidInput.into()))?;
    let mut command = Command::new(program);
    command.args(arguments).envs(variables);
    Ok(command.into())
}

/// What the program is told of the proxy.
fn told(proxy: SocketAddr, loopback: Loopback) -> io::Result<Vec<Variable>> {
    let exeat = std::env::current_exe()?;
    let port = Port::new(proxy.port()).ok_or(io::ErrorKind::AddrNotAvailable)?;
    let proxy = Authority { host: Host::from(proxy.ip()), port };
    let mut told = variables(&proxy, &exeat, loopback, |name| std::env::var_os(name));
    // Not its business, and there may be a password in it. Empty is unset.
    if std::env::var_os(PARENT).is_some() {
        told.push((PARENT.to_owned(), OsString::new()));
    }
    Ok(told)
}

fn port(text: &str) -> Result<Port, String> {
    let port = Port::parse(text.as_bytes()).map_err(|error| error.to_string())?;
    publishable(port).map_err(|error| error.to_string())
}

fn unavailable(error: &io::Error) -> ExitCode {
    complain(&format!("cannot start: {error}"), Exit::Unavailable).into()
}

fn no_jail(fault: &Fault) -> ExitCode {
    complain(&format!("no jail, {fault}"), Exit::Unavailable).into()
}

/// Says why a program does not run, and how that ends this one.
pub(super) fn cannot_run(program: &OsStr, error: &io::Error) -> ExitCode {
    let program = program.to_string_lossy();
    say(&format!("exeat: cannot run {}: {error}", program.escape_debug()));
    let is_there = error.kind() != io::ErrorKind::NotFound;
    ExitCode::from(if is_there { CANNOT_EXECUTE } else { NOT_FOUND })
}
