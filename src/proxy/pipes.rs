//! Kernel pipes through which bytes go from socket to socket without being copied (splice(2)).
//!
//! A pipe belongs to one direction of one tunnel at a time, and only while bytes move there. It is
//! given back empty or closed: what one tunnel left in a pipe can never come out in another. There
//! is a bound on pipes; whoever gets none copies.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rustix::{
    io::Errno,
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
};
use tokio::{io::Interest, net::TcpStream};

/// The pipes of a proxy.
#[derive(Debug)]
pub struct Pipes {
    free: Mutex<Vec<Pipe>>,
    /// Free ones and taken ones.
    open: AtomicU64,
    usable: AtomicBool,
}

/// A pipe that somebody has taken.
#[derive(Debug)]
pub(super) struct TakenPipe<'a> {
    /// There until it is dropped.
    pipe: Option<Pipe>,
    /// Bytes in it.
    held: usize,
    pipes: &'a Pipes,
}

#[derive(Debug)]
struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    /// Since the last sweep.
    used: bool,
}

/// Pipes at a time, and so tunnels that carry much at the same moment without copying.
const PIPES: u64 = 64;

/// What a pipe may hold, and what is moved at a time, in bytes. All pipes together stay within what
/// the kernel lets an unprivileged user have (`fs.pipe-user-pages-soft`, pipe(7)).
const PIPE_BYTES: usize = 512 << 10;

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

impl Pipes {
    /// Descriptors that pipes may use: each has two ends.
    pub const DESCRIPTORS: u64 = 2 * PIPES;

    /// None yet. `usable`: whether there are to be any.
    #[must_use]
    pub fn new(usable: bool) -> Self {
        Self { free: Mutex::default(), open: AtomicU64::new(0), usable: AtomicBool::new(usable) }
    }

    /// Whether there are pipes at all.
    pub(super) fn are_usable(&self) -> bool {
        self.usable.load(Ordering::Relaxed)
    }

    /// An empty pipe, if there is one.
    pub(super) fn take(&self) -> Option<TakenPipe<'_>> {
        if !self.are_usable() {
            return None;
        }
        let free = self.free().pop();
        let pipe = free.or_else(|| self.open())?;
        Some(TakenPipe { pipe: Some(pipe), held: 0, pipes: self })
    }

    /// Closes those that nobody has used since the last time.
    pub fn sweep(&self) {
        let mut free = self.free();
        let before = free.len();
        free.retain_mut(|pipe| std::mem::take(&mut pipe.used));
        let closed = u64::try_from(before - free.len()).unwrap_or_default();
        self.open.fetch_sub(closed, Ordering::Relaxed);
    }

    /// No code that can panic runs under the lock, so a poisoned one is sound.
    fn free(&self) -> MutexGuard<'_, Vec<Pipe>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Option<Pipe> {
        let reserve = |open| (open < PIPES).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, reserve).ok()?;
        match pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC) {
            Ok((out, into)) => {
                // A small one works too.
                fcntl_setpipe_size(&into, PIPE_BYTES).ok();
                Some(Pipe { out, into, used: true })
            }
            // No descriptor is left.
            Err(_) => {
                self.open.fetch_sub(1, Ordering::Relaxed);
                None
            }
        }
    }
}

impl TakenPipe<'_> {
    /// Bytes in it.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Moves what has arrived at a socket into the pipe, which must be empty: only then does
    /// "would block" speak of the socket. `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    ///
    /// The socket's; `WouldBlock` when nothing has arrived; `Unsupported` when this kernel does
    /// not splice, and from then on no pipe is lent any more.
    pub(super) fn fill(&mut self, from: &TcpStream) -> io::Result<usize> {
        debug_assert_eq!(self.held, 0, "only an empty pipe is filled");
        let Some(pipe) = &self.pipe else { return Err(io::ErrorKind::Unsupported.into()) };
        let moved = from.try_io(Interest::READABLE, || {
            splice(from, None, &pipe.into, None, PIPE_BYTES, FLAGS).map_err(io::Error::from)
        });
        match moved {
            Ok(bytes) => self.held = bytes,
            Err(ref error) if is_unsupported(error) => {
                self.pipes.usable.store(false, Ordering::Relaxed);
                return Err(io::ErrorKind::Unsupported.into());
            }
            Err(_) => {}
        }
        moved
    }

    /// Moves what is in the pipe to a socket, as far as the socket takes it.
    ///
    /// # Errors
    ///
    /// The socket's; `WouldBlock` when it takes nothing.
    pub(super) fn empty(&mut self, to: &TcpStream) -> io::Result<usize> {
        let Some(pipe) = &self.pipe else { return Err(io::ErrorKind::Unsupported.into()) };
        let moved = to.try_io(Interest::WRITABLE, || {
            splice(&pipe.out, None, to, None, self.held, FLAGS).map_err(io::Error::from)
        })?;
        self.held = self.held.saturating_sub(moved);
        Ok(moved)
    }
}

/// As from kernels in user space, or filters around the process.
fn is_unsupported(error: &io::Error) -> bool {
    [Errno::INVAL, Errno::NOSYS, Errno::PERM, Errno::OPNOTSUPP]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

impl Drop for TakenPipe<'_> {
    fn drop(&mut self) {
        let Some(mut pipe) = self.pipe.take() else { return };
        if self.held == 0 {
            pipe.used = true;
            self.pipes.free().push(pipe);
        } else {
            drop(pipe);
            self.pipes.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
