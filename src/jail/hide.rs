//! Mounts of the jail's own (`mount_namespaces(7)`): over what the program must not reach.
//!
//! A mount namespace that belongs to another user namespace made within keeps these mounts as they
//! are: nobody inside can take them away.

use std::{
    ffi::CStr,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_remount,
};

use super::{
    Fault,
    sockets::{Places, is_socket},
};

/// Directories in which a user works, whatever else they hold.
const NEVER_COVERED: &[&str] = &["/", "/tmp", "/var/tmp"];

/// Covers all of it, or says what cannot be covered.
pub(super) fn hide(places: &Places) -> Result<(), Fault> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|error| Fault::new("cannot separate the jail's mounts", error, ""))?;
    let cannot = |path: &Path, error: io::Error| {
        Fault::new(&format!("cannot hide {}", path.display()), error, "")
    };
    let mut directories: Vec<PathBuf> = places.directories.iter().cloned().collect();
    for socket in &places.sockets {
        match socket.parent().filter(|parent| is_for_sockets(parent)) {
            Some(parent) if !directories.iter().any(|known| known == parent) => {
                directories.push(parent.to_owned());
            }
            Some(_) | None => {}
        }
    }
    if rustix::process::geteuid().is_root() {
        keep_settings().map_err(|error| cannot(Path::new(SETTINGS), error))?;
    }
    // What is below others comes later, and may be gone by then.
    directories.sort();
    for directory in &directories {
        cover_directory(directory).map_err(|error| cannot(directory, error))?;
    }
    for socket in places.sockets.iter().filter(|socket| is_socket(socket)) {
        // Nothing that can be connected to.
        mount_bind("/dev/null", socket).map_err(|error| cannot(socket, error.into()))?;
    }
    Ok(())
}

/// The kernel's settings belong to root, whatever its capabilities: one of them is a program that
/// the kernel starts outside of all namespaces (`core_pattern` in core(5)).
fn keep_settings() -> io::Result<()> {
    mount_bind(SETTINGS, SETTINGS)?;
    // A mount of a container's keeps its flags: fewer would be refused.
    let flags = MountFlags::BIND
        | MountFlags::RDONLY
        | MountFlags::NOSUID
        | MountFlags::NODEV
        | MountFlags::NOEXEC;
    Ok(mount_remount(SETTINGS, flags, c"")?)
}

const SETTINGS: &str = "/proc/sys";

/// Whether a directory holds nothing but sockets: those that come later are hidden too.
fn is_for_sockets(directory: &Path) -> bool {
    let is_home = std::env::home_dir().is_some_and(|home| home == directory);
    let is_workplace = std::env::current_dir().is_ok_and(|place| place.starts_with(directory));
    if is_home || is_workplace || NEVER_COVERED.iter().any(|place| Path::new(place) == directory) {
        return false;
    }
    fs::read_dir(directory).is_ok_and(|mut entries| {
        entries.all(|entry| entry.is_ok_and(|entry| is_socket(&entry.path())))
    })
}

/// An empty directory in its place, but for links: NixOS has its programs behind one in `/run`.
fn cover_directory(directory: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(directory) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // A link leads to a directory that is covered, or to one that is not for sockets.
    if !found.is_dir() {
        return Ok(());
    }
    let links: Vec<(PathBuf, PathBuf)> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((path.clone(), fs::read_link(path).ok()?))
        })
        .collect();
    mount("tmpfs", directory, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, OPTIONS)?;
    for (link, target) in links {
        symlink(target, link)?;
    }
    Ok(())
}

/// The program's user owns it.
const OPTIONS: &CStr = c"mode=0755,size=64m";
