//! Failures, and the one rule that decides what happens to the data: **was the entrance opened to the new version?**
//! Pure.
//!
//! Not opened: nobody outside was answered, so the old program gets the data from before (`pre`). Opened: something
//! may have been acknowledged, so the old program gets the new data, if it can read them; if not, nothing is done
//! without a person. What is left behind is cut first, always.

use super::data::unreadable;
use super::effect::Effect;
use super::event::Trouble;
use super::ids::{GenerationId, OpId, Step};
use super::moves::{BACK_STARTS, Draft};
use super::record::Record;
use super::rollback::{Plan, plan};
use super::state::{Change, DataMove, Kind, Outcome, Phase, Stuck};
use super::transition::Transition;
use super::wish::RollbackWish;

/// A committed generation that lived shorter than this waits before its next start.
const SETTLED_MS: u64 = 10_000;
/// First wait; doubles with every try.
const BACK_OFF_MS: u64 = 500;
/// Longest wait between two starts of a committed generation. There is no last try: nothing else could help.
const BACK_OFF_MS_MAX: u64 = 30_000;

impl Draft<'_> {
    pub(super) fn hold_failed(self, change: &Change, why: &Trouble) -> Transition {
        match change.kind {
            // The old program was not touched yet.
            Kind::Switch => self.cancel(change, why),
            // The program at the other end is dead or unwanted: going on can only help.
            Kind::Rollback { .. } | Kind::Resume { .. } | Kind::Restart { .. } => self.stop(change, Record::Held),
        }
    }

    /// Start, check or open of the target failed.
    pub(super) fn start_failed(self, change: &Change, what: &str, why: &Trouble) -> Transition {
        match &change.kind {
            Kind::Switch => self.fall_back(change, &format!("{what}: {}", why.text)),
            Kind::Rollback { .. } | Kind::Resume { .. } if change.tries_left > 1 => {
                let again = Change { step: next(&change.step), tries_left: change.tries_left - 1, ..change.clone() };
                self.stop(&again, Record::BackOff)
            }
            Kind::Rollback { .. } | Kind::Resume { .. } => {
                let version = change.to.map(|to| self.state.version(to)).unwrap_or_default();
                self.stuck(change, &format!("{version} {what} either: {}", why.text))
            }
            Kind::Restart { .. } => {
                let waits = BACK_OFF_MS << change.step.attempt.min(10);
                let change = Change { step: next(&change.step), ..change.clone() };
                self.back_off(change, waits.min(BACK_OFF_MS_MAX), Record::BackOff)
            }
        }
    }

    fn back_off(self, change: Change, ms: u64, record: Record) -> Transition {
        let step = change.step.clone();
        let hold = Effect::Hold { step: step.clone(), ahead: None };
        self.to(Phase::BackingOff(change), record, [hold, Effect::Wait { step, ms }])
    }

    pub(super) fn try_again(self, change: &Change) -> Transition {
        self.stop(change, Record::BackOff)
    }

    /// The committed generation died: it is started again, at once if it had lived well.
    pub(super) fn restart(self, op: &OpId, live: GenerationId, why: &str, after_ms: u64) -> Transition {
        let kind = Kind::Restart { why: why.to_owned() };
        if after_ms >= SETTLED_MS {
            return self.begin(op, kind, Some(live), Some(live), 1, Record::Lost);
        }
        let change = Change {
            step: Step { op: op.clone(), attempt: 1 },
            kind,
            from: Some(live),
            to: Some(live),
            begun: self.at,
            tries_left: 1,
            started: true,
            opened: false,
        };
        self.back_off(change, BACK_OFF_MS, Record::Lost)
    }

    /// The new generation failed after its start-point: back by itself, with the data that the rule says.
    pub(super) fn fall_back(self, change: &Change, why: &str) -> Transition {
        let Some(failed) = change.to else { return self.stuck(change, why) };
        let version = self.state.version(failed);
        let data = if change.opened {
            let Some(old) = change.from.and_then(|old| self.state.facts(old)) else {
                return self.stuck(change, &format!("{version} {why}; there is no older release to go back to"));
            };
            if let Some(cannot) = unreadable(old, &self.state.data.schema()) {
                return self.stuck(change, &format!("{version} {why}; {cannot}"));
            }
            DataMove::Keep
        } else {
            let snapshot = change.snapshot();
            let timeline = self.state.data.branch_of(&snapshot);
            DataMove::Branch { snapshot, timeline }
        };
        let kind = Kind::Rollback {
            why: Some(why.to_owned()),
            data,
            bad: self.state.release(failed).map(|release| release.digest),
            was_opened: change.opened,
        };
        let back = Change {
            step: next(&change.step),
            kind,
            from: Some(failed),
            to: change.from,
            begun: self.at,
            tries_left: BACK_STARTS,
            started: false,
            opened: false,
        };
        self.hold(back, Record::RbBegin)
    }

    /// A person wants another pair. Everything it needs is checked here, before anything happens.
    pub(super) fn rollback_asked(self, op: &OpId, want: &RollbackWish) -> Result<Transition, String> {
        let (to, data) = match plan(self.before(), want)? {
            Plan::Ready { to, data } => (to, data),
            Plan::Mix { binary, config } => {
                return Err(format!("the program of {binary} with the config of {config} is not prepared"));
            }
        };
        let from = self.live();
        let left = self.state.last_switch.as_ref().map(|last| last.new).filter(|new| Some(*new) == from);
        let digest = |id| self.state.release(id).map(|release| release.digest);
        let bad = left.and_then(digest).filter(|left| digest(to) != Some(*left));
        let was_opened = from.is_some();
        let kind = Kind::Rollback { why: None, data, bad, was_opened };
        Ok(self.begin(op, kind, from, Some(to), BACK_STARTS, Record::RbBegin))
    }

    /// Nothing shows half of another timeline, or a person has to see to it that it shows the whole.
    pub(super) fn exchange_failed(mut self, change: &Change, why: &Trouble, torn: bool) -> Transition {
        self.state.data.torn = self.incoming(change).filter(|_| torn).map(|branch| branch.snapshot);
        self.stuck(change, &why.text)
    }

    /// Nothing more happens without a person. The entrance holds: callers wait rather than get wrong answers.
    pub(super) fn stuck(self, change: &Change, why: &str) -> Transition {
        let step = change.step.clone();
        let stuck = Stuck { step: step.clone(), why: why.to_owned(), from: change.from, to: change.to };
        let hold = Effect::Hold { step, ahead: None };
        let draft = self.end(change, Outcome::Stuck { why: why.to_owned() });
        draft.to(Phase::NeedsOperator(stuck), Record::NeedsOp, [hold, Effect::Report])
    }

    /// The entrance could not be held: nobody may get through while a person is waited for, so it is tried again.
    pub(super) fn hold_later(self, stuck: &Stuck) -> Transition {
        let step = stuck.step.clone();
        self.stay(Record::BackOff, [Effect::Wait { step, ms: BACK_OFF_MS_MAX }])
    }

    pub(super) fn hold_now(self, stuck: &Stuck) -> Transition {
        let step = stuck.step.clone();
        self.stay(Record::BackOff, [Effect::Hold { step, ahead: None }])
    }
}

/// The next try of the same operation.
pub(super) fn next(step: &Step) -> Step {
    Step { op: step.op.clone(), attempt: step.attempt + 1 }
}
