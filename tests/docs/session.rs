//! All command blocks in one go: one shell, one folder of its own, the pages in the order in which a reader goes on from
//! the five-minute tour. A real gateway, build service and node run in it; what they leave ends with the test.
//!
//! The blocks are run as they stand, but for one thing: each `127.0.0.1:<port>` is exchanged for a free port, because
//! tests run beside each other. Outside of the blocks: the reader's home is the folder of the test, git knows who
//! commits, and what builds keep is kept below the target folder (where `hack/demo` keeps it, too), so that only the
//! first run fetches a compiler.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::markdown::{Block, missing_line};
use super::{pages, root};
use crate::support::{free_port, has_program, leftovers, mounts, peer};

/// Pages with commands, as a reader goes through them.
const ORDER: &[&str] = &[
    "README.md",
    "docs/buildspec.md",
    "docs/gateway.md",
    "docs/node.md",
    "docs/trust.md",
    "docs/build-service.md",
    "docs/operations.md",
];
/// Bound on the whole: only a hang reaches it. The first run fetches and unpacks a compiler and builds 170 crates.
const PATIENCE: Duration = Duration::from_mins(25);
/// Looks at what still runs when all is over, twenty a second; from the middle on it is killed.
const LOOKS_MAX: u32 = 400;
/// Stands in front of the place of a block in the output.
const MARK: &str = "@@@ ";

/// The shell, and all that it started.
struct Shell {
    folder: tempfile::TempDir,
    child: Child,
}

impl Shell {
    fn start(script: &str) -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let (file, log) = (folder.path().join("script"), folder.path().join("log"));
        std::fs::write(&file, script).expect("the script");
        let log = std::fs::File::create(log).expect("a log");
        let program = Path::new(env!("CARGO_BIN_EXE_nebh"));
        let bin = program.parent().expect("a folder of programs");
        let state = bin.parent().expect("a target folder").join("demo/builder");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("bash");
        command.arg(&file).current_dir(root()).process_group(0).stdin(Stdio::null());
        command.env("PATH", format!("{}:{path}", bin.display())).env("HOME", folder.path()).env("NEBH_STATE", state);
        for name in ["NEBH_SETTINGS", "NEBH_KEY_PASSWORD", "COSIGN_PASSWORD", "NEBH_OUTPUT", "NEBH_POLICY"] {
            command.env_remove(name);
        }
        for (name, value) in [("NAME", "ada"), ("EMAIL", "ada@shop.example")] {
            command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
        }
        // The machine's own crates, not those of a home that is empty.
        let home = std::env::var("HOME").unwrap_or_default();
        let cargo = std::env::var("CARGO_HOME").unwrap_or_else(|_| format!("{home}/.cargo"));
        command.env("CARGO_HOME", cargo).stdout(log.try_clone().expect("a second handle")).stderr(log);
        let child = command.spawn().expect("bash runs");
        Self { folder, child }
    }

    fn wait(&mut self) -> Option<ExitStatus> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        None
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// Ends what the shell started and what outlives an agent on purpose: containers, their attendants, the entrance.
    /// All of it works in this folder, or names it in its command line.
    fn clean_up(&mut self) {
        if let Some(group) = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(0)) {
            let _gone = rustix::process::kill_process_group(group, Signal::TERM);
        }
        drop(self.child.wait());
        for node in std::fs::read_dir(self.folder.path().join("shop")).into_iter().flatten().flatten() {
            leftovers::delete_containers(&node.path().join("containers"));
        }
        for round in 0..LOOKS_MAX {
            let ours = leftovers::processes_of(self.folder.path());
            if ours.is_empty() {
                break;
            }
            // Whoever was asked gets a moment to write what it acknowledged.
            for (pid, _) in ours.into_iter().filter(|_| round > LOOKS_MAX / 2) {
                leftovers::kill(pid);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        mounts::unmount_below(self.folder.path());
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.clean_up();
    }
}

/// Every port of the pages gets a free one.
fn with_free_ports(text: &str, ports: &mut BTreeMap<String, u16>) -> String {
    const HOST: &str = "127.0.0.1:";
    let mut pieces = text.split(HOST);
    let mut result = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece.find(|c: char| !c.is_ascii_digit()).unwrap_or(piece.len());
        let (port, rest) = piece.split_at(digits);
        result.push_str(HOST);
        if !port.is_empty() {
            let free = ports.entry(port.to_owned()).or_insert_with(free_port);
            let _infallible = write!(result, "{free}");
        }
        result.push_str(rest);
    }
    result
}

/// The blocks to run, each with the lines that it has to print.
fn steps() -> Vec<(Block, String)> {
    let pages = pages();
    let mut steps: Vec<(Block, String)> = Vec::new();
    for name in ORDER {
        let page = pages.iter().find(|page| page.name == *name).unwrap_or_else(|| panic!("no page {name}"));
        for block in page.blocks() {
            match (block.language.as_str(), steps.last_mut()) {
                ("sh", _) => steps.push((block, String::new())),
                ("output", Some((_, wanted))) => wanted.push_str(&block.text),
                _ => {}
            }
        }
    }
    steps
}

fn script(steps: &[(Block, String)]) -> String {
    let mut script = String::from("set -euo pipefail\n");
    for (block, _) in steps {
        let _infallible = write!(script, "printf '\\n{MARK}%s\\n' '{}'\n{}", block.place(), block.text);
    }
    script + &format!("printf '\\n{MARK}%s\\n' end\n")
}

#[test]
fn every_page_with_commands_is_in_the_session() {
    let outside: Vec<String> = pages()
        .into_iter()
        .filter(|page| !ORDER.contains(&page.name.as_str()))
        .filter(|page| page.blocks().iter().any(|block| block.language == "sh"))
        .map(|page| page.name)
        .collect();
    assert!(outside.is_empty(), "pages whose commands nobody runs: {outside:?}");
}

#[test]
fn every_command_block_does_what_its_page_says() {
    let root = rustix::process::geteuid().is_root();
    let runtime = has_program("runc") || has_program("crun");
    if !peer("root", root) || !peer("runc or crun", runtime) || !peer("curl", has_program("curl")) {
        return;
    }
    let mut ports = BTreeMap::new();
    let steps: Vec<(Block, String)> = steps()
        .into_iter()
        .map(|(block, wanted)| {
            let text = with_free_ports(&block.text, &mut ports);
            (Block { text, ..block }, with_free_ports(&wanted, &mut ports))
        })
        .collect();
    assert!(steps.len() >= 5, "the blocks are found");
    let mut shell = Shell::start(&script(&steps));
    let status = shell.wait();
    let said = shell.said();
    let parts: BTreeMap<&str, &str> =
        said.split(&format!("\n{MARK}")).skip(1).filter_map(|part| part.split_once('\n')).collect();
    let last = said.rsplit(&format!("\n{MARK}")).next().unwrap_or_default();
    let status = status.unwrap_or_else(|| panic!("nothing ends within {PATIENCE:?}; the last block:\n{last}"));
    assert!(status.success(), "the page breaks off with {status} at\n{last}");
    let mut wrong = Vec::new();
    for (block, wanted) in &steps {
        let said = parts.get(block.place().as_str()).copied().unwrap_or_default();
        if let Some(line) = missing_line(wanted, said) {
            wrong
                .push(format!("{}: not printed, or not in this order: {line}\n--- it printed:\n{said}", block.place()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn ports_are_exchanged_each_for_one_of_its_own() {
    let mut ports = BTreeMap::new();
    let text = with_free_ports("a 127.0.0.1:5000/x b 127.0.0.1:18080 c 127.0.0.1:5000.", &mut ports);
    assert_eq!(text, format!("a 127.0.0.1:{0}/x b 127.0.0.1:{1} c 127.0.0.1:{0}.", ports["5000"], ports["18080"]));
}
