//! The commands against an agent on a twin host: exit codes, and the sentences of their ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use nebh_face::{Exit, Failure, Globals};
use nebh_oci::digest::Digest;

use super::{operate, sentence};
use crate::agent::{self, Running};
use crate::api::client::Agent;
use crate::api::server::{self, Node};
use crate::api::wire::{self, AppStatus, Status};
use crate::host::sim::Sim;
use crate::host::world::World;
use crate::machine::{
    DataWish, DatasetClass, DatasetFacts, Facts, GenerationId, Phase, Record, ReleaseRef, RollbackWish, SchemaWindow,
    TimelineId, Trouble, TroubleKind,
};
use crate::settings::Settings;

struct Bench {
    folder: tempfile::TempDir,
    sim: Sim,
    running: Option<Running<Sim>>,
    server: Option<tokio::task::JoinHandle<()>>,
}

fn facts(version: &str, writes: u32, reads: &[u32], probation_ms: u64) -> Facts {
    let schema = Some(SchemaWindow { writes, reads: reads.to_vec() });
    let digest = |of: &str| Digest::sha256(format!("{of} {version}").as_bytes());
    Facts {
        release: ReleaseRef { version: version.parse().unwrap(), digest: digest("release") },
        image: digest("image"),
        config: digest("config"),
        datasets: [("ledger".parse().unwrap(), DatasetFacts { class: DatasetClass::Ledger, schema })].into(),
        probation_ms,
    }
}

impl Bench {
    async fn new(releases: &[Facts]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = "node: n1\nstate: .\ntrust: trust.yaml\napps:\n  - name: shop/api\n    follow: { repository: 127.0.0.1:1/shop/api }\n";
        std::fs::write(folder.path().join("node.yaml"), text).unwrap();
        let releases = releases.iter().map(|facts| (facts.release.digest, facts.clone())).collect();
        let sim = Sim::new(World { releases, ..World::default() });
        let mut bench = Self { folder, sim, running: None, server: None };
        bench.agent().await;
        bench
    }

    fn settings(&self) -> Settings {
        Settings::read(&self.folder.path().join("node.yaml"), self.folder.path()).unwrap()
    }

    /// Starts the agent, or a new one in the place of the old.
    async fn agent(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            drop(server.await);
        }
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
        let settings = self.settings();
        let app = settings.apps[0].clone();
        let running = agent::start(app.clone(), &settings.app_dir(&app.name), self.sim.clone());
        let apps = BTreeMap::from([(app.name, running.handle.clone())]);
        let listener = server::bind(&settings.socket()).unwrap();
        let node = Arc::new(Node { name: settings.node, apps });
        self.server = Some(tokio::spawn(async move { server::serve(listener, node).await.unwrap() }));
        self.running = Some(running);
    }

    fn globals(&self) -> Globals {
        Globals { settings: Some(self.folder.path().join("node.yaml")), ..Globals::default() }
    }

    async fn switch(&self, to: &str, no_wait: bool) -> Result<(), Failure> {
        operate::switch(&self.globals(), None, Some(to.to_owned()), no_wait).await
    }

    async fn status(&self) -> AppStatus {
        let agent = Agent::new(&self.settings().socket());
        let status: Status = agent.get(wire::STATUS).await.unwrap().unwrap();
        status.apps.into_iter().next().unwrap()
    }

    /// The sentence of the last operation's end.
    async fn told(&self) -> String {
        let status = self.status().await;
        sentence::end(&status, &status.state.ended.as_ref().unwrap().outcome).0
    }

    async fn until(&self, done: impl Fn(&Phase) -> bool) {
        let mut changes = self.running.as_ref().unwrap().handle.watch();
        changes.wait_for(|view| done(&view.state.phase)).await.unwrap();
    }
}

#[tokio::test]
async fn switch_prepares_waits_and_tells_the_end() {
    let bench = Bench::new(&[facts("1.0.0", 11, &[11], 1)]).await;
    bench.switch("1.0.0", false).await.unwrap();
    assert_eq!(bench.told().await, "committed  1.0.0 serves with the data of tl0");
    let status = bench.status().await;
    assert_eq!(sentence::status(&status).lines().next().unwrap(), "shop/api: 1.0.0 (g1) serves with the data of tl0");
    operate::status(&bench.globals(), None).await.unwrap();
    operate::history(&bench.globals(), None).await.unwrap();
    operate::logs(&bench.globals(), None, None).await.unwrap();
    let failure = bench.switch("1.0.0", false).await.unwrap_err();
    assert_eq!((failure.exit, failure.what.as_str()), (Exit::Failed, "1.0.0 (g1) serves already"));
    let failure = bench.switch("9.9.9", false).await.unwrap_err();
    assert_eq!(failure.what, "`9.9.9` is not a release that this node can find");
}

#[tokio::test]
async fn release_that_dies_open_ends_with_5_and_the_other_choice_and_the_left_timeline_comes_back() {
    let bench = Bench::new(&[facts("1.0.0", 11, &[11, 12], 1), facts("1.1.0", 12, &[11, 12], 60_000)]).await;
    bench.switch("1.0.0", false).await.unwrap();
    bench.sim.world().pay();
    let watched = tokio::spawn({
        let globals = bench.globals();
        async move { operate::switch(&globals, None, Some("1.1.0".to_owned()), false).await }
    });
    bench.until(|phase| matches!(phase, Phase::Probation(_))).await;
    bench.sim.world().pay();
    bench.sim.kill(GenerationId::new(2));
    let failure = watched.await.unwrap().unwrap_err();
    assert_eq!(failure.exit, Exit::ChangedBack);
    assert_eq!(failure.what, "the switch to 1.1.0 was taken back; 1.0.0 serves");
    let told = bench.told().await;
    let (first, second) = told.split_once('\n').unwrap();
    assert!(first.starts_with("rolled back  1.1.0 died of SIGSEGV after 0."), "{first}");
    let end = " s; it was open, so its data is kept: 1.0.0 serves with the new data (tl1)";
    assert!(first.ends_with(end), "{first}");
    assert_eq!(second.trim(), "the other choice:  nebh node rollback --data pre");

    let pre = RollbackWish { data: Some(DataWish::Pre), ..RollbackWish::default() };
    operate::plan(&bench.globals(), None, pre.clone()).await.unwrap();
    operate::rollback(&bench.globals(), None, pre).await.unwrap();
    let told = bench.told().await;
    assert!(told.ends_with("what was live is kept as tl1:  nebh data adopt tl1"), "{told}");
    let world = bench.sim.world().clone();
    assert_eq!(world.missing(&world.live), [2]);
    operate::adopt(&bench.globals(), None, TimelineId::new(1)).await.unwrap();
    assert!(bench.sim.world().lost().is_empty());
    assert_eq!(bench.status().await.state.data.current, TimelineId::new(3));
    let failure = operate::adopt(&bench.globals(), None, TimelineId::new(3)).await.unwrap_err();
    assert_eq!(failure.what, "tl3 is live already");
}

#[tokio::test]
async fn what_only_a_person_can_decide_ends_with_6_and_the_commands() {
    let bench = Bench::new(&[facts("1.0.0", 11, &[11], 1), facts("1.1.0", 12, &[11, 12], 60_000)]).await;
    bench.switch("1.0.0", false).await.unwrap();
    bench.switch("1.1.0", true).await.unwrap();
    bench.sim.kill(GenerationId::new(2));
    bench.until(|phase| matches!(phase, Phase::NeedsOperator(_))).await;
    let failure = operate::status(&bench.globals(), None).await.unwrap_err();
    assert_eq!(failure.exit, Exit::NeedsOperator);
    let text = failure.to_string();
    assert!(text.contains("1.0.0 cannot read dataset `ledger`: its schema is 12, it reads 11"), "{text}");
    assert!(text.contains("nebh node rollback --data pre"), "{text}");
    let pre = RollbackWish { data: Some(DataWish::Pre), ..RollbackWish::default() };
    operate::rollback(&bench.globals(), None, pre).await.unwrap();
    assert_eq!(bench.status().await.phase, "serving");
}

#[tokio::test]
async fn failing_snapshot_and_release_that_never_lives_end_with_5_and_say_which_data() {
    let bench = Bench::new(&[facts("1.0.0", 11, &[11], 1), facts("1.1.0", 11, &[11], 1)]).await;
    bench.switch("1.0.0", false).await.unwrap();
    let full = Trouble::new(TroubleKind::NoSpace, "no space in dataset `ledger`");
    bench.sim.world().faults.insert("snapshot", full);
    let failure = bench.switch("1.1.0", false).await.unwrap_err();
    assert_eq!(failure.exit, Exit::ChangedBack);
    let told =
        "cancelled  no space in dataset `ledger`; nothing was changed: 1.0.0 serves with its data as before (tl0)";
    assert_eq!(bench.told().await, told);
    bench.sim.world().stillborn.insert(GenerationId::new(2));
    let failure = bench.switch("1.1.0", false).await.unwrap_err();
    assert_eq!(failure.exit, Exit::ChangedBack);
    let told = bench.told().await;
    let want = "rolled back  1.1.0 did not come alive: it is gone; it was not open yet, so its data is set aside: 1.0.0 serves with the old data (tl2)";
    assert_eq!(told.lines().next().unwrap(), want);
}

#[tokio::test]
async fn news_in_the_middle_of_a_change_are_records_only_and_fit_the_status_at_its_ends() {
    let bench = Bench::new(&[facts("1.0.0", 11, &[11], 1), facts("1.1.0", 11, &[11], 60_000)]).await;
    bench.switch("1.0.0", false).await.unwrap();
    let seq = bench.status().await.seq;
    bench.switch("1.1.0", true).await.unwrap();
    let agent = Agent::new(&bench.settings().socket());
    let of = |after: u64| {
        let path = format!("{}?app=shop/api&after={after}&wait_ms=1000", wire::NEWS);
        let agent = agent.clone();
        async move { agent.get::<wire::News>(&path).await.unwrap().unwrap() }
    };
    let news = of(seq).await;
    let status = news.status.expect("a status on probation");
    assert_eq!(news.entries.last().unwrap().seq, status.seq);
    assert_eq!(news.entries.first().unwrap().seq, seq + 1);

    // The host takes the order and never says that it is done.
    bench.sim.world().deaf.insert("stop");
    let wish = wire::Rollback { app: None, want: RollbackWish::default() };
    let taken: wire::Taken = agent.post(wire::ROLLBACK, &wish).await.unwrap().unwrap();
    bench.until(|phase| matches!(phase, Phase::Stopping(_))).await;
    let news = of(taken.seq).await;
    // That a snapshot was published may be told among them at any time.
    assert!(news.entries.iter().any(|entry| entry.record == Record::Held), "{:?}", news.entries);
    assert!(news.status.is_none(), "{:?}", news.status);
}

#[tokio::test]
async fn refused_release_ends_with_3() {
    let bench = Bench::new(&[facts("1.0.0", 11, &[11], 1)]).await;
    let digest = bench.sim.world().releases.pop_first().unwrap().0;
    let known = facts("1.0.0", 11, &[11], 1);
    // Resolved by its tag, but nobody signed what stands there now.
    bench.sim.world().releases.insert(Digest::sha256(b"elsewhere"), known);
    let failure = bench.switch("1.0.0", false).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Refused, "{digest}: {failure}");
    assert_eq!(failure.to_string(), "the release could not be prepared: no signature of a known key covers it");
}

#[tokio::test]
async fn agent_that_is_away_or_there_twice_is_said() {
    let mut bench = Bench::new(&[facts("1.0.0", 11, &[11], 60_000)]).await;
    let failure = server::bind(&bench.settings().socket()).unwrap_err();
    assert!(failure.what.contains("an agent listens on"), "{failure}");
    bench.switch("1.0.0", true).await.unwrap();
    // A new agent takes over what runs, and its probation.
    bench.agent().await;
    bench.until(|phase| matches!(phase, Phase::Probation(_))).await;
    operate::commit(&bench.globals(), None).await.unwrap();
    bench.server.take().unwrap().abort();
    tokio::task::yield_now().await;
    std::fs::remove_file(bench.settings().socket()).unwrap();
    let failure = operate::status(&bench.globals(), None).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Unreachable);
    assert!(failure.to_string().contains("what runs on this node goes on without it"), "{failure}");
}

#[tokio::test]
async fn damaged_journal_is_not_guessed_at_and_ends_with_6() {
    let mut bench = Bench::new(&[facts("1.0.0", 11, &[11], 1)]).await;
    bench.switch("1.0.0", false).await.unwrap();
    let path = bench.folder.path().join("apps/shop+api/journal");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[30] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    bench.agent().await;
    let failure = operate::status(&bench.globals(), None).await.unwrap_err();
    assert_eq!(failure.exit, Exit::NeedsOperator);
    assert!(failure.to_string().contains("is damaged in line 1"), "{failure}");
    assert_eq!(bench.switch("1.0.0", false).await.unwrap_err().exit, Exit::NeedsOperator);
    assert_eq!(bench.sim.world().open, Some(GenerationId::new(1)), "what serves goes on serving");
}
