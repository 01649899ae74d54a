//! Random lives: wishes, deaths, faults, kills and power cuts in any order. The invariants of the driver are looked at
//! at every point; here is what must hold at the end.

use proptest::prelude::*;

use super::driver::{Driver, End, facts};
use crate::machine::{Author, DataWish, Event, Phase, RollbackWish, Side, TimelineId, Trouble, TroubleKind, shelf};

#[derive(Clone, Copy, Debug)]
enum Do {
    Perform(u8),
    Settle,
    Pay,
    Prepare(u8),
    Switch(u8),
    Follow(u8),
    Commit,
    Rollback { binary: bool, data: u8 },
    Die,
    Fault(u8),
    Stillborn(u8),
    Crash(bool),
    Tidy,
}

fn actions() -> impl Strategy<Value = Vec<Do>> {
    let one = prop_oneof![
        6 => (1_u8..6).prop_map(Do::Perform),
        2 => Just(Do::Settle),
        4 => Just(Do::Pay),
        2 => (0_u8..4).prop_map(Do::Prepare),
        3 => (0_u8..8).prop_map(Do::Switch),
        1 => (0_u8..8).prop_map(Do::Follow),
        1 => Just(Do::Commit),
        3 => (any::<bool>(), 0_u8..6).prop_map(|(binary, data)| Do::Rollback { binary, data }),
        1 => Just(Do::Die),
        1 => (0_u8..7).prop_map(Do::Fault),
        1 => (0_u8..8).prop_map(Do::Stillborn),
        2 => any::<bool>().prop_map(Do::Crash),
        1 => Just(Do::Tidy),
    ];
    proptest::collection::vec(one, 1..60)
}

const FAULTS: [&str; 8] = ["ahead", "hold", "stop", "snapshot", "exchange", "start", "check-alive", "open"];

fn some(driver: &mut Driver, steps: u8) {
    for _ in 0..steps {
        if !(driver.deliver().unwrap() || driver.perform().unwrap() || driver.beside().unwrap()) {
            return;
        }
    }
}

fn one(driver: &mut Driver, action: Do) {
    let generation = |driver: &Driver, n: u8| driver.state.generations.keys().copied().nth(usize::from(n));
    match action {
        Do::Perform(times) => some(driver, times),
        // A generation that never lives is started again for ever: the steps are counted, not awaited.
        Do::Settle => some(driver, 150),
        Do::Pay => drop(driver.world.pay()),
        Do::Prepare(n) => {
            let source =
                crate::machine::PrepareSource::Release { release: super::driver::release(&format!("1.{n}.0")) };
            drop(driver.take(Event::PrepareAsked { source, by: Author::Person }).unwrap());
        }
        Do::Switch(n) => drop(generation(driver, n).map(|to| driver.switch(to).unwrap())),
        Do::Follow(n) => {
            if let Some(to) = generation(driver, n) {
                let op = driver.op();
                let bad = driver.state.release(to).is_some_and(|of| driver.state.bad.contains_key(&of.digest));
                let taken = driver.take(Event::SwitchAsked { op, to, by: Author::Follower }).unwrap();
                // I9: what is latched bad never starts by itself.
                assert!(!(bad && taken.is_ok()));
            }
        }
        Do::Commit => drop(driver.take(Event::CommitAsked).unwrap()),
        Do::Rollback { binary, data } => {
            let data = match data {
                0 | 1 => DataWish::Live,
                2 => DataWish::Pre,
                n => DataWish::Timeline(TimelineId::new(u32::from(n) - 3)),
            };
            let binary = Some(if binary { Side::New } else { Side::Old });
            drop(driver.rollback(RollbackWish { binary, data: Some(data), ..RollbackWish::default() }).unwrap());
        }
        Do::Die => driver.world.running.clear(),
        Do::Fault(n) => {
            driver.world.faults.insert(FAULTS[usize::from(n)], Trouble::new(TroubleKind::Failed, "by chance"));
        }
        Do::Stillborn(n) => drop(generation(driver, n).map(|id| driver.world.stillborn.insert(id))),
        Do::Crash(power) => driver.restart(if power { End::PowerCut } else { End::Kill }).unwrap(),
        Do::Tidy => {
            let generations = shelf::surplus(&driver.state, 1, &std::collections::BTreeSet::new());
            drop(driver.take(Event::RetireAsked { generations }).unwrap());
        }
    }
    driver.invariants();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_one_generation_serves_or_a_person_is_waited_for(actions in actions()) {
        let releases: Vec<_> = (0..4).map(|n| facts(&format!("1.{n}.0"), 11 + n, &[10 + n, 11 + n, 12 + n])).collect();
        let mut driver = Driver::new(&releases);
        driver.prepare("1.0.0").unwrap();
        for action in actions {
            one(&mut driver, action);
        }
        // I10: without further faults everything comes to an end.
        driver.world.faults.clear();
        driver.world.stillborn.clear();
        driver.settle().unwrap();
        driver.settled();
        // I8: what serves and its way back are on the disk.
        for needed in shelf::needed(&driver.state) {
            prop_assert!(driver.world.prepared.contains_key(&needed), "{needed} is gone in {:?}", driver.state.phase);
        }
        // I3: what runs is what the journal says, and the journal alone says it.
        let mut again = crate::machine::State::new(jiff::Timestamp::from_second(1_700_000_000).unwrap());
        for (_, event, at) in &driver.log {
            again = crate::machine::step(&again, event, *at).unwrap().next;
        }
        prop_assert_eq!(&again, &driver.state);
        if let Phase::Serving(live) = &driver.state.phase {
            prop_assert_eq!(driver.world.open, Some(*live));
        }
    }
}
