//! Attacks on the sandbox, each by a program inside a real container. Skipped loudly where no runtime program works.
//!
//! | attack (what it stands for) | test |
//! |---|---|
//! | IP network, name servers, raw sockets | `network_of_the_host_is_not_reached` |
//! | abstract sockets (CVE-2024-27297, CVE-2025-46416) | the same: a listener of the host's under an abstract name |
//! | path sockets of the host's daemons | `only_declared_files_and_devices_are_there`: nothing of the host is mounted, `/run` does not exist |
//! | vsock, `AF_ALG`, `AF_PACKET` and other families | `dangerous_system_calls_are_refused_and_unknown_ones_are_not_there` |
//! | `io_uring`, bpf, userfaultfd, perf, keyrings, namespaces, mounts, modules, clocks, ptrace, `process_vm_*`, `pidfd_getfd` | the same |
//! | calls by the 32-bit interfaces, which no filter of the 64-bit one sees | `calls_by_another_interface_end_the_program` |
//! | `/proc`: sysrq, `core_pattern`, kcore, keys, timers, boot id (CVE-2025-31133 and its kin) | `proc_shows_and_changes_nothing_of_the_host` |
//! | other processes, namespaces, System V memory, cgroup names | `processes_and_namespaces_of_the_host_are_not_there` |
//! | inherited files, a working folder outside (CVE-2024-21626) | `files_that_the_builder_left_open_do_not_come_along` |
//! | devices, `/sys`, making devices | `only_declared_files_and_devices_are_there` |
//! | set-id files left on the host's disk, file capabilities | `set_id_files_cannot_be_left_behind` |
//! | host name, environment, umask, ids | `super::job_finds_the_same_world_with_and_without_a_user_namespace` |
//! | fork bomb, memory bomb, endless run, full disk, endless log | `fork_bomb…`, `memory_bomb…`, `step_that_never_ends…`, `disk_that_fills…`, `log_without_end…` |
//! | a process that outlives its step and changes the output (the way of CVE-2024-27297) | `process_that_outlives_its_step_changes_nothing` |
//! | writing an input, linking it into the output | `inputs_can_be_neither_written_nor_linked` |
//! | links, pipes and sparse files among the outputs | `step::collect::tests`, `step::dependencies::tests`, `sandbox::layered::tests` |
//! | overlay and mount-stub clean-up (CVE-2024-23652), cache mounts (CVE-2024-23651), bind sources of the user (CVE-2024-1753) | not there: a root is read-only with its mount points in it, nothing is shared and writable, and no mount comes from a buildspec |
//! | front ends, privileged API (CVE-2024-23653) | not there: steps are typed, and nothing that a commit says reaches the sandbox's rules |
//! | `/etc/passwd` of the image read on the host (CVE-2024-9676) | not there: no file of a root is opened by the builder once it is written |
//! | vDSO clocks, `rdtsc`, CPUID, random numbers | cannot be closed in a container: `nebh rebuild --vary` finds what depends on them |
//! | CPU side channels | cannot be closed: no secret is in the sandbox, but one machine for several tenants is a decision |

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::time::Duration;

use nebh_oci::runtime::ExitReason;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::*;
use crate::sandbox::job::Bounds;

/// Runs a script in a fresh sandbox under both kinds of users; its lines. `None` without a runtime program.
async fn inside(script: &str) -> Option<Vec<Vec<String>>> {
    let mut all = Vec::new();
    for open in [true, false] {
        let place = Place::new(open);
        let sandbox = sandbox(&place.dir.path().join("runtime")).await?;
        let (result, lines) = place.run(&sandbox, script).await;
        result.unwrap_or_else(|error| panic!("{error}\n{lines:#?}"));
        all.push(lines);
    }
    Some(all)
}

/// What perl prints for `NAME NUMBER ARGUMENTS…` lines: `NAME ERRNO`, or `NAME 0` where the call succeeds.
fn calls(calls: &[(&str, u64, &str)]) -> String {
    let lines: Vec<String> = calls
        .iter()
        .map(|(name, number, arguments)| {
            format!("$! = 0; $r = syscall({number}, {arguments}); print \"{name} \", ($r == -1 ? $! + 0 : 0), \"\\n\";")
        })
        .collect();
    format!("perl -e '{}'", lines.join(" "))
}

/// System calls of this architecture that are refused whatever their arguments.
#[cfg(target_arch = "x86_64")]
const REFUSED_CALLS: &str = "\
    acct=163 add_key=248 adjtimex=159 bpf=321 clock_adjtime=305 clock_settime=227 delete_module=176 \
    fanotify_init=300 fanotify_mark=301 finit_module=313 fsconfig=431 fsmount=432 fsopen=430 fspick=433 \
    get_mempolicy=239 init_module=175 io_uring_enter=426 io_uring_register=427 io_uring_setup=425 ioperm=173 \
    iopl=172 kcmp=312 kexec_file_load=320 kexec_load=246 keyctl=250 lookup_dcookie=212 migrate_pages=256 \
    mount=165 mount_setattr=442 move_mount=429 move_pages=279 open_by_handle_at=304 open_tree=428 \
    perf_event_open=298 pidfd_getfd=438 pivot_root=155 process_madvise=440 process_vm_readv=310 \
    process_vm_writev=311 ptrace=101 quotactl=179 quotactl_fd=443 reboot=169 request_key=249 setdomainname=171 \
    sethostname=170 setns=308 settimeofday=164 swapoff=168 swapon=167 syslog=103 umount2=166 uselib=134 \
    userfaultfd=323 vhangup=153";

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn dangerous_system_calls_are_refused_and_unknown_ones_are_not_there() {
    const REFUSED: u64 = 1;
    const ABSENT: u64 = 38;
    const NO_FAMILY: u64 = 97;
    let nothing = "0, 0, 0, 0, 0, 0";
    let number = |text: &'static str| {
        let (name, number) = text.split_once('=').unwrap();
        (name, number.parse().unwrap(), nothing)
    };
    let mut asked: Vec<(&str, u64, &str)> = REFUSED_CALLS.split_whitespace().map(number).collect();
    assert_eq!(asked.len(), 55);
    asked.extend([("clone_newuser", 56, "0x10000011, 0, 0, 0, 0"), ("unshare_newuser", 272, "0x10000000, 0")]);
    let mut expected: Vec<(String, u64)> = asked.iter().map(|(name, ..)| ((*name).to_owned(), REFUSED)).collect();
    for (name, number, arguments, errno) in [
        ("clone3", 435, nothing, ABSENT),
        ("personality_read_implies_exec", 135, "0x0400000", ABSENT),
        ("personality_query", 135, "0xffffffff", 0),
        ("call_of_a_newer_kernel", 467, nothing, ABSENT),
        ("call_of_no_kernel", 1000, nothing, ABSENT),
        ("socket_alg", 41, "38, 5, 0", NO_FAMILY),
        ("socket_vsock", 41, "40, 1, 0", NO_FAMILY),
        ("socket_packet", 41, "17, 3, 0", NO_FAMILY),
        ("socket_key", 41, "15, 3, 2", NO_FAMILY),
        ("socket_xdp", 41, "44, 3, 0", NO_FAMILY),
        ("socket_unix", 41, "1, 1, 0", 0),
        ("socket_inet", 41, "2, 1, 0", 0),
    ] {
        asked.push((name, number, arguments));
        expected.push((name.to_owned(), errno));
    }
    let Some(worlds) = inside(&calls(&asked)).await else { return };
    let expected: Vec<String> = expected.into_iter().map(|(name, errno)| format!("{name} {errno}")).collect();
    for lines in worlds {
        assert_eq!(lines, expected);
    }
}

/// A program of a few instructions, as a file that the kernel runs.
#[cfg(target_arch = "x86_64")]
fn elf(code: &[u8]) -> Vec<u8> {
    let base = 0x40_0000u64;
    let size = 120 + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for word in [base + 120, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(b"\0\0\0\0\x40\0\x38\0\x01\0\0\0\0\0\0\0\x01\0\0\0\x05\0\0\0");
    for word in [0, base, base, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn calls_by_another_interface_end_the_program() {
    const SIGSYS: i32 = 31;
    const EXIT: &[u8] = b"\xbf\x03\0\0\0\xb8\x3c\0\0\0\x0f\x05";
    // `getpid` by the interface of i386, and by x32; the plain one first, so that the program itself is known to run.
    for (name, code, ended) in [
        ("plain", b"\xb8\x27\0\0\0\x0f\x05".as_slice(), ExitReason::Code(3)),
        ("i386", b"\xb8\x14\0\0\0\xcd\x80", ExitReason::Signal(SIGSYS)),
        ("x32", b"\xb8\x27\0\0\x40\x0f\x05", ExitReason::Signal(SIGSYS)),
    ] {
        let place = Place::new(true);
        let Some(sandbox) = sandbox(&place.dir.path().join("runtime")).await else { return };
        let program = place.dir.path().join("root/bin/probe");
        fs::write(&program, elf(&[code, EXIT].concat())).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let (result, lines) = place.run(&sandbox, "exec /bin/probe").await;
        let SandboxError::Failed { exit, .. } = result.unwrap_err() else { panic!("{name}: {lines:?}") };
        assert_eq!(exit, ended, "{name}");
    }
}

#[tokio::test]
async fn network_of_the_host_is_not_reached() {
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let name = format!("nebh-test-{}", uuid::Uuid::now_v7());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let local = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    tcp.set_nonblocking(true).unwrap();
    udp.set_nonblocking(true).unwrap();
    local.set_nonblocking(true).unwrap();
    let (port, datagrams) = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
    let script = format!(
        "perl -e 'socket(T, 2, 1, 6); print \"tcp \", (connect(T, pack(\"S n C4 x8\", 2, {port}, 127, 0, 0, 1)) ? 1 : 0), \"\\n\"; \
         socket(O, 2, 1, 6); print \"out \", (connect(O, pack(\"S n C4 x8\", 2, 53, 192, 0, 2, 1)) ? 1 : $! + 0), \"\\n\"; \
         socket(U, 2, 2, 17); send(U, \"x\", 0, pack(\"S n C4 x8\", 2, {datagrams}, 127, 0, 0, 1)); \
         socket(A, 1, 1, 0); print \"abstract \", (connect(A, pack(\"S a*\", 1, \"\\0{name}\")) ? 1 : 0), \"\\n\"; \
         print \"raw \", (socket(R, 2, 3, 1) ? 1 : 0), \"\\n\";'"
    );
    let Some(worlds) = inside(&script).await else { return };
    for lines in worlds {
        // The network is unreachable.
        assert_eq!(lines, ["tcp 0", "out 101", "abstract 0", "raw 0"]);
    }
    let came = |result: std::io::Result<()>| result.map_err(|error| error.kind()) != Err(ErrorKind::WouldBlock);
    assert!(!came(tcp.accept().map(drop)) && !came(local.accept().map(drop)) && !came(udp.recv(&mut [0; 8]).map(drop)));
}

#[tokio::test]
async fn proc_shows_and_changes_nothing_of_the_host() {
    let script = "for f in sysrq-trigger sys/kernel/core_pattern sys/kernel/hostname sys/vm/drop_caches sys/kernel/modprobe; do \
                  (echo x > /proc/$f) 2>/dev/null && echo written $f; done; \
                  for f in kcore keys timer_list sys/kernel/random/boot_id; do \
                  t=$(cat /proc/$f 2>/dev/null | perl -ne 'print; exit'); [ -z \"$t\" ] || echo shown $f; done; echo end";
    let Some(worlds) = inside(script).await else { return };
    for lines in worlds {
        assert_eq!(lines, ["end"]);
    }
}

#[tokio::test]
async fn processes_and_namespaces_of_the_host_are_not_there() {
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];
    let ours = std::process::id();
    let script = format!(
        "for k in {}; do perl -e 'print readlink(\"/proc/self/ns/$ARGV[0]\"), \"\\n\"' $k; done; cat /proc/self/cgroup; \
         perl -e 'opendir(D, \"/proc\"); print \"processes \", scalar(grep(/^[0-9]/, readdir(D))), \"\\n\"; \
         print \"signal \", (kill(0, {ours}) ? 1 : $! + 0), \"\\n\"; print \"root \", (readlink(\"/proc/1/root\")), \"\\n\"'",
        kinds.join(" ")
    );
    let Some(worlds) = inside(&script).await else { return };
    for lines in worlds {
        for (kind, line) in kinds.iter().zip(&lines) {
            let host = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
            assert!(line.starts_with(&format!("{kind}:[")) && line.as_str() != host.to_str().unwrap(), "{line}");
        }
        assert!(!lines.iter().any(|line| line.contains("nebh-build")), "its own name on the host: {lines:#?}");
        // There is no such process.
        assert!(lines.contains(&"signal 3".to_owned()), "{lines:#?}");
        assert!(lines.contains(&"processes 2".to_owned()), "{lines:#?}");
        assert!(lines.contains(&"root /".to_owned()), "{lines:#?}");
    }
}

#[tokio::test]
async fn files_that_the_builder_left_open_do_not_come_along() {
    // As a careless part of the builder would open it: kept over `exec`.
    let leaked = fs::File::open("/").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let script = "perl -e 'opendir(D, \"/proc/self/fd\"); for (sort grep(/^[0-9]/, readdir(D))) { my $l = readlink(\"/proc/self/fd/$_\"); \
                  print \"$_ $l\\n\" unless !defined($l) || $l =~ /^pipe:|^.dev.null$|^.proc.[0-9]+.fd$/; } print \"at \", readlink(\"/proc/self/cwd\"), \"\\n\";'";
    let Some(worlds) = inside(script).await else { return };
    for lines in worlds {
        assert_eq!(lines, ["at /x"]);
    }
}

#[tokio::test]
async fn only_declared_files_and_devices_are_there() {
    let script = "ls /dev; [ -e /sys ] && ls /sys; [ -e /run ] && ls /run; [ -e /etc ] && ls /etc; echo devices; \
                  perl -e 'print \"made \", (syscall(133, my $p = \"/x/target/mem\", 0x2180, 0x101) == -1 ? $! + 0 : 0), \"\\n\";'";
    let Some(worlds) = inside(script).await else { return };
    for lines in worlds {
        let at = lines.iter().position(|line| line == "devices").unwrap();
        let expected = [
            "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero",
        ];
        // `core` is a link to kcore, which shows nothing.
        let seen: Vec<&String> = lines[..at].iter().filter(|line| *line != "core").collect();
        assert_eq!(seen, expected);
        assert_eq!(lines[at + 1], "made 1");
    }
}

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn set_id_files_cannot_be_left_behind() {
    let script = "cd /x/target; echo '#!/bin/sh' > tool; perl -e '$! = 0; ($t, $m, $c, $n, $k, $v) = \
                  (\"tool\", \"made\", \"created\", \"node\", \"security.capability\", \"x\" x 20); \
                  print \"chmod \", (chmod(04755, $t) ? 0 : $! + 0), \"\\n\"; \
                  print \"group \", (chmod(02755, $t) ? 0 : $! + 0), \"\\n\"; \
                  print \"plain \", (chmod(0755, $t) ? 0 : $! + 0), \"\\n\"; \
                  print \"fchmodat \", (syscall(268, -100, $t, 04755) == -1 ? $! + 0 : 0), \"\\n\"; \
                  print \"openat \", (syscall(257, -100, $m, 0101, 06755) == -1 ? $! + 0 : 0), \"\\n\"; \
                  print \"creat \", (syscall(85, $c, 04755) == -1 ? $! + 0 : 0), \"\\n\"; \
                  print \"mknod \", (syscall(133, $n, 0104755, 0) == -1 ? $! + 0 : 0), \"\\n\"; \
                  print \"openat2 \", (syscall(437, -100, $t, 0, 0) == -1 ? $! + 0 : 0), \"\\n\"; \
                  print \"capability \", (syscall(188, $t, $k, $v, 20, 0) == -1 ? 1 : 0), \"\\n\";'";
    for open in [true, false] {
        let place = Place::new(open);
        let Some(sandbox) = sandbox(&place.dir.path().join("runtime")).await else { return };
        let (result, lines) = place.run(&sandbox, script).await;
        result.unwrap();
        let expected = [
            "chmod 1",
            "group 1",
            "plain 0",
            "fchmodat 1",
            "openat 38",
            "creat 38",
            "mknod 38",
            "openat2 38",
            "capability 1",
        ];
        assert_eq!(lines, expected);
        for entry in fs::read_dir(place.dir.path().join("out")).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o6000, 0, "{:?} has the mode {mode:o}", entry.file_name());
        }
    }
}

async fn bounded(bounds: Bounds, script: &str) -> Option<(Result<(), SandboxError>, Vec<String>)> {
    let place = Place::new(true);
    let sandbox = sandbox(&place.dir.path().join("runtime")).await?.within(bounds);
    Some(place.run(&sandbox, script).await)
}

/// Only root may make the groups that bound processes and memory.
fn has_no_groups() -> bool {
    let skipped = !rustix::process::geteuid().is_root();
    if skipped {
        println!("SKIPPED: without root a container has no bounds of its own");
    }
    skipped
}

#[tokio::test]
async fn fork_bomb_stops_at_its_bound_and_ends_with_its_step() {
    if has_no_groups() {
        return;
    }
    let script = "perl -e 'while (1) { my $p = fork; last unless defined $p; unless ($p) { sleep 600; exit } $n++ } print \"forks $n\\n\"'";
    let Some((result, lines)) = bounded(Bounds { pids: 64, ..Bounds::DEFAULT }, script).await else { return };
    result.unwrap();
    let forks: u32 = lines[0].strip_prefix("forks ").unwrap().parse().unwrap();
    assert!((10..64).contains(&forks), "{forks}");
}

#[tokio::test]
async fn memory_bomb_ends_its_step_and_nothing_else() {
    if has_no_groups() {
        return;
    }
    let script = "perl -e 'my @a; push @a, \"x\" x (16 << 20) while 1'";
    // One percent of a machine of any size is more than perl itself takes.
    let Some((result, _)) = bounded(Bounds { memory_percent: 1, ..Bounds::DEFAULT }, script).await else { return };
    let SandboxError::Failed { exit, .. } = result.unwrap_err() else { panic!() };
    assert_eq!(exit, ExitReason::Signal(9));
}

#[tokio::test]
async fn step_that_never_ends_is_ended() {
    let bounds = Bounds { within: Duration::from_secs(1), ..Bounds::DEFAULT };
    let Some((result, _)) = bounded(bounds, "trap '' TERM INT HUP; while :; do :; done").await else { return };
    assert_eq!(result.unwrap_err().to_string(), "step `test` did not end within 1 minutes");
}

#[tokio::test]
async fn log_without_end_is_told_up_to_its_bound() {
    let bounds = Bounds { log_bytes: 10_000, ..Bounds::DEFAULT };
    let script =
        "perl -e 'print \"x\" x 99, \"\\n\" for 1..5000; print \"y\" x 3000000, \"\\n\"; print \"last\\n\"'; exit 1";
    let Some((result, lines)) = bounded(bounds, script).await else { return };
    assert_eq!(lines.len(), 100);
    // What it said last is in the error all the same.
    let SandboxError::Failed { tail, .. } = result.unwrap_err() else { panic!() };
    assert_eq!((tail.len(), tail.last().map(String::as_str)), (20, Some("last")));
}

/// A small disk in memory, gone with the test.
struct Disk<'a>(&'a Path);

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        unmount(self.0, UnmountFlags::DETACH).unwrap();
    }
}

#[tokio::test]
async fn disk_that_fills_up_ends_the_step() {
    if has_no_groups() {
        return;
    }
    let place = Place::new(true);
    let Some(sandbox) = sandbox(&place.dir.path().join("runtime")).await else { return };
    let out = place.dir.path().join("out");
    mount("none", &out, "tmpfs", MountFlags::empty(), c"size=32m").unwrap();
    let _disk = Disk(&out);
    let sandbox = sandbox.within(Bounds { disk_free: 8 << 20, within: Duration::from_mins(2), ..Bounds::DEFAULT });
    let (result, _) = place.run(&sandbox, "cat /dev/zero > /x/target/fill 2>/dev/null; while :; do :; done").await;
    let text = result.unwrap_err().to_string();
    assert_eq!(text, format!("step `test` was ended because the disk of `{}` is nearly full", out.display()));
}

#[tokio::test]
async fn process_that_outlives_its_step_changes_nothing() {
    let place = Place::new(true);
    let Some(sandbox) = sandbox(&place.dir.path().join("runtime")).await else { return };
    let script = "perl -e 'exit if fork; syscall(112); $SIG{$_} = \"IGNORE\" for qw(TERM HUP INT); open(F, \">>\", \"/x/target/log\"); \
                  while (1) { syswrite(F, \"x\") }' & while [ ! -s /x/target/log ]; do :; done";
    let (result, _) = place.run(&sandbox, script).await;
    result.unwrap();
    let size = || fs::metadata(place.dir.path().join("out/log")).unwrap().len();
    let before = size();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(size(), before);
}

#[tokio::test]
async fn inputs_can_be_neither_written_nor_linked() {
    let place = Place::new(true);
    let Some(sandbox) = sandbox(&place.dir.path().join("runtime")).await else { return };
    let source = place.dir.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "input").unwrap();
    // Writable by everybody, so that only the mount stands in the way.
    fs::set_permissions(source.join("file"), fs::Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(&source, fs::Permissions::from_mode(0o777)).unwrap();
    let mut job = place.job(
        "cat /x/src/file; echo; (echo x > /x/src/file) 2>/dev/null && echo written; (echo x > /x/src/new) 2>/dev/null && echo made; \
         perl -e 'print \"link \", (link(\"/x/src/file\", \"/x/target/file\") ? 0 : $! + 0), \"\\n\"; \
         print \"chmod \", (chmod(0777, \"/x/src/file\") ? 0 : $! + 0), \"\\n\"; print \"tool \", (-w \"/bin/sh\" ? 1 : 0), \"\\n\"'",
    );
    job.mounts.push(Mount::read_only(&source, "/x/src"));
    let (events, mut received) = crate::event::Events::new();
    sandbox.run(&job, &place.dir.path().join("bundle"), 1, &events).await.unwrap();
    drop(events);
    let mut lines = Vec::new();
    while let Some(event) = received.recv().await {
        if let crate::event::BuildEvent::StepLog { line, .. } = event {
            lines.push(line);
        }
    }
    let (crosses_mounts, read_only) = ("link 18", "chmod 30");
    assert_eq!(lines, ["input", crosses_mounts, read_only, "tool 0"]);
    assert_eq!(fs::read_to_string(source.join("file")).unwrap(), "input");
}
