//! A file that is written at the end of a run, where it was to be at the start.
//!
//! Whoever is run may have put anything in its place, or in the place of directories on the way: the
//! directory is held from the start on, and the file is replaced in it as a whole, never opened.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write as _},
    path::Path,
};

use crate::app::random_seed;

/// The place of a file.
pub(super) struct Slot {
    directory: Directory,
    name: OsString,
}

impl Slot {
    /// Takes a place where nothing is, or a file that can be replaced. A link is neither.
    ///
    /// # Errors
    ///
    /// There is no such directory, nothing can be written in it, or something else is there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_owned();
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = Directory::open(parent.unwrap_or_else(|| Path::new(".")))?;
        if directory.has_other(&name)? {
            return Err(io::Error::other("what is there is no regular file"));
        }
        Ok(Self { directory, name })
    }

    /// Puts a file with this text there, in one step.
    ///
    /// # Errors
    ///
    /// Whatever writing gives; then what was there still is.
    pub(super) fn fill(self, text: &str) -> io::Result<()> {
        let temporary = OsString::from(format!(".exeat-{:016x}", random_seed()));
        let file = self.directory.create(&temporary)?;
        let written =
            write(file, text).and_then(|()| self.directory.rename(&temporary, &self.name));
        if written.is_err() {
            self.directory.remove(&temporary);
        }
        written
    }
}

fn write(mut file: File, text: &str) -> io::Result<()> {
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(unix)]
use held::Directory;
#[cfg(not(unix))]
use named::Directory;

/// By its descriptor: it stays the same, whatever becomes of its path.
#[cfg(unix)]
mod held {
    use std::{ffi::OsStr, fs::File, io, os::fd::OwnedFd, path::Path};

    use rustix::{
        fs::{
            Access, AtFlags, CWD, FileType, Mode, OFlags, accessat, openat, renameat, statat,
            unlinkat,
        },
        io::Errno,
    };

    pub(super) struct Directory(OwnedFd);

    impl Directory {
        /// Only if files can be made in it.
        pub(super) fn open(path: &Path) -> io::Result<Self> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = openat(CWD, path, flags, Mode::empty())?;
            accessat(&directory, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?;
            Ok(Self(directory))
        }

        /// Whether something of that name is there that is no regular file.
        pub(super) fn has_other(&self, name: &OsStr) -> io::Result<bool> {
            match statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile),
                Err(Errno::NOENT) => Ok(false),
                Err(error) => Err(error.into()),
            }
        }

        pub(super) fn create(&self, name: &OsStr) -> io::Result<File> {
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
            Ok(openat(&self.0, name, flags, mode)?.into())
        }

        pub(super) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
            Ok(renameat(&self.0, from, &self.0, to)?)
        }

        pub(super) fn remove(&self, name: &OsStr) {
            unlinkat(&self.0, name, AtFlags::empty()).ok();
        }
    }
}

/// By its path, where programs are run without a jail in any case.
#[cfg(not(unix))]
mod named {
    use std::{
        ffi::OsStr,
        fs::{self, File},
        io,
        path::{Path, PathBuf},
    };

    pub(super) struct Directory(PathBuf);

    impl Directory {
        pub(super) fn open(path: &Path) -> io::Result<Self> {
            path.canonicalize().map(Self)
        }

        /// Whether something of that name is there that is no regular file.
        pub(super) fn has_other(&self, name: &OsStr) -> io::Result<bool> {
            match fs::symlink_metadata(self.0.join(name)) {
                Ok(found) => Ok(!found.is_file()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
            }
        }

        pub(super) fn create(&self, name: &OsStr) -> io::Result<File> {
            File::create_new(self.0.join(name))
        }

        pub(super) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
            fs::rename(self.0.join(from), self.0.join(to))
        }

        pub(super) fn remove(&self, name: &OsStr) {
            fs::remove_file(self.0.join(name)).ok();
        }
    }
}
