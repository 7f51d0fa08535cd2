//! A unix socket with a path to listen at: made for its user alone, and gone when it is closed.
//!
//! The invariant: a path is taken over only from a socket that nobody listens on any more. What is
//! no socket, and one on which somebody does, stays.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _},
        net::UnixListener,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FlockOperation, Mode, flock, unlinkat},
    process::umask,
};
use socket2::{Domain, SockAddr, Socket, Type};

/// The path of a socket. Removed when dropped, if it still is that socket.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

/// Whoever may write a socket may connect to it (unix(7)).
const OWNER_ALONE: Mode = Mode::from_raw_mode(0o177);

impl SocketFile {
    /// Binds, and listens. To be called while no other thread makes files: what they may be is a
    /// matter of the whole process.
    ///
    /// # Errors
    ///
    /// Somebody listens there, it is no socket, or its directory cannot be written.
    pub(super) fn bind(path: &Path, backlog: i32) -> io::Result<(UnixListener, Self)> {
        // Held until it is bound, so that of two that find a dead one only one takes its place.
        let parent = path.parent().unwrap_or(path);
        let directory = fs::File::open(parent)?;
        flock(&directory, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            io::Error::new(
                io::Error::from(error).kind(),
                format!("{} is locked by another program: {error}", parent.display()),
            )
        })?;
        remove_dead(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let before = umask(OWNER_ALONE);
        let bound = socket.bind(&SockAddr::unix(path)?);
        umask(before);
        bound?;
        let found = fs::symlink_metadata(path)?;
        let file = Self { path: path.to_owned(), identity: (found.dev(), found.ino()) };
        socket.listen(backlog)?;
        Ok((UnixListener::from(std::os::fd::OwnedFd::from(socket)), file))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == self.identity) {
            // The one call of its kind that a confined proxy may make.
            unlinkat(CWD, &self.path, AtFlags::empty()).ok();
        }
    }
}

/// Removes a socket on which nobody listens.
fn remove_dead(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let taken = |what: &str| io::Error::new(io::ErrorKind::AddrInUse, what.to_owned());
    if !found.file_type().is_socket() {
        return Err(taken("something that is no socket is there"));
    }
    // It asks for no answer, and does not wait for room in a queue.
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        Ok(()) | Err(_) => Err(taken("another program listens there")),
    }
}
