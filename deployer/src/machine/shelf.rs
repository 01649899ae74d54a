//! The shelf: generations that are made ready, kept and removed, beside whatever else happens.
//! Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use nebh_oci::digest::Digest;

use super::effect::Effect;
use super::event::{Author, PrepareSource};
use super::facts::Facts;
use super::ids::{GenerationId, SnapshotName};
use super::moves::Draft;
use super::record::Record;
use super::state::{Generation, Phase, Stage, State};
use super::transition::Transition;

impl Draft<'_> {
    pub(super) fn prepare(mut self, source: &PrepareSource, by: Author) -> Result<Transition, String> {
        if self.state.generations.values().any(|known| known.stage == Stage::Preparing && known.source == *source) {
            return Err("it is being prepared already".to_owned());
        }
        if let PrepareSource::Release { release } = source
            && by == Author::Follower
        {
            if let Some(why) = self.state.bad.get(&release.digest) {
                return Err(format!("{} was rolled back on this node ({why})", release.version));
            }
            if self.state.prepared(&release.digest).is_some() {
                return Err(format!("{} is prepared already", release.version));
            }
        }
        let generation = self.state.next_generation;
        self.state.next_generation = generation.next();
        self.state.generations.insert(generation, Generation { source: source.clone(), stage: Stage::Preparing });
        let beside = self.live();
        let effect = Effect::Prepare { generation, source: source.clone(), beside };
        Ok(self.stay(Record::PrepBegin, [effect]))
    }

    pub(super) fn prepared(mut self, generation: GenerationId, facts: &Facts) -> Result<Transition, String> {
        match self.state.generations.get_mut(&generation) {
            Some(known) if known.stage == Stage::Preparing => {
                known.stage = Stage::Prepared(Box::new(facts.clone()));
                Ok(self.stay(Record::PrepDone, [Effect::Report]))
            }
            Some(_) | None => Err(format!("{generation} is not being prepared")),
        }
    }

    pub(super) fn prepare_failed(mut self, generation: GenerationId) -> Result<Transition, String> {
        match self.state.generations.get(&generation) {
            Some(known) if known.stage == Stage::Preparing => {
                self.state.generations.remove(&generation);
                Ok(self.stay(Record::PrepFailed, [Effect::Remove { generation }]))
            }
            Some(_) | None => Err(format!("{generation} is not being prepared")),
        }
    }

    pub(super) fn retire(mut self, generations: &[GenerationId]) -> Result<Transition, String> {
        let needed = needed(&self.state);
        if let Some(id) = generations.iter().find(|id| needed.contains(id)) {
            return Err(format!("{id} is needed"));
        }
        let mut effects = Vec::new();
        for id in generations {
            if let Some(known) = self.state.generations.get_mut(id)
                && let Stage::Prepared(facts) = &known.stage
            {
                known.stage = Stage::Retiring(facts.clone());
                effects.push(Effect::Remove { generation: *id });
            }
        }
        if effects.is_empty() {
            return Err("none of them is prepared".to_owned());
        }
        Ok(self.stay(Record::Retire, effects))
    }

    pub(super) fn removed(mut self, generation: GenerationId) -> Result<Transition, String> {
        match self.state.generations.get(&generation) {
            Some(known) if matches!(known.stage, Stage::Retiring(_)) => {
                self.state.generations.remove(&generation);
                Ok(self.stay(Record::Removed, []))
            }
            // What a failed Prepare left is removed without a trace.
            Some(_) | None => Err(format!("{generation} was not on its way out")),
        }
    }

    pub(super) fn published(mut self, snapshot: &SnapshotName) -> Result<Transition, String> {
        match Arc::make_mut(&mut self.state.data.snapshots).get_mut(snapshot) {
            Some(facts) if !facts.published => {
                facts.published = true;
                Ok(self.stay(Record::Published, []))
            }
            Some(_) | None => Err(format!("`{snapshot}` is published or unknown")),
        }
    }
}

/// Generations that must stay whatever retention says: in use, on their way in or out of use, and the way back.
pub fn needed(state: &State) -> BTreeSet<GenerationId> {
    let mut needed: BTreeSet<GenerationId> = BTreeSet::new();
    match &state.phase {
        Phase::Serving(live) => {
            needed.insert(*live);
        }
        Phase::NeedsOperator(stuck) => needed.extend([stuck.from, stuck.to].into_iter().flatten()),
        other => {
            needed.extend(other.change().into_iter().flat_map(|change| [change.from, change.to].into_iter().flatten()));
        }
    }
    if let Some(last) = &state.last_switch {
        needed.extend(last.old);
        needed.insert(last.new);
    }
    needed
}

/// Which prepared generations may go: beyond the `recent` newest, not needed, their release not pinned.
pub fn surplus(state: &State, recent: u32, pinned: &BTreeSet<Digest>) -> Vec<GenerationId> {
    let needed = needed(state);
    let free = state.generations.iter().rev().filter_map(|(id, known)| match &known.stage {
        Stage::Prepared(facts) if !needed.contains(id) && !pinned.contains(&facts.release.digest) => Some(*id),
        _ => None,
    });
    free.skip(usize::try_from(recent).unwrap_or(usize::MAX)).collect()
}
