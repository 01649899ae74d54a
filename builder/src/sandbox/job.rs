//! One program to be run in the sandbox, and the fixed world it finds there.
//! Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use nebh_oci::runtime::{BundleSpec, CallProfile, IdMap, Limits, Mount, NetworkMode, UserNamespace};

/// The user of every step: nobody's on the host, and not root inside, because some build systems do other things as root.
pub(super) const USER: u32 = 1000;
/// First host id of the sandbox's own range; far above those of people and of other container tools.
pub(super) const HOST_IDS: IdMap = IdMap { first: 1_600_000_000, count: 65_536 };
/// Bytes of `/tmp`, in memory.
const TMP_BYTES: u64 = 2 << 30;
/// The name that a step sees as its host's.
const HOSTNAME: &str = "nebh";

/// What one job may take of the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The longest that it may run.
    pub(super) within: Duration,
    /// The share of the machine's memory that it may use, in percent: the rest is ours and the host's.
    pub(super) memory_percent: u64,
    /// Processes and threads: a compiler starts a few dozen per CPU.
    pub(super) pids: u32,
    /// Bytes that have to stay free on the disks that it writes to: the host lives on them too.
    pub(super) disk_free: u64,
    /// Bytes of its output that are told: whoever listens may be slow, and keeps what he hears.
    pub(super) log_bytes: u64,
}

impl Bounds {
    /// Plenty for a compiler.
    pub(super) const DEFAULT: Self = Self {
        within: Duration::from_hours(6),
        memory_percent: 90,
        pids: 8192,
        disk_free: 256 << 20,
        log_bytes: 64 << 20,
    };
}

/// One program to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The step's name, for messages.
    pub step: String,
    /// The root, read-only.
    pub root: PathBuf,
    /// What is mounted besides.
    pub mounts: Vec<Mount>,
    /// Program and arguments.
    pub args: Vec<String>,
    /// Variables besides the fixed ones.
    pub env: BTreeMap<String, String>,
    /// Working folder.
    pub cwd: PathBuf,
}

/// The variables that every step has. `epoch` is the time that the step is told.
pub fn environment(epoch: u64) -> BTreeMap<String, String> {
    [
        ("HOME", "/x/home"),
        ("LANG", "C.UTF-8"),
        ("LC_ALL", "C.UTF-8"),
        ("LOGNAME", "nebh"),
        ("PATH", "/usr/bin:/usr/sbin"),
        ("SHELL", "/bin/sh"),
        ("SOURCE_DATE_EPOCH", &epoch.to_string()),
        ("TMPDIR", "/tmp"),
        ("TZ", "UTC"),
        ("USER", "nebh"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

/// The container of a job, whose users are those of `namespace`.
pub(super) fn bundle_spec(job: &Job, epoch: u64, namespace: UserNamespace, limits: Limits) -> BundleSpec {
    let mut env = environment(epoch);
    env.extend(job.env.clone());
    let mut spec = BundleSpec::new(&job.root, job.args.clone());
    spec.env = env.into_iter().collect();
    spec.cwd.clone_from(&job.cwd);
    let user = if matches!(namespace, UserNamespace::Alone { .. }) { 0 } else { USER };
    (spec.uid, spec.gid) = (user, user);
    spec.umask = Some(0o022);
    spec.mounts.clone_from(&job.mounts);
    spec.mounts.push(Mount::tmpfs("/tmp", TMP_BYTES));
    HOSTNAME.clone_into(&mut spec.hostname);
    spec.network = NetworkMode::None;
    spec.limits = limits;
    spec.calls = CallProfile::Build;
    spec.user_namespace = namespace;
    spec
}
