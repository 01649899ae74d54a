//! The first event of every life of the agent: the journal says what was wanted, the host says what is there.
//! Pure.
//!
//! | last durable record | what is done |
//! |---|---|
//! | `sw-begin` | old still runs: cancelled. Old stopped a moment ago: forward from the hold. Long ago: cancelled |
//! | `start-point` | new runs and a start is left: probed on. Else back, with the data from before |
//! | `open` | new runs: opened, probation again. Node was booted and a start is left: started. Else back, new data |
//! | `rb-begin`, `rb-snap` | everything from the hold again; names find what is done |
//! | `rb-start-point`, `rb-open` | finished; the data are not touched again |
//! | `needs-op` | held |

use super::effect::Effect;
use super::event::{Observation, Trouble, TroubleKind};
use super::fall::next;
use super::ids::{GenerationId, OpId};
use super::moves::Draft;
use super::record::Record;
use super::state::{Change, Kind, Phase, Stage};
use super::transition::Transition;

/// How long after its beginning an interrupted switch is still carried forward, in seconds. Callers wait meanwhile.
const FORWARD_SECONDS_MAX: i64 = 30;

impl Draft<'_> {
    pub(super) fn recover(mut self, op: &OpId, found: &Observation) -> Transition {
        self.shelf_again();
        let runs = |generation: Option<GenerationId>| generation.is_some_and(|id| found.running == [id]);
        match self.before().phase.clone() {
            Phase::Empty => self.to(Phase::Empty, Record::Recovered, []),
            Phase::NeedsOperator(stuck) => {
                let hold = Effect::Hold { step: stuck.step.clone(), ahead: None };
                self.to(Phase::NeedsOperator(stuck), Record::Recovered, [hold])
            }
            Phase::Serving(live) => {
                let kind = Kind::Restart { why: "ended while the agent was away".to_owned() };
                let change = Change {
                    step: super::ids::Step { op: op.clone(), attempt: 1 },
                    kind,
                    from: Some(live),
                    to: Some(live),
                    begun: self.at,
                    tries_left: 1,
                    started: true,
                    opened: true,
                };
                if runs(Some(live)) {
                    self.open_again(change, Record::Recovered)
                } else {
                    self.hold(change, Record::Recovered)
                }
            }
            Phase::Holding(change) | Phase::Stopping(change) | Phase::Snapshotting(change) if !change.started => {
                self.before_start_point(&change, &runs)
            }
            Phase::Exchanging(change) => {
                self.state.data.torn = self.incoming(&change).map(|branch| branch.snapshot);
                self.hold(again(&change), Record::Recovered)
            }
            Phase::Opening(change) | Phase::Probation(change) if runs(change.to) => {
                self.open_again(again(&change), Record::Recovered)
            }
            Phase::Holding(change)
            | Phase::Stopping(change)
            | Phase::Snapshotting(change)
            | Phase::Starting(change)
            | Phase::Checking(change)
            | Phase::Opening(change)
            | Phase::Probation(change)
            | Phase::BackingOff(change) => self.after_start_point(&change, runs(change.to), found.same_boot),
        }
    }

    /// Prepare and Remove were interrupted with the agent; manifests may wait.
    fn shelf_again(&mut self) {
        let beside = self.live();
        for (id, known) in &self.before().generations {
            match &known.stage {
                Stage::Preparing => {
                    let effect = Effect::Prepare { generation: *id, source: known.source.clone(), beside };
                    self.effects.push(effect);
                }
                Stage::Retiring(_) => self.effects.push(Effect::Remove { generation: *id }),
                Stage::Prepared(_) => {}
            }
        }
        self.effects.push(Effect::Report);
    }

    fn before_start_point(self, change: &Change, runs: &dyn Fn(Option<GenerationId>) -> bool) -> Transition {
        let age = self.at.as_second().saturating_sub(change.begun.as_second());
        let fresh = (0..FORWARD_SECONDS_MAX).contains(&age);
        match &change.kind {
            Kind::Switch if runs(change.from) || !fresh => {
                let text = "the agent was restarted before anything had happened";
                self.cancel(change, &Trouble::new(TroubleKind::Failed, text))
            }
            Kind::Switch | Kind::Rollback { .. } | Kind::Resume { .. } | Kind::Restart { .. } => {
                self.hold(again(change), Record::Recovered)
            }
        }
    }

    fn after_start_point(self, change: &Change, runs: bool, same_boot: bool) -> Transition {
        let mut again = again(change);
        match &change.kind {
            Kind::Switch => {
                // What died with the whole node may be innocent; what died by itself is not.
                let innocent = runs || (change.opened && !same_boot);
                if innocent && change.tries_left > 0 {
                    again.tries_left -= 1;
                    return if runs {
                        self.start(again, Record::Recovered)
                    } else {
                        self.hold(again, Record::Recovered)
                    };
                }
                let why =
                    if same_boot { "ended while the agent was away" } else { "was running when the node went down" };
                self.fall_back(change, why)
            }
            Kind::Rollback { .. } | Kind::Resume { .. } | Kind::Restart { .. } if runs => {
                self.start(again, Record::Recovered)
            }
            Kind::Rollback { .. } | Kind::Resume { .. } | Kind::Restart { .. } => self.hold(again, Record::Recovered),
        }
    }
}

fn again(change: &Change) -> Change {
    Change { step: next(&change.step), ..change.clone() }
}
