//! The loop with a channel to follow, on a twin host.

use std::time::Duration;

use nebh_oci::digest::Digest;

use super::{Running, start};
use crate::host::Head;
use crate::host::sim::Sim;
use crate::host::world::World;
use crate::machine::{Event, Facts, Phase, ReleaseRef};
use crate::settings::{AppSettings, Settings};

fn facts(version: &str) -> Facts {
    let digest = |of: &str| Digest::sha256(format!("{of} {version}").as_bytes());
    Facts {
        release: ReleaseRef { version: version.parse().unwrap(), digest: digest("release") },
        image: digest("image"),
        config: digest("config"),
        datasets: [].into(),
        probation_ms: 0,
    }
}

struct Node {
    _folder: tempfile::TempDir,
    sim: Sim,
    running: Running<Sim>,
    releases: Vec<ReleaseRef>,
    counter: u64,
}

impl Node {
    fn start(versions: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = "node: n1\nstate: .\ntrust: trust.yaml\napps:\n  - name: shop/api\n    switch: auto\n    \
                    follow: { repository: 127.0.0.1:1/shop/api, channel: stable }\n";
        std::fs::write(folder.path().join("node.yaml"), text).unwrap();
        let settings = Settings::read(&folder.path().join("node.yaml"), folder.path()).unwrap();
        let app: AppSettings = settings.apps[0].clone();
        let known: Vec<Facts> = versions.iter().map(|version| facts(version)).collect();
        let releases = known.iter().map(|facts| facts.release.clone()).collect();
        let world = World {
            releases: known.into_iter().map(|facts| (facts.release.digest, facts)).collect(),
            ..World::default()
        };
        let sim = Sim::new(world);
        let running = start(app.clone(), &settings.app_dir(&app.name), sim.clone());
        Self { _folder: folder, sim, running, releases, counter: 0 }
    }

    /// The channel names the release with this number.
    fn announce(&mut self, current: usize) {
        self.counter += 1;
        let head = Head {
            counter: self.counter,
            current: self.releases[current].clone(),
            recent: self.releases.clone(),
            pinned: Vec::new(),
        };
        self.sim.announce(head);
    }

    /// Waits until the release with this number serves, by a committed switch.
    async fn serves(&self, number: usize) {
        let digest = self.releases[number].digest;
        let mut changes = self.running.handle.watch();
        let serves = changes.wait_for(|view| {
            let live = matches!(view.state.phase, Phase::Serving(_)).then(|| view.state.phase.serving()).flatten();
            live.and_then(|live| view.state.release(live)).is_some_and(|release| release.digest == digest)
        });
        // Bounds a hang, measures nothing.
        drop(tokio::time::timeout(Duration::from_mins(1), serves).await.expect("the release is followed").unwrap());
    }

    fn switches(&self) -> usize {
        let entries = self.running.handle.entries(0, u64::MAX);
        entries.iter().filter(|entry| matches!(entry.event, Event::SwitchAsked { .. })).count()
    }
}

#[tokio::test]
async fn a_head_that_names_an_earlier_release_again_is_followed_back() {
    let mut node = Node::start(&["1.0.0", "2.0.0"]);
    for current in [0, 1, 0, 1] {
        node.announce(current);
        node.serves(current).await;
    }
    assert_eq!(node.switches(), 4);
}

#[tokio::test]
async fn a_renewed_head_does_not_overrule_a_person_who_chose_otherwise() {
    let mut node = Node::start(&["1.0.0", "2.0.0"]);
    node.announce(0);
    node.serves(0).await;
    node.announce(1);
    node.serves(1).await;
    let view = node.running.handle.view();
    let to = view.state.prepared(&node.releases[0].digest).unwrap();
    let by = crate::machine::Author::Person;
    node.running.handle.ask(Event::SwitchAsked { op: super::fresh_op(), to, by }).await.unwrap();
    node.serves(0).await;
    node.announce(1);
    let mut changes = node.running.handle.watch();
    let counter = node.counter;
    drop(changes.wait_for(|view| view.head.as_ref().is_some_and(|head| head.counter == counter)).await.unwrap());
    // Whatever the follower asks, it asks before the next message is taken.
    node.running.handle.ask(Event::CommitAsked).await.unwrap_err();
    assert_eq!(node.switches(), 3, "the third is the person's");
    node.serves(0).await;
}
