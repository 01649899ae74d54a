//! Every crash point of every service, one after another: asked for, died of, started again, looked at. Which points there
//! are is said by the services' own lists, so that none is forgotten; at the end stands one table with all of them.
//!
//! What is killed are the real processes: gateway, build service, agent and entrance of a node with real containers.
//! Afterwards the power is cut as well, on file systems that can do without.

mod agent;
mod gateway;
mod ground;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use ground::{Ground, Kind};

use crate::support::Server;

/// What a story asks of the processes that it starts.
pub(crate) struct Asking {
    folder: tempfile::TempDir,
}

impl Asking {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a scratch folder") }
    }

    /// A folder for what belongs to no service: it stays whole whatever dies.
    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn file(&self) -> PathBuf {
        self.folder().join("asked")
    }

    /// This program, and what it starts, can be asked to die.
    pub(crate) fn arm(&self, command: &mut Command) {
        command.env(nebh_face::crash::FILE, self.file());
    }

    /// The first process that comes to this point shall die there.
    fn ask(&self, point: &str) {
        drop(std::fs::remove_file(nebh_face::crash::hit(&self.file())));
        let half = self.folder().join("half");
        std::fs::write(&half, point).and_then(|()| std::fs::rename(half, self.file())).expect("a file for the asking");
    }

    /// True once somebody died of it.
    fn is_hit(&self) -> bool {
        nebh_face::crash::hit(&self.file()).exists()
    }

    /// Waits for the end of the one who died.
    fn died(&self, point: &str, server: Option<Server>) {
        assert!(
            self.is_hit(),
            "{point} was never reached\n{}",
            server.map(|server| server.output()).unwrap_or_default()
        );
    }
}

/// Lines of the table, from all stories.
#[derive(Default)]
pub(crate) struct Table(Mutex<Vec<[String; 4]>>);

impl Table {
    /// One point that was died of and got over.
    fn line(&self, point: &str, killed: &str, after: &str, invariant: &str) {
        let line = [point, killed, after, invariant].map(str::to_owned);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn points(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|[point, ..]| point.clone()).collect()
    }

    /// Past the test runner, which keeps what a passing test prints to itself.
    fn print(&self) {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let head = ["point", "killed", "after restart", "invariant"].map(str::to_owned);
        let all = || std::iter::once(&head).chain(lines.iter());
        let width = |column: usize| all().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2)];
        let mut text = String::new();
        for [point, killed, after, invariant] in all() {
            let [a, b, c] = widths;
            text.push_str(&format!("{point:<a$} | {killed:<b$} | {after:<c$} | {invariant}\n"));
        }
        text.push_str(&format!("{} crash points, each died of and got over\n", lines.len()));
        drop(std::io::stderr().write_all(text.as_bytes()));
    }
}

#[test]
fn killed_at_every_point_of_the_gateway() {
    let table = Table::default();
    gateway::story(&table, Ground::folder_only(), &nebh_gateway::crash::POINTS);
    for kind in [Kind::Ext4, Kind::Xfs, Kind::Btrfs] {
        if let Some(ground) = Ground::cut_with(kind) {
            gateway::story(&table, ground, &nebh_gateway::crash::POINTS);
        }
    }
    table.print();
}
