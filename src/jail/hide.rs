//! Mounts of the jail's own (`mount_namespaces(7)`): over what the program must not reach.
//!
//! A mount namespace that belongs to another user namespace made within keeps these mounts as they
//! are: nobody inside can take them away.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::CStr,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use rustix::{
    io::Errno,
    mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change},
};

use super::{Fault, kernel, namespaces::refused, search::is_socket, sockets::Places};

/// Directories in which a user works, whatever else they hold.
const NEVER_COVERED: &[&str] = &["/", "/tmp", "/var/tmp"];

/// A directory with more sockets is covered as a whole, whatever else it holds.
const MANY: usize = 1_000;

/// Each is a mount: the kernel has room for 100,000 (sysctl fs.mount-max), and needs time for them.
const MAX_SINGLE: usize = 10_000;

/// Covers all of it, and says which directories that took; or what cannot be covered.
pub(super) fn hide(places: &Places) -> Result<BTreeSet<PathBuf>, Fault> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|error| refused("cannot separate the jail's mounts", &error.into()))?;
    let cannot = |path: &Path, error: io::Error| {
        Fault::new(&format!("cannot hide {}", path.display()), error, "")
    };
    let mut in_directory = BTreeMap::<&Path, usize>::new();
    for parent in places.sockets.iter().filter_map(|socket| socket.parent()) {
        *in_directory.entry(parent).or_default() += 1;
    }
    let mut directories = places.directories.clone();
    let for_sockets = in_directory.iter().filter(|(directory, sockets)| {
        !is_for_users(directory) && (**sockets > MANY || holds_only_sockets(directory))
    });
    directories.extend(for_sockets.map(|(directory, _)| directory.to_path_buf()));
    let single = |socket: &&PathBuf| socket.parent().is_none_or(|it| !directories.contains(it));
    let single: Vec<&PathBuf> = places.sockets.iter().filter(single).collect();
    if single.len() > MAX_SINGLE {
        let (place, count) = in_directory.iter().max_by_key(|(_, count)| **count).unzip();
        return Err(Fault::new(
            "too many unix sockets to hide",
            format_args!("{} of {}", count.unwrap_or(&0), single.len()),
            &format!(
                "remove them from {}",
                place.copied().unwrap_or_else(|| Path::new("/")).display()
            ),
        ));
    }
    kernel::keep()?;
    // What is below others comes later, and may be gone by then.
    for directory in &directories {
        cover_directory(directory).map_err(|error| cannot(directory, error))?;
    }
    for socket in single.into_iter().filter(|socket| is_socket(socket)) {
        // Nothing that can be connected to.
        match mount_bind("/dev/null", socket) {
            // Removed meanwhile.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(cannot(socket, error.into())),
        }
    }
    Ok(directories)
}

/// Whether somebody works in a directory or below it.
pub(super) fn is_for_users(directory: &Path) -> bool {
    let is_home = std::env::home_dir()
        .is_some_and(|home| fs::canonicalize(home).is_ok_and(|home| home.starts_with(directory)));
    let is_workplace = std::env::current_dir().is_ok_and(|place| place.starts_with(directory));
    is_home || is_workplace || NEVER_COVERED.iter().any(|place| Path::new(place) == directory)
}

/// Whether a directory holds nothing but sockets: those that come later are hidden too.
fn holds_only_sockets(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| {
        entries.all(|entry| entry.is_ok_and(|entry| is_socket(&entry.path())))
    })
}

/// An empty directory in its place, but for links: NixOS has its programs behind one in `/run`.
fn cover_directory(directory: &Path) -> io::Result<()> {
    // It was below one that is covered, or is gone.
    if !directory.is_dir() {
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
