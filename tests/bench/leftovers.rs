//! What an agent leaves behind on purpose when it ends: containers, their attendants, the entrance, mounts. Here they end,
//! each by what names the folder of the measurement.

#[path = "../support/mounts.rs"]
mod mounts;

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

pub(crate) use self::mounts::unmount_below;

/// Ends all that belongs to the agent whose state is `folder/node`.
pub(crate) fn sweep(folder: &Path) {
    let root = folder.join("node/containers");
    for entry in std::fs::read_dir(&root).into_iter().flatten().flatten() {
        let id = entry.file_name();
        drop(Command::new("runc").arg("--root").arg(&root).args(["delete", "--force"]).arg(id).output());
    }
    for pid in named(folder) {
        // It may have ended meanwhile.
        let _gone = i32::try_from(pid).ok().and_then(Pid::from_raw).map(|pid| kill_process(pid, Signal::KILL));
    }
    unmount_below(folder);
}

/// The processes whose command line names the folder.
pub(crate) fn named(folder: &Path) -> Vec<u32> {
    let here = folder.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&here) {
            found.push(pid);
        }
    }
    found
}

/// What is mounted below a folder by the end of a measurement: unmounted when this is dropped. dockerd leaves its network
/// namespace, with which the folder cannot be removed.
#[derive(Debug)]
pub(crate) struct Mounts(PathBuf);

impl Mounts {
    /// Those below `folder`.
    pub(crate) fn below(folder: &Path) -> Self {
        Self(folder.to_owned())
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        unmount_below(&self.0);
    }
}
