//! Hearing of each system call that a filter forbids (`seccomp_unotify(2)`).
//!
//! One of the two places with `unsafe`: no safe crate offers these three kernel calls. Nothing is
//! decided here, and nothing here lets a call through: whoever has the [`Listener`] can only refuse,
//! and if nobody has it any more the kernel answers `ENOSYS`. The kernel would take other answers
//! from any thread of the process: keeping them from asking is the part of `calls`.

#![expect(unsafe_code, reason = "kernel calls that no safe crate offers")]

use std::{
    ffi::{c_int, c_long},
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// The end at which forbidden calls are heard of and answered.
#[derive(Debug)]
pub(super) struct Listener(OwnedFd);

/// A forbidden call; its thread waits for the answer.
#[derive(Debug)]
pub(super) struct Call {
    /// By which the kernel knows it.
    pub(super) id: u64,
    /// Which call, as the architecture numbers them.
    pub(super) number: i32,
}

impl Listener {
    /// Puts a filter in force for the calling thread and all that it starts, which returns
    /// `SECCOMP_RET_USER_NOTIF` for what is to be heard of. `no_new_privs` must be set.
    ///
    /// # Errors
    ///
    /// `EBUSY` if a filter from outside is listened to already, `EINVAL` before Linux 5.0.
    pub(super) fn install(mut program: Vec<libc::sock_filter>) -> io::Result<Self> {
        let program = libc::sock_fprog {
            len: program.len().try_into().map_err(io::Error::other)?,
            filter: program.as_mut_ptr(),
        };
        // SAFETY: the kernel reads `len` instructions from `filter`, which is a live vector of as
        // many, and writes nothing.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
                &raw const program,
            )
        };
        let descriptor: c_int = positive(answer)?.try_into().map_err(io::Error::other)?;
        // SAFETY: a call that succeeds returns a new descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    /// Waits for a forbidden call.
    ///
    /// # Errors
    ///
    /// `ENOENT` if its thread has ended in the meantime, `EINTR` for a signal.
    pub(super) fn next(&self) -> io::Result<Call> {
        let data = libc::seccomp_data { nr: 0, arch: 0, instruction_pointer: 0, args: [0; 6] };
        let mut call = libc::seccomp_notif { id: 0, pid: 0, flags: 0, data };
        // SAFETY: the kernel writes one `seccomp_notif`, whose size is part of the request, to a
        // live and exclusive one, which is zero as it wants it.
        let answer = unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call)
        };
        positive(answer.into())?;
        Ok(Call { id: call.id, number: call.data.nr })
    }

    /// Answers `EPERM`.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the thread does not wait any more.
    pub(super) fn refuse(&self, call: &Call) -> io::Result<()> {
        let mut answer =
            libc::seccomp_notif_resp { id: call.id, val: 0, error: -libc::EPERM, flags: 0 };
        // SAFETY: the kernel reads one `seccomp_notif_resp`, whose size is part of the request,
        // from a live and exclusive one.
        let sent = unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer)
        };
        positive(sent.into()).map(drop)
    }
}

fn positive(answer: c_long) -> io::Result<c_long> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
