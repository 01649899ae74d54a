//! The system calls that no container of ours needs: everything that makes namespaces, mounts, keys, modules or programs for
//! the kernel, and what has been the door of most kernel escapes. The rest is allowed, so that a program written for a
//! newer kernel still runs.
//! Pure.

use oci_spec::runtime as rt;

use super::spec::SpecError;

/// `EPERM`, what a call without the right would get anyway.
const NOT_PERMITTED: u32 = 1;
/// `ENOSYS`, so that the C library falls back to what a filter can look into.
const NOT_IMPLEMENTED: u32 = 38;
/// Every `CLONE_NEW*` flag of `clone` and `unshare`.
const NAMESPACE_FLAGS: u64 = 0x7E02_0000;

/// Refused whatever the arguments.
const REFUSED: [&str; 61] = [
    "acct",
    "add_key",
    "adjtimex",
    "bpf",
    "clock_adjtime",
    "clock_settime",
    "create_module",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "get_kernel_syms",
    "get_mempolicy",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mount",
    "mount_setattr",
    "move_mount",
    "move_pages",
    "nfsservctl",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "pidfd_getfd",
    "pivot_root",
    "process_madvise",
    "process_vm_readv",
    "process_vm_writev",
    "query_module",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "setdomainname",
    "sethostname",
    "setns",
    "settimeofday",
    "stime",
    "swapoff",
    "swapon",
    "syslog",
    "umount",
    "umount2",
    "unshare",
    "uselib",
    "userfaultfd",
    "vhangup",
    "vm86",
    "vm86old",
];

/// The default profile, for the machine's own system call interface only.
pub(super) fn profile() -> Result<rt::LinuxSeccomp, SpecError> {
    use rt::LinuxSeccompAction as Action;
    let refused = rt::LinuxSyscallBuilder::default()
        .names(REFUSED.map(str::to_owned).to_vec())
        .action(Action::ScmpActErrno)
        .errno_ret(NOT_PERMITTED)
        .build()?;
    // clone3 hides its flags behind a pointer.
    let hidden = rt::LinuxSyscallBuilder::default()
        .names(vec!["clone3".to_owned()])
        .action(Action::ScmpActErrno)
        .errno_ret(NOT_IMPLEMENTED)
        .build()?;
    let mut syscalls = vec![refused, hidden];
    // One rule per flag: a masked comparison can only demand a value, not "any of these bits".
    for bit in 0..u64::BITS {
        let flag = 1u64 << bit;
        if NAMESPACE_FLAGS & flag != 0 {
            syscalls.push(
                rt::LinuxSyscallBuilder::default()
                    .names(vec!["clone".to_owned()])
                    .action(Action::ScmpActErrno)
                    .errno_ret(NOT_PERMITTED)
                    .args(vec![
                        rt::LinuxSeccompArgBuilder::default()
                            .index(0usize)
                            .value(flag)
                            .value_two(flag)
                            .op(rt::LinuxSeccompOperator::ScmpCmpMaskedEq)
                            .build()?,
                    ])
                    .build()?,
            );
        }
    }
    Ok(rt::LinuxSeccompBuilder::default().default_action(Action::ScmpActAllow).syscalls(syscalls).build()?)
}
