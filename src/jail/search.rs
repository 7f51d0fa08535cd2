//! A search for unix sockets below directories, which ends: after so many levels, and after so many
//! entries in all.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

/// What has been looked at, and what was there.
#[derive(Debug)]
pub(super) struct Search {
    /// Paths of sockets, which lead over no links.
    pub(super) found: BTreeSet<PathBuf>,
    /// Directories, with how many levels below them were looked at.
    looked_at: BTreeMap<PathBuf, usize>,
    never: BTreeSet<PathBuf>,
    left: usize,
}

/// Entries of directories that are looked at: with them a second is spent.
const MAX_ENTRIES: usize = 300_000;

impl Search {
    /// Keeps out of some directories.
    pub(super) fn outside(never: BTreeSet<PathBuf>) -> Self {
        let (found, looked_at) = (BTreeSet::new(), BTreeMap::new());
        Self { found, looked_at, never, left: MAX_ENTRIES }
    }

    /// Looks at a single path, and where it leads to.
    pub(super) fn path(&mut self, path: &Path) {
        if !fs::metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
            return;
        }
        self.found.extend(fs::canonicalize(path).ok());
    }

    /// Looks at all entries of a directory, and of those so many levels below it. Links are
    /// followed to sockets only.
    pub(super) fn below(&mut self, directory: &Path, levels: usize) {
        let mut level: Vec<PathBuf> = fs::canonicalize(directory).into_iter().collect();
        for levels_left in (0..=levels).rev() {
            let mut next = Vec::new();
            for directory in level {
                let known = self.looked_at.get(&directory);
                let is_new = known.is_none_or(|known| *known < levels_left);
                if is_new && !self.never.contains(&directory) {
                    next.extend(self.entries(&directory));
                    self.looked_at.insert(directory, levels_left);
                }
            }
            level = next;
        }
    }

    /// The directories in it; sockets are noted.
    fn entries(&mut self, directory: &Path) -> Vec<PathBuf> {
        let mut directories = Vec::new();
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Some(left) = self.left.checked_sub(1) else { break };
            self.left = left;
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_socket() {
                self.found.insert(entry.path());
            } else if kind.is_symlink() {
                self.path(&entry.path());
            } else if kind.is_dir() {
                directories.push(entry.path());
            }
        }
        directories
    }
}

/// Whether it is a socket, as far as this process can see.
pub(super) fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;

    #[test]
    fn sockets_are_found_so_deep_and_over_links() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        fs::create_dir_all(root.join("1/2/3")).unwrap();
        fs::create_dir(root.join("never")).unwrap();
        let sockets = ["0", "1/1", "1/2/2", "1/2/3/3", "never/4"];
        let listeners = sockets.map(|name| UnixListener::bind(root.join(name)).unwrap());
        fs::write(root.join("file"), "").unwrap();
        symlink(&root, root.join("1/loop")).unwrap();
        let look = |levels| {
            let mut search = Search::outside(BTreeSet::from([root.join("never")]));
            search.below(&root, 0);
            search.below(&root, levels);
            search
        };
        let found = |names: &[&str]| names.iter().map(|name| root.join(name)).collect();
        assert_eq!(look(0).found, found(&["0"]));
        assert_eq!(look(2).found, found(&["0", "1/1", "1/2/2"]));
        symlink("1/2/3/3", root.join("link")).unwrap();
        assert_eq!(look(0).found, found(&["0", "1/2/3/3"]));
        let mut search = look(0);
        search.path(&root.join("1/loop/1/1"));
        search.path(&root.join("file"));
        assert!(search.found.contains(&root.join("1/1")));
        assert_eq!(search.found.len(), 3);
        drop(listeners);
    }
}
