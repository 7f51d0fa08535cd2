//! System calls by seccomp (seccomp(2)): those that a proxy never makes fail with `EPERM`.
//!
//! A list of what is forbidden rather than of what is needed: a C library or an architecture with
//! another way to wait or to allocate must not break the proxy. The kernel remembers which calls
//! pass whatever their arguments, and does not walk the list for them (since Linux 5.11).
//!
//! What is forbidden is heard of: the kernel skips the call and sends `SIGSYS` to its thread, which
//! then answers `EPERM` for itself and tells (`trap`). Not by `SECCOMP_RET_USER_NOTIF`, which is made
//! for telling: whoever answers a notification may also answer that the call goes on. A thread that
//! answers shares its memory with what it judges, so that code which can write there at will could
//! make it say so; a process of its own would have to be forked, confined and kept alive. To a signal
//! there is no such answer: code that has taken over the process can keep a call from being
//! counted, and cannot make it.
//!
//! New processes are refused in silence: C libraries ask for them with all signals blocked, and the
//! kernel would end the proxy rather than send it a signal that it blocks.

use std::{collections::BTreeMap, thread};

use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

use super::trap::Refusals;

/// What some proxies do, and others never.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calls {
    /// Files are removed, by `unlinkat`.
    pub(super) remove: bool,
    /// Unix sockets are opened.
    pub(super) unix_sockets: bool,
}

/// Forbids the calls to this thread and all that it starts; `refused` hears the number of each
/// one that is tried and counted.
pub(super) fn filter(
    calls: &Calls,
    refused: impl Fn(i32) + Send + 'static,
) -> Result<String, String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| "no filter for this kind of processor".to_owned())?;
    let programs = programs(arch, calls).map_err(|error| error.to_string())?;
    let mut refusals = Refusals::install().map_err(|error| error.to_string())?;
    for program in &programs {
        apply_filter(program).map_err(|error| error.to_string())?;
    }
    // It lives as long as the process. The calls fail whether or not it hears of them.
    let hear = move || {
        while let Ok(number) = refusals.next() {
            refused(number);
        }
    };
    thread::Builder::new()
        .name("exeat-refusals".into())
        .spawn(hear)
        .map_err(|error| error.to_string())?;
    Ok("seccomp".into())
}

/// Leaves this thread, and what it becomes, only kinds of sockets that belong to its network
/// namespace, or to paths: `AF_VSOCK`, to give one, reaches the machine that a virtual one runs on.
/// And what is typed into the terminal, others would run; a limit can end a process of theirs.
pub(super) fn close_ways_around() -> Result<(), String> {
    refuse(OTHER_FAMILIES, &[TYPING, LIMITS_OF_OTHERS].concat())
}

/// The same, and of the internet's protocols only TCP, opened in the one way that Landlock sees.
pub(super) fn only_tcp() -> Result<(), String> {
    refuse(
        &[OTHER_FAMILIES, OTHER_PROTOCOLS].concat(),
        &[TYPING, LIMITS_OF_OTHERS, FAST_OPEN].concat(),
    )
}

/// Puts filters in force for this thread and what it becomes: these sockets are of no known family,
/// these calls fail.
fn refuse(sockets: &[(i64, &[Argument])], calls: &[(i64, &[Argument])]) -> Result<(), String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| "no filter for this kind of processor".to_owned())?;
    let filter = |calls, errno: i32| -> Result<BpfProgram, Error> {
        let action = SeccompAction::Errno(errno.unsigned_abs());
        Ok(SeccompFilter::new(calls, SeccompAction::Allow, action, arch)?.try_into()?)
    };
    let programs = || -> Result<Vec<BpfProgram>, Error> {
        let mut programs = vec![filter(rules(&[], sockets)?, libc::EAFNOSUPPORT)?];
        if arch == TargetArch::x86_64 {
            programs.push(no_x32());
        }
        // io_uring opens sockets too, where no filter sees it.
        programs.push(filter(rules(&[libc::SYS_io_uring_setup], calls)?, libc::EPERM)?);
        Ok(programs)
    };
    for program in &programs().map_err(|error| error.to_string())? {
        apply_filter(program).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The filters, which are in force together, in the order in which they can be put in force: the
/// last forbids any other.
fn programs(arch: TargetArch, calls: &Calls) -> Result<Vec<BpfProgram>, Error> {
    let filter = |calls, action| -> Result<BpfProgram, Error> {
        Ok(SeccompFilter::new(calls, SeccompAction::Allow, action, arch)?.try_into()?)
    };
    let errno = |number: i32| SeccompAction::Errno(number.unsigned_abs());
    // Its flags are in memory, where no filter sees them; libraries fall back to clone.
    let clone3 = rules(&[libc::SYS_clone3], &[])?;
    let mut programs = vec![filter(clone3, errno(libc::ENOSYS))?];
    if arch == TargetArch::x86_64 {
        programs.push(no_x32());
    }
    programs.push(filter(rules(PROCESSES_OLD, PROCESSES)?, errno(libc::EPERM))?);
    let mut never = [NEVER, NEVER_OLD].concat();
    let mut sometimes = SOMETIMES.to_vec();
    sometimes.extend_from_slice(match calls.unix_sockets {
        true => NOT_INTERNET_NOR_UNIX,
        false => NOT_INTERNET,
    });
    match calls.remove {
        true => sometimes.extend_from_slice(REMOVING),
        false => never.push(libc::SYS_unlinkat),
    }
    programs.push(filter(rules(&never, &sometimes)?, SeccompAction::Trap)?);
    Ok(programs)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn rules(always: &[i64], sometimes: &[(i64, &[Argument])]) -> Result<Rules, Error> {
    let mut rules: Rules = always.iter().map(|call| (*call, Vec::new())).collect();
    for (call, conditions) in sometimes {
        let rule = conditions.iter().map(Argument::condition).collect::<Result<_, _>>()?;
        rules.entry(*call).or_default().push(SeccompRule::new(rule)?);
    }
    Ok(rules)
}

/// The second set of numbers for the same calls that some kernels have (`__X32_SYSCALL_BIT`).
fn no_x32() -> BpfProgram {
    let statement = |code, jf, k| seccompiler::sock_filter { code, jt: 0, jf, k };
    vec![
        // BPF_LD | BPF_W | BPF_ABS: the number of the call.
        statement(0x20, 0, 0),
        // BPF_JMP | BPF_JGE | BPF_K: on to the next, or over it.
        statement(0x35, 1, 0x4000_0000),
        statement(RETURN, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs()),
        statement(RETURN, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

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

/// No process, only threads.
const PROCESSES: &[(i64, &[Argument])] =
    &[(libc::SYS_clone, &[Argument::Lacks(0, libc::CLONE_THREAD)])];

/// Older forms of the same, which x86-64 has.
#[cfg(target_arch = "x86_64")]
const PROCESSES_OLD: &[i64] = &[libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const PROCESSES_OLD: &[i64] = &[];

/// Sockets of a family that is none of these.
const OTHER_FAMILIES: &[(i64, &[Argument])] = &[(
    libc::SYS_socket,
    &[
        Argument::Differs(0, libc::AF_UNIX),
        Argument::Differs(0, libc::AF_INET),
        Argument::Differs(0, libc::AF_INET6),
        Argument::Differs(0, libc::AF_NETLINK),
    ],
)];

/// Sockets of the internet that are no TCP: by their type (of which `SOCK_STREAM` is 1, and the others
/// have another bit), or by a protocol that is neither left open nor named.
const OTHER_PROTOCOLS: &[(i64, &[Argument])] = &[
    (libc::SYS_socket, &[Argument::Is(0, INET), Argument::Has(1, 2)]),
    (libc::SYS_socket, &[Argument::Is(0, INET), Argument::Has(1, 4)]),
    (
        libc::SYS_socket,
        &[Argument::Is(0, INET), Argument::Differs(2, 0), Argument::Differs(2, libc::IPPROTO_TCP)],
    ),
    (libc::SYS_socket, &[Argument::Is(0, INET6), Argument::Has(1, 2)]),
    (libc::SYS_socket, &[Argument::Is(0, INET6), Argument::Has(1, 4)]),
    (
        libc::SYS_socket,
        &[Argument::Is(0, INET6), Argument::Differs(2, 0), Argument::Differs(2, libc::IPPROTO_TCP)],
    ),
];
const INET: u64 = 2;
const INET6: u64 = 10;

/// Connecting by sending (tcp(7)).
const FAST_OPEN: &[(i64, &[Argument])] = &[
    (libc::SYS_sendto, &[Argument::Has(3, libc::MSG_FASTOPEN)]),
    (libc::SYS_sendmsg, &[Argument::Has(2, libc::MSG_FASTOPEN)]),
    (libc::SYS_sendmmsg, &[Argument::Has(3, libc::MSG_FASTOPEN)]),
];

/// Typing into the terminal.
const TYPING: &[(i64, &[Argument])] = &[
    (libc::SYS_ioctl, &[Argument::Is(1, TIOCSTI)]),
    (libc::SYS_ioctl, &[Argument::Is(1, TIOCLINUX)]),
];

/// Reading them too: whether they are written, a pointer says.
const LIMITS_OF_OTHERS: &[(i64, &[Argument])] =
    &[(libc::SYS_prlimit64, &[Argument::Differs(0, 0)])];

/// Sockets of anything but the internet; the runtime's pairs of unix sockets come from socketpair.
const NOT_INTERNET: &[(i64, &[Argument])] = &[(
    libc::SYS_socket,
    &[Argument::Differs(0, libc::AF_INET), Argument::Differs(0, libc::AF_INET6)],
)];

/// The same, where unix sockets are opened too.
const NOT_INTERNET_NOR_UNIX: &[(i64, &[Argument])] = &[(
    libc::SYS_socket,
    &[
        Argument::Differs(0, libc::AF_INET),
        Argument::Differs(0, libc::AF_INET6),
        Argument::Differs(0, libc::AF_UNIX),
    ],
)];

/// Removing directories, where files may be removed.
const REMOVING: &[(i64, &[Argument])] =
    &[(libc::SYS_unlinkat, &[Argument::Has(2, libc::AT_REMOVEDIR)])];

/// Forbidden with some arguments: all conditions of a line together.
const SOMETIMES: &[(i64, &[Argument])] = &[
    // No code that was not in the program.
    (libc::SYS_mmap, &[Argument::Has(2, libc::PROT_EXEC)]),
    (libc::SYS_mprotect, &[Argument::Has(2, libc::PROT_EXEC)]),
    (libc::SYS_pkey_mprotect, &[Argument::Has(2, libc::PROT_EXEC)]),
    // Typing into the terminal it was started from.
    (libc::SYS_ioctl, &[Argument::Is(1, TIOCSTI)]),
    (libc::SYS_ioctl, &[Argument::Is(1, TIOCLINUX)]),
    // Another way to install a filter, and another handler for what is refused.
    (libc::SYS_prctl, &[Argument::Is(0, PR_SET_SECCOMP)]),
    (libc::SYS_rt_sigaction, &[Argument::Is(0, SIGSYS)]),
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
    libc::SYS_seccomp,
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
const PR_SET_SECCOMP: u64 = 22;
const SIGSYS: u64 = 31;
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;

#[cfg(test)]
mod tests {
    use super::*;

    /// No answer is left to anybody: a call passes, fails, or is skipped.
    #[test]
    fn nothing_that_is_forbidden_waits_for_an_answer() {
        let archs = [TargetArch::x86_64, TargetArch::aarch64, TargetArch::riscv64];
        for (arch, open) in archs.into_iter().flat_map(|arch| [(arch, false), (arch, true)]) {
            let programs = programs(arch, &Calls { remove: open, unix_sockets: open }).unwrap();
            let answers = programs.iter().flatten().filter(|line| line.code == RETURN);
            let mut kinds: Vec<u32> =
                answers.map(|line| line.k & libc::SECCOMP_RET_ACTION_FULL).collect();
            kinds.sort_unstable();
            kinds.dedup();
            let known = [
                libc::SECCOMP_RET_TRAP,
                libc::SECCOMP_RET_ERRNO,
                libc::SECCOMP_RET_ALLOW,
                // For the calls of another architecture.
                libc::SECCOMP_RET_KILL_PROCESS,
            ];
            assert_eq!(kinds, known, "{arch:?}");
        }
    }
}
