//! What is mounted where (`/proc/PID/mountinfo` in proc(5)). One file may be reached at several places,
//! and what a file is on, the kernel says here as it does for sockets: stat(2) has other numbers
//! for some filesystems (btrfs, overlayfs).

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

/// All mounts that this process can see, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Mounts(Vec<Mount>);

/// A part of a filesystem, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) device: Device,
    /// Within the filesystem.
    pub(super) root: PathBuf,
    pub(super) point: PathBuf,
    /// The filesystem's.
    pub(super) kind: String,
}

/// A filesystem, while it is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Device {
    pub(super) major: u32,
    pub(super) minor: u32,
}

/// Through which the kernel shows what it has: files stand for no data, and there are no sockets.
const KERNELS: &[&str] = &[
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "efivarfs",
    "fusectl",
    "proc",
    "pstore",
    "securityfs",
    "selinuxfs",
    "sysfs",
    "tracefs",
];

impl Mounts {
    /// Those of this moment; none where there is no `/proc`.
    pub(super) fn read() -> Self {
        Self::parse(&fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    pub(super) fn parse(list: &[u8]) -> Self {
        Self(list.split(|byte| *byte == b'\n').filter_map(Mount::parse).collect())
    }

    /// Each of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Mount> {
        self.0.iter()
    }

    /// Those of one filesystem.
    pub(super) fn of(&self, device: Device) -> impl Iterator<Item = &Mount> {
        self.0.iter().filter(move |mount| mount.device == device)
    }

    /// That on which a path is, which must lead over no links.
    pub(super) fn at(&self, path: &Path) -> Option<&Mount> {
        let above = self.0.iter().filter(|mount| path.starts_with(&mount.point));
        // Of several at one place the last is seen.
        above.max_by_key(|mount| mount.point.components().count())
    }

    /// Every path of the same file.
    pub(super) fn everywhere(&self, path: &Path) -> Vec<PathBuf> {
        let Some((mount, inside)) = self.at(path).and_then(|it| Some((it, it.inside(path)?)))
        else {
            return vec![path.to_owned()];
        };
        self.of(mount.device).filter_map(|other| other.outside(&inside)).collect()
    }

    /// Where the kernel shows itself.
    pub(super) fn of_the_kernel(&self) -> BTreeSet<PathBuf> {
        self.0.iter().filter(|it| it.is_the_kernels()).map(|it| it.point.clone()).collect()
    }
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ').skip(2);
        let (major, minor) = std::str::from_utf8(fields.next()?).ok()?.split_once(':')?;
        let device = Device { major: major.parse().ok()?, minor: minor.parse().ok()? };
        let root = unescape(fields.next()?);
        let point = unescape(fields.next()?);
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        Some(Self { device, root, point, kind: String::from_utf8_lossy(kind).into_owned() })
    }

    /// Whether it shows what the kernel has.
    pub(super) fn is_the_kernels(&self) -> bool {
        KERNELS.contains(&self.kind.as_str())
    }

    /// The path within the filesystem.
    pub(super) fn inside(&self, path: &Path) -> Option<PathBuf> {
        Some(joined(&self.root, path.strip_prefix(&self.point).ok()?))
    }

    /// The path of what is within the filesystem, if this part has it.
    pub(super) fn outside(&self, inside: &Path) -> Option<PathBuf> {
        Some(joined(&self.point, inside.strip_prefix(&self.root).ok()?))
    }
}

/// Without a slash after what is no directory.
fn joined(start: &Path, rest: &Path) -> PathBuf {
    match rest.as_os_str().is_empty() {
        true => start.to_owned(),
        false => start.join(rest),
    }
}

/// Spaces and the like are written as `\` and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        rest = match (first, escaped) {
            (b'\\', Some(byte)) => {
                path.push(byte);
                after.get(3..).unwrap_or_default()
            }
            (other, _) => {
                path.push(*other);
                after
            }
        };
    }
    OsString::from_vec(path).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts() -> Mounts {
        Mounts::parse(
            b"22 1 254:0 / / rw,relatime - ext4 /dev/root rw\n\
              23 22 0:21 / /proc rw - proc proc rw\n\
              24 22 254:0 /srv/a\\040b /mnt/x\\134y rw shared:1 master:2 - ext4 /dev/root rw\n\
              25 22 254:0 /srv/one.sock /opt/one.sock rw - ext4 /dev/root rw\n\
              nonsense\n",
        )
    }

    #[test]
    fn a_file_is_found_wherever_it_is_mounted() {
        let everywhere = |path: &str| mounts().everywhere(Path::new(path));
        assert_eq!(everywhere("/srv/a b/s"), [Path::new("/srv/a b/s"), Path::new(r"/mnt/x\y/s")]);
        assert_eq!(everywhere(r"/mnt/x\y/s"), everywhere("/srv/a b/s"));
        let one = [Path::new("/srv/one.sock"), Path::new("/opt/one.sock")];
        assert_eq!(everywhere("/srv/one.sock"), one);
        assert_eq!(everywhere("/opt/one.sock"), one);
        // A part that is no parent.
        assert_eq!(everywhere("/srv/a"), [Path::new("/srv/a")]);
        assert_eq!(everywhere("/proc/x"), [Path::new("/proc/x")]);
    }

    #[test]
    fn each_knows_its_filesystem() {
        let mounts = mounts();
        assert_eq!(mounts.iter().count(), 4);
        let root = mounts.at(Path::new("/home/me")).unwrap();
        assert_eq!((root.device, &*root.kind), (Device { major: 254, minor: 0 }, "ext4"));
        assert_eq!(mounts.of(root.device).count(), 3);
        assert_eq!(mounts.of_the_kernel(), BTreeSet::from([PathBuf::from("/proc")]));
    }
}
