//! What the kernel shows of itself, as files that belong to root or to whoever was given them. To
//! write there is to reach out, whatever capabilities there are: to name a program that the kernel starts
//! outside of all namespaces (`core_pattern` in core(5), `binfmt_misc`), to end the processes of a
//! cgroup (`cgroup.kill`), to press keys of the console (`sysrq-trigger`).

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, mount_bind_recursive, mount_remount};

use super::{
    Fault,
    mounts::{Mount, Mounts},
};

/// What of proc(5) is not about a process. In the rest, programs write about themselves.
const OF_PROC: &[&str] = &["/bus", "/fs", "/irq", "/sys", "/sysrq-trigger"];

/// Makes it read-only, wherever it is mounted. To be called before anything is covered, in the
/// mount namespace of the jail.
pub(super) fn keep() -> Result<(), Fault> {
    let mounts = Mounts::read();
    let (of_proc, others): (Vec<&Mount>, Vec<&Mount>) =
        mounts.iter().filter(|it| it.is_the_kernels()).partition(|mount| mount.kind == "proc");
    let cannot = |path: &Path, error: io::Error| {
        Fault::new(&format!("cannot make {} read-only", path.display()), error, "")
    };
    // To others they are read-only as they are.
    if rustix::process::geteuid().is_root() {
        let parts: BTreeSet<PathBuf> = of_proc.into_iter().flat_map(parts).collect();
        for path in parts.iter().filter(|path| is_there(path)) {
            mount_bind_recursive(path, path).map_err(|error| cannot(path, error.into()))?;
            read_only(path).map_err(|error| cannot(path, error))?;
        }
    }
    for mount in others {
        let is_seen = mounts.at(&mount.point) == Some(mount);
        if is_seen && is_there(&mount.point) {
            read_only(&mount.point).map_err(|error| cannot(&mount.point, error))?;
        }
    }
    Ok(())
}

/// Where a mount has them: in all of proc(5), or in a part of it.
fn parts(mount: &Mount) -> Vec<PathBuf> {
    let part = |part: &&str| match mount.root.starts_with(part) {
        true => Some(mount.point.clone()),
        false => mount.outside(Path::new(part)),
    };
    OF_PROC.iter().filter_map(part).collect()
}

/// Where this user may not look, nothing is written.
fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn read_only(path: &Path) -> io::Result<()> {
    // A mount of a container's keeps its flags: fewer would be refused.
    let flags = MountFlags::BIND
        | MountFlags::RDONLY
        | MountFlags::NOSUID
        | MountFlags::NODEV
        | MountFlags::NOEXEC;
    Ok(mount_remount(path, flags, c"")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_in_whole_and_partial_mounts() {
        let parts = |line: &str| parts(Mounts::parse(line.as_bytes()).iter().next().unwrap());
        let whole = parts("1 0 0:5 / /srv/proc rw - proc proc rw");
        let all = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
        assert_eq!(whole, all.map(|part| Path::new("/srv/proc").join(part)));
        let here = [PathBuf::from("/srv/x")];
        assert_eq!(parts("1 0 0:5 /sys /srv/x rw - proc proc rw"), here);
        assert_eq!(parts("1 0 0:5 /sys/kernel /srv/x rw - proc proc rw"), here);
        assert_eq!(parts("1 0 0:5 /self /srv/x rw - proc proc rw"), Vec::<PathBuf>::new());
    }
}
