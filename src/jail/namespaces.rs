//! Namespaces of the program's own (namespaces(7)): a user namespace, which is what lets anybody
//! have the others, and within it network and mounts.
//!
//! The user keeps the number it has, so that files stay its own.

use std::{fs, io};

use nix::sched::{CloneFlags, unshare};
use rustix::process::{getegid, geteuid};

use super::Fault;

/// Where such namespaces are forbidden, and by whom.
const CURE: &str = "user namespaces are forbidden here; allow them (sysctl \
    user.max_user_namespaces > 0, kernel.unprivileged_userns_clone = 1, \
    kernel.apparmor_restrict_unprivileged_userns = 0; in a container a seccomp profile that lets \
    unshare pass)";

/// Puts this process in new namespaces. It must have one thread only.
pub(super) fn separate() -> Result<(), Fault> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .map_err(|error| Fault::new("cannot make namespaces", error.desc(), CURE))?;
    let write = |file: &str, text: &str| {
        fs::write(file, text)
            .map_err(|error: io::Error| Fault::new(&format!("cannot write {file}"), error, CURE))
    };
    // Without this the kernel refuses the map of groups (user_namespaces(7)).
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("{user} {user} 1"))?;
    write("/proc/self/gid_map", &format!("{group} {group} 1"))
}
