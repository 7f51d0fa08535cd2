//! Unix sockets of this machine, found by path, judged by where they are, and connected to as found.
//!
//! A path that was judged can lead elsewhere a moment later. So the socket is opened first, without
//! connecting (`O_PATH`, open(2)); the kernel says where that is, links resolved (`/proc/self/fd`,
//! `proc_pid_fd(5)`); that is judged; and the connection goes to what is open, through the same
//! place. Nobody can exchange it in between.

use std::{
    ffi::OsStr,
    io,
    net::TcpStream,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path, PathBuf},
    time::Duration,
};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat2, readlink, readlinkat,
    stat,
};
use socket2::{Domain, SockAddr, Socket, Type};

use super::SocketError;
use crate::policy::{List, SocketPath, SocketPermit};

/// A socket that was found, and is held.
#[derive(Debug)]
pub struct FoundSocket {
    descriptor: OwnedFd,
    path: SocketPath,
}

impl FoundSocket {
    /// Follows a path to a socket, links and all. Blocks as long as the file system does.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn find(asked: &SocketPath) -> Result<Self, SocketError> {
        let found = || -> io::Result<Self> {
            // Links of /proc lead into the mounts of other processes, where paths mean other files.
            let descriptor = openat2(
                CWD,
                asked.as_str(),
                OFlags::PATH | OFlags::CLOEXEC,
                Mode::empty(),
                ResolveFlags::NO_MAGICLINKS,
            )?;
            let found = fstat(&descriptor)?;
            let path = readlink(place_of(&descriptor), Vec::new())?;
            let path = SocketPath::parse(path.as_bytes())
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidFilename))?;
            // What is asked for by that path here is the same.
            let is_it = FileType::from_raw_mode(found.st_mode) == FileType::Socket
                && stat(path.as_str()).is_ok_and(|here| is_same(&found, &here));
            match is_it {
                true => Ok(Self { descriptor, path }),
                false => Err(io::ErrorKind::InvalidInput.into()),
            }
        };
        found().map_err(|_| SocketError::NotThere)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &SocketPath {
        &self.path
    }

    /// Connects to it. Blocks for so long at most.
    ///
    /// The stream is carried as one of TCP: see `proxy::endpoint`.
    ///
    /// # Errors
    ///
    /// The permit is for another one, or nobody answers.
    pub fn connect(
        &self,
        permit: &SocketPermit,
        deadline: Duration,
    ) -> Result<TcpStream, SocketError> {
        if permit.path() != &self.path {
            return Err(SocketError::OtherSocket);
        }
        let connect = || -> io::Result<TcpStream> {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            // How long to wait for room in its queue (unix(7), socket(7)).
            socket.set_write_timeout(Some(deadline))?;
            socket.connect(&SockAddr::unix(place_of(&self.descriptor))?)?;
            socket.set_nonblocking(true)?;
            Ok(socket.into())
        };
        let waited = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
        };
        connect().map_err(|error| match waited(&error) {
            true => SocketError::Timeout,
            false => SocketError::Refused,
        })
    }
}

/// Whether a path of the policy leads to a socket. Of a deny over all links, hard ones too; of an allow
/// only over those that root made: others would let whoever makes them say which socket is allowed.
/// Blocks as long as the file system does.
#[must_use]
pub fn leads_to(path: &SocketPath, list: List, socket: &SocketPath) -> bool {
    match list {
        List::Deny => match (stat(path.as_str()), stat(socket.as_str())) {
            (Ok(listed), Ok(asked)) => is_same(&listed, &asked),
            _ => false,
        },
        List::Allow => over_links_of_root(Path::new(path.as_str()))
            .is_ok_and(|real| real.as_os_str() == socket.as_str()),
    }
}

fn is_same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// Step by step, because whoever may exchange a directory for a link could do so between a look at the
/// whole path and following it: what has been passed is not looked at again.
fn over_links_of_root(path: &Path) -> io::Result<PathBuf> {
    let mut passed = PathBuf::from("/");
    let mut ahead = path.to_owned();
    for _ in 0..MAX_STEPS {
        let mut parts = ahead.components();
        let Some(part) = parts.next() else { return Ok(passed) };
        let rest = parts.as_path().to_owned();
        match part {
            Component::RootDir | Component::Prefix(_) => passed = PathBuf::from("/"),
            Component::CurDir => {}
            Component::ParentDir => {
                passed.pop();
            }
            Component::Normal(name) => {
                let next = passed.join(name);
                // Held, so that owner and target are of one link.
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let held = open(&next, flags, Mode::empty())?;
                let found = fstat(&held)?;
                let is_link = FileType::from_raw_mode(found.st_mode) == FileType::Symlink;
                match (is_link, found.st_uid) {
                    (true, ROOT) => {
                        let target = readlinkat(&held, "", Vec::new())?;
                        ahead = Path::new(OsStr::from_bytes(target.as_bytes())).join(rest);
                        continue;
                    }
                    (true, _) => return Err(io::ErrorKind::PermissionDenied.into()),
                    (false, _) => passed = next,
                }
            }
        }
        ahead = rest;
    }
    Err(io::ErrorKind::InvalidFilename.into())
}

const ROOT: u32 = 0;

/// Longer paths, and more links, are not followed.
const MAX_STEPS: usize = 256;

fn place_of(descriptor: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}
