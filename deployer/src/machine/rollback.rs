//! Where a rollback leads: the matrix of program, config and data, as one function that `--plan` and `step` share.
//! Pure.
//!
//! "Old", "new" and "pre" are those of the last switch that came as far as its start-point, also after it was rolled
//! back by itself: `rollback --data pre` then keeps the old program that serves already and changes the data alone.

use super::data::unreadable;
use super::ids::GenerationId;
use super::state::{DataMove, Phase, State};
use super::wish::{DataWish, RollbackWish, Side};

/// What a rollback would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// This generation with these data.
    Ready {
        /// What will serve.
        to: GenerationId,
        /// What happens to the data.
        data: DataMove,
    },
    /// The pair of program and config is not on this disk yet: prepare it, then ask again with `to`.
    Mix {
        /// Whose program.
        binary: GenerationId,
        /// Whose config.
        config: GenerationId,
    },
}

/// Decides where this wish leads, or says why it leads nowhere.
pub fn plan(state: &State, wish: &RollbackWish) -> Result<Plan, String> {
    let to = match target(state, wish)? {
        Plan::Ready { to, .. } => to,
        mix @ Plan::Mix { .. } => return Ok(mix),
    };
    let facts = state.facts(to).ok_or_else(|| format!("generation {to} is not prepared on this node"))?;
    let data = data(state, wish.data.unwrap_or(DataWish::Live))?;
    let (branched, schema) = match &data {
        DataMove::Keep => (None, state.data.schema()),
        DataMove::Branch { snapshot, .. } => {
            let facts = state.data.snapshots.get(snapshot);
            (Some(snapshot), facts.map(|facts| facts.schema.clone()).unwrap_or_default())
        }
    };
    if let Some(why) = state.data.torn_for(branched) {
        return Err(why);
    }
    if let Some(why) = unreadable(facts, &schema) {
        return Err(why);
    }
    if data == DataMove::Keep && serves(state) == Some(to) {
        return Err(format!("{} ({to}) serves with the live data already", facts.release.version));
    }
    Ok(Plan::Ready { to, data })
}

/// The generation in use, however far its start is.
fn serves(state: &State) -> Option<GenerationId> {
    match &state.phase {
        Phase::Serving(live) => Some(*live),
        Phase::Probation(change) => change.to,
        _ => None,
    }
}

fn target(state: &State, wish: &RollbackWish) -> Result<Plan, String> {
    let ready = |to| Ok(Plan::Ready { to, data: DataMove::Keep });
    if let Some(to) = wish.to {
        return ready(to);
    }
    let Some(last) = &state.last_switch else {
        return Err("nothing was switched on this node yet, so there is no way back; name one with --to".to_owned());
    };
    let of = |side| match side {
        Side::New => Ok(last.new),
        Side::Old => last.old.ok_or("the last switch was the first, so there is no old release".to_owned()),
    };
    let side = wish.binary.unwrap_or(Side::Old);
    let binary = of(side)?;
    let config = of(wish.config.unwrap_or(side))?;
    if binary == config {
        return ready(binary);
    }
    let (Some(program), Some(settings)) = (state.facts(binary), state.facts(config)) else {
        return Err(format!("{binary} and {config} are not both prepared on this node"));
    };
    let fits = |id: &GenerationId| {
        let facts = state.facts(*id);
        facts.is_some_and(|facts| facts.release.digest == program.release.digest && facts.config == settings.config)
    };
    match state.generations.keys().rev().copied().find(fits) {
        Some(to) => ready(to),
        None => Ok(Plan::Mix { binary, config }),
    }
}

fn data(state: &State, wish: DataWish) -> Result<DataMove, String> {
    let snapshot = match wish {
        DataWish::Live => return Ok(DataMove::Keep),
        DataWish::Timeline(id) if id == state.data.current => return Ok(DataMove::Keep),
        DataWish::Pre => {
            let last = state.last_switch.as_ref();
            last.map(|last| last.pre.clone()).ok_or("there was no switch, so there is no snapshot `pre`")?
        }
        DataWish::Timeline(id) => {
            let line = state.data.timelines.get(&id).ok_or_else(|| format!("there is no timeline {id}"))?;
            line.last.clone().ok_or_else(|| format!("timeline {id} was never cut"))?
        }
    };
    let timeline = state.data.branch_of(&snapshot);
    Ok(DataMove::Branch { snapshot, timeline })
}

/// What a person can do now, as commands with their meaning; the most careful first.
pub fn choices(state: &State) -> Vec<(String, String)> {
    let wishes = [
        (Side::Old, DataWish::Live, "nebh node rollback"),
        (Side::Old, DataWish::Pre, "nebh node rollback --data pre"),
        (Side::New, DataWish::Live, "nebh node rollback --binary new"),
        (Side::New, DataWish::Pre, "nebh node rollback --binary new --data pre"),
    ];
    let possible = wishes.into_iter().filter_map(|(side, data, command)| {
        let wish = RollbackWish { binary: Some(side), data: Some(data), ..RollbackWish::default() };
        match plan(state, &wish) {
            Ok(Plan::Ready { to, data }) => {
                let served = match data {
                    DataMove::Keep => format!("the live data ({})", state.data.current),
                    DataMove::Branch { .. } => "the data from before the switch".to_owned(),
                };
                Some((command.to_owned(), format!("{} with {served}", state.version(to))))
            }
            Ok(Plan::Mix { .. }) | Err(_) => None,
        }
    });
    possible.collect()
}
