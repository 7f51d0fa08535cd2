//! A path step by step, symbolic links followed by hand: what opening it goes through.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::{self, Metadata},
    io,
    path::{Component, Path, PathBuf},
};

/// A directory, a link or the file itself. No directory above it in `path` is a link.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) path: PathBuf,
    /// Of the step itself: of a link, not of what it points to.
    pub(super) metadata: Metadata,
    /// Where a link points.
    pub(super) target: Option<PathBuf>,
}

/// As many as Linux follows.
const MAX_LINKS: usize = 40;

/// All steps from the root to the file.
///
/// # Errors
///
/// A step is missing or may not be looked at, or there are too many links.
pub(super) fn walk(path: &Path) -> io::Result<Vec<Step>> {
    let mut at = PathBuf::new();
    let mut rest = VecDeque::new();
    ahead(&mut rest, &std::path::absolute(path)?);
    let mut steps = Vec::new();
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let here = at.join(&name);
        let metadata = fs::symlink_metadata(&here)?;
        let target = match metadata.is_symlink() {
            true => Some(fs::read_link(&here)?),
            false => None,
        };
        match &target {
            None => at.clone_from(&here),
            Some(_) if links == MAX_LINKS => {
                return Err(io::Error::other("too many symbolic links"));
            }
            Some(target) => {
                links += 1;
                ahead(&mut rest, target);
            }
        }
        steps.push(Step { path: here, metadata, target });
    }
    Ok(steps)
}

/// Puts the components of a path before those that are left. An absolute path begins with the
/// root, which replaces whatever it is joined to.
fn ahead(rest: &mut VecDeque<OsString>, path: &Path) {
    let components = path.components().rev().filter(|part| *part != Component::CurDir);
    for component in components {
        rest.push_front(component.as_os_str().to_owned());
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_steps_and_are_followed() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("..v1")).unwrap();
        fs::write(root.join("..v1/p.toml"), "").unwrap();
        symlink("..v1", root.join("..data")).unwrap();
        symlink("..data/../..data/p.toml", root.join("p.toml")).unwrap();
        let steps = walk(&root.join("p.toml")).unwrap();
        let paths: Vec<&Path> = steps.iter().map(|step| step.path.as_path()).collect();
        assert_eq!(paths.first(), Some(&Path::new("/")));
        let below: Vec<&Path> =
            paths.iter().filter_map(|path| path.strip_prefix(&root).ok()).collect();
        let wanted = ["", "p.toml", "..data", "..v1", "..data", "..v1", "..v1/p.toml"];
        assert_eq!(below, wanted.map(Path::new));
        symlink("round", root.join("round")).unwrap();
        assert!(walk(&root.join("round")).is_err());
        assert_eq!(walk(&root.join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
