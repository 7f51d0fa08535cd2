//! System calls by seccomp (seccomp(2)): those that a proxy never makes fail with `EPERM`.
//!
//! A list of what is forbidden rather than of what is needed: a C library or an architecture with
//! another way to wait or to allocate must not break the proxy. The kernel remembers which calls
//! pass whatever their arguments, and does not walk the list for them (since Linux 5.11).
//!
//! What is forbidden is heard of: a thread of its own answers each of these calls and tells. It
//! lives as long as the process, and is under a filter that needs no answer. No other thread can
//! answer, though all have the descriptor. What remains: they share its memory, and code that can
//! write there at will may make it answer something else.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    sync::mpsc::{Receiver, channel},
    thread,
};

use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

use super::notify::Listener;

/// Forbids the calls to this thread and all that it starts; `refused` hears the number of each
/// one that is tried.
pub(super) fn filter(refused: impl Fn(i32) + Send + 'static) -> Result<String, String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| "no filter for this kind of processor".to_owned())?;
    let Programs { forbidden, beside, answers } =
        programs(arch).map_err(|error| error.to_string())?;
    for program in &beside {
        apply_filter(program).map_err(|error| error.to_string())?;
    }
    let (listener, listening) = channel();
    let quiet = forbidden.clone();
    thread::Builder::new()
        .name("exeat-refuser".into())
        .spawn(move || answer(&listening, &quiet, &refused))
        .map_err(|error| error.to_string())?;
    // Not for the thread that was just started. Of two filters the one that refuses wins.
    apply_filter(&answers).map_err(|error| error.to_string())?;
    match Listener::install(told(&forbidden)) {
        Ok(installed) => {
            listener.send(installed).map_err(|error| error.to_string())?;
            Ok("seccomp".into())
        }
        // Somebody outside listens already, or the kernel is too old to tell.
        Err(error) => {
            apply_filter(&forbidden).map_err(|error| error.to_string())?;
            Ok(format!("seccomp (refusals are not counted: {error})"))
        }
    }
}

/// Refuses whatever is heard of, to the end of the process.
fn answer(listening: &Receiver<Listener>, quiet: &BpfProgram, refused: &impl Fn(i32)) {
    // Without a listener there is nothing to do; without a filter of its own the thread does not
    // go on, and the kernel refuses in its place.
    let Ok(listener) = listening.recv() else { return };
    if apply_filter(quiet).is_err() {
        return;
    }
    loop {
        match listener.next() {
            Ok(call) => {
                // The thread may have been interrupted, and does not wait.
                listener.refuse(&call).ok();
                refused(call.number);
            }
            // The same, before it was heard of.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Interrupted) => {}
            Err(_) => return,
        }
    }
}

/// The same program, but what it forbids is told.
fn told(program: &BpfProgram) -> Vec<libc::sock_filter> {
    let tell = |k| if k == FORBID { libc::SECCOMP_RET_USER_NOTIF } else { k };
    let instruction = |from: &seccompiler::sock_filter| libc::sock_filter {
        code: from.code,
        jt: from.jt,
        jf: from.jf,
        k: if from.code == RETURN { tell(from.k) } else { from.k },
    };
    program.iter().map(instruction).collect()
}

/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

/// What the program returns for a forbidden call.
const FORBID: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();

/// The filters, which are in force together.
struct Programs {
    /// What is heard of.
    forbidden: BpfProgram,
    /// What every thread is refused besides.
    beside: Vec<BpfProgram>,
    /// What every thread but the one that answers is refused.
    answers: BpfProgram,
}

fn programs(arch: TargetArch) -> Result<Programs, Error> {
    let mut forbidden: BTreeMap<i64, Vec<SeccompRule>> =
        NEVER.iter().chain(NEVER_OLD).map(|call| (*call, Vec::new())).collect();
    for (call, conditions) in SOMETIMES {
        let rule = conditions.iter().map(Argument::condition).collect::<Result<_, _>>()?;
        forbidden.entry(*call).or_default().push(SeccompRule::new(rule)?);
    }
    let errno = |number: i32| SeccompAction::Errno(number.unsigned_abs());
    let forbid = |calls, number| -> Result<BpfProgram, Error> {
        let filter = SeccompFilter::new(calls, SeccompAction::Allow, errno(number), arch)?;
        Ok(filter.try_into()?)
    };
    // Its flags are in memory, where no filter sees them; libraries fall back to clone.
    let clone3 = [(libc::SYS_clone3, Vec::new())].into();
    let mut beside = vec![forbid(clone3, libc::ENOSYS)?];
    if arch == TargetArch::x86_64 {
        beside.push(no_x32());
    }
    let answers = ANSWERS
        .iter()
        .map(|request| Ok(SeccompRule::new(vec![Argument::Is(1, *request).condition()?])?))
        .collect::<Result<_, Error>>()?;
    let answers = forbid([(libc::SYS_ioctl, answers)].into(), libc::EPERM)?;
    Ok(Programs { forbidden: forbid(forbidden, libc::EPERM)?, beside, answers })
}

/// The second set of numbers for the same calls that some kernels have (`__X32_SYSCALL_BIT`).
fn no_x32() -> BpfProgram {
    let statement = |code, jf, k| seccompiler::sock_filter { code, jt: 0, jf, k };
    vec![
        // BPF_LD | BPF_W | BPF_ABS: the number of the call.
        statement(0x20, 0, 0),
        // BPF_JMP | BPF_JGE | BPF_K: on to the next, or over it.
        statement(0x35, 1, 0x4000_0000),
        statement(RETURN, 0, FORBID),
        statement(RETURN, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// What the lower half of an argument must be for a call to be forbidden.
#[derive(Debug, Clone, Copy)]
enum Argument {
    /// The argument of that place is another value.
    Differs(u8, i32),
    /// ... is that value.
    Is(u8, u64),
    /// ... has none of these bits.
    Lacks(u8, i32),
    /// ... has all of these bits.
    Has(u8, i32),
}

impl Argument {
    fn condition(&self) -> Result<SeccompCondition, Error> {
        let bits = |number: i32| u64::from(number.unsigned_abs());
        let (place, operator, value) = match *self {
            Self::Differs(place, value) => (place, SeccompCmpOp::Ne, bits(value)),
            Self::Is(place, value) => (place, SeccompCmpOp::Eq, value),
            Self::Lacks(place, mask) => (place, SeccompCmpOp::MaskedEq(bits(mask)), 0),
            Self::Has(place, mask) => (place, SeccompCmpOp::MaskedEq(bits(mask)), bits(mask)),
        };
        Ok(SeccompCondition::new(place, SeccompCmpArgLen::Dword, operator, value)?)
    }
}

/// Forbidden with some arguments: all conditions of a line together.
const SOMETIMES: &[(i64, &[Argument])] = &[
    // No process, only threads.
    (libc::SYS_clone, &[Argument::Lacks(0, libc::CLONE_THREAD)]),
    // Only the internet; the runtime's pairs of unix sockets come from socketpair.
    (
        libc::SYS_socket,
        &[Argument::Differs(0, libc::AF_INET), Argument::Differs(0, libc::AF_INET6)],
    ),
    // No code that was not in the program.
    (libc::SYS_mmap, &[Argument::Has(2, libc::PROT_EXEC)]),
    (libc::SYS_mprotect, &[Argument::Has(2, libc::PROT_EXEC)]),
    (libc::SYS_pkey_mprotect, &[Argument::Has(2, libc::PROT_EXEC)]),
    // Typing into the terminal it was started from.
    (libc::SYS_ioctl, &[Argument::Is(1, TIOCSTI)]),
    (libc::SYS_ioctl, &[Argument::Is(1, TIOCLINUX)]),
];

/// Forbidden on every architecture.
const NEVER: &[i64] = &[
    // Other programs and processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_kill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    PROCESS_MRELEASE,
    libc::SYS_ptrace,
    libc::SYS_kcmp,
    libc::SYS_setpriority,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // New listening sockets: those that are needed are there.
    libc::SYS_listen,
    // Parts of the kernel that have been ways out of other cages.
    libc::SYS_bpf,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    libc::SYS_memfd_create,
    MEMFD_SECRET,
    libc::SYS_fanotify_init,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_msgget,
    libc::SYS_semget,
    libc::SYS_mq_open,
    // Namespaces and mounts.
    libc::SYS_chroot,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
    // Other users and their rights.
    libc::SYS_capset,
    libc::SYS_setfsgid,
    libc::SYS_setfsuid,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_setuid,
    // What Landlock leaves open, and what no audit file needs.
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fremovexattr,
    libc::SYS_fsetxattr,
    libc::SYS_ftruncate,
    libc::SYS_linkat,
    libc::SYS_lremovexattr,
    libc::SYS_lsetxattr,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_removexattr,
    libc::SYS_renameat2,
    libc::SYS_setxattr,
    libc::SYS_symlinkat,
    libc::SYS_truncate,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    // The machine.
    libc::SYS_acct,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_load,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_vhangup,
];

/// Older forms of the same, which x86-64 has.
#[cfg(target_arch = "x86_64")]
const NEVER_OLD: &[i64] = &[
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_fork,
    libc::SYS_futimesat,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_kexec_file_load,
    libc::SYS_lchown,
    libc::SYS_link,
    libc::SYS_mkdir,
    libc::SYS_mknod,
    libc::SYS_modify_ldt,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_rmdir,
    libc::SYS_symlink,
    libc::SYS_unlink,
    libc::SYS_uselib,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_vfork,
];
/// renameat and kexec_file_load.
#[cfg(target_arch = "aarch64")]
const NEVER_OLD: &[i64] = &[38, 294];
#[cfg(target_arch = "riscv64")]
const NEVER_OLD: &[i64] = &[];

// What libc does not name, or not by the same type, for every target. Calls since Linux 5.1 have
// one number on all of them.
const MEMFD_SECRET: i64 = 447;
const PROCESS_MRELEASE: i64 = 448;
const FCHMODAT2: i64 = 452;
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;

/// Requests to the descriptor of a filter (`linux/seccomp.h`): `SECCOMP_IOCTL_NOTIF_RECV`, `_SEND`,
/// `_ID_VALID`, `_ADDFD` and `_SET_FLAGS`, and `_ID_VALID` as it was before Linux 5.9. The answer
/// to a call may be that it goes on.
const ANSWERS: &[u64] =
    &[0xc050_2100, 0xc018_2101, 0x4008_2102, 0x4018_2103, 0x4008_2104, 0x8008_2102];

#[cfg(test)]
mod tests {
    use super::{super::notify::Call, *};

    #[test]
    fn only_the_refuser_answers() {
        // Filters are for a thread and what it starts.
        let confined = thread::spawn(|| {
            let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
            let Programs { forbidden, answers, .. } = programs(arch).unwrap();
            apply_filter(&answers).unwrap();
            // None if somebody outside listens already, or the kernel is too old: nothing to answer.
            let Ok(listener) = Listener::install(told(&forbidden)) else { return };
            let sent = listener.refuse(&Call { id: 1, number: 0 }).unwrap_err();
            assert_eq!(sent.raw_os_error(), Some(libc::EPERM), "{sent}");
            let received = listener.next().unwrap_err();
            assert_eq!(received.raw_os_error(), Some(libc::EPERM), "{received}");
        });
        confined.join().unwrap();
    }
}
