//! What becomes of an event: a transition, or a refusal.
//! Pure.

use super::effect::Effect;
use super::record::Record;
use super::state::State;

/// What an event led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state afterwards.
    pub next: State,
    /// What the event is called in the journal.
    pub record: Record,
    /// What has to be performed once the record is kept.
    pub effects: Vec<Effect>,
}

/// An event that does not fit the state; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refused {
    /// The state's phase.
    pub phase: &'static str,
    /// The event.
    pub event: &'static str,
    /// Why it does not fit.
    pub why: String,
}
