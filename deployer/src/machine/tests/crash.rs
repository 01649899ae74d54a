//! A crash at every point of a life: before and after every record, before and after every effect; by `kill -9` and by
//! a power cut. Afterwards one of the two generations serves whole, and every acknowledged payment is there.

use super::driver::{Crashed, Driver, End, facts};
use crate::machine::{DataWish, GenerationId, Phase, RollbackWish};

fn releases() -> [crate::machine::Facts; 2] {
    [facts("1.0.0", 11, &[11, 12]), facts("1.1.0", 12, &[11, 12])]
}

/// Runs `story` once for each point it passes, crashing there, then lets the next life settle and looks.
fn everywhere(
    begin: impl Fn() -> (Driver, GenerationId, GenerationId),
    story: impl Fn(&mut Driver, GenerationId) -> Result<(), Crashed>,
    look: impl Fn(&Driver, &str),
) {
    for end in [End::Kill, End::PowerCut] {
        let mut points = 0;
        loop {
            let (mut driver, old, new) = begin();
            driver.busy = true;
            driver.points = 0;
            driver.crash_at = Some(points);
            let finished = story(&mut driver, new).is_ok();
            if !finished {
                driver.crash_at = None;
                driver.restart(end).unwrap();
                driver.settle().unwrap();
            }
            driver.settled();
            let place = format!("{end:?} at point {points}, phase {:?}", driver.state.phase);
            let serves = matches!(driver.state.phase, Phase::Serving(live) if live == old || live == new);
            assert!(serves, "{place}");
            look(&driver, &place);
            if finished {
                break;
            }
            points += 1;
        }
        assert!(points > 20, "the story has more points than {points}");
    }
}

fn before_switch() -> (Driver, GenerationId, GenerationId) {
    let (mut driver, old) = Driver::serving(&releases());
    let new = driver.prepare("1.1.0").unwrap();
    (driver, old, new)
}

fn all_there(driver: &Driver, place: &str) {
    assert!(driver.world.missing(&driver.world.live).is_empty(), "{place}");
}

#[test]
fn of_a_switch() {
    let story = |driver: &mut Driver, new| {
        driver.switch(new)?.unwrap();
        driver.settle()
    };
    everywhere(before_switch, story, all_there);
}

#[test]
fn of_a_switch_to_a_release_that_never_comes_alive() {
    let begin = || {
        let (mut driver, old, new) = before_switch();
        driver.world.stillborn.insert(new);
        (driver, old, new)
    };
    let story = |driver: &mut Driver, new| {
        driver.switch(new)?.unwrap();
        driver.settle()
    };
    everywhere(begin, story, all_there);
}

#[test]
fn of_a_rollback_after_the_new_release_died_open() {
    let begin = || {
        let (mut driver, old, new) = before_switch();
        driver.switch(new).unwrap().unwrap();
        driver.until_probation();
        driver.world.pay();
        driver.world.running.clear();
        (driver, old, new)
    };
    everywhere(begin, |driver, _| driver.settle(), all_there);
}

#[test]
fn of_a_rollback_to_the_data_from_before_and_of_the_adoption_of_what_was_left() {
    let begin = || {
        let (mut driver, old, new) = before_switch();
        driver.switch(new).unwrap().unwrap();
        driver.settle().unwrap();
        (driver, old, new)
    };
    let pre = RollbackWish { data: Some(DataWish::Pre), ..RollbackWish::default() };
    let story = |driver: &mut Driver, _| {
        driver.rollback(pre.clone())?.unwrap();
        driver.settle()
    };
    everywhere(begin, story, |driver, place| assert!(driver.world.lost().is_empty(), "{place}"));

    let begin = || {
        let (mut driver, old, new) = begin();
        driver.rollback(pre.clone()).unwrap().unwrap();
        driver.settle().unwrap();
        (driver, old, new)
    };
    let story = |driver: &mut Driver, _| {
        let data = Some(DataWish::Timeline(crate::machine::TimelineId::new(1)));
        let to = driver.state.phase.serving();
        driver.rollback(RollbackWish { to, data, ..RollbackWish::default() })?.unwrap();
        driver.settle()
    };
    everywhere(begin, story, |driver, place| assert!(driver.world.lost().is_empty(), "{place}"));
}

#[test]
fn of_a_cancelled_switch() {
    let begin = || {
        let (mut driver, old, new) = before_switch();
        let why = crate::machine::Trouble::new(crate::machine::TroubleKind::NoSpace, "full");
        driver.world.faults.insert("snapshot", why);
        (driver, old, new)
    };
    let story = |driver: &mut Driver, new| {
        driver.switch(new)?.unwrap();
        driver.settle()
    };
    everywhere(begin, story, all_there);
}
