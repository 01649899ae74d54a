//! The storm: a story that goes on (payments, pushes, builds, releases, switches, rollbacks) while any of its processes
//! is killed with SIGKILL at random moments: gateway, build service, agent, entrance, the program itself. Afterwards
//! nothing that was acknowledged is missing.
//!
//! `NEBH_STORM_KILLS` says how many kills (25; 200 where `NEBH_LONG` is set), `NEBH_STORM_SEED` which choices; the seed
//! is printed. Choices follow from the seed, moments also from the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::forge::Forge;
use crate::support::payer::Payer;
use crate::support::shop::Shop;
use crate::support::{Server, client, succeed};

mod choice;
mod maker;
mod operator;
mod pusher;
mod victim;

use choice::Choice;
use maker::Ordered;
use operator::Operated;
use pusher::Pushed;
use victim::Victim;
pub(crate) use victim::kill_entrance;

/// Kills where nobody says how many.
const KILLS: u64 = 25;
/// The same in a long run (`hack/test --long`).
const KILLS_LONG: u64 = 200;
/// Shortest and longest pause between two kills, in milliseconds.
const PAUSE: (u64, u64) = (150, 800);
/// Longest time that a killed process stays away, in milliseconds.
const AWAY_MAX: u64 = 400;

/// Everything that runs.
struct Storm {
    shop: Shop,
    forge: Arc<Forge>,
    service: Option<Server>,
    killed: BTreeMap<&'static str, u32>,
}

/// Those who work while the storm goes.
struct Workers {
    stop: Arc<AtomicBool>,
    payers: Vec<Payer>,
    operator: std::thread::JoinHandle<Operated>,
    pusher: std::thread::JoinHandle<Pushed>,
    maker: std::thread::JoinHandle<Ordered>,
}

/// What they were told was done.
struct Acknowledged {
    payments: Vec<String>,
    operated: Operated,
    pushed: Pushed,
    ordered: Ordered,
}

impl Storm {
    fn begin() -> Option<Self> {
        let mut shop = Shop::start()?;
        shop.give_key();
        let forge = Arc::new(Forge::beside(&shop.site));
        let service = Some(forge.serve(shop.site.port));
        shop.run_agent();
        shop.serve_first();
        Some(Self { shop, forge, service, killed: BTreeMap::new() })
    }

    fn set_to_work(&self, seed: u64) -> Workers {
        let stop = Arc::new(AtomicBool::new(false));
        let payers = ["a", "b"].map(|name| self.shop.client_named(name)).into();
        let choice = move |number: u64| Choice::new(seed.wrapping_add(number));
        let (settings, halt) = (self.shop.folder().join("node.yaml"), stop.clone());
        let operator = std::thread::spawn(move || operator::work(&settings, choice(1), &halt));
        let (address, key) = (self.shop.site.address("shop/push"), self.shop.site.builder_pem());
        let halt = stop.clone();
        let pusher = std::thread::spawn(move || pusher::work(&address, &key, choice(2), &halt));
        let (forge, halt) = (self.forge.clone(), stop.clone());
        let maker = std::thread::spawn(move || maker::work(&forge, &halt));
        Workers { stop, payers, operator, pusher, maker }
    }

    /// Kills one process and brings it back: the servers after a while, what they look after by them.
    fn strike(&mut self, choice: &mut Choice) {
        let victim = Victim::ALL[choice.below(Victim::ALL.len())];
        let away = Duration::from_millis(choice.between(0, AWAY_MAX));
        match victim {
            Victim::Gateway => {
                self.shop.site.kill_gateway();
                std::thread::sleep(away);
                self.shop.site.serve();
            }
            Victim::BuildService => {
                self.service = None;
                std::thread::sleep(away);
                self.service = Some(self.forge.serve(self.shop.site.port));
            }
            Victim::Agent => {
                self.shop.kill_agent();
                std::thread::sleep(away);
                self.shop.run_agent();
            }
            Victim::Entrance => {
                if !victim::kill_entrance(&self.shop.state()) {
                    return;
                }
            }
            Victim::Program => {
                if !victim::kill_program(&self.shop.state()) {
                    return;
                }
            }
        }
        *self.killed.entry(victim.name()).or_insert(0) += 1;
    }

    fn kills(&self) -> u32 {
        self.killed.values().sum()
    }
}

impl Workers {
    fn end(self) -> Acknowledged {
        self.stop.store(true, Ordering::Relaxed);
        let pushed = self.pusher.join().expect("the pusher");
        let operated = self.operator.join().expect("the operator");
        let ordered = self.maker.join().expect("the one who orders builds");
        let payments = self.payers.into_iter().flat_map(Payer::end).collect();
        Acknowledged { payments, operated, pushed, ordered }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

/// Past the test runner's capture: the seed is of use when everything went well, too.
fn tell(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}

#[test]
fn nothing_acknowledged_is_lost_whichever_process_is_killed() {
    let clock = jiff::Timestamp::now().as_microsecond().unsigned_abs();
    let seed = setting("NEBH_STORM_SEED", clock % 1_000_000);
    let usual = if std::env::var_os("NEBH_LONG").is_some() { KILLS_LONG } else { KILLS };
    let kills = u32::try_from(setting("NEBH_STORM_KILLS", usual)).expect("a count of kills");
    let Some(mut storm) = Storm::begin() else { return };
    tell(&format!("storm: NEBH_STORM_SEED={seed} NEBH_STORM_KILLS={kills}"));
    let workers = storm.set_to_work(seed);
    let mut choice = Choice::new(seed);
    while storm.kills() < kills {
        std::thread::sleep(Duration::from_millis(choice.between(PAUSE.0, PAUSE.1)));
        storm.strike(&mut choice);
    }
    let told = workers.end();
    let (phase, version) = storm.shop.settled();
    assert_eq!(phase, "serving", "{}", storm.shop.status());
    assert!(version == "1.0.0" || version == "2.0.0", "{version}");

    let missing = [payments(&storm, &told), records(&storm, &told), pushes(&storm, &told), builds(&storm, &told)];
    let killed: Vec<String> = storm.killed.iter().map(|(name, count)| format!("{count} {name}")).collect();
    tell(&format!("storm: {} kills ({}), NEBH_STORM_SEED={seed}", storm.kills(), killed.join(", ")));
    for Kept { what, acknowledged, missing, note } in &missing {
        tell(&format!("storm: {what:<9} {acknowledged:>6} acknowledged, {} missing{note}", missing.len()));
    }
    for Kept { what, acknowledged, missing, .. } in &missing {
        assert!(*acknowledged > 0, "nothing was done: {what}");
        assert!(missing.is_empty(), "{what}: {missing:?}");
    }
}

/// What was acknowledged, and what of it is not there.
struct Kept {
    what: &'static str,
    acknowledged: usize,
    missing: Vec<String>,
    note: String,
}

/// Each payment is in the live data or in a timeline that was left, and in none of them twice; each snapshot that the
/// journal names is there to go back to.
fn payments(storm: &Storm, told: &Acknowledged) -> Kept {
    assert!(storm.shop.pay("at-the-end"));
    let kept: BTreeSet<String> = storm.shop.everything_kept().into_iter().collect();
    let book = storm.shop.book();
    let mut missing: Vec<String> = told.payments.iter().filter(|payment| !kept.contains(*payment)).cloned().collect();
    let mut seen = BTreeSet::new();
    missing.extend(
        book.iter().filter(|payment| !seen.insert(*payment)).map(|payment| format!("{payment} is there twice")),
    );
    missing.extend(storm.shop.lost_snapshots());
    missing.extend((!book.contains(&"at-the-end".to_owned())).then(|| "the last payment".to_owned()));
    let note = format!("; {} in the live data", book.len());
    Kept { what: "payments", acknowledged: told.payments.len(), missing, note }
}

/// Each record that the operator was shown stands in the journal as it was shown, and each operation has one.
fn records(storm: &Storm, told: &Acknowledged) -> Kept {
    let text = succeed(&mut storm.shop.nebh(&["node", "history", "--output", "json"]));
    let history: BTreeMap<u64, Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .map(|record: Value| (record["seq"].as_u64().expect("a number"), record))
        .collect();
    let Operated { records, operations, .. } = &told.operated;
    let mut missing: Vec<String> = records
        .iter()
        .filter(|(seq, record)| history.get(seq) != Some(record))
        .map(|(seq, record)| format!("{seq}: was {record}, is {:?}", history.get(seq)))
        .collect();
    let named = |op: &str| history.values().any(|record| record["event"].to_string().contains(op));
    missing.extend(operations.iter().filter(|op| !named(op)).map(|op| format!("operation {op}")));
    let note = format!("; {} operations, {}", operations.len(), told.operated.ends());
    Kept { what: "records", acknowledged: records.len(), missing, note }
}

/// Each blob, manifest and tag is at the gateway, whole.
fn pushes(storm: &Storm, told: &Acknowledged) -> Kept {
    let address = storm.shop.site.address("shop/push");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let Pushed { blobs, manifests, tags, failed } = &told.pushed;
    let missing = runtime.block_on(async {
        let client = client();
        let mut missing = Vec::new();
        for blob in blobs {
            // The client compares size and digest of what comes.
            if let Err(error) = client.blob_bytes(&address, blob, blob.size).await {
                missing.push(format!("blob: {error}"));
            }
        }
        for digest in manifests {
            if let Err(error) = client.manifest(&address, digest).await {
                missing.push(format!("manifest: {error}"));
            }
        }
        for (tag, digest) in tags {
            match client.manifest_by_tag(&address, tag).await {
                Ok(found) if found.digest() == digest => {}
                Ok(found) => missing.push(format!("tag {tag} is at {}, not {digest}", found.digest())),
                Err(error) => missing.push(format!("tag {tag}: {error}")),
            }
        }
        missing
    });
    let acknowledged = blobs.len() + manifests.len() + tags.len();
    let note =
        format!("; {} blobs, {} manifests, {} tags, {failed} tries failed", blobs.len(), manifests.len(), tags.len());
    Kept { what: "pushes", acknowledged, missing, note }
}

/// Each delivery became one build, which is done; its tags, its release and the channel are at the gateway.
fn builds(storm: &Storm, told: &Acknowledged) -> Kept {
    let Ordered { deliveries, again } = &told.ordered;
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut again = again.clone();
    let (missing, releases) = runtime.block_on(maker::look(&storm.forge, &storm.shop.site, deliveries, &mut again));
    let reasons: Vec<String> = again.iter().map(|(why, count)| format!("{count}× {why}")).collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join(", ")) };
    let note = format!("; {releases} releases, {} asked for again{reasons}", again.values().sum::<u32>());
    Kept { what: "builds", acknowledged: deliveries.len(), missing, note }
}
