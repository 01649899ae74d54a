//! Single stories, each with its end: what is served, with which data, and what was kept.

use super::driver::{Driver, End, facts};
use crate::host::world::Entry;
use crate::machine::{
    Author, DataMove, DataWish, Event, Outcome, Phase, Plan, RollbackWish, Side, TimelineId, TimelineStatus, Trouble,
    TroubleKind, choices, plan, shelf,
};

pub(super) fn two() -> [crate::machine::Facts; 2] {
    [facts("1.0.0", 11, &[11, 12]), facts("1.1.0", 12, &[11, 12])]
}

pub(super) fn tl(number: u32) -> TimelineId {
    TimelineId::new(number)
}

#[test]
fn a_good_release_is_committed_after_probation() {
    let (mut driver, _) = Driver::serving(&two());
    driver.busy = true;
    let new = driver.prepare("1.1.0").unwrap();
    driver.switch(new).unwrap().unwrap();
    driver.settle().unwrap();
    assert_eq!(driver.outcome(), &Outcome::Committed { live: new });
    driver.settled();
    assert!(driver.world.missing(&driver.world.live).is_empty());
    assert_eq!(driver.state.data.status(tl(0)), TimelineStatus::Parent);
    assert_eq!(driver.state.data.current, tl(1));
}

#[test]
fn two_records_are_synced_inside_the_held_window() {
    let (mut driver, _) = Driver::serving(&two());
    let new = driver.prepare("1.1.0").unwrap();
    let before = driver.log.len();
    driver.switch(new).unwrap().unwrap();
    driver.settle().unwrap();
    let names = |from: usize, to: &str| -> Vec<&str> {
        let records = driver.log[from..].iter().map(|(record, ..)| *record);
        records
            .take_while(|record| record.name() != to)
            .filter(|record| record.is_durable())
            .map(crate::machine::Record::name)
            .collect()
    };
    assert_eq!(names(before, "opened"), ["sw-begin", "start-point", "open"], "the first is before the hold");
}

#[test]
fn a_release_that_dies_open_leaves_its_data_to_the_old_program() {
    let (mut driver, old) = Driver::serving(&two());
    driver.busy = true;
    let new = driver.prepare("1.1.0").unwrap();
    driver.switch(new).unwrap().unwrap();
    driver.until_probation();
    for _ in 0..5 {
        assert!(driver.world.pay());
    }
    driver.world.running.clear();
    driver.settle().unwrap();
    driver.settled();
    assert_eq!(driver.state.phase, Phase::Serving(old));
    assert!(driver.world.missing(&driver.world.live).is_empty());
    let Outcome::ChangedBack { why, was_opened: true, data: DataMove::Keep, .. } = driver.outcome() else {
        panic!("{:?}", driver.outcome())
    };
    assert_eq!(why, "died of SIGSEGV after 4.2 s");
    assert_eq!(driver.state.data.current, tl(1));
    // The latch: the follower may not try it again, a person may.
    let op = driver.op();
    let refused = driver.take(Event::SwitchAsked { op, to: new, by: Author::Follower }).unwrap().unwrap_err();
    assert!(refused.contains("only a person may try it again"), "{refused}");
    driver.switch(new).unwrap().unwrap();
    driver.settle().unwrap();
    assert_eq!(driver.outcome(), &Outcome::Committed { live: new });
    assert!(driver.state.bad.is_empty());
}

#[test]
fn a_release_that_never_comes_alive_leaves_the_data_as_before() {
    let (mut driver, old) = Driver::serving(&two());
    driver.busy = true;
    let new = driver.prepare("1.1.0").unwrap();
    driver.world.stillborn.insert(new);
    driver.switch(new).unwrap().unwrap();
    driver.settle().unwrap();
    driver.settled();
    assert_eq!(driver.state.phase, Phase::Serving(old));
    assert!(!driver.world.live.contains(&Entry::Start(new)), "the old data have nothing of the dark start");
    assert!(driver.world.missing(&driver.world.live).is_empty());
    assert!(driver.world.aside[&tl(1)].contains(&Entry::Start(new)), "what it wrote is kept");
    assert_eq!(driver.state.data.status(tl(1)), TimelineStatus::Orphan);
    assert!(matches!(driver.outcome(), Outcome::ChangedBack { was_opened: false, data: DataMove::Branch { .. }, .. }));
}

#[test]
fn an_old_program_that_cannot_read_the_new_data_waits_for_a_person() {
    let (mut driver, old) = Driver::serving(&[facts("1.0.0", 11, &[11]), facts("1.1.0", 12, &[11, 12])]);
    driver.dies_open("1.1.0");
    let Phase::NeedsOperator(stuck) = &driver.state.phase else { panic!("{:?}", driver.state.phase) };
    let why = "1.1.0 died of SIGSEGV after 4.2 s; 1.0.0 cannot read dataset `ledger`: its schema is 12, it reads 11";
    assert_eq!(stuck.why, why);
    let commands: Vec<String> = choices(&driver.state).into_iter().map(|(command, _)| command).collect();
    assert_eq!(
        commands,
        [
            "nebh node rollback --data pre",
            "nebh node rollback --binary new",
            "nebh node rollback --binary new --data pre"
        ]
    );
    let pre = RollbackWish { data: Some(DataWish::Pre), ..RollbackWish::default() };
    driver.rollback(pre).unwrap().unwrap();
    driver.settle().unwrap();
    driver.settled();
    assert_eq!(driver.state.phase, Phase::Serving(old));
    assert!(driver.world.lost().is_empty());
}

#[test]
fn a_failing_snapshot_cancels_and_the_old_program_serves() {
    let (mut driver, old) = Driver::serving(&two());
    let new = driver.prepare("1.1.0").unwrap();
    driver.world.faults.insert("snapshot", Trouble::new(TroubleKind::NoSpace, "no space in dataset `ledger`"));
    driver.switch(new).unwrap().unwrap();
    driver.settle().unwrap();
    driver.settled();
    assert_eq!(driver.state.phase, Phase::Serving(old));
    let Outcome::Cancelled { why, live } = driver.outcome() else { panic!("{:?}", driver.outcome()) };
    assert_eq!((why.text.as_str(), *live), ("no space in dataset `ledger`", Some(old)));
    assert!(driver.state.bad.is_empty(), "nothing is known against the release");
}

#[test]
fn a_first_release_without_a_way_back() {
    let mut driver = Driver::new(&two());
    let first = driver.prepare("1.0.0").unwrap();
    driver.world.stillborn.insert(first);
    driver.switch(first).unwrap().unwrap();
    driver.settle().unwrap();
    driver.settled();
    assert_eq!(driver.state.phase, Phase::Empty);
    assert!(driver.world.live.is_empty(), "what it wrote while dark is set aside");
    let next = driver.prepare("1.1.0").unwrap();
    driver.switch(next).unwrap().unwrap();
    driver.until_probation();
    driver.world.pay();
    driver.world.running.clear();
    driver.settle().unwrap();
    let Phase::NeedsOperator(stuck) = &driver.state.phase else { panic!("{:?}", driver.state.phase) };
    assert_eq!(stuck.why, "1.1.0 died of SIGSEGV after 4.2 s; there is no older release to go back to");
}

#[test]
fn while_a_person_is_waited_for_the_channel_starts_nothing() {
    let mut driver = Driver::new(&two());
    let first = driver.prepare("1.0.0").unwrap();
    let newer = driver.prepare("1.1.0").unwrap();
    driver.switch(first).unwrap().unwrap();
    driver.until_probation();
    driver.world.running.clear();
    driver.settle().unwrap();
    assert!(matches!(driver.state.phase, Phase::NeedsOperator(_)));
    let op = driver.op();
    let followed = driver.take(Event::SwitchAsked { op, to: newer, by: Author::Follower }).unwrap();
    assert_eq!(followed.unwrap_err(), "a person is waited for; until then nothing starts by itself");
    driver.switch(newer).unwrap().unwrap();
    driver.settle().unwrap();
    assert_eq!(driver.state.phase, Phase::Serving(newer));
}

#[test]
fn a_stuck_stop_never_lets_a_second_writer_start() {
    let (mut driver, _) = Driver::serving(&two());
    let new = driver.prepare("1.1.0").unwrap();
    driver.world.faults.insert("stop", Trouble::new(TroubleKind::Failed, "process 7 is in state D"));
    driver.switch(new).unwrap().unwrap();
    driver.settle().unwrap();
    driver.settled();
    assert!(matches!(driver.state.phase, Phase::NeedsOperator(_)));
    assert!(!driver.world.live.contains(&Entry::Start(new)));
}

#[test]
fn a_rollback_whose_old_program_does_not_start_is_tried_again_and_then_left_to_a_person() {
    let (mut driver, old) = Driver::serving(&two());
    let new = driver.prepare("1.1.0").unwrap();
    driver.switch(new).unwrap().unwrap();
    driver.until_probation();
    driver.world.running.clear();
    driver.world.stillborn.insert(old);
    driver.settle().unwrap();
    driver.settled();
    let Phase::NeedsOperator(stuck) = &driver.state.phase else { panic!("{:?}", driver.state.phase) };
    assert_eq!(stuck.why, "1.0.0 did not come alive either: it is gone");
    let starts = driver.log.iter().filter(|(record, ..)| record.name() == "started").count();
    assert_eq!(starts, 1 + 1 + 3);
}

#[test]
fn a_committed_program_that_dies_is_started_again() {
    let (mut driver, live) = Driver::serving(&two());
    driver.world.running.clear();
    driver.settle().unwrap();
    driver.settled();
    assert_eq!(driver.state.phase, Phase::Serving(live));
}

#[test]
fn a_newer_schema_than_the_release_reads_is_refused_before_anything_happens() {
    let (mut driver, _) = Driver::serving(&[facts("1.0.0", 12, &[12]), facts("0.9.0", 11, &[11])]);
    let older = driver.prepare("0.9.0").unwrap();
    let refused = driver.switch(older).unwrap().unwrap_err();
    assert_eq!(refused, "0.9.0 cannot read dataset `ledger`: its schema is 12, it reads 11");
}

#[test]
fn what_is_wanted_twice_or_in_between_is_refused_by_name() {
    let (mut driver, old) = Driver::serving(&two());
    let new = driver.prepare("1.1.0").unwrap();
    assert_eq!(driver.switch(old).unwrap().unwrap_err(), "1.0.0 (g1) serves already");
    assert_eq!(driver.take(Event::CommitAsked).unwrap().unwrap_err(), "1.0.0 is committed already");
    driver.switch(new).unwrap().unwrap();
    let refused = driver.switch(new).unwrap().unwrap_err();
    assert!(refused.starts_with("a switch is on its way"), "{refused}");
}

#[test]
fn program_and_config_are_chosen_each_for_itself() {
    let (mut driver, old) = Driver::serving(&two());
    let new = driver.prepare("1.1.0").unwrap();
    driver.switch(new).unwrap().unwrap();
    driver.settle().unwrap();
    let mixed = RollbackWish { binary: Some(Side::Old), config: Some(Side::New), ..RollbackWish::default() };
    assert_eq!(plan(&driver.state, &mixed), Ok(Plan::Mix { binary: old, config: new }));
    let source = crate::machine::PrepareSource::Mix { binary: old, config: new };
    driver.take(Event::PrepareAsked { source, by: Author::Person }).unwrap().unwrap();
    driver.settle().unwrap();
    driver.rollback(mixed).unwrap().unwrap();
    driver.settle().unwrap();
    driver.settled();
    let Phase::Serving(live) = driver.state.phase else { panic!() };
    let facts = driver.state.facts(live).unwrap();
    assert_eq!((facts.release.version.as_text(), facts.config), ("1.0.0", driver.state.facts(new).unwrap().config));
}

#[test]
fn only_what_nothing_needs_leaves_the_shelf() {
    let many: Vec<_> = (0..6).map(|n| facts(&format!("1.{n}.0"), 11, &[11])).collect();
    let (mut driver, first) = Driver::serving(&many);
    let rest: Vec<_> = (1..6).map(|n| driver.prepare(&format!("1.{n}.0")).unwrap()).collect();
    driver.switch(rest[0]).unwrap().unwrap();
    driver.settle().unwrap();
    let pinned = [driver.state.release(rest[1]).unwrap().digest].into();
    let surplus = shelf::surplus(&driver.state, 2, &pinned);
    assert_eq!(surplus, [rest[2]], "live, way back, pinned and the two newest stay");
    let refused = driver.take(Event::RetireAsked { generations: vec![first] }).unwrap().unwrap_err();
    assert_eq!(refused, "g1 is needed");
    driver.take(Event::RetireAsked { generations: surplus }).unwrap().unwrap();
    driver.restart(End::Kill).unwrap();
    driver.settle().unwrap();
    assert!(!driver.world.prepared.contains_key(&rest[2]), "an interrupted removal is carried on");
}
