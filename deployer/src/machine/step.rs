//! `step`: the whole life of one application in one match. Arms decide nothing by themselves: each names one move.
//! Pure.
//!
//! A late or duplicate outcome is refused by name and changes nothing; so is a wish that does not fit. What the
//! moves do is in `moves` (the row of rooms), `fall` (failures and the data rule), `shelf` (generations on the
//! disk) and `recover` (the first event of every life).

use jiff::Timestamp;

use super::event::{Author, Event};
use super::ids::OpId;
use super::moves::Draft;
use super::record::Record;
use super::state::{Kind, Phase, State};
use super::transition::{Refused, Transition};

/// Decides what follows from one event. The same arguments give the same transition.
pub fn step(state: &State, event: &Event, at: Timestamp) -> Result<Transition, Refused> {
    use {Event as On, Phase as In};
    let draft = Draft::new(state, at);
    let moved = match (&state.phase, event) {
        // Beside the row: generations on the disk, in any phase.
        (_, On::PrepareAsked { source, by }) => draft.prepare(source, *by),
        (_, On::Prepared { generation, facts }) => draft.prepared(*generation, facts),
        (_, On::PrepareFailed { generation, .. }) => draft.prepare_failed(*generation),
        (_, On::RetireAsked { generations }) => draft.retire(generations),
        (_, On::Removed { generation }) => draft.removed(*generation),
        (_, On::RemoveFailed { generation, .. }) => {
            Err(format!("{generation} is still there; removing it is tried again at the next start"))
        }
        (_, On::Published { snapshot }) => draft.published(snapshot),
        (_, On::Restarted { op, found }) => Ok(draft.recover(op, found)),

        // Into the row.
        (In::Empty | In::Serving(_) | In::NeedsOperator(_) | In::BackingOff(_), On::SwitchAsked { op, to, by }) => {
            draft.switch(op, *to, *by)
        }
        (
            In::Empty | In::Serving(_) | In::Probation(_) | In::NeedsOperator(_) | In::BackingOff(_),
            On::RollbackAsked { op, want },
        ) => draft.rollback_asked(op, want),
        (In::Serving(live), On::Lost { op, generation, why, after_ms }) if live == generation => {
            Ok(draft.restart(op, *live, &why.to_string(), *after_ms))
        }

        // Late outcomes: of another try than the one on its way.
        (phase, outcome) if is_late(phase, outcome) => Err("it belongs to an earlier try".to_owned()),

        // Along the row.
        (In::Holding(change), On::Held { .. }) => Ok(draft.stop(change, Record::Held)),
        (In::Holding(change), On::HoldFailed { why, .. }) => Ok(draft.hold_failed(change, why)),
        (In::Stopping(change), On::Stopped { .. }) => Ok(draft.stopped(change)),
        (In::Snapshotting(change), On::Snapshotted { .. }) => Ok(draft.snapshotted(change)),
        (In::Holding(change), On::AheadFailed { why, .. })
        | (In::Snapshotting(change), On::SnapshotFailed { why, .. }) => Ok(draft.cancel(change, why)),
        (In::Exchanging(change), On::Exchanged { .. }) => Ok(draft.exchanged(change)),
        (In::Stopping(change), On::StopFailed { why, .. }) => Ok(draft.stuck(change, &why.text)),
        (In::Exchanging(change), On::ExchangeFailed { why, torn, .. }) => Ok(draft.exchange_failed(change, why, *torn)),
        (In::Starting(change), On::Started { .. }) => Ok(draft.check(change)),
        (In::Starting(change), On::StartFailed { why, .. }) => Ok(draft.start_failed(change, "did not start", why)),
        (In::Checking(change), On::AliveFailed { why, .. }) => {
            Ok(draft.start_failed(change, "did not come alive", why))
        }
        (In::Opening(change), On::OpenFailed { why, .. }) => Ok(draft.start_failed(change, "could not be opened", why)),
        (In::Checking(change), On::Alive { .. }) => Ok(draft.open(change)),
        (In::Opening(change), On::Opened { .. }) => Ok(draft.opened(change)),
        (In::Probation(change), On::Waited { .. } | On::CommitAsked) => Ok(draft.commit(change)),
        (In::Probation(change), On::Lost { generation, why, after_ms, .. }) if change.to == Some(*generation) => {
            Ok(draft.fall_back(change, &lost(why, *after_ms)))
        }
        (In::BackingOff(change), On::Waited { .. }) => Ok(draft.try_again(change)),
        (In::NeedsOperator(stuck), On::HoldFailed { .. }) => Ok(draft.hold_later(stuck)),
        (In::NeedsOperator(stuck), On::Waited { .. }) => Ok(draft.hold_now(stuck)),
        (In::BackingOff(_), On::Held { .. } | On::HoldFailed { .. }) | (In::NeedsOperator(_), On::Held { .. }) => {
            Ok(draft.noted())
        }
        (phase, event) => Err(misfit(state, phase, event)),
    };
    moved.map_err(|why| Refused { phase: state.phase.name(), event: event.name(), why })
}

/// How a loss is told: `died of SIGSEGV after 4.2 s`.
fn lost(why: &super::event::Loss, after_ms: u64) -> String {
    format!("{why} after {}.{} s", after_ms / 1000, after_ms % 1000 / 100)
}

fn is_late(phase: &Phase, event: &Event) -> bool {
    let Some(of) = event.step() else { return false };
    let now = match phase {
        Phase::NeedsOperator(stuck) => Some(&stuck.step),
        other => other.change().map(|change| &change.step),
    };
    now != Some(of)
}

fn misfit(state: &State, phase: &Phase, event: &Event) -> String {
    match (event, phase.change()) {
        (Event::SwitchAsked { .. } | Event::RollbackAsked { .. }, Some(change)) => {
            format!("a {} is on its way ({}, {})", change.kind.name(), change.step.op, phase.name())
        }
        (Event::CommitAsked, _) => match phase.serving() {
            Some(live) => format!("{} is committed already", state.version(live)),
            None => "nothing is on probation".to_owned(),
        },
        (Event::Lost { generation, .. }, _) => format!("{generation} is not the live generation"),
        _ => format!("`{}` means nothing while {}", event.name(), phase.name()),
    }
}

impl Draft<'_> {
    /// "Go!"
    fn switch(self, op: &OpId, to: super::ids::GenerationId, by: Author) -> Result<Transition, String> {
        let state = self.before();
        let facts = state.facts(to).ok_or_else(|| format!("generation {to} is not prepared on this node"))?;
        let version = &facts.release.version;
        if state.phase.serving() == Some(to) {
            return Err(format!("{version} ({to}) serves already"));
        }
        if by == Author::Follower && matches!(state.phase, Phase::NeedsOperator(_)) {
            return Err("a person is waited for; until then nothing starts by itself".to_owned());
        }
        if by == Author::Follower
            && let Some(why) = state.bad.get(&facts.release.digest)
        {
            return Err(format!("{version} was rolled back on this node ({why}); only a person may try it again"));
        }
        if let Some(why) = state.data.torn_for(None) {
            return Err(why);
        }
        if let Some(why) = super::data::unreadable(facts, &state.data.schema()) {
            return Err(why);
        }
        let from = self.live();
        Ok(self.begin(op, Kind::Switch, from, Some(to), super::moves::SWITCH_STARTS, Record::SwBegin))
    }
}
