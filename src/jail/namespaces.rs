//! Namespaces of the program's own (namespaces(7)): a user namespace, which is what lets anybody
//! have the others, and within it network and mounts.
//!
//! The user keeps the number it has, so that files stay its own.

use std::{fs, io};

use nix::sched::{CloneFlags, unshare};
use rustix::{
    process::{getegid, geteuid},
    thread::{CapabilitySet, capabilities},
};

use super::{Cause, Fault};

/// Where such namespaces are forbidden, and by whom.
const CURE: &str = "user namespaces are forbidden here; allow them (sysctl \
    user.max_user_namespaces > 0, kernel.unprivileged_userns_clone = 1, \
    kernel.apparmor_restrict_unprivileged_userns = 0; in a container a seccomp profile that lets \
    unshare pass)";

/// The kernel gives user 0 a namespace of its own only with this capability (since Linux 5.12).
const ROOT: &str = "root needs CAP_SETFCAP for it, and has none within another jail; run it as \
    another user";

/// How many there may be, of each kind; 0 forbids them.
const LIMITS: &[&str] = &["user", "net", "mnt"];

/// Puts this process in new namespaces. It must have one thread only.
pub(super) fn separate() -> Result<(), Fault> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    // Of before: in the new namespace it has all.
    let held = capabilities(None).map(|sets| sets.effective);
    let is_bare_root = user == 0 && held.is_ok_and(|held| !held.contains(CapabilitySet::SETFCAP));
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .map_err(|error| refused("cannot make namespaces", &error.into()))?;
    let write = |file: &str, text: &str| {
        fs::write(file, text).map_err(|error| {
            let what = format!("cannot write {file}");
            match is_bare_root {
                true => Fault::new(&what, &error, ROOT).because(Cause::of(&error)),
                false => refused(&what, &error),
            }
        })
    };
    // Without this the kernel refuses the map of groups (user_namespaces(7)).
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("{user} {user} 1"))?;
    write("/proc/self/gid_map", &format!("{group} {group} 1"))
}

/// What comes with namespaces is not to be had: they are forbidden, or too many are in use, which a
/// program can bring about.
pub(super) fn refused(what: &str, error: &io::Error) -> Fault {
    let is_none = |kind: &str| {
        let limit = fs::read_to_string(format!("/proc/sys/user/max_{kind}_namespaces"));
        limit.is_ok_and(|limit| limit.trim() == "0")
    };
    let cause = match LIMITS.iter().any(|kind| is_none(kind)) {
        true => Cause::System,
        false => Cause::of(error),
    };
    let cure = match cause {
        Cause::System => CURE,
        Cause::Obstacle => {
            "end programs that have namespaces, or raise sysctl user.max_*_namespaces"
        }
    };
    Fault::new(what, error, cure).because(cause)
}
