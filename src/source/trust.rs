//! Whether nobody but root and the user this program runs as can change a policy or settings file.
//!
//! The file itself is judged, and every directory and link on the way to it: who may rename a
//! directory's entries decides what the path leads to. What passes although others have write
//! bits: a read-only mount; a directory with the sticky bit, whose entries only their owners
//! replace; the owner's private group. A POSIX access list shows in the group bits, which
//! are its mask then; lists of `NFSv4` do not show and are not judged. Users that are not in
//! `/etc/passwd` are not known to be in a group.
//!
//! What is judged is the moment of the look: a directory that others could write to a moment
//! before may hold anything. The file that was opened must be the one at the end of the path.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::StatVfsMountFlags;

use super::walk::{Step, walk};

/// Who may change them: root and one other user, with their private groups.
#[derive(Debug)]
pub(super) struct Trust {
    user: u32,
    /// Groups that have no member but the trusted owner of the same number.
    private_groups: Vec<u32>,
}

/// Why a file is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum Distrust {
    /// It cannot be found out.
    #[error("who may change it cannot be found out: {0}")]
    Unknown(#[from] io::Error),
    /// It was replaced in the meantime.
    #[error("it was replaced while it was looked at")]
    Replaced,
    /// A file or directory belongs to somebody else.
    #[error(
        "another user could change it: {} belongs to user {owner}: \
         run `chown {trusted} {}`, mount it read-only, {CURE}", .path.display(), .path.display()
    )]
    Owner {
        /// What belongs to them.
        path: PathBuf,
        /// Who they are.
        owner: u32,
        /// The user that it should belong to.
        trusted: u32,
    },
    /// A file or directory can be written by others.
    #[error(
        "another user could change it: {} (mode {mode:04o}) can be written by {who}: \
         run `chmod {cure} {}`, mount it read-only, {CURE}", .path.display(), .path.display()
    )]
    Writable {
        /// What can be written.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Whoever can.
        who: String,
        /// What takes the permission away.
        cure: &'static str,
    },
}

const CURE: &str = "or start with --insecure-policy-permissions";

const ROOT: u32 = 0;
const GROUP_WRITE: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

impl Trust {
    /// Trusts the user this process runs as. Reads `/etc/passwd` and `/etc/group` once, for which
    /// groups are private.
    pub(super) fn of_this_process() -> Self {
        let user = rustix::process::geteuid().as_raw();
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::new(user, &read("/etc/passwd"), &read("/etc/group"))
    }

    fn new(user: u32, passwd: &str, groups: &str) -> Self {
        let private_groups =
            [ROOT, user].into_iter().filter(|id| is_private(*id, passwd, groups)).collect();
        Self { user, private_groups }
    }

    /// Judges the file that was opened as `path`.
    ///
    /// # Errors
    ///
    /// The first thing on the way to it that somebody else can change.
    pub(super) fn check(&self, path: &Path, opened: &Metadata) -> Result<(), Distrust> {
        let steps = walk(path)?;
        for step in &steps {
            self.check_step(step)?;
        }
        let last = steps.last().ok_or(Distrust::Replaced)?;
        let same = |a: &Metadata, b: &Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        if same(&last.metadata, opened) { Ok(()) } else { Err(Distrust::Replaced) }
    }

    fn check_step(&self, step: &Step) -> Result<(), Distrust> {
        if is_read_only(step)? {
            return Ok(());
        }
        let (path, owner, mode) = (&step.path, step.metadata.uid(), step.metadata.mode());
        if ![ROOT, self.user].contains(&owner) {
            return Err(Distrust::Owner { path: path.clone(), owner, trusted: self.user });
        }
        // A link has no bits of its own. What lies in a sticky directory is replaced by its owner
        // only, and is the next step.
        if step.target.is_some() || step.metadata.is_dir() && mode & STICKY != 0 {
            return Ok(());
        }
        let (who, cure) = if mode & OTHERS_WRITE != 0 {
            ("everyone".into(), "o-w")
        } else if mode & GROUP_WRITE != 0 && !self.is_private_group_of(step)? {
            (format!("group {}", step.metadata.gid()), "g-w")
        } else {
            return Ok(());
        };
        Err(Distrust::Writable { path: path.clone(), mode: mode & 0o7777, who, cure })
    }

    fn is_private_group_of(&self, step: &Step) -> io::Result<bool> {
        let (owner, group) = (step.metadata.uid(), step.metadata.gid());
        Ok(owner == group && self.private_groups.contains(&group) && !has_access_list(&step.path)?)
    }
}

/// The group with the number of its owner is private if `/etc/group` has it, names no member but
/// the owner, and it is nobody else's own group in `/etc/passwd`.
fn is_private(id: u32, passwd: &str, groups: &str) -> bool {
    let number = id.to_string();
    let users = records(passwd);
    let names: Vec<&str> = users
        .iter()
        .filter_map(|user| match user.as_slice() {
            [name, _, uid, ..] if *uid == number => Some(*name),
            _ => None,
        })
        .collect();
    let is_others_own = users.iter().any(
        |user| matches!(user.as_slice(), [_, _, uid, gid, ..] if *gid == number && *uid != number),
    );
    let groups = records(groups);
    let mut members = groups.iter().filter_map(|group| match group.as_slice() {
        [_, _, gid, members] if *gid == number => Some(*members),
        _ => None,
    });
    let is_owner = |member: &str| member.is_empty() || names.contains(&member);
    let first = members.next();
    let only_the_owner = first.into_iter().chain(members).all(|list| list.split(',').all(is_owner));
    first.is_some() && only_the_owner && !is_others_own
}

fn records(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split(':').collect()).collect()
}

/// Of a link it is its directory that counts: the system would look where the link leads.
fn is_read_only(step: &Step) -> io::Result<bool> {
    let path = match (&step.target, step.path.parent()) {
        (Some(_), Some(directory)) => directory,
        (Some(_) | None, _) => &step.path,
    };
    Ok(rustix::fs::statvfs(path)?.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Whether more users than owner and group are named: then the group bits are a mask.
#[cfg(target_os = "linux")]
fn has_access_list(path: &Path) -> io::Result<bool> {
    use rustix::io::Errno;
    match rustix::fs::getxattr(path, "system.posix_acl_access", &mut [0_u8; 0][..]) {
        Ok(_) => Ok(true),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Elsewhere nobody has told, so that there may be one.
#[cfg(not(target_os = "linux"))]
fn has_access_list(_: &Path) -> io::Result<bool> {
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use tempfile::TempDir;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\n\
                          bob:x:1001:1001::/:/bin/sh\n";

    #[test]
    fn a_private_group_has_no_other_member() {
        for (groups, private) in [
            ("root:x:0:\nann:x:1000:\n", true),
            ("ann:x:1000:ann\n", true),
            ("ann:x:1000:ann,bob\n", false),
            ("ann:x:1000:\nalso:x:1000:bob\n", false),
            ("root:x:0:\n", false),
            ("", false),
        ] {
            assert_eq!(is_private(1000, PASSWD, groups), private, "{groups:?}");
        }
        let shared = format!("{PASSWD}eve:x:1002:1000::/:/bin/sh\n");
        assert!(!is_private(1000, &shared, "ann:x:1000:\n"));
    }

    /// A directory with a file, and whether the file passes.
    fn stage() -> (TempDir, PathBuf, Trust) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("p.toml");
        fs::write(&file, "").unwrap();
        mode(&file, 0o644);
        (
            directory,
            file,
            Trust { user: rustix::process::geteuid().as_raw(), private_groups: vec![] },
        )
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn judged(trust: &Trust, path: &Path) -> String {
        match trust.check(path, &fs::metadata(path).unwrap()) {
            Ok(()) => "trusted".into(),
            Err(distrust) => distrust.to_string(),
        }
    }

    #[test]
    fn what_others_can_write_is_not_trusted() {
        let (directory, file, mut trust) = stage();
        assert_eq!(judged(&trust, &file), "trusted");
        for bits in [0o400, 0o600, 0o444, 0o755] {
            mode(&file, bits);
            assert_eq!(judged(&trust, &file), "trusted");
        }
        mode(&file, 0o646);
        let said = judged(&trust, &file);
        assert!(
            said.contains("(mode 0646) can be written by everyone: run `chmod o-w /"),
            "{said}"
        );
        mode(&file, 0o664);
        let said = judged(&trust, &file);
        assert!(
            said.contains("can be written by group ") && said.contains("`chmod g-w /"),
            "{said}"
        );
        let metadata = fs::metadata(&file).unwrap();
        trust.private_groups = vec![metadata.gid()];
        let private = metadata.uid() == metadata.gid();
        assert_eq!(judged(&trust, &file) == "trusted", private);
        mode(&file, 0o644);
        mode(directory.path(), 0o777);
        let said = judged(&trust, &file);
        assert!(said.contains("(mode 0777) can be written by everyone"), "{said}");
        mode(directory.path(), 0o1777);
        assert_eq!(judged(&trust, &file), "trusted");
    }

    /// POSIX access lists, as Linux keeps them: a version, then a tag, rights and an id each.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_access_list_is_no_private_group() {
        use rustix::{
            fs::{XattrFlags, setxattr},
            io::Errno,
        };
        const NOBODY: u32 = u32::MAX;
        let (_directory, file, mut trust) = stage();
        let metadata = fs::metadata(&file).unwrap();
        trust.private_groups = vec![metadata.gid()];
        // Owner, a user by number, group, mask, others.
        let entries =
            [(1, 6, NOBODY), (2, 6, 4242), (4, 4, NOBODY), (16, 6, NOBODY), (32, 4, NOBODY)];
        let mut list = 2_u32.to_le_bytes().to_vec();
        for (tag, rights, id) in entries {
            list.extend(u16::to_le_bytes(tag));
            list.extend(u16::to_le_bytes(rights));
            list.extend(u32::to_le_bytes(id));
        }
        match setxattr(&file, "system.posix_acl_access", &list, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::NOTSUP) => return,
            Err(error) => panic!("{error}"),
        }
        // The mask stands where the rights of the group do.
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o664);
        assert!(judged(&trust, &file).contains("can be written by group "));
    }

    #[test]
    fn links_are_judged_by_where_they_lead() {
        let (directory, file, trust) = stage();
        let (open, link) = (directory.path().join("open"), directory.path().join("link"));
        fs::create_dir(&open).unwrap();
        fs::write(open.join("p.toml"), "").unwrap();
        symlink(&file, open.join("back")).unwrap();
        mode(&open, 0o777);
        symlink("open/p.toml", &link).unwrap();
        assert!(judged(&trust, &link).contains("/open (mode 0777)"));
        // The file is fine, the way to it is not.
        assert!(judged(&trust, &open.join("back")).contains("/open (mode 0777)"));
        mode(&open, 0o755);
        assert_eq!(judged(&trust, &open.join("back")), "trusted");
    }

    #[test]
    fn a_file_that_was_replaced_is_not_trusted() {
        let (directory, file, trust) = stage();
        let opened = fs::metadata(&file).unwrap();
        let new = directory.path().join("new");
        fs::write(&new, "").unwrap();
        fs::rename(&new, &file).unwrap();
        assert!(matches!(trust.check(&file, &opened), Err(Distrust::Replaced)));
    }

    #[test]
    fn what_belongs_to_somebody_else_is_not_trusted() {
        let (directory, file, trust) = stage();
        // Only root can give a file away; anybody can look at one that is not theirs.
        if chown(&file, Some(4242), None).is_err() {
            let said = judged(&Trust { user: 4242, private_groups: vec![] }, &file);
            assert!(said.contains(" belongs to user "), "{said}");
            return;
        }
        let said = judged(&trust, &file);
        assert!(said.contains("p.toml belongs to user 4242: run `chown 0 /"), "{said}");
        assert_eq!(judged(&Trust { user: 4242, private_groups: vec![] }, &file), "trusted");
        // In a sticky directory its owner may put another link in its place.
        let link = directory.path().join("link");
        chown(&file, Some(0), None).unwrap();
        symlink(&file, &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(4242), None).unwrap();
        assert!(judged(&trust, &link).contains("link belongs to user 4242"));
    }
}
