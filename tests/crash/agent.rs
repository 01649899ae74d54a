//! `kill -9` of the agent at every record and around every effect of a switch and of a rollback, with real containers,
//! a real entrance and clients that never stop paying. Afterwards one of the two releases serves whole, and every
//! acknowledged payment is there.

use crate::support::shop::{Shop, done};

const SWITCH: [&str; 10] = [
    "sw-begin",
    "effect-hold",
    "held",
    "effect-stop",
    "stopped",
    "effect-snapshot",
    "start-point",
    "effect-start",
    "open",
    "effect-open",
];
const ROLLBACK: [&str; 6] = ["rb-begin", "effect-hold", "effect-snapshot", "rb-start-point", "rb-open", "rolled-back"];
const OTHER_DATA: [&str; 5] = ["rb-begin", "rb-snap", "effect-exchange", "rb-start-point", "rolled-back"];

fn missing(acknowledged: &[String], book: &[String]) -> Vec<String> {
    let book: std::collections::BTreeSet<&String> = book.iter().collect();
    acknowledged.iter().filter(|payment| !book.contains(payment)).cloned().collect()
}

/// The release that does not serve now.
fn other(shop: &Shop) -> &'static str {
    if shop.version().expect("a version") == "1.0.0" { "2.0.0" } else { "1.0.0" }
}

fn waits_for_the_end(shop: &mut Shop, point: &str, said: &str) {
    for _ in 0..1200 {
        if shop.agent_ended() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(25));
    }
    panic!("{point} was never reached: {said}\n{}", shop.agent_output());
}

fn whole(shop: &Shop, place: &str) {
    let (phase, version) = shop.settled();
    assert!(phase == "serving" && (version == "1.0.0" || version == "2.0.0"), "{place}: {phase} {version}");
}

fn served(shop: &mut Shop) {
    shop.run_agent(None);
    for version in ["2.0.0", "1.0.0"] {
        done(shop, &["node", "prepare", "--to", version]);
    }
    done(shop, &["node", "switch", "--to", "1.0.0", "--no-wait"]);
    done(shop, &["node", "commit"]);
}

#[test]
fn agent_killed_anywhere_in_a_switch_leaves_one_release_whole() {
    let Some(mut shop) = Shop::start() else { return };
    served(&mut shop);
    let client = shop.client();
    for name in SWITCH {
        for side in ["before", "after"] {
            let point = format!("{name}:{side}");
            let mut said = String::new();
            shop.kill_agent();
            shop.run_agent(Some(&point));
            if !shop.agent_ended() {
                let to = other(&shop);
                said = shop.say(&["node", "switch", "--to", to, "--no-wait"]);
            }
            waits_for_the_end(&mut shop, &point, &said);
            shop.run_agent(None);
            whole(&shop, &point);
            let acknowledged = client.acknowledged();
            assert_eq!(missing(&acknowledged, &shop.book()), [""; 0], "{point}");
        }
    }
    let acknowledged = client.end();
    assert!(acknowledged.len() > 20, "the clients paid all the time: {}", acknowledged.len());
    assert_eq!(missing(&acknowledged, &shop.book()), [""; 0]);
}

#[test]
fn agent_killed_anywhere_in_a_rollback_keeps_what_was_paid_with_the_release_that_died() {
    let Some(mut shop) = Shop::start() else { return };
    served(&mut shop);
    let client = shop.client();
    for name in ROLLBACK {
        for side in ["before", "after"] {
            let point = format!("{name}:{side}");
            let to = other(&shop);
            done(&shop, &["node", "switch", "--to", to, "--no-wait"]);
            shop.kill_agent();
            // The crash point is armed once the release is on probation; an agent that comes back watches on.
            shop.run_agent(Some(&point));
            shop.crash_program();
            waits_for_the_end(&mut shop, &point, "");
            shop.run_agent(None);
            whole(&shop, &point);
            let acknowledged = client.acknowledged();
            assert_eq!(missing(&acknowledged, &shop.book()), [""; 0], "{point}");
        }
    }
    assert!(client.end().len() > 20);
}

#[test]
fn agent_killed_while_other_data_are_exchanged_in_loses_no_timeline() {
    let Some(mut shop) = Shop::start() else { return };
    served(&mut shop);
    let client = shop.client();
    done(&shop, &["node", "switch", "--to", "2.0.0", "--no-wait"]);
    done(&shop, &["node", "commit"]);
    for name in OTHER_DATA {
        for side in ["before", "after"] {
            let point = format!("{name}:{side}");
            shop.kill_agent();
            shop.run_agent(Some(&point));
            let said = shop.say(&["node", "rollback", "--data", "pre"]);
            waits_for_the_end(&mut shop, &point, &said);
            shop.run_agent(None);
            whole(&shop, &point);
            let acknowledged = client.acknowledged();
            assert_eq!(missing(&acknowledged, &shop.everything_kept()), [""; 0], "{point}");
        }
    }
    assert!(client.end().len() > 20);
}
