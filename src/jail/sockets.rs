//! Where unix sockets of the machine are. They cross network namespaces: Docker's, the session bus,
//! agents that hold keys, terminals that take commands are ways out.
//!
//! The kernel lists those that are bound in this network namespace. Where their files are, it does
//! not say: they may have been moved, linked, bound by a name that is relative, or removed. So each is
//! looked for until every name of its file is known, first where it was bound, then elsewhere, and
//! those that are not found are told. Those bound in other network namespaces are found where
//! sockets usually are: in the environment, among temporary files, in what is mounted from elsewhere,
//! at home and in the working directory. What appears later outside the covered directories is not
//! found.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs, io,
    os::{
        linux::fs::MetadataExt as _,
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use rustix::process::geteuid;

use super::{
    Fault,
    bound::{self, FileId},
    hide::is_for_users,
    mounts::Mounts,
    search::{Search, is_socket},
};

/// What has to be out of reach. No path leads over links.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Directories that are for sockets, whatever is in them.
    pub(super) directories: BTreeSet<PathBuf>,
    /// Single ones, elsewhere.
    pub(super) sockets: BTreeSet<PathBuf>,
    /// What may be within reach all the same.
    pub(super) missing: Vec<Fault>,
}

/// For everybody's sockets.
const DIRECTORIES: &[&str] = &["/run", "/var/run"];

/// For temporary files, among which are sockets.
const TEMPORARY: &[&str] = &["/tmp", "/var/tmp"];

/// How far below those for sockets they are looked for, and at home for those that are lost.
const MAX_DEPTH: usize = 4;

/// How far above and below the place where they were bound, if they are not there.
const NEARBY: usize = 2;

/// Milliseconds, before one counts as lost.
const PAUSES: &[u64] = &[20, 50, 100, 200, 400, 800];

/// How many that are not found are named.
const MAX_NAMED: usize = 3;

/// Looks for them. To be called before the namespaces are made.
pub(super) fn find() -> Places {
    let mounts = Mounts::read();
    let directories = for_sockets();
    let is_covered = |path: &Path| directories.iter().any(|place| path.starts_with(place));
    let (search, missing) = look(&mounts, is_covered);
    let everywhere = search.found.iter().flat_map(|path| mounts.everywhere(path));
    let sockets = everywhere.filter(|path| !is_covered(path) && is_socket(path)).collect();
    Places { directories, sockets, missing }
}

/// All that can be found, wherever it is.
pub(super) fn find_all() -> BTreeSet<PathBuf> {
    let (mut search, _) = look(&Mounts::read(), |_| false);
    for directory in for_sockets() {
        search.below(&directory, MAX_DEPTH);
    }
    search.found
}

/// Directories that are covered as a whole.
fn for_sockets() -> BTreeSet<PathBuf> {
    let mut directories: BTreeSet<PathBuf> =
        DIRECTORIES.iter().filter_map(|place| fs::canonicalize(place).ok()).collect();
    let is_deep = |path: &PathBuf| path.parent().is_some_and(|parent| parent.parent().is_some());
    let runtime = runtime_directory().and_then(|runtime| fs::canonicalize(runtime).ok());
    directories.extend(runtime.filter(|runtime| is_deep(runtime) && !is_for_users(runtime)));
    directories.retain(|directory| directory.is_dir());
    directories
}

fn runtime_directory() -> Option<PathBuf> {
    let runtime = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?);
    runtime.is_absolute().then_some(runtime)
}

/// Looks wherever they may be, and says what is lost.
fn look(mounts: &Mounts, is_covered: impl Fn(&Path) -> bool) -> (Search, Vec<Fault>) {
    let mut search = Search::outside(mounts.of_the_kernel());
    let bound = match bound::bound() {
        Ok(bound) => bound,
        Err(error) => {
            bound::names().iter().for_each(|name| search.path(name));
            usual_places(&mut search, mounts);
            return (search, vec![unlisted(&error)]);
        }
    };
    let wanted = wanted(bound, mounts, is_covered);
    wanted.iter().flat_map(|socket| &socket.paths).for_each(|path| search.path(path));
    for socket in lost(&wanted, &search, mounts) {
        for parent in socket.paths.iter().filter_map(|path| path.parent()) {
            search.below(parent, 0);
        }
    }
    usual_places(&mut search, mounts);
    for socket in lost(&wanted, &search, mounts) {
        for path in &socket.paths {
            let nearest = path.ancestors().skip(NEARBY).find(|it| it.is_dir());
            search.below(nearest.unwrap_or(path), NEARBY);
        }
    }
    if !lost(&wanted, &search, mounts).is_empty() {
        own_places().for_each(|place| search.below(&place, MAX_DEPTH));
    }
    let mut lost = lost(&wanted, &search, mounts);
    for pause in PAUSES {
        if lost.is_empty() {
            break;
        }
        // Who ends removes the file and then closes the socket; who starts a program shares it until
        // that has begun.
        sleep(Duration::from_millis(*pause));
        if let Ok(still) = bound::bound() {
            lost.retain(|socket| still.contains_key(&socket.file));
        }
    }
    let missing = unfound(&lost).into_iter().collect();
    (search, missing)
}

/// Those that may be within reach. What is on filesystems of which every mount is covered is so, wherever
/// it is there.
fn wanted(
    bound: BTreeMap<FileId, PathBuf>,
    mounts: &Mounts,
    is_covered: impl Fn(&Path) -> bool,
) -> Vec<Wanted> {
    let is_open = |file: &FileId| mounts.of(file.device).any(|mount| !is_covered(&mount.point));
    let open = bound.into_iter().filter(|(file, _)| is_open(file));
    let mut wanted: Vec<Wanted> =
        open.map(|(file, name)| Wanted { file, name, paths: Vec::new() }).collect();
    let workplaces = match wanted.iter().all(|socket| socket.name.is_absolute()) {
        true => BTreeSet::new(),
        false => workplaces(),
    };
    for socket in &mut wanted {
        socket.paths = paths(socket, &workplaces, mounts);
    }
    wanted
}

/// One that is bound, and may be within reach.
#[derive(Debug)]
struct Wanted {
    file: FileId,
    name: PathBuf,
    /// Where that would be.
    paths: Vec<PathBuf>,
}

/// What a name may mean: it was given by a process with another working directory, or another root.
fn paths(socket: &Wanted, workplaces: &BTreeSet<PathBuf>, mounts: &Mounts) -> Vec<PathBuf> {
    let Ok(inside) = socket.name.strip_prefix("/") else {
        return workplaces.iter().map(|place| place.join(&socket.name)).collect();
    };
    let others = mounts.of(socket.file.device).filter(|mount| mount.root == Path::new("/"));
    [socket.name.clone()].into_iter().chain(others.map(|it| it.point.join(inside))).collect()
}

/// Those of which not every name is known. Where this user may not enter, nothing is within reach.
fn lost<'a>(wanted: &'a [Wanted], search: &Search, mounts: &Mounts) -> Vec<&'a Wanted> {
    if wanted.is_empty() {
        return Vec::new();
    }
    let mut known = BTreeMap::<FileId, (u64, BTreeSet<PathBuf>)>::new();
    for path in &search.found {
        let (Some(mount), Ok(found)) = (mounts.at(path), fs::symlink_metadata(path)) else {
            continue;
        };
        let inode = u32::try_from(found.st_ino() & u64::from(u32::MAX)).unwrap_or_default();
        let file = FileId { device: mount.device, inode };
        let (links, names) = known.entry(file).or_default();
        *links = found.st_nlink();
        names.extend(mount.inside(path));
    }
    let is_whole = |socket: &&Wanted| {
        known.get(&socket.file).is_some_and(|(links, names)| {
            u64::try_from(names.len()).is_ok_and(|names| names >= *links)
        })
    };
    let is_closed = |socket: &&Wanted| !known.contains_key(&socket.file) && is_closed(&socket.name);
    wanted.iter().filter(|socket| !is_whole(socket) && !is_closed(socket)).collect()
}

/// Whether a path leads through a directory that this user may not enter, and cannot open either: what
/// is its own, a program could.
fn is_closed(path: &Path) -> bool {
    let is_denied = fs::symlink_metadata(path)
        .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    let last = path.ancestors().find_map(|place| fs::metadata(place).ok());
    is_denied && last.is_some_and(|last| last.st_uid() != geteuid().as_raw())
}

/// Where they are, whoever made them.
fn usual_places(search: &mut Search, mounts: &Mounts) {
    for path in named() {
        search.path(&path);
    }
    let mut temporary: Vec<PathBuf> = TEMPORARY.iter().map(PathBuf::from).collect();
    temporary.push(std::env::temp_dir());
    for directory in temporary.into_iter().chain(own_places()) {
        search.below(&directory, 1);
    }
    if let Some(directory) = runtime_directory() {
        search.below(&directory, NEARBY);
    }
    for mount in mounts.iter().filter(|mount| mount.point != Path::new("/")) {
        search.path(&mount.point);
        search.below(&mount.point, 0);
    }
}

/// Home, and the working directory.
fn own_places() -> impl Iterator<Item = PathBuf> {
    std::env::home_dir().into_iter().chain(std::env::current_dir().ok())
}

/// The working directories of all processes that show them to this user.
fn workplaces() -> BTreeSet<PathBuf> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|process| fs::read_link(process.path().join("cwd")).ok()).collect()
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

fn unlisted(error: &io::Error) -> Fault {
    Fault::new(
        "unix sockets that were moved or linked stay within reach, cannot list them by inode",
        error,
        "the kernel needs unix_diag",
    )
}

fn unfound(lost: &[&Wanted]) -> Option<Fault> {
    let named = lost.iter().take(MAX_NAMED);
    let names: Vec<String> = named.map(|socket| socket.name.display().to_string()).collect();
    let more = match lost.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!lost.is_empty()).then(|| {
        Fault::new(
            "unix sockets whose files cannot be found stay within reach, bound as",
            format_args!("{}{more}", names.join(", ")),
            "they were moved, linked or removed since; end who listens there (ss -xlp)",
        )
    })
}
