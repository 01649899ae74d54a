//! What outlives an agent on purpose, but for its mounts: containers, their attendants, the entrance. Found by what names
//! the folder that they belong to.

use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use super::has_program;

/// Processes that work in a folder, or name it; each with its command line.
pub(crate) fn processes_of(folder: &Path) -> Vec<(Pid, String)> {
    let name = folder.to_string_lossy().into_owned();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ours = entries.filter_map(|entry| {
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let works_there = || std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        (line.contains(&name) || works_there()).then_some((pid, line))
    });
    ours.collect()
}

/// Ends a process that may have ended meanwhile.
pub(crate) fn kill(pid: Pid) {
    let _gone = kill_process(pid, Signal::KILL);
}

/// The first processes of a runtime's containers, as its state names them.
pub(crate) fn inits(root: &Path) -> Vec<Pid> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let inits = entries.filter_map(|entry| {
        let text = std::fs::read_to_string(entry.path().join("state.json")).ok()?;
        let container: serde_json::Value = serde_json::from_str(&text).ok()?;
        let pid = i32::try_from(container["init_process_pid"].as_i64()?).ok()?;
        // A later process may have the number of one that is gone.
        let group = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        group.contains(&*entry.file_name().to_string_lossy()).then(|| Pid::from_raw(pid))?
    });
    inits.collect()
}

/// Deletes every container of a runtime's state folder.
pub(crate) fn delete_containers(root: &Path) {
    let runtime = if has_program("runc") { "runc" } else { "crun" };
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let id = entry.file_name();
        drop(Command::new(runtime).arg("--root").arg(root).args(["delete", "--force"]).arg(id).output());
    }
}
