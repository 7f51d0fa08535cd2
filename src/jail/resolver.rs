//! What makes programs ask the jail's own DNS: another file in the place of resolv.conf(5).
//!
//! Invariant: nothing is written but on filesystems of the jail's own. Root may write everywhere,
//! and a link may lead anywhere.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use rustix::mount::mount_bind;

use super::Fault;

const RESOLVER: &str = "/etc/resolv.conf";

/// Where it is written, to be mounted from there.
const OWN: &str = "/run/exeat-resolv.conf";

/// Puts it there; `covered` are directories whose contents are the jail's own.
pub(super) fn replace(covered: &BTreeSet<PathBuf>) -> Result<(), Fault> {
    let cannot = |error| {
        let what = "programs that know no proxy get no connection, cannot replace";
        Fault::new(&format!("{what} {RESOLVER}"), error, "")
    };
    if fs::exists(RESOLVER).unwrap_or(false) {
        write(Path::new(OWN), covered).map_err(cannot)?;
        return mount_bind(OWN, RESOLVER).map_err(|error| cannot(error.into()));
    }
    // What it led to may be covered by now. Where nothing is, the C library asks the same address.
    let Ok(target) = fs::read_link(RESOLVER) else { return Ok(()) };
    let target = Path::new(RESOLVER).with_file_name("").join(target);
    match write(&target, covered) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
        done => done.map_err(cannot),
    }
}

/// Writes a new file. What would be outside of what is covered counts as read-only.
fn write(file: &Path, covered: &BTreeSet<PathBuf>) -> io::Result<()> {
    let parent = file.parent().unwrap_or_else(|| Path::new("/"));
    let nearest =
        parent.ancestors().find_map(|it| fs::canonicalize(it).ok().map(|real| (it, real)));
    let (there, real) = nearest.ok_or(io::ErrorKind::NotFound)?;
    if !covered.iter().any(|place| real.starts_with(place)) {
        return Err(io::ErrorKind::ReadOnlyFilesystem.into());
    }
    // No `..` in what is not there: it would lead out again.
    let rest = parent.strip_prefix(there).unwrap_or_else(|_| Path::new(""));
    let parent = real.join(rest);
    if !rest.components().all(|part| matches!(part, std::path::Component::Normal(_))) {
        return Err(io::ErrorKind::ReadOnlyFilesystem.into());
    }
    fs::create_dir_all(&parent)?;
    let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    // Anew: over no link.
    File::create_new(parent.join(name))?.write_all(TEXT)
}

const TEXT: &[u8] = b"# Written by exeat: every name gets an address that stands for it.\n\
    nameserver 127.0.0.1\n";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_is_written_but_in_what_is_covered() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        let (own, foreign) = (root.join("own"), root.join("foreign"));
        fs::create_dir(&own).unwrap();
        fs::create_dir(&foreign).unwrap();
        symlink(&foreign, own.join("out")).unwrap();
        symlink(foreign.join("file"), own.join("link")).unwrap();
        let covered = BTreeSet::from([own.clone()]);
        let refused = |path: &str| write(&own.join(path), &covered).unwrap_err().kind();
        for path in ["../foreign/file", "out/file", "out/new/file", "new/../../foreign/file"] {
            assert_eq!(refused(path), io::ErrorKind::ReadOnlyFilesystem, "{path}");
        }
        assert_eq!(refused("link"), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_dir(&foreign).unwrap().count(), 0);
        write(&own.join("new/below/file"), &covered).unwrap();
        assert_eq!(fs::read(own.join("new/below/file")).unwrap(), TEXT);
    }
}
