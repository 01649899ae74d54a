//! Starts only verified releases and can always go back without losing data.
//!
//! ```text
//!   people, follower ─► agent ─► machine::step ─► journal (fsync) ─► Host::perform ─► outcome, as an event ─► agent
//!                       one loop   PURE            the truth          containers, data, entrance
//! ```
//!
//! Invariants:
//! * nothing decides what happens next except `machine::step` and what it calls;
//! * nothing is performed before the record that asks for it is in the journal;
//! * every effect has a name derived from its operation or generation and may be performed twice;
//! * no code path destroys data: rollbacks branch and exchange, and keep what they leave;
//! * switch and rollback need no server: what they need was made ready by Prepare.

pub mod agent;
pub mod api;
pub mod cli;
pub mod config;
pub mod container;
pub mod crash;
pub mod data;
pub mod entrance;
pub mod host;
pub mod journal;
pub mod machine;
pub mod netns;
mod policy;
pub mod probe;
pub mod process;
pub mod settings;
