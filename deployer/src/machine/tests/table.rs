//! The whole table of states and events, in a golden file: a new state or a newly legal pair is seen in review.
//! `NEBH_GOLDEN=write` writes it anew.

use std::fmt::Write;

use super::driver::{Driver, facts};
use crate::machine::{
    Author, Change, DataMove, DataWish, Event, GenerationId, Kind, Loss, Observation, OpId, Phase, PrepareSource,
    RollbackWish, SnapshotKind, SnapshotName, State, Step, Stuck, TimelineId, Trouble, TroubleKind, Window, step,
};

fn op() -> OpId {
    "0a".parse().unwrap()
}

fn now() -> Step {
    Step { op: op(), attempt: 1 }
}

fn why() -> Trouble {
    Trouble::new(TroubleKind::Failed, "because")
}

fn events() -> Vec<(&'static str, Event)> {
    let source = PrepareSource::Release { release: super::driver::release("9") };
    let (step, why, new) = (now(), why(), GenerationId::new(2));
    let found = |running: &[u32], same_boot| Observation {
        running: running.iter().copied().map(GenerationId::new).collect(),
        same_boot,
    };
    let restarted = |running: &[u32], same_boot| Event::Restarted { op: op(), found: found(running, same_boot) };
    let wish = |data| RollbackWish { data: Some(data), ..RollbackWish::default() };
    let gone = Loss::Signal { name: "SIGSEGV".to_owned() };
    let at = |n| Step { attempt: n, ..step.clone() };
    vec![
        ("prepare-asked", Event::PrepareAsked { source, by: Author::Person }),
        ("switch-asked to new", Event::SwitchAsked { op: op(), to: new, by: Author::Person }),
        ("switch-asked to another", Event::SwitchAsked { op: op(), to: GenerationId::new(3), by: Author::Person }),
        ("commit-asked", Event::CommitAsked),
        ("rollback-asked", Event::RollbackAsked { op: op(), want: wish(DataWish::Live) }),
        ("rollback-asked data pre", Event::RollbackAsked { op: op(), want: wish(DataWish::Pre) }),
        ("restarted, nothing runs", restarted(&[], true)),
        ("restarted, old runs", restarted(&[1], true)),
        ("restarted, new runs", restarted(&[2], true)),
        ("restarted after a reboot", restarted(&[], false)),
        ("held", Event::Held { step: step.clone() }),
        ("ahead-failed", Event::AheadFailed { step: step.clone(), why: why.clone() }),
        ("hold-failed", Event::HoldFailed { step: step.clone(), why: why.clone() }),
        ("stopped", Event::Stopped { step: step.clone() }),
        ("stop-failed", Event::StopFailed { step: step.clone(), why: why.clone() }),
        ("snapshotted", Event::Snapshotted { step: step.clone() }),
        ("snapshot-failed", Event::SnapshotFailed { step: step.clone(), why: why.clone() }),
        ("exchanged", Event::Exchanged { step: step.clone() }),
        ("exchange-failed", Event::ExchangeFailed { step: step.clone(), why: why.clone(), torn: false }),
        ("started", Event::Started { step: step.clone() }),
        ("start-failed", Event::StartFailed { step: step.clone(), why: why.clone() }),
        ("alive", Event::Alive { step: step.clone(), after_ms: 1 }),
        ("alive of an earlier try", Event::Alive { step: at(0), after_ms: 1 }),
        ("alive-failed", Event::AliveFailed { step: step.clone(), why: why.clone() }),
        ("opened", Event::Opened { step: step.clone(), window: Window { held_ms: 1, waited: 0, lost: 0 } }),
        ("open-failed", Event::OpenFailed { step: step.clone(), why: why.clone() }),
        ("old lost", Event::Lost { op: op(), generation: GenerationId::new(1), why: gone.clone(), after_ms: 60_000 }),
        ("new lost", Event::Lost { op: op(), generation: new, why: gone, after_ms: 1 }),
        ("waited", Event::Waited { step }),
    ]
}

fn change(kind: Kind, from: u32, to: u32, started: bool, opened: bool) -> Change {
    let begun = jiff::Timestamp::from_second(1_700_000_000).unwrap();
    let id = |n| Some(GenerationId::new(n));
    Change { step: now(), kind, from: id(from), to: id(to), begun, tries_left: 1, started, opened }
}

type Room = (&'static str, fn(Change) -> Phase);

fn phases() -> Vec<(String, Phase)> {
    let keep = DataMove::Keep;
    let snapshot = SnapshotName::of(&op(), SnapshotKind::Pre);
    let branch = DataMove::Branch { snapshot, timeline: TimelineId::new(2) };
    let rollback =
        |data: &DataMove| Kind::Rollback { why: Some("x".into()), data: data.clone(), bad: None, was_opened: true };
    let early: [Room; 3] =
        [("holding", Phase::Holding), ("stopping", Phase::Stopping), ("snapshotting", Phase::Snapshotting)];
    let late: [Room; 3] = [("starting", Phase::Starting), ("checking", Phase::Checking), ("opening", Phase::Opening)];
    let mut all =
        vec![("empty".to_owned(), Phase::Empty), ("serving old".to_owned(), Phase::Serving(GenerationId::new(1)))];
    for (name, phase) in early {
        all.push((format!("{name} switch"), phase(change(Kind::Switch, 1, 2, false, false))));
    }
    for (name, phase) in late {
        let opened = name == "opening";
        all.push((format!("{name} switch"), phase(change(Kind::Switch, 1, 2, true, opened))));
    }
    all.push(("probation".to_owned(), Phase::Probation(change(Kind::Switch, 1, 2, true, true))));
    for (name, phase) in early {
        all.push((format!("{name} rollback"), phase(change(rollback(&branch), 2, 1, false, false))));
    }
    all.push((
        "snapshotting rollback, data kept".to_owned(),
        Phase::Snapshotting(change(rollback(&keep), 2, 1, false, false)),
    ));
    all.push(("exchanging rollback".to_owned(), Phase::Exchanging(change(rollback(&branch), 2, 1, false, false))));
    for (name, phase) in late {
        all.push((format!("{name} rollback"), phase(change(rollback(&keep), 2, 1, true, name == "opening"))));
    }
    for (name, phase) in late {
        all.push((format!("{name} resume"), phase(change(Kind::Resume { why: why() }, 1, 1, true, name == "opening"))));
    }
    let restart = || Kind::Restart { why: "x".into() };
    for (name, phase) in [early[0], early[1], late[0], late[1], late[2]] {
        all.push((format!("{name} restart"), phase(change(restart(), 1, 1, true, name == "opening"))));
    }
    all.push(("backing-off restart".to_owned(), Phase::BackingOff(change(restart(), 1, 1, true, false))));
    let id = |n| Some(GenerationId::new(n));
    all.push((
        "needs-operator".to_owned(),
        Phase::NeedsOperator(Stuck { step: now(), why: "x".into(), from: id(1), to: id(2) }),
    ));
    all
}

/// A node on which a switch from g1 to g2 has passed its start-point, and g3 is prepared.
fn world() -> State {
    let all = [facts("1", 11, &[11, 12]), facts("2", 12, &[11, 12]), facts("3", 12, &[12])];
    let (mut driver, _) = Driver::serving(&all);
    let new = driver.prepare("2").unwrap();
    driver.prepare("3").unwrap();
    driver.switch(new).unwrap().unwrap();
    driver.settle().unwrap();
    driver.state
}

#[test]
fn the_table_of_states_and_events_is_the_golden_one() {
    let mut text =
        String::from("# What every event means in every state: `next state [effects] record`, or why it is refused.\n");
    let base = world();
    let at = jiff::Timestamp::from_second(1_700_000_001).unwrap();
    for (name, phase) in phases() {
        let _ = writeln!(text, "\n## {name}\n");
        let mut refused = Vec::new();
        let state = State { phase, ..base.clone() };
        for (event_name, event) in events() {
            match step(&state, &event, at) {
                Ok(moved) => {
                    let kind = moved.next.phase.change().map_or("", |change| change.kind.name());
                    let effects: Vec<&str> = moved.effects.iter().map(crate::machine::Effect::name).collect();
                    let durable = if moved.record.is_durable() { "‡" } else { "" };
                    let next = format!("{} {kind}", moved.next.phase.name());
                    let record = moved.record.name();
                    let _ = writeln!(
                        text,
                        "{event_name:<26} → {:<22} [{}] {record}{durable}",
                        next.trim_end(),
                        effects.join(" ")
                    );
                }
                Err(_) => refused.push(event_name),
            }
        }
        let _ = writeln!(text, "refused: {}", refused.join(", "));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/machine/tests/table.txt");
    if std::env::var_os("NEBH_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    assert!(golden == text, "the table changed; look at the difference after NEBH_GOLDEN=write:\n{text}");
}
