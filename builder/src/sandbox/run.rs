//! Runs one job after another. Owns containers, their bundles, and the owners of what they may write.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nebh_oci::runtime::{
    Bundle, BundleError, ExitReason, Limits, MountKind, OutputLine, ProbeError, Runtime, RuntimeError, UserNamespace,
};
use tokio::sync::mpsc;

use super::job::{Bounds, HOST_IDS, Job, USER, bundle_spec};
use crate::event::{BuildEvent, Events};
use crate::store::is_abandoned;

/// What the ids of our containers begin with.
const ID_PREFIX: &str = "nebh-build-";
/// Lines of a failed job that its error shows.
const TAIL_LINES: usize = 20;
/// Lines that may wait to be told; a job that writes faster waits.
const LINES_WAITING: usize = 1024;
/// How often it is looked at whether the disks have room.
const DISK_LOOK: Duration = Duration::from_millis(500);
/// Names that have to stay free on a disk, where it has a number of them.
const FILES_FREE: u64 = 10_000;

/// The sandbox of one builder.
#[derive(Clone, Debug)]
pub struct Sandbox {
    runtime: Runtime,
    bounds: Bounds,
}

/// Why a job is not done.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// No runtime program works here.
    #[error("there is no sandbox on this machine")]
    Unavailable(#[source] ProbeError),
    /// The bundle was not written.
    #[error("cannot prepare the sandbox of step `{step}`")]
    Prepare {
        /// The step.
        step: String,
        /// Cause.
        #[source]
        cause: BundleError,
    },
    /// Files of the job could not be given to its user.
    #[error("cannot prepare `{}` for the sandbox", path.display())]
    Files {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        cause: io::Error,
    },
    /// The runtime program refused.
    #[error("cannot run step `{step}`")]
    Runtime {
        /// The step.
        step: String,
        /// Cause.
        #[source]
        cause: RuntimeError,
    },
    /// The program ended badly.
    #[error("step `{step}` failed: `{program}` ended with {exit}{}{}", network_hint(tail), tail_text(tail))]
    Failed {
        /// The step.
        step: String,
        /// The program.
        program: String,
        /// How it ended.
        exit: ExitReason,
        /// Its last lines.
        tail: Vec<String>,
    },
    /// The program ran too long.
    #[error("step `{step}` did not end within {} minutes", within.as_secs().div_ceil(60))]
    TooLong {
        /// The step.
        step: String,
        /// How long it might have run.
        within: Duration,
    },
    /// It wrote until next to nothing was free.
    #[error("step `{step}` was ended because the disk of `{}` is nearly full", path.display())]
    DiskFull {
        /// The step.
        step: String,
        /// What it wrote to.
        path: PathBuf,
    },
}

/// What programs say that wanted the network.
const NETWORK_WORDS: [&str; 12] = [
    "could not resolve host",
    "couldn't resolve host",
    "couldn't connect",
    "temporary failure in name resolution",
    "network is unreachable",
    "name or service not known",
    "failed to lookup address",
    "dns error",
    "no route to host",
    "failed to download",
    "getaddrinfo",
    "download of ",
];

fn network_hint(tail: &[String]) -> &'static str {
    let wanted = tail.iter().any(|line| {
        let line = line.to_lowercase();
        NETWORK_WORDS.iter().any(|words| line.contains(words))
    });
    if wanted { "; the sandbox has no network: every input has to be in the lock" } else { "" }
}

fn tail_text(tail: &[String]) -> String {
    tail.iter().flat_map(|line| ["\n  | ", line]).collect()
}

impl Sandbox {
    /// Finds a runtime program that works. `state` is where it keeps its containers.
    pub async fn open(state: &Path) -> Result<Self, SandboxError> {
        let runtime = Runtime::probe(state).await.map_err(SandboxError::Unavailable)?;
        tracing::info!(runtime = %runtime.kind(), why = runtime.why(), "sandbox");
        let sandbox = Self { runtime, bounds: Bounds::DEFAULT };
        sandbox.end_orphans().await;
        Ok(sandbox)
    }

    /// The same, held to other bounds.
    #[cfg(test)]
    pub(super) fn within(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// Ends containers whose builder was killed: the folder of their build is gone, or nobody holds it any more. What does
    /// not end now is tried again by the next builder, and its files are not in the way of anything.
    async fn end_orphans(&self) {
        for container in self.runtime.list().await.unwrap_or_default() {
            let Some(work) = container.bundle.parent() else { continue };
            if container.id.starts_with(ID_PREFIX) && (!work.exists() || is_abandoned(work)) {
                tracing::warn!(container = container.id, "ending a container whose builder was killed");
                drop(self.runtime.delete(&container.id, true).await);
            }
        }
    }

    /// Runs a job to its end. `folder` is fresh and the job's own; `epoch` is the time that the job is told.
    ///
    /// Safe to drop: the container ends with the future.
    pub async fn run(&self, job: &Job, folder: &Path, epoch: u64, events: &Events) -> Result<(), SandboxError> {
        let namespace = namespace(job);
        tracing::info!(step = job.step, ?namespace, "users of the sandbox");
        for mount in &job.mounts {
            if let MountKind::ReadWrite { source } = &mount.kind {
                give(source, namespace)?;
            }
        }
        let id = format!("{ID_PREFIX}{}", uuid::Uuid::now_v7().simple());
        let limits =
            Limits { memory: memory(self.bounds.memory_percent), pids: Some(self.bounds.pids), cpu_millis: None };
        let spec = bundle_spec(job, epoch, namespace, limits);
        let bundle = Bundle::write(folder, &id, &spec)
            .map_err(|cause| SandboxError::Prepare { step: job.step.clone(), cause })?;
        let (lines, mut from) = mpsc::channel::<OutputLine>(LINES_WAITING);
        let mut tail = VecDeque::with_capacity(TAIL_LINES);
        let tell = async {
            let mut left = self.bounds.log_bytes;
            while let Some(line) = from.recv().await {
                let line = printable(&line.text);
                if tail.len() == TAIL_LINES {
                    tail.pop_front();
                }
                tail.push_back(line.clone());
                let bytes = line.len() as u64 + 1;
                if bytes <= left {
                    events.send(BuildEvent::StepLog { step: job.step.clone(), line });
                } else if left > 0 {
                    events.note(format!("step `{}` writes so much that the rest is not told", job.step));
                }
                left = left.saturating_sub(bytes);
            }
        };
        let run = async { tokio::join!(self.runtime.run(&bundle, lines), tell).0 };
        let within = self.bounds.within;
        let exit = tokio::select! {
            exit = run => exit.map_err(|cause| SandboxError::Runtime { step: job.step.clone(), cause })?,
            () = tokio::time::sleep(within) => return Err(SandboxError::TooLong { step: job.step.clone(), within }),
            path = full(job, self.bounds.disk_free) => {
                return Err(SandboxError::DiskFull { step: job.step.clone(), path });
            }
        };
        if exit.is_success() {
            return Ok(());
        }
        let program = job.args.first().cloned().unwrap_or_default();
        Err(SandboxError::Failed { step: job.step.clone(), program, exit, tail: tail.into() })
    }
}

/// A line of a foreign program, without what steers a terminal.
fn printable(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            // A colour or cursor sequence ends with its first letter.
            '\u{1b}' => drop(characters.by_ref().find(char::is_ascii_alphabetic)),
            '\t' => text.push_str("    "),
            c if c.is_control() => {}
            c => text.push(c),
        }
    }
    text
}

/// The best that can be had: users of the sandbox's own for root, if those can reach every folder by its path; for everybody
/// else themselves, as the only user that there is.
fn namespace(job: &Job) -> UserNamespace {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if !uid.is_root() {
        return UserNamespace::Alone { uid: uid.as_raw(), gid: gid.as_raw() };
    }
    let reachable = |path: &Path| {
        path.ancestors().skip(1).all(|folder| fs::metadata(folder).is_ok_and(|there| there.mode() & 0o001 != 0))
    };
    let sources = job.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::ReadOnly { source } | MountKind::ReadWrite { source } => Some(source.as_path()),
        MountKind::Tmpfs { .. } => None,
    });
    let all = reachable(&job.root) && sources.into_iter().all(reachable);
    if all { UserNamespace::Mapped(HOST_IDS) } else { UserNamespace::Host }
}

/// Makes a folder and all in it the sandbox user's own. Links are not followed.
fn give(folder: &Path, namespace: UserNamespace) -> Result<(), SandboxError> {
    let owner = match namespace {
        UserNamespace::Mapped(map) => map.first + USER,
        UserNamespace::Host => USER,
        UserNamespace::Alone { .. } => return Ok(()),
    };
    for entry in walkdir::WalkDir::new(folder).follow_links(false) {
        let entry = entry.map_err(|error| SandboxError::Files { path: folder.to_owned(), cause: error.into() })?;
        let failed = |cause| SandboxError::Files { path: entry.path().to_owned(), cause };
        let there = entry.metadata().map_err(|error| failed(error.into()))?;
        if (there.uid(), there.gid()) != (owner, owner) {
            lchown(entry.path(), Some(owner), Some(owner)).map_err(failed)?;
        }
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
        .map_err(|cause| SandboxError::Files { path: folder.to_owned(), cause })
}

/// Returns when a disk that the job writes to has less than `free` bytes left, and names what lies there.
async fn full(job: &Job, free: u64) -> PathBuf {
    loop {
        for mount in &job.mounts {
            if let MountKind::ReadWrite { source } = &mount.kind
                && let Ok(disk) = rustix::fs::statvfs(source)
                && (disk.f_bavail.saturating_mul(disk.f_frsize) < free
                    || (disk.f_files > 2 * FILES_FREE && disk.f_favail < FILES_FREE))
            {
                return source.clone();
            }
        }
        tokio::time::sleep(DISK_LOOK).await;
    }
}

fn memory(percent: u64) -> Option<u64> {
    let info = rustix::system::sysinfo();
    let total = u64::from(info.mem_unit) * info.totalram;
    (total > 0).then(|| total / 100 * percent)
}
