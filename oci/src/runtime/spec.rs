//! What one container is: its root, its process, and what it may see and use.
//! Pure.

use std::path::PathBuf;

use super::seccomp::CallProfile;

/// One container: its root, its one process, and what it may see and use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleSpec {
    /// Directory on the host that is the container's `/`. Mount points must exist in it when it is read-only.
    pub rootfs: PathBuf,
    /// The root cannot be written.
    pub read_only: bool,
    /// Program and arguments; never a shell's line.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory inside the container.
    pub cwd: PathBuf,
    /// User of the process.
    pub uid: u32,
    /// Group of the process.
    pub gid: u32,
    /// Further groups of the process.
    pub additional_gids: Vec<u32>,
    /// File creation mask; the runtime's own default if absent.
    pub umask: Option<u32>,
    /// What is mounted besides `/proc`, `/dev` and (if asked for) `/sys`.
    pub mounts: Vec<Mount>,
    /// Host name inside.
    pub hostname: String,
    /// What network it sees.
    pub network: NetworkMode,
    /// What it may use up.
    pub limits: Limits,
    /// Whether its ids are ids of the host.
    pub user_namespace: UserNamespace,
    /// Capabilities by name (`CAP_NET_BIND_SERVICE`); none unless told.
    pub capabilities: Vec<String>,
    /// A read-only `/sys`; builds have none.
    pub sys: bool,
    /// Which system calls it may make.
    pub calls: CallProfile,
}

impl BundleSpec {
    /// A container with nothing granted: read-only root, no network, no capabilities, user 65534.
    pub fn new(rootfs: impl Into<PathBuf>, args: Vec<String>) -> Self {
        Self {
            rootfs: rootfs.into(),
            read_only: true,
            args,
            env: Vec::new(),
            cwd: "/".into(),
            uid: 65534,
            gid: 65534,
            additional_gids: Vec::new(),
            umask: None,
            mounts: Vec::new(),
            hostname: "nebh".into(),
            network: NetworkMode::None,
            limits: Limits::default(),
            user_namespace: UserNamespace::Host,
            capabilities: Vec::new(),
            sys: false,
            calls: CallProfile::Service,
        }
    }
}

/// One more mount of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Absolute path inside the container.
    pub destination: PathBuf,
    /// What is mounted there.
    pub kind: MountKind,
}

impl Mount {
    /// A directory or file of the host that the container may read.
    pub fn read_only(source: impl Into<PathBuf>, destination: impl Into<PathBuf>) -> Self {
        Self { destination: destination.into(), kind: MountKind::ReadOnly { source: source.into() } }
    }

    /// A directory or file of the host that the container may write.
    pub fn read_write(source: impl Into<PathBuf>, destination: impl Into<PathBuf>) -> Self {
        Self { destination: destination.into(), kind: MountKind::ReadWrite { source: source.into() } }
    }

    /// Fresh memory-backed space of at most `bytes`.
    pub fn tmpfs(destination: impl Into<PathBuf>, bytes: u64) -> Self {
        Self { destination: destination.into(), kind: MountKind::Tmpfs { bytes } }
    }
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// Part of the host, read only.
    ReadOnly {
        /// Path on the host.
        source: PathBuf,
    },
    /// Part of the host, writable.
    ReadWrite {
        /// Path on the host.
        source: PathBuf,
    },
    /// Memory, gone with the container.
    Tmpfs {
        /// Upper bound of its size.
        bytes: u64,
    },
}

/// What network a container sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NetworkMode {
    /// A namespace of its own in which only `lo` is up: no way out, and no way in but through `setns`.
    #[default]
    None,
    /// The network of the host.
    Host,
    /// A namespace that somebody else made, by path.
    Joined(PathBuf),
}

/// What a container may use; absent means what its parent group has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory, swap included.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// Thousandths of a CPU.
    pub cpu_millis: Option<u32>,
}

/// Whether ids inside are ids outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserNamespace {
    /// The host's ids.
    Host,
    /// Ids `0..count` inside are `first..first+count` outside. The root must be readable by those.
    Mapped(IdMap),
    /// For callers who are not root: id 0 inside, the only one there, is the caller. Such a container has no cgroup of its
    /// own and so no limits, because only root may make one.
    Alone {
        /// The caller.
        uid: u32,
        /// The caller's group.
        gid: u32,
    },
}

/// A run of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMap {
    /// Id outside of the container's id 0.
    pub first: u32,
    /// How many.
    pub count: u32,
}
