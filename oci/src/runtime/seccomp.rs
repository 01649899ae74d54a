//! The system calls that a container may make: a list of those that programs need. What is on no list answers that this
//! kernel does not have it, so that a program falls back to an older way, and a call of a newer kernel is closed until
//! somebody has read what it does.
//! Pure.

use oci_spec::OciSpecError;
use oci_spec::runtime as rt;

/// Which system calls a container may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallProfile {
    /// What programs need.
    Service,
    /// Less: nothing that leaves set-id files behind, nothing that looks into other processes.
    Build,
}

/// Stands for the action that lets a call through, where others are an error number.
const ALLOW: u32 = 0;
/// `EPERM`, what a call without the right would get anyway.
const NOT_PERMITTED: u32 = 1;
/// `ENOSYS`: the C library then falls back to what a filter can look into.
const NOT_IMPLEMENTED: u32 = 38;
/// `EAFNOSUPPORT`.
const NO_SUCH_FAMILY: u32 = 97;
/// Every `CLONE_NEW*` flag of `clone` and `unshare`.
const NAMESPACE_FLAGS: u64 = 0x7E02_0000;
/// Set-user-id and set-group-id.
const SET_ID_BITS: u64 = 0o6000;
/// Flags of `open` with which its mode means something: `O_CREAT`, and what makes `O_TMPFILE` one.
const CREATING_FLAGS: u64 = 0o100 | 0o20_000_000;
/// `AF_UNIX`, `AF_INET`, `AF_INET6`, `AF_NETLINK`: what is reached by them lies in namespaces of the container's own. All
/// others are doors to the hypervisor, to hardware or to little-read code of the kernel.
const FAMILIES: [u64; 4] = [1, 2, 10, 16];
/// The largest family that has a rule of its own; those above are refused together.
const FAMILY_MAX: u64 = 64;
/// `PER_LINUX` and `PER_LINUX32` with and without `UNAME26`, `ADDR_NO_RANDOMIZE`, and the question what it is.
const PERSONALITIES: [u64; 6] = [0, 8, 0x2_0000, 0x2_0008, 0x4_0000, 0xffff_ffff];

/// What makes namespaces, mounts, keys, modules or programs for the kernel, and what has been the door of most kernel
/// escapes: refused by name, so that the answer is a refusal and not an absence.
const REFUSED: &str = "\
    acct add_key adjtimex bpf clock_adjtime clock_settime create_module delete_module fanotify_init \
    fanotify_mark finit_module fsconfig fsmount fsopen fspick get_kernel_syms get_mempolicy init_module \
    io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl \
    lookup_dcookie migrate_pages mount mount_setattr move_mount move_pages nfsservctl open_by_handle_at \
    open_tree perf_event_open pidfd_getfd pivot_root process_madvise process_vm_readv process_vm_writev \
    query_module quotactl quotactl_fd reboot request_key setdomainname sethostname setns settimeofday stime \
    swapoff swapon syslog umount umount2 unshare uselib userfaultfd vhangup vm86 vm86old";

/// What programs need.
const ALLOWED: &str = "\
    _llseek _newselect accept accept4 access alarm arch_prctl arm_fadvise64_64 arm_sync_file_range bind \
    breakpoint brk cacheflush cachestat capget capset chdir chown chroot clock_getres clock_getres_time64 \
    clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect \
    copy_file_range dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait \
    eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fchdir fchown \
    fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 \
    fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait \
    futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid \
    geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom \
    getresgid getresuid getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getxattr \
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents \
    io_pgetevents io_setup io_submit ioctl ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset \
    landlock_restrict_self lchown lgetxattr link linkat listen listxattr llistxattr lremovexattr lseek \
    lsetxattr lstat madvise map_shadow_stack mbind membarrier memfd_create memfd_secret mincore mkdir mkdirat \
    mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend \
    mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at \
    nanosleep newfstatat pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll \
    ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 \
    pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg recvmmsg_time64 \
    recvmsg remap_file_pages removexattr rename renameat renameat2 restart_syscall riscv_flush_icache \
    riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn \
    rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max \
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler \
    sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp \
    select semctl semget semop semtimedop semtimedop_time64 sendfile sendmmsg sendmsg sendto set_mempolicy \
    set_robust_list set_thread_area set_tid_address set_tls setfsgid setfsuid setgid setgroups setitimer \
    setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid setsockopt setuid setxattr shmat \
    shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigreturn socketpair splice stat statfs \
    statfs64 statx swapcontext symlink symlinkat sync sync_file_range sync_file_range2 syncfs sysinfo tee \
    tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime \
    timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times \
    tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat utime utimensat utimensat_time64 utimes \
    vfork vmsplice wait4 waitid write writev";

/// Also what a program needs, and what in a build is looked at more closely.
const ALLOWED_TO_SERVICES: &str = "chmod creat fchmod fchmodat fchmodat2 mknod mknodat open openat openat2 ptrace";

/// The profile, for the machine's own system call interface only: calls by another one end the program.
pub(super) fn profile(wanted: CallProfile) -> Result<rt::LinuxSeccomp, OciSpecError> {
    let mut rules = vec![
        rule(ALLOWED, ALLOW, &[])?,
        rule(REFUSED, NOT_PERMITTED, &[])?,
        // Its flags lie behind a pointer.
        rule("clone3", NOT_IMPLEMENTED, &[])?,
        rule("clone", ALLOW, &[without(0, NAMESPACE_FLAGS)?])?,
    ];
    // One rule per flag: a masked comparison can only demand a value, not "any of these bits".
    for flag in (0..u64::BITS).map(|bit| 1u64 << bit).filter(|flag| NAMESPACE_FLAGS & flag != 0) {
        rules.push(rule("clone", NOT_PERMITTED, &[with(0, flag)?])?);
    }
    for family in 0..=FAMILY_MAX {
        let action = if FAMILIES.contains(&family) { ALLOW } else { NO_SUCH_FAMILY };
        rules.push(rule("socket", action, &[is(0, family)?])?);
    }
    for personality in PERSONALITIES {
        rules.push(rule("personality", ALLOW, &[is(0, personality)?])?);
    }
    match wanted {
        CallProfile::Service => rules.push(rule(ALLOWED_TO_SERVICES, ALLOW, &[])?),
        CallProfile::Build => build(&mut rules)?,
    }
    rt::LinuxSeccompBuilder::default()
        .default_action(rt::LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(NOT_IMPLEMENTED)
        .syscalls(rules)
        .build()
}

/// A build leaves files on the host's disk, where no mount option stops a set-id program from being run by somebody else.
/// And it has nothing to debug.
fn build(rules: &mut Vec<rt::LinuxSyscall>) -> Result<(), OciSpecError> {
    rules.push(rule("ptrace", NOT_PERMITTED, &[])?);
    for (call, mode) in [("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("fchmodat2", 2)] {
        rules.push(rule(call, ALLOW, &[without(mode, SET_ID_BITS)?])?);
        for bit in [0o4000, 0o2000] {
            rules.push(rule(call, NOT_PERMITTED, &[with(mode, bit)?])?);
        }
    }
    for (call, mode) in [("creat", 1), ("mknod", 1), ("mknodat", 2)] {
        rules.push(rule(call, ALLOW, &[without(mode, SET_ID_BITS)?])?);
    }
    for (call, flags) in [("open", 1), ("openat", 2)] {
        // Where nothing is made, the mode is whatever stood in the register.
        rules.push(rule(call, ALLOW, &[without(flags, CREATING_FLAGS)?])?);
        for flag in [0o100, 0o20_000_000] {
            rules.push(rule(call, ALLOW, &[with(flags, flag)?, without(flags + 1, SET_ID_BITS)?])?);
        }
    }
    Ok(())
}

fn rule(calls: &str, action: u32, conditions: &[rt::LinuxSeccompArg]) -> Result<rt::LinuxSyscall, OciSpecError> {
    let names: Vec<String> = calls.split_ascii_whitespace().map(str::to_owned).collect();
    let mut rule = rt::LinuxSyscallBuilder::default().names(names);
    rule = match action {
        ALLOW => rule.action(rt::LinuxSeccompAction::ScmpActAllow),
        errno => rule.action(rt::LinuxSeccompAction::ScmpActErrno).errno_ret(errno),
    };
    if !conditions.is_empty() {
        rule = rule.args(conditions.to_vec());
    }
    rule.build()
}

/// The argument has none of these bits.
fn without(index: usize, bits: u64) -> Result<rt::LinuxSeccompArg, OciSpecError> {
    masked(index, bits, 0)
}

/// The argument has this bit.
fn with(index: usize, bit: u64) -> Result<rt::LinuxSeccompArg, OciSpecError> {
    masked(index, bit, bit)
}

fn masked(index: usize, mask: u64, value: u64) -> Result<rt::LinuxSeccompArg, OciSpecError> {
    let arg = rt::LinuxSeccompArgBuilder::default().index(index).value(mask).value_two(value);
    arg.op(rt::LinuxSeccompOperator::ScmpCmpMaskedEq).build()
}

/// The argument is this value.
fn is(index: usize, value: u64) -> Result<rt::LinuxSeccompArg, OciSpecError> {
    let arg = rt::LinuxSeccompArgBuilder::default().index(index).value(value);
    arg.op(rt::LinuxSeccompOperator::ScmpCmpEq).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_on_two_lists() {
        let mut all: Vec<&str> = [ALLOWED, REFUSED, ALLOWED_TO_SERVICES, "clone clone3 socket personality"]
            .into_iter()
            .flat_map(str::split_ascii_whitespace)
            .collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
