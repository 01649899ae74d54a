//! The operator: switches and goes back, again and again, and believes only what the commands print.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::choice::Choice;
use crate::support::nebh;

/// What the operator was told.
#[derive(Debug, Default)]
pub(super) struct Operated {
    /// Records of the journal, by number.
    pub(super) records: BTreeMap<u64, Value>,
    /// Operations that were taken.
    pub(super) operations: BTreeSet<String>,
    /// How often each command ended with each code.
    codes: BTreeMap<(&'static str, Option<i32>), u32>,
}

impl Operated {
    /// `switch: 12 × 0, 3 × 4; …`
    pub(super) fn ends(&self) -> String {
        let one = |((name, code), count): (&(&str, Option<i32>), &u32)| {
            let code = code.map_or("killed".to_owned(), |code| code.to_string());
            format!("{count}× {name} → {code}")
        };
        self.codes.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    fn run(&mut self, settings: &Path, name: &'static str, arguments: &[&str]) -> Vec<Value> {
        let mut command = nebh();
        command.args(arguments).args(["--output", "json", "--settings"]).arg(settings);
        let output = command.output().expect("a command");
        *self.codes.entry((name, output.status.code())).or_insert(0) += 1;
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        for line in &lines {
            if let Some(op) = line["op"].as_str() {
                self.operations.insert(op.to_owned());
            }
            if line["kind"] == "record" {
                let seq = line["seq"].as_u64().expect("a number");
                let before = self.records.insert(seq, line.clone());
                assert!(before.is_none_or(|before| before == *line), "record {seq} changed: {line}");
            }
        }
        lines
    }
}

/// Works until it is told to stop.
pub(super) fn work(settings: &Path, mut choice: Choice, stop: &AtomicBool) -> Operated {
    let (mut told, mut versions) = (Operated::default(), ["1.0.0", "2.0.0"].into_iter().cycle());
    while !stop.load(Ordering::Relaxed) {
        match choice.below(12) {
            0 => drop(told.run(settings, "rollback --data pre", &["node", "rollback", "--data", "pre"])),
            1..=4 => drop(told.run(settings, "rollback", &["node", "rollback"])),
            _ => {
                // What serves already is refused; then it is the other one's turn.
                let version = versions.next().expect("one after the other, for ever");
                drop(told.run(settings, "switch", &["node", "switch", "--to", version, "--no-wait"]));
                // Some releases are on probation still when the next thing happens.
                if choice.below(3) > 0 {
                    drop(told.run(settings, "commit", &["node", "commit"]));
                }
            }
        }
        if choice.below(4) == 0 {
            drop(told.run(settings, "history", &["node", "history"]));
        }
        std::thread::sleep(Duration::from_millis(choice.between(20, 400)));
    }
    told
}
