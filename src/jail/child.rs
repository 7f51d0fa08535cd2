//! The program that is run: signals are passed on to it, and its end is ours.

use std::{io, process::ExitStatus};

use tokio::process::Child;

/// The signals that are passed on. To be made before the child, so that none ends this process
/// instead of being passed on.
#[cfg(unix)]
#[derive(Debug)]
pub struct Signals {
    interrupt: Source,
    quit: Source,
    terminate: Source,
    user1: Source,
    user2: Source,
    /// None where it may be ignored (nohup): the child is to inherit that, and a handler would undo it.
    hangup: Option<Source>,
}

#[cfg(unix)]
use tokio::signal::unix::{Signal as Source, SignalKind, signal};

#[cfg(unix)]
impl Signals {
    /// Begins to take them. Must be called inside a runtime.
    ///
    /// # Errors
    ///
    /// The system does not let a handler be installed.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
            hangup: match may_ignore_hangups() {
                true => None,
                false => Some(signal(SignalKind::hangup())?),
            },
        })
    }
}

/// Whether this process was started such that hang-ups do not end it. There is no way to ask but
/// Linux's without unsafe code.
#[cfg(unix)]
fn may_ignore_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The first bit is the first signal, SIGHUP.
    ignored.is_none_or(|mask| mask & 1 == 1)
}

/// Waits for the child's end, and passes on what this process is sent.
///
/// What a terminal sends by keys goes to all processes in its foreground, the child among them; it
/// is not passed on a second time.
///
/// # Errors
///
/// The child cannot be waited for.
#[cfg(unix)]
pub async fn wait(mut child: Child, mut signals: Signals) -> io::Result<ExitStatus> {
    use rustix::process::{Pid, Signal, kill_process};

    let mut hangup = match signals.hangup {
        Some(hangup) => hangup,
        None => signal(SignalKind::hangup())?,
    };
    loop {
        let (number, is_by_key) = tokio::select! {
            status = child.wait() => return status,
            _ = signals.interrupt.recv() => (Signal::INT, true),
            _ = signals.quit.recv() => (Signal::QUIT, true),
            _ = signals.terminate.recv() => (Signal::TERM, false),
            _ = signals.user1.recv() => (Signal::USR1, false),
            _ = signals.user2.recv() => (Signal::USR2, false),
            _ = hangup.recv() => (Signal::HUP, false),
        };
        if is_by_key && is_in_foreground() {
            continue;
        }
        // None once it was waited for: the number is nobody else's before.
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            kill_process(pid, number).ok();
        }
    }
}

/// Whether keys of the terminal reach this process and its child.
#[cfg(unix)]
fn is_in_foreground() -> bool {
    let terminal = std::fs::File::open("/dev/tty");
    terminal.is_ok_and(|terminal| {
        rustix::termios::tcgetpgrp(&terminal)
            .is_ok_and(|foreground| foreground == rustix::process::getpgrp())
    })
}

/// The exit code that tells of it, as shells do: 128 and the signal.
#[cfg(unix)]
#[must_use]
pub fn exit_code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// Nothing is passed on: keys reach the child by themselves.
#[cfg(not(unix))]
#[derive(Debug)]
pub struct Signals;

#[cfg(not(unix))]
impl Signals {
    /// Nothing can go wrong.
    ///
    /// # Errors
    ///
    /// None.
    pub fn new() -> io::Result<Self> {
        Ok(Self)
    }
}

/// Waits for the child's end. Control-C, which it gets too, does not end this process before it.
///
/// # Errors
///
/// The child cannot be waited for.
#[cfg(not(unix))]
pub async fn wait(mut child: Child, _: Signals) -> io::Result<ExitStatus> {
    loop {
        tokio::select! {
            status = child.wait() => return status,
            _ = tokio::signal::ctrl_c() => {}
        }
    }
}

/// The exit code that tells of it, as far as it fits.
#[cfg(not(unix))]
#[must_use]
pub fn exit_code(status: ExitStatus) -> u8 {
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
