//! Hearing of each system call that a filter forbids, by `SIGSYS` (`SECCOMP_RET_TRAP`, seccomp(2)).
//!
//! One of the two places with `unsafe`: the result of a call is in the registers of the thread that
//! made it, and no safe crate writes there. Nothing is decided here, and nothing here can let a call
//! through: the kernel has skipped it before the handler runs. What the handler does is safe in a
//! signal: registers, and a write to a pipe.

#![expect(unsafe_code, reason = "a signal handler that sets the result of a system call")]

use std::{
    ffi::{c_int, c_void},
    io::{self, PipeReader, PipeWriter, Read as _},
    mem, ptr,
    sync::OnceLock,
};

use rustix::io::{retry_on_intr, write};

/// The end at which forbidden calls are heard of.
#[derive(Debug)]
pub(super) struct Refusals(PipeReader);

/// Where the handler tells, once there is one.
static TOLD: OnceLock<PipeWriter> = OnceLock::new();

impl Refusals {
    /// Makes every thread of the process answer `EPERM` for itself where a filter traps. Once in a
    /// process.
    ///
    /// # Errors
    ///
    /// There is no pipe, or the handler is there already.
    pub(super) fn install() -> io::Result<Self> {
        let (reading, writing) = io::pipe()?;
        TOLD.set(writing).map_err(|_| io::Error::from(io::ErrorKind::AlreadyExists))?;
        // SAFETY: all of its fields are numbers, or an optional function, for which zero is a value.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = refuse;
        action.sa_sigaction = address_of(handler);
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: the action is live and says what kind of function the handler is.
        let done = unsafe { libc::sigaction(libc::SIGSYS, &raw const action, ptr::null_mut()) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(reading)) }
    }

    /// Waits for a forbidden call, and says which, as the architecture numbers them.
    ///
    /// # Errors
    ///
    /// Nothing will be heard any more.
    pub(super) fn next(&mut self) -> io::Result<i32> {
        let mut number = [0; 4];
        self.0.read_exact(&mut number)?;
        Ok(i32::from_ne_bytes(number))
    }
}

#[expect(clippy::as_conversions, reason = "sigaction(2) takes handlers as numbers")]
fn address_of(handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)) -> usize {
    handler as *const () as usize
}

/// The handler. A thread that tells faster than anybody hears waits, as for any pipe.
extern "C" fn refuse(_: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes both, each its own and live until the return.
    let (info, context) = unsafe { (&*info, &mut *context.cast::<libc::ucontext_t>()) };
    // Sent by somebody, and not in place of a call.
    if info.si_code != SYS_SECCOMP {
        return;
    }
    let number = exchange(context);
    if let Some(told) = TOLD.get() {
        retry_on_intr(|| write(told, &number.to_ne_bytes())).ok();
    }
}

/// Puts the result of a call that fails with `EPERM` where the thread will look for it, and takes
/// the number of the call from where the thread has put it.
#[cfg(target_arch = "x86_64")]
fn exchange(context: &mut libc::ucontext_t) -> i32 {
    /// `REG_RAX` (`sys/ucontext.h`), which is for both.
    const RAX: usize = 13;
    truncated(mem::replace(&mut context.uc_mcontext.gregs[RAX], FAILED).cast_unsigned())
}
#[cfg(target_arch = "aarch64")]
fn exchange(context: &mut libc::ucontext_t) -> i32 {
    let registers = &mut context.uc_mcontext.regs;
    registers[0] = FAILED.cast_unsigned();
    truncated(registers[8])
}
#[cfg(target_arch = "riscv64")]
fn exchange(context: &mut libc::ucontext_t) -> i32 {
    // a0 and a7.
    let registers = &mut context.uc_mcontext.__gregs;
    registers[10] = FAILED.cast_unsigned();
    truncated(registers[17])
}

/// The number as `seccomp_data` has it.
#[expect(clippy::as_conversions, reason = "the kernel looks at the lower half only")]
fn truncated(number: u64) -> i32 {
    number as i32
}

/// How the kernel says `EPERM`.
#[expect(clippy::as_conversions, reason = "an i32 in an i64, in a constant")]
const FAILED: i64 = -(libc::EPERM as i64);

/// `si_code` of a signal that a filter sends (`asm-generic/siginfo.h`).
const SYS_SECCOMP: c_int = 1;
