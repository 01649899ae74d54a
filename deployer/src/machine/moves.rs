//! The moves along the row of rooms: hold, stop, cut, exchange, start, check, open, commit.
//! Pure.

use jiff::Timestamp;

use super::data::{SnapshotFacts, unreadable};
use super::effect::{Ahead, Branch, Effect};
use super::event::Trouble;
use super::ids::{DatasetName, GenerationId, OpId, Step};
use super::record::Record;
use super::state::{Change, DataMove, Ended, Kind, LastSwitch, Outcome, Phase, State};
use super::transition::Transition;

/// Starts of a new generation in one switch: the first, and one more if the node or the agent died meanwhile.
pub(super) const SWITCH_STARTS: u32 = 2;
/// Starts of an old generation in one rollback. It ran before, so a failure is more likely the machine's.
pub(super) const BACK_STARTS: u32 = 3;

/// A transition in the making: a copy of the state, the effects so far, and the time.
pub(super) struct Draft<'a> {
    before: &'a State,
    pub(super) state: State,
    pub(super) effects: Vec<Effect>,
    pub(super) at: Timestamp,
}

impl<'a> Draft<'a> {
    pub(super) fn new(before: &'a State, at: Timestamp) -> Self {
        Self { before, state: before.clone(), effects: Vec::new(), at }
    }

    pub(super) fn before(&self) -> &'a State {
        self.before
    }

    pub(super) fn to(mut self, phase: Phase, record: Record, effects: impl IntoIterator<Item = Effect>) -> Transition {
        self.state.phase = phase;
        self.effects.extend(effects);
        Transition { next: self.state, record, effects: self.effects }
    }

    /// The same phase, with a record for the reader.
    pub(super) fn stay(self, record: Record, effects: impl IntoIterator<Item = Effect>) -> Transition {
        let phase = self.state.phase.clone();
        self.to(phase, record, effects)
    }

    pub(super) fn noted(self) -> Transition {
        self.stay(Record::Held, [])
    }

    /// The generation that a cancelled operation would go back to.
    pub(super) fn live(&self) -> Option<GenerationId> {
        match &self.before.phase {
            Phase::Serving(live) => Some(*live),
            Phase::Probation(change) | Phase::BackingOff(change) => change.to,
            Phase::NeedsOperator(_) => self.before.last_switch.as_ref().and_then(|last| last.old),
            _ => None,
        }
    }

    /// First room of every operation.
    pub(super) fn begin(
        self,
        op: &OpId,
        kind: Kind,
        from: Option<GenerationId>,
        to: Option<GenerationId>,
        tries_left: u32,
        record: Record,
    ) -> Transition {
        // A cancelled or dead generation finds its data where it left them.
        let started = matches!(kind, Kind::Resume { .. } | Kind::Restart { .. });
        let step = Step { op: op.clone(), attempt: 1 };
        let begun = self.at;
        self.hold(Change { step, kind, from, to, begun, tries_left, started, opened: false }, record)
    }

    pub(super) fn hold(mut self, change: Change, record: Record) -> Transition {
        if let Some(branch) = self.incoming(&change).filter(|_| !change.started) {
            self.state.data.ordered = Some((branch.timeline, branch.snapshot));
        }
        let (step, ahead) = (change.step.clone(), self.ahead(&change).map(Box::new));
        self.to(Phase::Holding(change), record, [Effect::Hold { step, ahead }])
    }

    /// What can be made while a generation serves. After a failure nobody is served well: holding comes first.
    fn ahead(&self, change: &Change) -> Option<Ahead> {
        let serves = matches!(self.before.phase, Phase::Serving(_) | Phase::Probation(_));
        let asked = matches!(change.kind, Kind::Switch | Kind::Rollback { why: None, .. });
        let generation = change.to.filter(|_| serves && asked)?;
        Some(Ahead { generation, branch: self.incoming(change) })
    }

    /// The branch that will be exchanged in.
    pub(super) fn incoming(&self, change: &Change) -> Option<Branch> {
        match &change.kind {
            Kind::Rollback { data: DataMove::Branch { snapshot, timeline }, .. } => {
                let datasets = self.branch_set(snapshot);
                Some(Branch { snapshot: snapshot.clone(), timeline: *timeline, datasets })
            }
            _ => None,
        }
    }

    pub(super) fn stop(self, change: &Change, record: Record) -> Transition {
        let step = change.step.clone();
        self.to(Phase::Stopping(change.clone()), record, [Effect::Stop { step }])
    }

    pub(super) fn stopped(self, change: &Change) -> Transition {
        if change.started {
            return self.start(change.clone(), Record::Stopped);
        }
        let effect = Effect::Snapshot {
            step: change.step.clone(),
            name: change.snapshot(),
            kind: change.snapshot_kind(),
            datasets: self.cut_set(change),
            timeline: self.state.data.current,
            generation: self.writer(),
        };
        self.to(Phase::Snapshotting(change.clone()), Record::Stopped, [effect])
    }

    fn writer(&self) -> Option<GenerationId> {
        let data = &self.state.data;
        data.timelines.get(&data.current).and_then(|line| line.generation)
    }

    /// Every dataset that this operation, or the way back from it, may touch.
    fn cut_set(&self, change: &Change) -> Vec<DatasetName> {
        let last = self.state.last_switch.as_ref();
        let sides = [change.from, change.to, last.and_then(|last| last.old), last.map(|last| last.new)];
        let mut names = self.state.datasets(&sides);
        if let Kind::Rollback { data: DataMove::Branch { snapshot, .. }, .. } = &change.kind
            && let Some(facts) = self.state.data.snapshots.get(snapshot)
        {
            names.extend(facts.datasets.iter().cloned());
        }
        names.sort();
        names.dedup();
        names
    }

    fn note_snapshot(&mut self, change: &Change) {
        let generation = self.writer();
        let facts = SnapshotFacts {
            name: change.snapshot(),
            kind: change.snapshot_kind(),
            op: change.step.op.clone(),
            timeline: self.state.data.current,
            generation,
            release: generation.and_then(|id| self.state.release(id).cloned()),
            datasets: self.cut_set(change),
            schema: self.state.data.schema(),
            at: self.at,
            published: false,
        };
        self.state.data.cut(facts);
    }

    pub(super) fn snapshotted(mut self, change: &Change) -> Transition {
        self.note_snapshot(change);
        let mut change = change.clone();
        if let Some(branch) = self.incoming(&change) {
            let (step, aside) = (change.step.clone(), self.state.data.current);
            return self.to(Phase::Exchanging(change), Record::RbSnap, [Effect::Exchange { step, branch, aside }]);
        }
        match &change.kind {
            Kind::Rollback { .. } | Kind::Resume { .. } | Kind::Restart { .. } => {
                change.started = true;
                self.note_writer(&change);
                self.start(change, Record::RbStartPoint)
            }
            Kind::Switch => {
                change.started = true;
                change.tries_left = change.tries_left.saturating_sub(1);
                self.note_switch(&change);
                self.note_writer(&change);
                self.start(change, Record::StartPoint)
            }
        }
    }

    fn branch_set(&self, snapshot: &super::ids::SnapshotName) -> Vec<DatasetName> {
        self.state.data.snapshots.get(snapshot).map(|facts| facts.datasets.clone()).unwrap_or_default()
    }

    /// The start-point of a switch: what "old", "new" and "pre" mean from here on. A switch from another generation
    /// begins a timeline of its own; the first release goes on with what it found.
    fn note_switch(&mut self, change: &Change) {
        let pre = change.snapshot();
        if change.from.is_some() {
            let next = self.state.data.next_timeline();
            self.state.data.branch(next, &pre, self.at);
        }
        if let Some(new) = change.to {
            self.state.last_switch = Some(LastSwitch { op: change.step.op.clone(), old: change.from, new, pre });
        }
    }

    fn note_writer(&mut self, change: &Change) {
        if let Some(to) = change.to
            && let Some(facts) = self.state.facts(to).cloned()
        {
            self.state.data.written_by(to, &facts);
        }
    }

    pub(super) fn exchanged(mut self, change: &Change) -> Transition {
        let mut change = change.clone();
        if let Kind::Rollback { data: DataMove::Branch { snapshot, timeline }, .. } = &change.kind {
            let (snapshot, timeline) = (snapshot.clone(), *timeline);
            self.state.data.branch(timeline, &snapshot, self.at);
            (self.state.data.ordered, self.state.data.torn) = (None, None);
        }
        change.started = true;
        if change.to.is_none() {
            return self.back(&change);
        }
        self.note_writer(&change);
        self.start(change, Record::RbStartPoint)
    }

    pub(super) fn start(self, change: Change, record: Record) -> Transition {
        match change.to {
            Some(generation) => {
                let step = change.step.clone();
                self.to(Phase::Starting(change), record, [Effect::Start { step, generation }])
            }
            None => self.back(&change),
        }
    }

    pub(super) fn check(self, change: &Change) -> Transition {
        let effect = change.to.map(|generation| Effect::CheckAlive { step: change.step.clone(), generation });
        self.to(Phase::Checking(change.clone()), Record::Started, effect)
    }

    pub(super) fn open(self, change: &Change) -> Transition {
        let record = match change.kind {
            Kind::Switch => Record::Open,
            Kind::Rollback { .. } => Record::RbOpen,
            Kind::Resume { .. } | Kind::Restart { .. } => Record::ReOpen,
        };
        let change = Change { opened: true, ..change.clone() };
        self.open_again(change, record)
    }

    pub(super) fn open_again(self, change: Change, record: Record) -> Transition {
        let effect = change.to.map(|generation| Effect::Open { step: change.step.clone(), generation });
        self.to(Phase::Opening(change), record, effect)
    }

    pub(super) fn opened(self, change: &Change) -> Transition {
        let Some(to) = change.to else { return self.back(change) };
        match &change.kind {
            Kind::Switch => {
                let ms = self.state.facts(to).map_or(0, |facts| facts.probation_ms);
                let wait = Effect::Wait { step: change.step.clone(), ms };
                let effects = [Effect::Watch { generation: to }, wait, Effect::Report];
                self.to(Phase::Probation(change.clone()), Record::Opened, effects)
            }
            Kind::Rollback { .. } => self.back(change),
            Kind::Resume { why } => {
                let why = why.clone();
                self.end(change, Outcome::Cancelled { why, live: Some(to) }).serve(to, Record::Cancelled)
            }
            Kind::Restart { .. } => self.serve(to, Record::Restarted),
        }
    }

    pub(super) fn serve(self, live: GenerationId, record: Record) -> Transition {
        self.to(Phase::Serving(live), record, [Effect::Watch { generation: live }, Effect::Report])
    }

    pub(super) fn end(mut self, change: &Change, outcome: Outcome) -> Self {
        self.state.ended = Some(Ended { op: change.step.op.clone(), outcome });
        self
    }

    /// A rollback is at its end: what was left is latched, what serves is not bad any more if a person chose it.
    fn back(mut self, change: &Change) -> Transition {
        let Kind::Rollback { why, data, bad, was_opened } = &change.kind else {
            return self.to(Phase::Empty, Record::Cancelled, []);
        };
        if let Some(digest) = bad {
            let why = why.clone().unwrap_or_else(|| "a person went back from it".to_owned());
            self.state.bad.insert(*digest, why);
        }
        let outcome = match (why, change.from, change.to) {
            (Some(why), Some(left), live) => {
                Outcome::ChangedBack { why: why.clone(), live, left, was_opened: *was_opened, data: data.clone() }
            }
            (_, _, Some(live)) => Outcome::Done { live, data: data.clone() },
            (_, _, None) => Outcome::Stuck { why: "nothing is left to serve".to_owned() },
        };
        if let (None, Some(to)) = (why, change.to) {
            self.forgive(to);
        }
        let draft = self.end(change, outcome);
        match change.to {
            Some(to) => draft.serve(to, Record::RolledBack),
            None => draft.to(Phase::Empty, Record::RolledBack, [Effect::Report]),
        }
    }

    fn forgive(&mut self, generation: GenerationId) {
        if let Some(digest) = self.state.release(generation).map(|release| release.digest) {
            self.state.bad.remove(&digest);
        }
    }

    pub(super) fn commit(mut self, change: &Change) -> Transition {
        let Some(live) = change.to else { return self.noted() };
        self.forgive(live);
        let draft = self.end(change, Outcome::Committed { live });
        draft.to(Phase::Serving(live), Record::Commit, [Effect::Report])
    }

    /// Nothing happened yet: the old generation again. Where there is none, the application is as empty as before.
    pub(super) fn cancel(self, change: &Change, why: &Trouble) -> Transition {
        // Nor is anything started on data of which some are others already.
        if matches!(change.kind, Kind::Rollback { why: Some(_), .. }) || self.state.data.torn.is_some() {
            return self.stuck(change, &why.text);
        }
        let readable =
            |id| self.state.facts(id).is_some_and(|facts| unreadable(facts, &self.state.data.schema()).is_none());
        match change.from {
            Some(from) if !readable(from) => self.stuck(change, &why.text),
            Some(from) => {
                let kind = Kind::Resume { why: why.clone() };
                let step = Step { op: change.step.op.clone(), attempt: change.step.attempt + 1 };
                let change = Change {
                    step,
                    kind,
                    to: Some(from),
                    tries_left: BACK_STARTS,
                    started: true,
                    opened: false,
                    ..change.clone()
                };
                self.start(change, Record::CancelBegin)
            }
            None if matches!(change.kind, Kind::Switch) && self.state.last_switch.is_none() => {
                let draft = self.end(change, Outcome::Cancelled { why: why.clone(), live: None });
                draft.to(Phase::Empty, Record::Cancelled, [])
            }
            None => self.stuck(change, &why.text),
        }
    }
}
