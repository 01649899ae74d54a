//! Who may be killed, and how those are found whose process id nobody here keeps.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Looks for a program until it is given up: between two programs there is none for some milliseconds.
const LOOKS_MAX: u32 = 100;
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// A kind of process of the story.
#[derive(Clone, Copy, Debug)]
pub(super) enum Victim {
    Gateway,
    BuildService,
    Agent,
    Entrance,
    Program,
}

impl Victim {
    pub(super) const ALL: [Self; 5] = [Self::Gateway, Self::BuildService, Self::Agent, Self::Entrance, Self::Program];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::BuildService => "build service",
            Self::Agent => "agent",
            Self::Entrance => "entrance",
            Self::Program => "program",
        }
    }
}

/// Kills the entrance of the node with this state folder; false if there is none right now.
pub(crate) fn kill_entrance(state: &Path) -> bool {
    let folder = state.join("entrance").display().to_string();
    let mut killed = false;
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let words = command_line(pid);
        if words.get(1).is_some_and(|word| word == "entrance") && words.contains(&folder) {
            killed |= kill(pid);
        }
    }
    killed
}

/// Kills the program that runs in a container of this node, as soon as one runs; false if none does for a while.
pub(super) fn kill_program(state: &Path) -> bool {
    for _ in 0..LOOKS_MAX {
        if kill_programs(state) {
            return true;
        }
        std::thread::sleep(LOOK);
    }
    false
}

fn kill_programs(state: &Path) -> bool {
    let mut killed = false;
    for entry in std::fs::read_dir(state.join("containers")).into_iter().flatten().flatten() {
        let Ok(text) = std::fs::read_to_string(entry.path().join("state.json")) else { continue };
        let Ok(container) = serde_json::from_str::<Value>(&text) else { continue };
        let Some(pid) = container["init_process_pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()) else {
            continue;
        };
        // A container that waits to be started runs the runtime, not the program.
        if command_line(pid).first().is_some_and(|word| word == "/shop") {
            killed |= kill(pid);
        }
    }
    killed
}

fn command_line(pid: i32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn kill(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
}
