//! The local host against real containers, a real entrance and a registry in memory.

use std::fs;
use std::time::Duration;

use nebh_trust::channel::{ChannelHead, HeadRelease, sign_head};
use nebh_trust::key::PrivateKey;

use super::Host;
use crate::data::suite::Disk;
use crate::machine::{
    Ahead, Branch, Effect, Event, GenerationId, Loss, SnapshotKind, SnapshotName, TimelineId, TroubleKind,
};

mod registry;
mod world;

use world::{World, reference, step};

fn g(number: u32) -> GenerationId {
    GenerationId::new(number)
}

async fn bring_up(world: &World, generation: u32, op: &str) -> u64 {
    let step = step(op);
    let started = world.perform(Effect::Start { step: step.clone(), generation: g(generation) }).await;
    assert_eq!(started, Event::Started { step: step.clone() });
    let alive = world.perform(Effect::CheckAlive { step: step.clone(), generation: g(generation) }).await;
    assert!(matches!(alive, Event::Alive { .. }), "{alive:?}");
    match world.perform(Effect::Open { step, generation: g(generation) }).await {
        Event::Opened { window, .. } => window.lost,
        other => panic!("{other:?}"),
    }
}

/// Waits for what is done in the background. The bound is against a hang, and measures nothing.
async fn soon(is_done: impl Fn() -> bool) {
    let waiting = async {
        while !is_done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), waiting).await.expect("it is cleared");
}

fn snapshot(op: &str, kind: SnapshotKind) -> Effect {
    Effect::Snapshot {
        step: step(op),
        name: SnapshotName::of(&step(op).op, kind),
        kind,
        datasets: vec!["ledger".parse().unwrap()],
        timeline: TimelineId::new(0),
        generation: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn switch_and_both_ways_back_need_no_registry_and_keep_every_payment() {
    let Some(world) = World::new().await else { return };
    let (one, two) = (world.release("1.0.0", 1), world.release("2.0.0", 2));
    let facts = world.prepare(1, &one, None).await.unwrap();
    assert_eq!(facts.release, one);
    assert_eq!(bring_up(&world, 1, "a").await, 0);
    assert_eq!(world.ask("POST /pay/first").await.unwrap(), "paid");
    assert_eq!(world.ask("GET /").await.unwrap(), "1.0.0");
    world.prepare(2, &two, Some(1)).await.unwrap();

    // From here on the registry is not asked.
    let requests = world.registry.requests();
    let held = world.perform(Effect::Hold { step: step("b"), ahead: None }).await;
    assert_eq!(held, Event::Held { step: step("b") });
    assert_eq!(world.perform(Effect::Stop { step: step("b") }).await, Event::Stopped { step: step("b") });
    assert!(world.host.observe().await.is_empty());
    assert_eq!(world.perform(snapshot("b", SnapshotKind::Pre)).await, Event::Snapshotted { step: step("b") });
    assert_eq!(bring_up(&world, 2, "b").await, 0);
    assert_eq!(world.host.observe().await, [g(2)]);
    assert_eq!(world.ask("GET /").await.unwrap(), "2.0.0");
    assert_eq!(world.ask("POST /pay/second").await.unwrap(), "paid");

    // It dies; the old program serves with the new data, by its spare.
    let watch = world.host.watch(g(2));
    assert!(world.ask("GET /crash").await.is_err());
    assert_eq!(watch.await, Loss::Signal { name: "SIGSEGV".to_owned() });
    world.perform(Effect::Hold { step: step("c"), ahead: None }).await;
    world.perform(Effect::Stop { step: step("c") }).await;
    world.perform(snapshot("c", SnapshotKind::Abandoned)).await;
    assert_eq!(bring_up(&world, 1, "c").await, 0);
    assert_eq!(world.ask("GET /").await.unwrap(), "1.0.0");
    assert_eq!(world.ask("GET /book").await.unwrap(), "first\nsecond\n");

    // The other choice: the data of before. Branch and container are made while the program goes on.
    let branch = Branch {
        snapshot: "b-pre".parse().unwrap(),
        timeline: TimelineId::new(1),
        datasets: vec!["ledger".parse().unwrap()],
    };
    let ahead = Ahead { generation: g(1), branch: Some(branch.clone()) };
    let spares = || world.host.folder(g(1)).runs().iter().filter(|run| run.is_spare()).count();
    let before = spares();
    for op in ["d", "d"] {
        let held = world.perform(Effect::Hold { step: step(op), ahead: Some(Box::new(ahead.clone())) }).await;
        assert_eq!(held, Event::Held { step: step("d") });
        assert_eq!(spares(), before + 1, "made once");
    }
    let made = world.host.folder(g(1)).runs().pop().unwrap();
    world.perform(Effect::Stop { step: step("d") }).await;
    let exchange = Effect::Exchange { step: step("d"), branch, aside: TimelineId::new(0) };
    assert_eq!(world.perform(exchange.clone()).await, Event::Exchanged { step: step("d") });
    assert_eq!(world.perform(exchange.clone()).await, Event::Exchanged { step: step("d") }, "again changes nothing");
    bring_up(&world, 1, "d").await;
    let started = world.host.last_started(g(1)).unwrap();
    assert_eq!(started, made, "no other was created inside the window");
    soon(|| spares() == 0).await;
    assert_eq!(world.ask("GET /book").await.unwrap(), "first\n");
    assert_eq!(world.ask("POST /pay/third").await.unwrap(), "paid");
    assert_eq!(world.perform(exchange).await, Event::Exchanged { step: step("d") });
    assert_eq!(world.ask("GET /book").await.unwrap(), "first\nthird\n", "also after the program has written");
    let left = fs::read_to_string(world.folder.path().join("data/ledger.nebh/tl/tl0/book")).unwrap();
    assert_eq!(left, "first\nsecond\n");
    assert_eq!(world.registry.requests(), requests);
    let output = String::from_utf8(world.host.output(g(1), 4096).await.unwrap()).unwrap();
    assert!(output.ends_with("shop 1.0.0 listens\n"), "{output}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_that_was_away_finds_what_runs_and_how_it_died() {
    let Some(world) = World::new().await else { return };
    world.prepare(1, &world.release("1.0.0", 1), None).await.unwrap();
    bring_up(&world, 1, "a").await;
    let world = world.reborn().await;
    assert_eq!(world.host.observe().await, [g(1)]);
    assert_eq!(world.ask("GET /").await.unwrap(), "1.0.0", "the entrance never stopped");
    assert_eq!(
        world.perform(Effect::Start { step: step("b"), generation: g(1) }).await,
        Event::Started { step: step("b") },
        "what runs is left alone"
    );
    assert!(world.ask("GET /crash").await.is_err());
    let world = world.reborn().await;
    assert_eq!(world.host.watch(g(1)).await, Loss::Signal { name: "SIGSEGV".to_owned() });
    assert!(world.host.observe().await.is_empty());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_signed_as_it_should_is_refused_each_by_its_own_words() {
    let Some(world) = World::new().await else { return };
    let image = world.image("1.0.0", &world.builder);
    let unsigned = world.release_of(&image, "1.0.0", 1, "a");
    let why = world.prepare(1, &reference("1.0.0", &unsigned), None).await.unwrap_err();
    assert_eq!(why.kind, TroubleKind::Refused);
    assert!(why.text.contains("is unsigned"), "{}", why.text);

    let foreign = world.release_of(&image, "1.0.1", 2, "b");
    world.sign(&foreign, &PrivateKey::generate().unwrap());
    let why = world.prepare(1, &reference("1.0.1", &foreign), None).await.unwrap_err();
    assert!(why.kind == TroubleKind::Refused && why.text.contains("not by a trusted key"), "{}", why.text);

    let bad_image = world.image("1.0.2", &world.releaser);
    let release = world.release_of(&bad_image, "1.0.2", 3, "c");
    world.sign(&release, &world.releaser);
    let why = world.prepare(1, &reference("1.0.2", &release), None).await.unwrap_err();
    assert!(why.kind == TroubleKind::Refused && why.text.contains(&bad_image.digest().short()), "{}", why.text);

    let good = world.release("1.0.3", 4);
    let layer = world.image("1.0.3", &world.builder).image().unwrap().layers[0].digest;
    world.registry.tamper(&layer.to_string());
    let why = world.prepare(1, &good, None).await.unwrap_err();
    assert!(why.kind == TroubleKind::Refused && why.text.starts_with("tampered with: "), "{}", why.text);
    world.registry.lose(&layer.to_string());
    let why = world.prepare(1, &good, None).await.unwrap_err();
    assert!(why.kind == TroubleKind::Refused && why.text.starts_with("tampered with, or lost: "), "{}", why.text);
    assert!(fs::read_dir(world.folder.path().join("state/roots")).is_err(), "nothing was unpacked");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_config_is_found_in_prepare_by_the_new_image_itself() {
    let Some(world) = World::new().await else { return };
    let release = world.release("1.0.0", 1);
    let template = world.folder.path().join("config/n1/app.conf.j2");
    fs::write(&template, "wrong = {{ node }}\n").unwrap();
    let why = world.prepare(1, &release, None).await.unwrap_err();
    assert_eq!(
        why.text,
        "the config check of 1.0.0 (`/shop`) failed with exit code 3: app.conf: `wrong` is not a setting"
    );
    fs::write(&template, "{{ nodde }}\n").unwrap();
    let why = world.prepare(1, &release, None).await.unwrap_err();
    assert_eq!(why.kind, TroubleKind::Wrong);
    assert!(why.text.contains("`nodde` is undefined"), "{}", why.text);
    fs::write(&template, "node = {{ node }}\n").unwrap();
    world.prepare(1, &release, None).await.unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn program_that_dies_at_once_is_not_alive_and_todays_policy_counts_at_start() {
    let Some(world) = World::new().await else { return };
    world.prepare(1, &world.release("0.0.0-dies", 1), None).await.unwrap();
    let begin = step("a");
    world.perform(Effect::Start { step: begin.clone(), generation: g(1) }).await;
    match world.perform(Effect::CheckAlive { step: begin, generation: g(1) }).await {
        Event::AliveFailed { why, .. } => assert!(why.text.ends_with("g1 ended with exit code 9"), "{}", why.text),
        other => panic!("{other:?}"),
    }
    let two = world.release("2.0.0", 2);
    world.prepare(2, &two, None).await.unwrap();
    let trust = world.folder.path().join("trust.yaml");
    let text = fs::read_to_string(&trust).unwrap();
    fs::write(&trust, format!("{text}revoked: {{ keys: [], digests: [\"{}\"] }}\n", two.digest)).unwrap();
    let refused = async || match world.perform(Effect::Start { step: step("b"), generation: g(2) }).await {
        Event::StartFailed { why, .. } => assert!(why.text.contains("is revoked"), "{}", why.text),
        other => panic!("{other:?}"),
    };
    refused().await;

    // An answer that was looked for while the entrance was asked to hold is for one start of that generation.
    for asked in [1, 2] {
        fs::write(&trust, &text).unwrap();
        let ahead = Some(Box::new(Ahead { generation: g(asked), branch: None }));
        let held = world.perform(Effect::Hold { step: step("c"), ahead }).await;
        assert_eq!(held, Event::Held { step: step("c") });
        if asked == 2 {
            let started = world.perform(Effect::Start { step: step("c"), generation: g(2) }).await;
            assert_eq!(started, Event::Started { step: step("c") });
            world.perform(Effect::Stop { step: step("c") }).await;
        }
        fs::write(&trust, format!("{text}revoked: {{ keys: [], digests: [\"{}\"] }}\n", two.digest)).unwrap();
        refused().await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_old_runs_go_and_the_newest_stay() {
    let Some(world) = World::new().await else { return };
    world.prepare(1, &world.release("1.0.0", 1), None).await.unwrap();
    for turn in 1..=8 {
        bring_up(&world, 1, "a").await;
        let watch = world.host.watch(g(1));
        assert!(world.ask("GET /crash").await.is_err());
        watch.await;
        world.perform(Effect::Hold { step: step("b"), ahead: None }).await;
        let last = world.host.last_started(g(1)).unwrap();
        assert!(last.id().ends_with(&format!("-r{turn}")), "numbers are not given twice: {}", last.id());
    }
    bring_up(&world, 1, "a").await;
    soon(|| world.host.folder(g(1)).runs().len() == 5).await;
    let left: Vec<String> = world.host.folder(g(1)).runs().iter().map(|run| run.id().to_owned()).collect();
    assert!(left[4].ends_with("-r9") && left[0].ends_with("-r5"), "{left:?}");
    assert_eq!(world.host.observe().await, [g(1)]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_generation_removes_what_only_it_used() {
    let Some(world) = World::new().await else { return };
    let (one, two) = (world.release("1.0.0", 1), world.release("2.0.0", 2));
    world.prepare(1, &one, None).await.unwrap();
    world.prepare(2, &two, Some(1)).await.unwrap();
    let roots = || fs::read_dir(world.folder.path().join("state/roots")).unwrap().count();
    assert_eq!(roots(), 2);
    assert_eq!(world.perform(Effect::Remove { generation: g(1) }).await, Event::Removed { generation: g(1) });
    assert_eq!(roots(), 1);
    bring_up(&world, 2, "a").await;
    match world.perform(Effect::Remove { generation: g(2) }).await {
        Event::RemoveFailed { why, .. } => assert_eq!(why.text, "g2 runs and cannot be removed"),
        other => panic!("{other:?}"),
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn live_probe_counts_failures() {
    let Some(world) = World::new().await else { return };
    world.prepare(1, &world.release("1.0.0", 1), None).await.unwrap();
    bring_up(&world, 1, "a").await;
    let runs = world.host.runs();
    let process = runs.iter().find(|(_, run)| run.may_run()).unwrap().1.process().unwrap();
    // Stopped, it accepts and never answers: each probe runs into its bound.
    process.signal(rustix::process::Signal::STOP).unwrap();
    let loss = tokio::time::timeout(Duration::from_mins(2), world.host.watch(g(1))).await.unwrap();
    process.signal(rustix::process::Signal::CONT).unwrap();
    assert_eq!(loss, Loss::Probe { text: "no answer within 5 s".to_owned() });
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn channel_head_is_followed_forward_only_and_the_floor_outlives_the_agent() {
    let Some(world) = World::new().await else { return };
    let one = world.release("1.0.0", 1);
    let put = |counter: u64, days: i64| {
        let current = HeadRelease { version: one.version.to_string(), digest: one.digest };
        let now = jiff::Timestamp::now();
        let hours = |count: i64| jiff::SignedDuration::from_hours(count);
        let repository = world.registry.address.repository().clone();
        let issued = now - hours(48);
        let head = ChannelHead::new("stable", repository, counter, current, issued, now + hours(24 * days));
        world.registry.put(&sign_head(&head, &world.releaser).unwrap());
    };
    put(5, 7);
    let head = world.host.head(None).await;
    assert_eq!((head.counter, head.current), (5, one.clone()));
    put(4, 7);
    let why = world.host.look_at_head("stable").await.unwrap_err();
    assert!(why.kind == TroubleKind::Refused && why.text.contains("older than what was seen"), "{}", why.text);
    put(5, 8);
    let why = world.host.look_at_head("stable").await.unwrap_err();
    assert!(why.kind == TroubleKind::Refused && why.text.contains("contradicts what was seen"), "{}", why.text);
    put(6, -1);
    let why = world.host.look_at_head("stable").await.unwrap_err();
    assert!(why.kind == TroubleKind::Refused && why.text.contains("expired"), "{}", why.text);
    put(4, 7);
    let world = world.reborn().await;
    let why = world.host.look_at_head("stable").await.unwrap_err();
    assert!(why.text.contains("head 5 was seen before"), "{}", why.text);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_is_said_and_leaves_nothing_half() {
    let Some(disk) = Disk::make("ext4", 48) else { return };
    let Some(world) = World::with_state(&disk.path()).await else { return };
    let release = world.release("1.0.0", 1);
    let filler = disk.path().join("filler");
    fill(&filler);
    let why = world.prepare(1, &release, None).await.unwrap_err();
    assert_eq!(why.kind, TroubleKind::NoSpace, "{}", why.text);
    let left = fs::read_dir(disk.path().join("roots")).into_iter().flatten().count();
    assert_eq!(left, 0, "nothing half is unpacked");
    fs::remove_file(&filler).unwrap();
    world.prepare(1, &release, None).await.unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn image_that_is_listed_for_a_platform_it_was_not_made_for_is_wrong() {
    use super::prepare::made_for;
    use nebh_oci::image_config::ImageConfig;
    use nebh_oci::manifest::Platform;
    let image = ImageConfig::new("arm64", "linux", Vec::new());
    made_for(&Platform::new("linux", "arm64"), &image).unwrap();
    for other in [Platform::new("linux", "amd64"), Platform::new("windows", "arm64")] {
        let why = made_for(&other, &image).unwrap_err();
        assert!(why.kind == TroubleKind::Wrong && why.text.contains("is made for linux/arm64"), "{}", why.text);
    }
    let Some(world) = World::new().await else { return };
    let index = world.release_of(&world.image_for("riscv64", "1.0.0", &world.builder), "1.0.0", 1, "a");
    world.sign(&index, &world.releaser);
    let why = world.prepare(1, &reference("1.0.0", &index), None).await.unwrap_err();
    assert!(why.kind == TroubleKind::Wrong && why.text.contains("is made for linux/riscv64"), "{}", why.text);
    world.end().await;
}

/// Takes all the space there is, and gives a little back.
fn fill(path: &std::path::Path) {
    let mut file = fs::File::create(path).unwrap();
    let block = vec![7; 64 << 10];
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(256 << 10)).unwrap();
    file.sync_all().unwrap();
}
