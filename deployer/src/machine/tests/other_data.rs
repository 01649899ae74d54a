//! Stories of data: going back to others, half-done exchanges, and what could not be made ahead.

use super::driver::{Driver, End};
use super::stories::{tl, two};
use crate::machine::{
    DataMove, DataWish, Event, Outcome, Phase, Plan, RollbackWish, TimelineStatus, Trouble, TroubleKind, choices, plan,
};

/// Two releases were switched, the second died open: the first serves with the data of the second.
fn gone_back() -> Driver {
    let (mut driver, _) = Driver::serving(&two());
    driver.world.pay();
    driver.dies_open("1.1.0");
    driver
}

fn to_data(data: DataWish) -> RollbackWish {
    RollbackWish { data: Some(data), ..RollbackWish::default() }
}

#[test]
fn the_other_choice_after_an_automatic_rollback_and_back_again() {
    let mut driver = gone_back();
    let old = driver.state.last_switch.as_ref().unwrap().old.unwrap();
    let kept = driver.world.live.clone();
    driver.rollback(to_data(DataWish::Pre)).unwrap().unwrap();
    driver.settle().unwrap();
    driver.settled();
    assert_eq!(driver.state.phase, Phase::Serving(old));
    assert_eq!(
        driver.world.missing(&driver.world.live),
        [2],
        "the payment made with 1.1.0 is not in the data from before"
    );
    assert_eq!(driver.state.data.status(tl(1)), TimelineStatus::Orphan);
    assert_eq!(driver.state.data.current, tl(2));
    let back = RollbackWish { to: Some(old), ..to_data(DataWish::Timeline(tl(1))) };
    driver.rollback(back).unwrap().unwrap();
    driver.settle().unwrap();
    driver.settled();
    assert!(driver.world.missing(&driver.world.live).is_empty());
    assert_eq!(driver.world.live[..kept.len()], kept);
    assert_eq!(driver.state.data.status(tl(1)), TimelineStatus::Parent);
    assert_eq!(driver.state.data.status(tl(2)), TimelineStatus::Orphan);
    assert_eq!(driver.state.data.current, tl(3));
    keep_as_fixture(&driver);
}

/// This story is the fixture of the journal's format. It is written once for each version, with `NEBH_GOLDEN=journal`.
fn keep_as_fixture(driver: &Driver) {
    if std::env::var_os("NEBH_GOLDEN").is_none_or(|value| value != "journal") {
        return;
    }
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/journal");
    let (mut text, mut entries) = (Vec::new(), Vec::new());
    for (seq, (record, event, at)) in (1..).zip(&driver.log) {
        let (version, boot, event) = (crate::journal::VERSION, "fixture".to_owned(), event.clone());
        let entry = crate::journal::Entry { version, seq, at: *at, boot, record: *record, event };
        text.extend(crate::journal::line(&entry).unwrap());
        entries.push(entry);
    }
    std::fs::write(folder.join(format!("version-{}.journal", crate::journal::VERSION)), text).unwrap();
    let state = crate::journal::fold(&entries, entries[0].at).unwrap();
    let state = serde_json::to_string_pretty(&state).unwrap();
    std::fs::write(folder.join(format!("version-{}.state.json", crate::journal::VERSION)), state + "\n").unwrap();
}

#[test]
fn what_cannot_be_made_ahead_leaves_everything_as_it_was() {
    let mut driver = gone_back();
    let (before, snapshots) = (driver.state.phase.clone(), driver.world.snapshots.len());
    driver.world.faults.insert("ahead", Trouble::new(TroubleKind::NoSpace, "no space in dataset `ledger`"));
    driver.rollback(to_data(DataWish::Pre)).unwrap().unwrap();
    while driver.deliver().unwrap() || driver.perform().unwrap() {
        assert!(driver.world.pay(), "nobody waits while {:?}", driver.state.phase);
    }
    driver.settled();
    assert_eq!((&driver.state.phase, driver.world.snapshots.len()), (&before, snapshots));
    assert!(matches!(driver.outcome(), Outcome::Cancelled { live: Some(_), .. }), "{:?}", driver.outcome());
}

#[test]
fn number_of_a_branch_that_did_not_become_live_is_for_the_same_snapshot_only() {
    let mut driver = gone_back();
    driver.world.faults.insert("exchange", Trouble::new(TroubleKind::Failed, "the disk is read-only"));
    driver.rollback(to_data(DataWish::Pre)).unwrap().unwrap();
    driver.settle().unwrap();
    assert!(matches!(driver.state.phase, Phase::NeedsOperator(_)));
    let planned = |data| match plan(&driver.state, &to_data(data)) {
        Ok(Plan::Ready { data: DataMove::Branch { timeline, .. }, .. }) => timeline,
        other => panic!("{other:?}"),
    };
    assert_eq!((planned(DataWish::Pre), planned(DataWish::Timeline(tl(0)))), (tl(2), tl(2)), "tl0 was cut as `pre`");
    // Another snapshot, of the line that was just cut, gets a number of its own; also after other changes.
    let new = driver.state.last_switch.as_ref().unwrap().new;
    driver.switch(new).unwrap().unwrap();
    driver.world.faults.insert("snapshot", Trouble::new(TroubleKind::Failed, "no"));
    driver.settle().unwrap();
    driver.state.data.current = tl(0);
    let other = plan(&driver.state, &to_data(DataWish::Timeline(tl(1)))).unwrap();
    assert!(
        matches!(other, Plan::Ready { data: DataMove::Branch { timeline, .. }, .. } if timeline == tl(3)),
        "{other:?}"
    );
}

fn until_exchanging(driver: &mut Driver) {
    driver.rollback(to_data(DataWish::Pre)).unwrap().unwrap();
    while !matches!(driver.state.phase, Phase::Exchanging(_)) {
        assert!(driver.deliver().unwrap() || driver.perform().unwrap());
    }
}

#[test]
fn agent_killed_within_an_exchange_starts_nothing_on_half_of_it() {
    let mut driver = gone_back();
    until_exchanging(&mut driver);
    driver.restart(End::Kill).unwrap();
    driver.world.faults.insert("snapshot", Trouble::new(TroubleKind::Failed, "no"));
    driver.settle().unwrap();
    assert!(matches!(driver.state.phase, Phase::NeedsOperator(_)), "{:?}", driver.state.phase);
    driver.rollback(to_data(DataWish::Live)).unwrap().unwrap_err();
    driver.rollback(to_data(DataWish::Pre)).unwrap().unwrap();
    driver.settle().unwrap();
    driver.settled();
}

#[test]
fn torn_data_are_finished_before_anything_else_is_started() {
    let mut driver = gone_back();
    until_exchanging(&mut driver);
    driver.row.clear();
    let step = driver.state.phase.change().unwrap().step.clone();
    let why = Trouble::new(TroubleKind::Failed, "dataset `books` is away");
    driver.take(Event::ExchangeFailed { step, why, torn: true }).unwrap().unwrap();
    driver.settle().unwrap();
    driver.settled();
    // Also for an agent that comes back.
    driver.restart(End::PowerCut).unwrap();
    driver.settle().unwrap();
    let new = driver.state.last_switch.as_ref().unwrap().new;
    let switch = driver.switch(new).unwrap().unwrap_err();
    assert!(switch.ends_with("-pre` and others do not; finish that rollback first"), "{switch}");
    let kept = driver.rollback(to_data(DataWish::Live)).unwrap().unwrap_err();
    assert_eq!(kept, switch);
    let commands: Vec<String> = choices(&driver.state).into_iter().map(|(command, _)| command).collect();
    assert_eq!(commands, ["nebh node rollback --data pre", "nebh node rollback --binary new --data pre"]);

    driver.rollback(to_data(DataWish::Pre)).unwrap().unwrap();
    driver.settle().unwrap();
    driver.settled();
    assert_eq!((driver.state.data.current, driver.state.data.torn.as_ref()), (tl(2), None));
    driver.switch(new).unwrap().unwrap();
    driver.settle().unwrap();
    driver.settled();
}
