//! Failures as an operator meets them, told by real processes: what is said, with which exit code, what serves
//! afterwards, and that nothing is lost. The places where things go wrong are real too: a full file system, one that
//! went read-only, a gateway that was killed.

use std::path::PathBuf;

use nebh_oci::manifest::Descriptor;
use nebh_oci::media_type::NEBH_DATA_SNAPSHOT;
use nebh_trust::data::verify_data_snapshot;
use nebh_trust::policy::TrustPolicy;

use crate::support::disk::Disk;
use crate::support::shop::{Plan, RELEASE, Shop, done};
use crate::support::{client, fail};

/// A release that has its config checked by its own program.
const CHECKED: &str = "
name: shop/api
config: { from: config, mount: /etc/shop, check: [/shop, --check-config] }
data:
  ledger: { mount: /var/lib/shop, class: ledger, schema: { writes: 1, reads: [1] } }
run:
  ports: [8080]
  alive: { http: ':8080/healthz', within: 10s }
  probation: 60s
";

/// A shop whose data lie on this disk; 1.0.0 serves and took one payment, 2.0.0 is prepared.
fn on_disk(driver: &'static str, disk: &Disk) -> Option<Shop> {
    let mut shop = Shop::planned(Plan { driver, data: disk.path().join("ledger"), ..Plan::default() })?;
    shop.run_agent();
    serve_one(&shop);
    done(&shop, &["node", "prepare", "--to", "2.0.0"]);
    Some(shop)
}

fn serve_one(shop: &Shop) {
    done(shop, &["node", "switch", "--to", "1.0.0", "--no-wait"]);
    done(shop, &["node", "commit"]);
    assert!(shop.pay("first"));
}

fn said_all(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "`{word}` is missing in: {said}");
    }
}

/// 1.0.0 serves, with nothing on its way.
fn one_serves(shop: &Shop) {
    assert_eq!(shop.version().expect("an answer"), "1.0.0");
    assert_eq!(shop.status()["apps"][0]["phase"], "serving");
}

fn two_serves_after_switch(shop: &Shop) {
    done(shop, &["node", "switch", "--to", "2.0.0", "--no-wait"]);
    done(shop, &["node", "commit"]);
    assert_eq!(shop.version().expect("an answer"), "2.0.0");
}

#[test]
fn snapshot_without_space_cancels_the_switch_and_the_old_release_goes_on_taking_payments() {
    let Some(disk) = Disk::in_memory(4) else { return };
    let Some(shop) = on_disk("copy", &disk) else { return };
    // When 2.0.0 was prepared there was space for two copies. Since then the data have grown.
    std::fs::write(shop.data().join("grown"), vec![7; 3 << 20]).expect("data");
    let said = fail(5, &mut shop.nebh(&["node", "switch", "--to", "2.0.0"]));
    said_all(
        &said,
        &[
            "cancelled  ",
            "No space left on device",
            "ledger.nebh",
            "nothing was changed: 1.0.0 serves with its data as before (tl0)",
            "the switch was cancelled",
        ],
    );
    one_serves(&shop);
    assert!(shop.pay("second"), "the old release takes payments");
    let beside = std::fs::read_dir(shop.beside()).expect("the driver's folder").flatten();
    let half: Vec<PathBuf> =
        beside.map(|entry| entry.path()).filter(|path| path.display().to_string().contains("unfinished")).collect();
    assert!(half.is_empty(), "{half:?} is left of the copy that did not fit");

    std::fs::remove_file(shop.data().join("grown")).expect("room");
    two_serves_after_switch(&shop);
    assert_eq!(shop.book(), ["first", "second"]);
}

#[test]
fn snapshot_on_a_file_system_that_went_read_only_cancels_the_switch_and_nothing_paid_is_lost() {
    let Some(disk) = Disk::btrfs(160) else { return };
    let Some(shop) = on_disk("btrfs", &disk) else { return };
    disk.go_read_only();
    let said = fail(5, &mut shop.nebh(&["node", "switch", "--to", "2.0.0"]));
    said_all(
        &said,
        &["cancelled  `btrfs subvolume snapshot -r ", "Read-only file system", "1.0.0 serves with its data as before"],
    );
    one_serves(&shop);
    assert!(!shop.pay("refused"), "what cannot be written is not acknowledged");

    disk.go_writable();
    assert!(shop.pay("second"));
    two_serves_after_switch(&shop);
    assert_eq!(shop.book(), ["first", "second"]);
}

#[test]
fn gateway_that_is_killed_after_prepare_is_missed_by_nobody_and_told_afterwards() {
    let Some(mut shop) = Shop::start() else { return };
    shop.give_key();
    shop.run_agent();
    serve_one(&shop);
    done(&shop, &["node", "prepare", "--to", "2.0.0"]);
    let paying = shop.client();
    shop.site.kill_gateway();

    // Worse than nobody: connections are taken and never answered. Whoever asked there would wait.
    let silent = std::net::TcpListener::bind(("127.0.0.1", shop.site.port)).expect("the gateway's port");
    let said = done(&shop, &["node", "switch", "--to", "2.0.0", "--no-wait"]);
    said_all(&said, &["open ", "2.0.0"]);
    done(&shop, &["node", "commit"]);
    assert_eq!(shop.version().expect("an answer"), "2.0.0");
    drop(silent);
    // An agent that comes to life meanwhile misses it as little.
    shop.kill_agent();
    shop.run_agent();
    let said = done(&shop, &["node", "rollback"]);
    said_all(&said, &["rolled back  1.0.0 serves with the live data"]);
    let said = done(&shop, &["node", "rollback", "--data", "pre"]);
    said_all(&said, &["1.0.0 serves with ", "a branch of "]);
    let said = fail(4, &mut shop.nebh(&["node", "prepare", "--to", "9.0.0"]));
    said_all(&said, &["`9.0.0` is not a release that this node can find", "unreachable"]);
    let (acknowledged, kept) = (paying.end(), shop.everything_kept());
    let lost: Vec<&String> = acknowledged.iter().filter(|payment| !kept.contains(payment)).collect();
    assert!(acknowledged.len() > 20 && lost.is_empty(), "{} paid, lost: {lost:?}", acknowledged.len());
    let waiting = unpublished(&shop);
    assert!(waiting.len() >= 3, "each change cut the data: {waiting:?}");

    shop.site.serve();
    for _ in 0..1200 {
        if unpublished(&shop).is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(unpublished(&shop), [""; 0], "the gateway is back");
    let told = published(&shop);
    assert!(waiting.iter().all(|name| told.contains(name)), "{waiting:?} waited, the gateway has {told:?}");
}

/// Snapshots whose manifests wait for the gateway.
fn unpublished(shop: &Shop) -> Vec<String> {
    let status = shop.status();
    let snapshots = status["apps"][0]["state"]["data"]["snapshots"].as_object().expect("snapshots");
    let waits = |facts: &serde_json::Value| facts["published"] == false && !facts["release"].is_null();
    snapshots.iter().filter(|(_, facts)| waits(facts)).map(|(name, _)| name.clone()).collect()
}

/// Names of the snapshots that the gateway knows of, by manifests that this node's key signed.
fn published(shop: &Shop) -> Vec<String> {
    let text =
        "roles:\n  node: { keys: [node.pub] }\nrules:\n  - { match: shop/*, image: node, release: node, data: node }\n";
    let pem = shop.node_key();
    let policy = TrustPolicy::parse("trust.yaml", text, &mut |_: &str| Ok(pem.clone())).expect("a policy");
    let address = shop.site.address("shop/api");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut names = Vec::new();
        for version in ["1.0.0", "2.0.0"] {
            let release =
                client().manifest_by_tag(&address, &version.parse().expect("a tag")).await.expect("a release");
            let is_snapshot = |entry: &Descriptor| entry.artifact_type.as_deref() == Some(NEBH_DATA_SNAPSHOT);
            let attached = client().attached_where(&address, release.digest(), is_snapshot).await;
            for one in attached
                .expect("what is attached")
                .iter()
                .filter(|one| one.manifest.artifact_type() == Some(NEBH_DATA_SNAPSHOT))
            {
                let now = jiff::Timestamp::now();
                let snapshot = verify_data_snapshot(&policy, address.repository(), release.digest(), one, now);
                names.push(snapshot.unwrap_or_else(|rejection| panic!("{rejection}")).into_value().snapshot);
            }
        }
        names
    })
}

#[test]
fn config_that_its_own_release_refuses_is_found_in_prepare_and_named_by_file_and_key() {
    let Some(mut shop) = Shop::start() else { return };
    shop.publish("3.0.0", 3, CHECKED, &[("app.conf.j2", "node = {{ node }}\nwrong = 1\n")]);
    shop.publish("4.0.0", 4, CHECKED, &[("app.conf.j2", "node = {{ node }}\nport = {{ prot }}\n")]);
    shop.run_agent();
    serve_one(&shop);
    let refused = "the config check of 3.0.0 (`/shop`) failed with exit code 3: app.conf: `wrong` is not a setting";
    for command in [["node", "prepare", "--to", "3.0.0"], ["node", "switch", "--to", "3.0.0"]] {
        let said = fail(1, &mut shop.nebh(&command));
        said_all(&said, &["the release could not be prepared", refused]);
        one_serves(&shop);
    }
    let said = fail(2, &mut shop.nebh(&["node", "prepare", "--to", "4.0.0"]));
    said_all(&said, &["config template `app.conf.j2` of layer `defaults`, line 2", "`prot` is undefined"]);
    one_serves(&shop);

    // The node's own layer lies over that of the release: there an operator mends it.
    std::fs::write(shop.folder().join("config/app.conf"), "node = n1\n").expect("a file");
    done(&shop, &["node", "switch", "--to", "3.0.0", "--no-wait"]);
    assert_eq!(shop.version().expect("an answer"), "3.0.0");
    assert_eq!(shop.book(), ["first"]);
}

#[test]
fn full_disk_in_prepare_leaves_nothing_half_and_a_retry_works_once_there_is_space() {
    let Some(disk) = Disk::in_memory(24) else { return };
    let Some(mut shop) = Shop::planned(Plan { state: disk.path().join("node"), ..Plan::default() }) else { return };
    shop.run_agent();
    serve_one(&shop);
    let roots = || std::fs::read_dir(shop.state().join("roots")).expect("unpacked images").count();
    let (before, generations) = (roots(), generations(&shop));

    let filler = disk.fill(64 << 10);
    for _ in 0..2 {
        let said = fail(1, &mut shop.nebh(&["node", "prepare", "--to", "2.0.0"]));
        said_all(&said, &["the release could not be prepared", "No space left on device"]);
        assert_eq!(roots(), before, "nothing half is unpacked");
    }
    one_serves(&shop);
    assert!(shop.pay("second"));
    assert_eq!(self::generations(&shop), generations, "what could not be prepared is not on the shelf");

    std::fs::remove_file(filler).expect("room");
    two_serves_after_switch(&shop);
    assert_eq!(shop.book(), ["first", "second"]);
}

#[test]
fn disk_that_is_full_to_the_last_byte_begins_nothing_new_and_the_node_needs_no_restart_afterwards() {
    let Some(disk) = Disk::in_memory(24) else { return };
    let Some(mut shop) = Shop::planned(Plan { state: disk.path().join("node"), ..Plan::default() }) else { return };
    shop.run_agent();
    serve_one(&shop);
    let nothing_begun = "nothing was begun: there is no space to write down how it ends";
    let mut filler = None;
    let mut said = String::new();
    // The journal's reserve goes first; what it gives back is taken, too.
    for _ in 0..40 {
        filler = Some(disk.fill(0));
        said = fail(1, &mut shop.nebh(&["node", "prepare", "--to", "2.0.0"]));
        assert!(said.contains("No space left on device"), "{said}");
        if said.contains(nothing_begun) {
            break;
        }
    }
    said_all(&said, &[nothing_begun, "make room on the disk of the node's state"]);
    one_serves(&shop);
    assert!(shop.pay("second"), "data lie elsewhere");

    std::fs::remove_file(filler.expect("the filler")).expect("room");
    two_serves_after_switch(&shop);
    assert_eq!(shop.book(), ["first", "second"]);
}

fn generations(shop: &Shop) -> usize {
    shop.status()["apps"][0]["state"]["generations"].as_object().expect("generations").len()
}

#[test]
fn switch_to_a_release_that_was_never_prepared_needs_the_gateway_and_says_so() {
    let Some(mut shop) = Shop::start() else { return };
    shop.run_agent();
    serve_one(&shop);
    let said = fail(2, &mut shop.nebh(&["node", "switch", "--to", "9.0.0"]));
    said_all(&said, &["`9.0.0` is not a release that this node can find", "has no release `9.0.0`"]);
    shop.site.kill_gateway();
    let said = fail(4, &mut shop.nebh(&["node", "switch", "--to", "2.0.0"]));
    said_all(&said, &["`2.0.0` is not a release that this node can find", &format!("127.0.0.1:{}", shop.site.port)]);
    one_serves(&shop);
    assert!(shop.pay("second"));
    shop.site.serve();
    two_serves_after_switch(&shop);
}

#[test]
fn overlap_is_refused_by_prepare_because_this_node_cannot_do_it() {
    let Some(mut shop) = Shop::start() else { return };
    shop.publish("3.0.0", 3, &RELEASE.replace("run:\n", "run:\n  switch: overlap\n"), &[]);
    shop.run_agent();
    let said = fail(2, &mut shop.nebh(&["node", "prepare", "--to", "3.0.0"]));
    said_all(&said, &["release 3.0.0 asks for `run.switch: overlap`", "`stop-first`"]);
}
