//! The whole life of one application on one node, as a pure function: `step(state, event) -> Transition`.
//! Pure.
//!
//! Read in this order: [`ids`] (nouns), [`state`] (rooms), [`event`] (what comes in), [`effect`] (what goes out), then
//! `step`. The golden file `tests/table.txt` prints the whole table of states and events.

pub mod data;
pub mod effect;
pub mod event;
pub mod facts;
mod fall;
pub mod ids;
mod moves;
pub mod record;
mod recover;
pub mod rollback;
pub mod shelf;
pub mod state;
pub mod step;
#[cfg(test)]
mod tests;
mod transition;
pub mod wish;

pub use data::{Data, SnapshotFacts, Stamps, Timeline, TimelineStatus, unreadable};
pub use effect::{Ahead, Branch, Effect};
pub use event::{Author, Event, Loss, Observation, PrepareSource, Trouble, TroubleKind, Window};
pub use facts::{DatasetClass, DatasetFacts, Facts, SchemaWindow};
pub use ids::{
    AppName, DatasetName, GenerationId, GroupName, NodeName, NotAName, OpId, ReleaseRef, SnapshotKind, SnapshotName,
    Step, TimelineId, Version,
};
pub use record::Record;
pub use rollback::{Plan, choices, plan};
pub use state::{Change, DataMove, Ended, Generation, Kind, LastSwitch, Outcome, Phase, Stage, State, Stuck};
pub use step::step;
pub use transition::{Refused, Transition};
pub use wish::{DataWish, RollbackWish, Side};

/// A point in time in its RFC 3339 form.
pub(crate) mod stamp {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(at)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}
