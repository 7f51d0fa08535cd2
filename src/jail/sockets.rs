//! Where unix sockets of the machine are. They cross network namespaces: Docker's, the session bus,
//! agents that hold keys, terminals that take commands are ways out.
//!
//! They are looked for where the kernel lists those that are bound, where directories are mounted
//! from elsewhere, in places for temporary files, and in the environment. What appears later outside
//! the covered directories is not found.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::FileTypeExt as _,
    },
    path::{Path, PathBuf},
};

/// What has to be out of reach.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Directories that are for sockets, whatever is in them.
    pub(super) directories: BTreeSet<PathBuf>,
    /// Single ones, elsewhere.
    pub(super) sockets: BTreeSet<PathBuf>,
}

/// For everybody's sockets.
const DIRECTORIES: &[&str] = &["/run", "/var/run"];

/// For temporary files, among which are sockets.
const TEMPORARY: &[&str] = &["/tmp", "/var/tmp"];

/// How far below those for sockets they are looked for.
const MAX_DEPTH: usize = 4;

/// Entries of one directory that are looked at.
const MAX_ENTRIES: usize = 10_000;

/// Looks for them. To be called before the namespaces are made: the list of the kernel is that of
/// a network namespace.
pub(super) fn find() -> Places {
    let mut places = Places::default();
    places.directories.extend(DIRECTORIES.iter().map(PathBuf::from));
    if let Some(runtime) = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)
        && runtime.is_absolute()
        && runtime.parent().is_some_and(|parent| parent.parent().is_some())
    {
        places.directories.insert(runtime);
    }
    let is_covered = |path: &Path| places.directories.iter().any(|place| path.starts_with(place));
    let found = candidates().into_iter();
    places.sockets = found.filter(|path| !is_covered(path) && is_socket(path)).collect();
    places
}

/// All that can be found, wherever it is.
pub(super) fn find_all() -> BTreeSet<PathBuf> {
    let mut found = candidates();
    let mut level: Vec<PathBuf> = find().directories.into_iter().collect();
    for _ in 0..MAX_DEPTH {
        let below: Vec<PathBuf> = level.iter().flat_map(|directory| entries(directory)).collect();
        level = below.iter().filter(|path| is_directory(path)).cloned().collect();
        found.extend(below);
    }
    found.into_iter().filter(|path| is_socket(path)).collect()
}

/// What may be one.
fn candidates() -> Vec<PathBuf> {
    let mut found = bound();
    found.extend(named());
    let mut directories: Vec<PathBuf> = TEMPORARY.iter().map(PathBuf::from).collect();
    directories.push(std::env::temp_dir());
    for directory in &directories {
        found.extend(entries(directory));
        for below in entries(directory).filter(|below| is_directory(below)) {
            found.extend(entries(&below));
        }
    }
    for mounted in mounts() {
        found.extend(entries(&mounted));
        found.push(mounted);
    }
    found
}

/// Whether it is a socket, as far as this process can see.
pub(super) fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().take(MAX_ENTRIES);
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

/// Those that are bound to a path (`/proc/net/unix` in `proc_net(5)`).
fn bound() -> Vec<PathBuf> {
    let list = fs::read("/proc/net/unix").unwrap_or_default();
    let path = |line: &[u8]| {
        let at = line.windows(2).position(|pair| pair == b" /")?;
        Some(PathBuf::from(OsString::from_vec(line.get(at + 1..)?.to_owned())))
    };
    list.split(|byte| *byte == b'\n').filter_map(path).collect()
}

/// Absolute paths in values of the environment, with whatever is around them: `unix:///...`,
/// `unix:path=...,guid=...`, `.../default,123,0`.
fn named() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (_, value) in std::env::vars_os() {
        for word in value.as_bytes().split(|byte| b",;=: \t\n".contains(byte)) {
            let start = word.iter().position(|byte| *byte != b'/').unwrap_or(word.len());
            if let Some(path) = start.checked_sub(1).and_then(|start| word.get(start..)) {
                found.push(PathBuf::from(OsString::from_vec(path.to_owned())));
            }
        }
    }
    found
}

/// What is mounted, but for the root (`/proc/PID/mountinfo` in proc(5)): single sockets, and
/// directories from elsewhere, of which the kernel's list here knows nothing.
fn mounts() -> Vec<PathBuf> {
    let list = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let place = |line: &str| {
        let place = line.split(' ').nth(4)?.replace("\\040", " ");
        let is_kernels = ["/", "/proc", "/sys", "/dev"].contains(&place.as_str())
            || place.starts_with("/proc/")
            || place.starts_with("/sys/");
        (!is_kernels).then(|| PathBuf::from(place))
    };
    list.lines().filter_map(place).collect()
}
