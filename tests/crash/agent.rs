//! The agent, killed before and behind every record of its journal and every effect, with real containers, a real entrance
//! and a client that never stops paying. Afterwards one release serves whole, and every acknowledged payment is there.
//!
//! A scene brings the agent to a record: a switch, a release that dies on probation, other data, a release that cannot be
//! prepared, a program that dies when nothing is on its way. What comes last leaves payments in left timelines.

use std::time::Instant;

use nebh_deployer::machine::Record;

use super::ground::{Ground, Kind};
use super::{Asking, LOOK_AGAIN_AFTER, PATIENCE, Table};
use crate::support::payer::Payer;
use crate::support::shop::{Plan, RELEASE, Shop, done};

/// What happens around a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scene {
    /// The agent starts while a release serves.
    Return,
    /// A switch to the other release.
    Switch,
    /// The same, and it is accepted.
    Commit,
    /// A switch that the agent's end cancelled.
    Cancel,
    /// The new release dies on probation.
    Fall,
    /// The accepted release dies.
    Death,
    /// One more release is made ready.
    Prepare,
    /// One that cannot be made ready.
    Vain,
    /// One more than the shelf holds.
    Shelf,
    /// Snapshots are told to the gateway.
    Publish,
    /// Back with the data from before.
    OtherData,
    /// The new release dies, and the old one cannot read what it wrote.
    Stuck,
}

/// Scenes and the points that they come by, each with both its sides.
const SCENES: [(Scene, &[&str]); 12] = [
    (Scene::Return, &["recovered"]),
    (
        Scene::Switch,
        &[
            "sw-begin",
            "effect-hold",
            "held",
            "effect-stop",
            "stopped",
            "effect-snapshot",
            "start-point",
            "effect-start",
            "started",
            "effect-check-alive",
            "open",
            "effect-open",
            "opened",
        ],
    ),
    (Scene::Commit, &["commit"]),
    (Scene::Cancel, &["cancel-begin", "cancelled"]),
    (Scene::Fall, &["rb-begin", "effect-hold", "effect-snapshot", "rb-start-point", "rb-open", "rolled-back"]),
    (Scene::Death, &["lost", "back-off", "re-open", "restarted"]),
    (Scene::Prepare, &["prep-begin", "effect-prepare", "prep-done"]),
    (Scene::Vain, &["prep-failed"]),
    (Scene::Shelf, &["retire", "effect-remove", "removed"]),
    (Scene::Publish, &["published"]),
    (Scene::OtherData, &["rb-begin", "effect-ahead", "rb-snap", "effect-exchange", "rb-start-point", "rolled-back"]),
    (Scene::Stuck, &["needs-op"]),
];

/// With a power cut: every record of a switch, of a way back and of an exchange of data, once it is written.
const WITH_THE_POWER: [(Scene, &[&str]); 3] = [
    (Scene::Switch, &["sw-begin", "held", "stopped", "start-point", "started", "open", "opened"]),
    (Scene::Fall, &["rb-begin", "rb-start-point", "rb-open", "rolled-back"]),
    (Scene::OtherData, &["effect-ahead", "rb-snap", "effect-exchange", "rb-start-point", "rolled-back"]),
];

/// Reads 1 and 2, writes 2: what 1.0.0 and 2.0.0 cannot read.
const NEXT_SCHEMA: &str = "writes: 2, reads: [1, 2]";
/// Looks for a death that may need a second cause.
const LOOKS: u32 = 200;

struct Story {
    shop: Shop,
    asking: Asking,
    ground: Ground,
    client: Option<Payer>,
    /// Payments may lie in snapshots and left timelines from now on.
    apart: bool,
    releases: u64,
}

/// Kills at every point.
pub(super) fn story(table: &Table) {
    let Some(mut story) = Story::begin(Ground::folder_only(), Plan::default()) else { return };
    for (scene, names) in SCENES {
        for name in names {
            story.point(table, scene, &format!("{name}:before"));
            story.point(table, scene, &format!("{name}:after"));
        }
    }
    story.end();
}

/// Kills behind the records of this ground's journal, and cuts the power of everything that the node has.
pub(super) fn power_story(table: &Table, kind: Kind) {
    let Some(ground) = Ground::cut_with(kind) else { return };
    let driver = if kind == Kind::Btrfs { "btrfs" } else { "copy" };
    let plan = Plan { state: ground.folder().join("node"), driver, data: ground.folder().join("data/ledger") };
    std::fs::create_dir(ground.folder().join("data")).expect("a folder for data");
    let Some(mut story) = Story::begin(ground, plan) else { return };
    for (scene, names) in WITH_THE_POWER {
        for name in names {
            story.point(table, scene, &format!("{name}:after"));
        }
    }
    story.end();
}

impl Story {
    fn begin(ground: Ground, plan: Plan) -> Option<Self> {
        let mut shop = Shop::planned(plan)?;
        // With a key of its own the node publishes the manifests of its snapshots.
        shop.give_key();
        shop.publish("6.6.6", 3, &RELEASE.replace("ledger:", "nowhere:"), &[]);
        shop.publish("9.0.0", 4, &RELEASE.replace("writes: 1, reads: [1]", NEXT_SCHEMA), &[]);
        let asking = Asking::new();
        shop.run_agent_with(|command| asking.arm(command));
        shop.serve_first();
        let client = Some(shop.client());
        Some(Self { shop, asking, ground, client, apart: false, releases: 10 })
    }

    fn end(mut self) {
        let client = self.client.take().expect("the client");
        assert_eq!(client.odd(), [""; 0]);
        let acknowledged = client.end();
        assert!(acknowledged.len() > 20, "the client paid all the time: {}", acknowledged.len());
        self.check("at the end", &acknowledged);
    }

    fn point(&mut self, table: &Table, scene: Scene, point: &str) {
        self.apart |= matches!(scene, Scene::OtherData | Scene::Stuck);
        self.set(scene);
        if scene != Scene::Cancel {
            self.asking.ask(point);
        }
        let said = self.act(scene, point);
        self.dies(point, &said);
        self.back();
        let after = self.whole(scene, point);
        let label =
            format!("{}{scene:?}: {point}", self.ground.prefix()).replace("OtherData", "other data").to_lowercase();
        let killed = if self.ground.cuts() { "the node" } else { "agent" };
        table.line(&label, killed, &after, "one release whole, every payment there");
        table.reached(point);
    }

    /// What has to be so before the point is asked for.
    fn set(&mut self, scene: Scene) {
        match scene {
            Scene::Commit | Scene::Fall => {
                done(&self.shop, &["node", "switch", "--to", self.other(), "--no-wait"]);
            }
            Scene::OtherData => {
                done(&self.shop, &["node", "switch", "--to", self.other(), "--no-wait"]);
                done(&self.shop, &["node", "commit"]);
            }
            Scene::Stuck => {
                done(&self.shop, &["node", "prepare", "--to", "9.0.0"]);
                done(&self.shop, &["node", "switch", "--to", "9.0.0", "--no-wait"]);
            }
            Scene::Shelf => {
                // As many as the shelf holds beside what serves and its way back.
                for _ in 0..2 {
                    let version = self.release();
                    done(&self.shop, &["node", "prepare", "--to", &version]);
                }
            }
            // A program that was watched for long is started again at once, and does not come by every record.
            Scene::Return | Scene::Death => self.shop.kill_agent(),
            Scene::Switch | Scene::Cancel | Scene::Prepare | Scene::Vain | Scene::Publish => {}
        }
        if scene == Scene::Death {
            self.start();
        }
    }

    /// What comes by the point.
    fn act(&mut self, scene: Scene, point: &str) -> String {
        let other = self.other();
        match scene {
            Scene::Return => {
                self.start();
                String::new()
            }
            Scene::Switch | Scene::Publish => self.shop.say(&["node", "switch", "--to", other, "--no-wait"]),
            Scene::Commit => self.shop.say(&["node", "commit"]),
            Scene::Cancel => {
                self.asking.ask("sw-begin:after");
                let said = self.shop.say(&["node", "switch", "--to", other, "--no-wait"]);
                self.dies("sw-begin:after", &said);
                self.asking.ask(point);
                self.start();
                String::new()
            }
            Scene::Fall | Scene::Death | Scene::Stuck => {
                self.shop.crash_program();
                if !self.ends_within(LOOKS) && scene == Scene::Death {
                    self.shop.crash_program();
                }
                String::new()
            }
            Scene::Prepare | Scene::Shelf => {
                let version = self.release();
                self.shop.say(&["node", "prepare", "--to", &version])
            }
            Scene::Vain => self.shop.say(&["node", "prepare", "--to", "6.6.6"]),
            Scene::OtherData => self.shop.say(&["node", "rollback", "--data", "pre"]),
        }
    }

    fn release(&mut self) -> String {
        self.releases += 1;
        let version = format!("3.0.{}", self.releases);
        self.shop.publish(&version, self.releases, RELEASE, &[]);
        version
    }

    /// The release that does not serve now.
    fn other(&self) -> &'static str {
        if self.shop.version().is_ok_and(|version| version == "1.0.0") { "2.0.0" } else { "1.0.0" }
    }

    fn start(&mut self) {
        let asking = &self.asking;
        self.shop.run_agent_with(|command| asking.arm(command));
    }

    /// The next life: of the agent, or of the whole node after the power went.
    fn back(&mut self) {
        if self.ground.cuts() {
            self.shop.end_all();
            let before = self.journal();
            self.ground.cut();
            let after = self.journal();
            // Of the last records, those that are hints may go; what was durable before it had effects is there.
            let durable = before.iter().rposition(|record| record.1).map_or(0, |last| last + 1);
            assert!(after.len() >= durable, "{} records of {durable} durable ones are left", after.len());
            assert_eq!(after, before[..after.len()], "the journal is another one");
        }
        self.start();
    }

    /// Every whole record of the journal on the disk, and whether it is one that is synced.
    fn journal(&self) -> Vec<(String, bool)> {
        let app = std::fs::read_dir(self.shop.state().join("apps")).expect("a folder").flatten().next();
        let text = std::fs::read(app.expect("the application's folder").path().join("journal")).expect("a journal");
        let lines = text.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
        let records = lines.filter_map(|line| {
            let entry: serde_json::Value = serde_json::from_str(line.split_once(' ')?.1).ok()?;
            let name = entry["record"].as_str()?;
            let record = Record::ALL.into_iter().find(|record| record.name() == name)?;
            Some((line.to_owned(), record.is_durable()))
        });
        records.collect()
    }

    fn ends_within(&mut self, looks: u32) -> bool {
        for _ in 0..looks {
            if self.shop.agent_ended() {
                return true;
            }
            std::thread::sleep(LOOK_AGAIN_AFTER);
        }
        false
    }

    fn dies(&mut self, point: &str, said: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.ends_within(1) {
            assert!(Instant::now() < end, "{point} was never reached: {said}\n{}", self.shop.agent_output());
        }
        assert!(self.asking.is_hit(), "{point}: the agent ended, but not there\n{}", self.shop.agent_output());
        self.shop.kill_agent();
    }

    /// One of the releases serves whole, and nothing that was paid is gone. Gives what was found.
    fn whole(&mut self, scene: Scene, point: &str) -> String {
        let (mut phase, mut version) = self.shop.settled();
        let mut found = format!("{version} serves");
        if scene == Scene::Stuck {
            assert_eq!(phase, "needs-operator", "{point}: {version}\n{}", self.shop.agent_output());
            "waits for a person, who goes back".clone_into(&mut found);
            done(&self.shop, &["node", "rollback", "--data", "pre"]);
            (phase, version) = self.shop.settled();
        }
        let known = ["1.0.0", "2.0.0"].contains(&version.as_str());
        assert!(phase == "serving" && known, "{point}: {phase} {version}\n{}", self.shop.agent_output());
        let acknowledged = self.client.as_ref().expect("the client").acknowledged();
        self.check(point, &acknowledged);
        found
    }

    fn check(&self, point: &str, acknowledged: &[String]) {
        let kept = if self.apart { self.shop.everything_kept() } else { self.shop.book() };
        let kept: std::collections::BTreeSet<String> = kept.into_iter().collect();
        let missing: Vec<&String> = acknowledged.iter().filter(|payment| !kept.contains(*payment)).collect();
        assert!(missing.is_empty(), "{point}: payments are gone: {missing:?}");
    }
}
