//! The agent's loop without clock and threads: one action at a time, with a journal that forgets what was not synced.

use std::collections::VecDeque;

use jiff::Timestamp;
use nebh_oci::digest::Digest;

use crate::host::world::World;
use crate::machine::{
    Author, DatasetClass, DatasetFacts, Effect, Event, Facts, GenerationId, Loss, Observation, OpId, Outcome, Phase,
    PrepareSource, Record, ReleaseRef, RollbackWish, SchemaWindow, State, step,
};

/// How an agent's life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// `kill -9`: what was written stays written, what runs goes on.
    Kill,
    /// Power cut: what was not synced is gone, and so is everything that ran.
    PowerCut,
}

/// Thrown through the loop at the chosen point.
#[derive(Debug)]
pub(super) struct Crashed;

pub(super) struct Driver {
    pub(super) world: World,
    pub(super) state: State,
    pub(super) log: Vec<(Record, Event, Timestamp)>,
    synced: usize,
    pub(super) outcomes: VecDeque<Event>,
    pub(super) row: VecDeque<Effect>,
    pub(super) beside: VecDeque<Effect>,
    watching: Option<GenerationId>,
    /// Points passed so far, and the one to crash at.
    pub(super) points: usize,
    pub(super) crash_at: Option<usize>,
    /// Whether clients pay at every point.
    pub(super) busy: bool,
    ops: i64,
    seconds: i64,
}

pub(super) fn release(version: &str) -> ReleaseRef {
    ReleaseRef { version: version.parse().unwrap(), digest: Digest::sha256(version.as_bytes()) }
}

pub(super) fn facts(version: &str, writes: u32, reads: &[u32]) -> Facts {
    let schema = Some(SchemaWindow { writes, reads: reads.to_vec() });
    let ledger = DatasetFacts { class: DatasetClass::Ledger, schema };
    Facts {
        release: release(version),
        image: Digest::sha256(format!("image {version}").as_bytes()),
        config: Digest::sha256(format!("config {version}").as_bytes()),
        datasets: [("ledger".parse().unwrap(), ledger)].into(),
        probation_ms: 60_000,
    }
}

impl Driver {
    /// A node that can prepare these releases.
    pub(super) fn new(releases: &[Facts]) -> Self {
        let releases = releases.iter().map(|facts| (facts.release.digest, facts.clone())).collect();
        let world = World { releases, ..World::default() };
        let state = State::new(Timestamp::from_second(1_700_000_000).unwrap());
        Self {
            world,
            state,
            log: Vec::new(),
            synced: 0,
            outcomes: VecDeque::new(),
            row: VecDeque::new(),
            beside: VecDeque::new(),
            watching: None,
            points: 0,
            crash_at: None,
            busy: false,
            ops: 0,
            seconds: 0,
        }
    }

    pub(super) fn op(&mut self) -> OpId {
        self.ops += 1;
        OpId::compose(self.ops, 7)
    }

    fn now(&mut self) -> Timestamp {
        self.seconds += 1;
        Timestamp::from_second(1_700_000_000 + self.seconds).unwrap()
    }

    fn point(&mut self) -> Result<(), Crashed> {
        if self.busy {
            self.world.pay();
        }
        self.invariants();
        let here = self.points;
        self.points += 1;
        if self.crash_at == Some(here) { Err(Crashed) } else { Ok(()) }
    }

    /// One event through step and journal; refused ones change nothing.
    pub(super) fn take(&mut self, event: Event) -> Result<Result<(), String>, Crashed> {
        let at = self.now();
        let moved = match step(&self.state, &event, at) {
            Ok(moved) => moved,
            Err(refused) => return Ok(Err(refused.why)),
        };
        self.point()?;
        self.log.push((moved.record, event, at));
        if moved.record.is_durable() {
            self.synced = self.log.len();
        }
        self.point()?;
        self.state = moved.next;
        if self.watching != self.state.phase.serving() {
            self.watching = None;
        }
        for effect in moved.effects {
            match effect {
                Effect::Watch { generation } => self.watching = Some(generation),
                Effect::Report => {}
                effect if effect.is_beside() => self.beside.push_back(effect),
                effect => self.row.push_back(effect),
            }
        }
        Ok(Ok(()))
    }

    /// Performs the next effect of the row; its outcome waits.
    pub(super) fn perform(&mut self) -> Result<bool, Crashed> {
        let Some(effect) = self.row.pop_front() else { return Ok(false) };
        self.point()?;
        let outcome = self.world.perform(&effect).unwrap();
        self.point()?;
        self.outcomes.push_back(outcome);
        Ok(true)
    }

    /// Whatever runs beside: a Prepare ends, a wait is over, something dead is noticed.
    pub(super) fn beside(&mut self) -> Result<bool, Crashed> {
        if let Some(generation) = self.watching
            && !self.world.running.contains(&generation)
        {
            self.watching = None;
            let op = self.op();
            let why = Loss::Signal { name: "SIGSEGV".to_owned() };
            drop(self.take(Event::Lost { op, generation, why, after_ms: 4200 })?);
            return Ok(true);
        }
        let Some(effect) = self.beside.pop_front() else { return Ok(false) };
        self.point()?;
        let outcome = match effect {
            Effect::Wait { step, .. } => Event::Waited { step },
            effect => self.world.perform(&effect).unwrap(),
        };
        self.point()?;
        drop(self.take(outcome)?);
        Ok(true)
    }

    pub(super) fn deliver(&mut self) -> Result<bool, Crashed> {
        match self.outcomes.pop_front() {
            Some(outcome) => self.take(outcome).map(|_| true),
            None => Ok(false),
        }
    }

    /// Until nothing is left to do. Waits end only when all else is done.
    pub(super) fn settle(&mut self) -> Result<(), Crashed> {
        for _ in 0..10_000 {
            if !(self.deliver()? || self.perform()? || self.beside()?) {
                return Ok(());
            }
        }
        panic!("it never settles: {:?}", self.state.phase);
    }

    /// The next life of the agent.
    pub(super) fn restart(&mut self, end: End) -> Result<(), Crashed> {
        self.outcomes.clear();
        self.row.clear();
        self.beside.clear();
        self.watching = None;
        if end == End::PowerCut {
            self.world.power_cut();
            self.log.truncate(self.synced);
        }
        self.synced = self.log.len();
        let mut state = State::new(Timestamp::from_second(1_700_000_000).unwrap());
        for (_, event, at) in &self.log {
            state = step(&state, event, *at).unwrap().next;
        }
        self.state = state;
        let op = self.op();
        let running = self.world.running.iter().copied().collect();
        let found = Observation { running, same_boot: end == End::Kill };
        self.take(Event::Restarted { op, found })?.unwrap();
        Ok(())
    }

    /// Prepares a release and gives its generation.
    pub(super) fn prepare(&mut self, version: &str) -> Result<GenerationId, Crashed> {
        let source = PrepareSource::Release { release: release(version) };
        let generation = self.state.next_generation;
        self.take(Event::PrepareAsked { source, by: Author::Person })?.unwrap();
        self.settle()?;
        Ok(generation)
    }

    pub(super) fn switch(&mut self, to: GenerationId) -> Result<Result<(), String>, Crashed> {
        let op = self.op();
        self.take(Event::SwitchAsked { op, to, by: Author::Person })
    }

    pub(super) fn rollback(&mut self, want: RollbackWish) -> Result<Result<(), String>, Crashed> {
        let op = self.op();
        self.take(Event::RollbackAsked { op, want })
    }

    /// A node on which the first release is committed.
    pub(super) fn serving(releases: &[Facts]) -> (Self, GenerationId) {
        let mut driver = Self::new(releases);
        let version = releases[0].release.version.to_string();
        let first = driver.prepare(&version).unwrap();
        driver.switch(first).unwrap().unwrap();
        driver.settle().unwrap();
        assert_eq!(driver.state.phase, Phase::Serving(first));
        (driver, first)
    }

    /// Goes on without waiting out the probation.
    pub(super) fn until_probation(&mut self) {
        while !matches!(self.state.phase, Phase::Probation(_)) {
            assert!(self.deliver().unwrap() || self.perform().unwrap(), "{:?}", self.state.phase);
        }
    }

    /// Switches to a release that is paid once while it is open, and then dies.
    pub(super) fn dies_open(&mut self, version: &str) {
        let new = self.prepare(version).unwrap();
        self.switch(new).unwrap().unwrap();
        self.until_probation();
        self.world.pay();
        self.world.running.clear();
        self.settle().unwrap();
        self.settled();
    }

    pub(super) fn outcome(&self) -> &Outcome {
        &self.state.ended.as_ref().unwrap().outcome
    }

    /// What must hold at every moment.
    pub(super) fn invariants(&self) {
        // I1: one writer.
        assert!(self.world.running.len() <= 1, "two generations run: {:?}", self.world.running);
        // I2: no acknowledged payment is nowhere.
        assert!(self.world.lost().is_empty(), "lost while {:?}", self.state.phase);
        // I11: what is open has a durable `open`.
        if let Some(open) = self.world.open {
            let change = self.state.phase.change();
            let sides = change.into_iter().flat_map(|change| [change.from, change.to]).flatten();
            // Holding comes first where a person is waited for, and again where a switch leads out of there.
            let stuck = match &self.state.phase {
                Phase::NeedsOperator(_) => true,
                Phase::Holding(change) => change.from.is_none() && self.state.generations.contains_key(&open),
                _ => false,
            };
            let known = self.state.phase.serving() == Some(open) || sides.into_iter().any(|side| side == open) || stuck;
            assert!(known, "{open} is open while {:?}", self.state.phase);
        }
    }

    /// What must hold when nothing is on its way: the entrance, the processes and the journal say the same.
    pub(super) fn settled(&self) {
        self.invariants();
        match &self.state.phase {
            Phase::Serving(live) => {
                assert_eq!(self.world.open, Some(*live));
                assert_eq!(self.world.running, [*live].into());
            }
            Phase::Empty | Phase::NeedsOperator(_) => assert_eq!(self.world.open, None),
            other => panic!("not settled: {other:?}"),
        }
    }
}
