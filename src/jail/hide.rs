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

/// Makes programs ask the jail's own DNS: another file in the place of resolv.conf(5).
pub(super) fn own_resolver() -> Result<(), Fault> {
    let cannot = |error| Fault::new(&format!("cannot replace {RESOLVER}"), error, "");
    let text = "# Written by exeat: every name gets an address that stands for it.\n\
        nameserver 127.0.0.1\n";
    // What it led to may be covered by now.
    if let Ok(target) = fs::read_link(RESOLVER)
        && !fs::exists(RESOLVER).unwrap_or(false)
    {
        let target = Path::new(RESOLVER).with_file_name("").join(target);
        let parent = target.parent().unwrap_or_else(|| Path::new("/"));
        return fs::create_dir_all(parent).and_then(|()| fs::write(&target, text)).map_err(cannot);
    }
    // The C library's default is the same.
    if !fs::exists(RESOLVER).unwrap_or(false) {
        return Ok(());
    }
    let own = "/run/exeat-resolv.conf";
    fs::write(own, text).map_err(cannot)?;
    mount_bind(own, RESOLVER).map_err(|error| cannot(error.into()))
}

const RESOLVER: &str = "/etc/resolv.conf";

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
