//! Giving up what a running proxy does not need, so that a fault in it opens nothing else.
//!
//! After [`confine`] the calling thread, and every thread it starts later, has no capabilities and
//! cannot gain any; opens files only where [`Files`] says; and gets `EPERM` for the system calls
//! that a proxy never makes. It cannot be undone.
//!
//! Nothing here decides what is needed: that is `app`'s. What the kernel lacks is said and left
//! out: a proxy that is less confined is better than none.

#[cfg(target_os = "linux")]
#[cfg(any(target_arch = "aarch64", target_arch = "riscv64", target_arch = "x86_64"))]
mod calls;
#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod ports;
#[cfg(target_os = "linux")]
mod privileges;
#[cfg(target_os = "linux")]
mod scope;
#[cfg(target_os = "linux")]
#[cfg(any(target_arch = "aarch64", target_arch = "riscv64", target_arch = "x86_64"))]
mod trap;

use std::{fmt, path::PathBuf};

/// Where files may still be opened: directories with all below them, or single files. What is not
/// there is left out. What is open already stays open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// To be read.
    pub read: Vec<PathBuf>,
    /// To be written, and in directories to be created.
    pub write: Vec<PathBuf>,
    /// Directories in which files may be removed.
    pub remove: Vec<PathBuf>,
    /// Unix sockets that may be connected to; none: no unix socket is opened at all.
    pub connect: Vec<PathBuf>,
}

/// What is in force, and what is not and why. Displayed as one line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confinement {
    /// The parts in force.
    pub in_force: Vec<String>,
    /// The parts that are not, each with the reason.
    pub missing: Vec<String>,
}

/// Confines the calling thread and all that it starts. Call it before any other thread runs, and
/// once. `refused` hears the number of each system call that was tried in vain, but those that start
/// processes, on a thread of its own.
#[cfg(target_os = "linux")]
#[must_use]
pub fn confine(files: &Files, refused: impl Fn(i32) + Send + 'static) -> Confinement {
    let mut confinement = Confinement::default();
    #[cfg(any(target_arch = "aarch64", target_arch = "riscv64", target_arch = "x86_64"))]
    let calls =
        calls::Calls { remove: !files.remove.is_empty(), unix_sockets: !files.connect.is_empty() };
    // In this order: Landlock and seccomp want no_new_privs, and seccomp forbids the rest.
    confinement.note("no new privileges", privileges::gain_none());
    confinement.note("files", files::restrict(files));
    confinement.note("capabilities", privileges::drop_capabilities());
    #[cfg(any(target_arch = "aarch64", target_arch = "riscv64", target_arch = "x86_64"))]
    confinement.note("system calls", calls::filter(&calls, refused));
    #[cfg(not(any(target_arch = "aarch64", target_arch = "riscv64", target_arch = "x86_64")))]
    confinement.note("system calls", Err("no filter for this kind of processor".into()));
    confinement
}

/// Leaves the calling thread, and what it becomes, without capabilities and without a way to gain
/// any: set-user-ID programs included, and user 0.
///
/// # Errors
///
/// What the kernel refuses; some may be left.
#[cfg(target_os = "linux")]
pub fn give_up_privileges() -> Result<(), String> {
    privileges::gain_none()?;
    privileges::drop_capabilities()?;
    privileges::none_can_be_had()
}

/// Keeps signals of the calling thread, and of what it becomes, to what it starts, where the kernel
/// knows how (Linux 6.12): processes outside belong to the same user. To be called after
/// [`give_up_privileges`].
///
/// # Errors
///
/// The kernel knows how, and refuses.
#[cfg(target_os = "linux")]
pub fn keep_signals_within() -> Result<(), String> {
    scope::restrict()
}

/// Leaves the calling thread, and what it becomes, only sockets that a network namespace holds, or
/// paths, no way to type into its terminal, and no limits but its own to change. To be called after
/// [`give_up_privileges`].
///
/// # Errors
///
/// What the kernel refuses.
#[cfg(target_os = "linux")]
pub fn close_ways_around() -> Result<(), String> {
    #[cfg(any(target_arch = "aarch64", target_arch = "riscv64", target_arch = "x86_64"))]
    return calls::close_ways_around();
    #[cfg(not(any(target_arch = "aarch64", target_arch = "riscv64", target_arch = "x86_64")))]
    Err("no filter for this kind of processor".into())
}

/// Leaves the calling thread, and what it becomes, TCP to one port, of whatever host, and no other
/// internet protocol.
///
/// # Errors
///
/// What the kernel refuses or does not know.
#[cfg(target_os = "linux")]
pub fn only_connect_to(port: u16) -> Result<(), String> {
    privileges::gain_none()?;
    ports::restrict(port)?;
    #[cfg(any(target_arch = "aarch64", target_arch = "riscv64", target_arch = "x86_64"))]
    return calls::only_tcp();
    #[cfg(not(any(target_arch = "aarch64", target_arch = "riscv64", target_arch = "x86_64")))]
    Err("no filter for this kind of processor".into())
}

/// Whether this kernel can do that.
///
/// # Errors
///
/// Why not.
#[cfg(target_os = "linux")]
pub fn can_restrict_ports() -> Result<(), String> {
    ports::can_restrict()
}

/// Confines nothing: only Linux is confined.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn confine(_: &Files, _: impl Fn(i32) + Send + 'static) -> Confinement {
    let mut confinement = Confinement::default();
    confinement.note("everything", Err("only Linux is confined".into()));
    confinement
}

impl Confinement {
    fn note(&mut self, part: &str, done: Result<String, String>) {
        match done {
            Ok(how) => self.in_force.push(how),
            Err(why) => self.missing.push(format!("{part} ({why})")),
        }
    }
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.in_force.as_slice() {
            [] => f.write_str("not confined")?,
            parts => write!(f, "confined: {}", parts.join(", "))?,
        }
        match self.missing.as_slice() {
            [] => Ok(()),
            parts => write!(f, "; not restricted: {}", parts.join(", ")),
        }
    }
}
