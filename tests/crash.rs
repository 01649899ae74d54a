//! Every crash point of every service, one after another: asked for, died of, started again, looked at. Which points there
//! are is said by the services' own lists, so that none is forgotten; at the end stands one table with all of them.
//!
//! What is killed are the real processes: gateway, build service, agent and entrance of a node with real containers.
//! Afterwards the power is cut as well, on file systems that can do without.

mod agent;
mod entrance;
mod gateway;
mod ground;
mod service;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ground::{Ground, Kind};

use crate::support::Server;

/// Bound on waiting for what comes within moments: only a hang reaches it, on however busy a machine.
const PATIENCE: Duration = Duration::from_mins(2);
/// Pause between two looks.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(25);

/// Waits until something is so; what did not come is told by `what`.
fn waits(mut until: impl FnMut() -> bool, what: impl FnOnce() -> String) {
    let end = Instant::now() + PATIENCE;
    while !until() {
        assert!(Instant::now() < end, "{}", what());
        std::thread::sleep(LOOK_AGAIN_AFTER);
    }
}

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
        // Absent if nobody died yet.
        drop(std::fs::remove_file(nebh_face::crash::hit(&self.file())));
        let half = self.folder().join("half");
        std::fs::write(&half, point).and_then(|()| std::fs::rename(half, self.file())).expect("a file for the asking");
    }

    /// True once somebody died of it.
    fn is_hit(&self) -> bool {
        nebh_face::crash::hit(&self.file()).exists()
    }

    /// Nobody has to die any more.
    fn withdraw(&self) {
        drop(std::fs::remove_file(self.file()));
    }

    /// Makes sure that it was this point that somebody died of.
    fn died(&self, point: &str, server: Option<Server>) {
        assert!(
            self.is_hit(),
            "{point} was never reached\n{}",
            server.map(|server| server.output()).unwrap_or_default()
        );
    }
}

/// What all stories report to.
#[derive(Default)]
pub(crate) struct Table(Mutex<Told>);

#[derive(Default)]
struct Told {
    lines: Vec<[String; 4]>,
    reached: BTreeSet<String>,
}

impl Table {
    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One death that was got over.
    fn line(&self, point: &str, killed: &str, after: &str, invariant: &str) {
        self.told().lines.push([point, killed, after, invariant].map(str::to_owned));
    }

    /// This point of a service's list was died of.
    fn reached(&self, point: &str) {
        self.told().reached.insert(point.to_owned());
    }

    /// Those of these points that nobody died of.
    fn unreached<'a>(&self, points: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let told = self.told();
        points.into_iter().filter(|point| !told.reached.contains(*point)).map(str::to_owned).collect()
    }

    /// Past the test runner, which keeps what a passing test prints to itself.
    fn print(&self, took: Duration) {
        let told = self.told();
        let head = ["point", "killed", "after restart", "invariant"].map(str::to_owned);
        let all = || std::iter::once(&head).chain(&told.lines);
        let width = |column: usize| all().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let (a, b, c) = (width(0), width(1), width(2));
        let mut text = String::from("\n");
        for [point, killed, after, invariant] in all() {
            let _never = writeln!(text, "{point:<a$} | {killed:<b$} | {after:<c$} | {invariant}");
        }
        let _never =
            writeln!(text, "{} deaths at crash points, each got over, in {} s", told.lines.len(), took.as_secs());
        drop(std::io::stderr().write_all(text.as_bytes()));
    }
}

/// One thread each: most of the time is waiting for processes to start.
#[test]
fn killed_at_every_crash_point() {
    let (table, entrance, begun) = (&Table::default(), entrance_points(), Instant::now());
    let mut failed = Vec::new();
    std::thread::scope(|scope| {
        let stories = [
            ("gateway", scope.spawn(|| gateways(table))),
            ("build service", scope.spawn(|| service::story(table))),
            ("agent", scope.spawn(|| agent::story(table))),
            (
                "node and its power",
                scope.spawn(|| Kind::ALL.into_iter().for_each(|kind| agent::power_story(table, kind))),
            ),
            ("entrance", scope.spawn(|| entrance::story(table, &entrance))),
        ];
        failed.extend(stories.into_iter().filter_map(|(name, story)| story.join().err().map(|_| name)));
    });
    table.print(begun.elapsed());
    assert!(failed.is_empty(), "see above what happened to: {failed:?}");
    let mut unreached = table.unreached(nebh_gateway::crash::POINTS);
    unreached.extend(table.unreached(nebh_builder::crash::POINTS));
    let node = nebh_deployer::crash::points();
    let on_nodes = table.unreached(node.iter().map(String::as_str));
    // None at all: there can be no node here, which was said, or refused where everything has to be tried.
    if on_nodes.len() < node.len() {
        unreached.extend(on_nodes);
    }
    assert!(unreached.is_empty(), "crash points that nobody died of: {unreached:?}");
}

fn entrance_points() -> Vec<String> {
    nebh_deployer::crash::points().into_iter().filter(|point| point.starts_with("entrance-")).collect()
}

fn gateways(table: &Table) {
    gateway::story(table, Ground::folder_only(), &nebh_gateway::crash::POINTS);
    for kind in Kind::ALL {
        if let Some(ground) = Ground::cut_with(kind) {
            gateway::story(table, ground, &nebh_gateway::crash::POINTS);
        }
    }
}

/// A point in the code that is missing on its list would be forgotten here, and one that stands only on the list would
/// wait for ever.
#[test]
fn points_on_the_lists_are_those_in_the_code() {
    let entrance: Vec<String> = entrance_points().into_iter().filter(|point| !point.contains(':')).collect();
    let lists = [
        ("registry-gateway/src", nebh_gateway::crash::POINTS.map(str::to_owned).to_vec()),
        ("builder/src", nebh_builder::crash::POINTS.map(str::to_owned).to_vec()),
        ("deployer/src", entrance),
    ];
    for (folder, list) in lists {
        let mut code = Vec::new();
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut code);
        let (code, list): (BTreeSet<String>, BTreeSet<String>) =
            (code.into_iter().collect(), list.into_iter().collect());
        assert_eq!(code, list, "{folder}");
    }
}

/// Names in calls like `crash::point("…")`.
fn collect(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, found);
            continue;
        }
        // Names with a side are made of two parts, and listed by what they are made of.
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for call in ["crash::point(\"", "crash::entrance(\""] {
            let names = text.split(call).skip(1).filter_map(|rest| rest.split_once("\")"));
            let plain = |name: &&str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
            found.extend(names.map(|(name, _)| name).filter(plain).map(str::to_owned));
        }
    }
}
