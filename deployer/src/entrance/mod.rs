//! The entrance: the process that owns this host's listening sockets, so that nothing is refused whoever restarts.
//!
//! ```text
//!   client ──► listener ──► gate: held? wait ──► socket made in the container's namespace ──► program
//!                             ▲
//!   agent ──JSON lines, Unix socket──┘  open, route, hold, drain, release, stats
//! ```
//!
//! It is a process of its own (`nebh entrance`), started by the agent and outliving it. It decides nothing: what a
//! gate leads to, and whether it is held, is said by the agent and kept in `entrance.json`, from which an entrance
//! that was itself killed comes back as it was.
//!
//! Invariants:
//! * a listener closes only when the agent says so or the process ends;
//! * a connection is given to another program only if the first was sent no byte of an unanswered request;
//! * what waits is bounded; beyond the bound connections stay in the kernel's queue, unaccepted, not refused.

mod client;
mod forward;
mod gate;
mod keeper;
mod server;
mod state;
#[cfg(test)]
mod tests;
mod wire;

pub use client::{Entrance, EntranceError};
pub use keeper::{Keeper, start};
pub use server::serve;
pub use wire::{Answer, GateStats, Port, Request};
