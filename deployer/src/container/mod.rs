//! Containers of released programs. Only the agent starts them; nothing restarts them by itself.
//!
//! ```text
//!   agent ─► `nebh attend` (one per container, outlives the agent)
//!                └─ runc create ─► the container's first process, a child of `attend` once runc has ended
//!   agent ─► runc start                                │ ends
//!   agent ◄── exit.json ◄── attend ◄───────────────────┘ by code or by signal
//! ```
//!
//! One *run* is one container of a generation: created once (in Prepare, as a spare), started at most once. Its folder
//! tells everything to an agent that comes back:
//!
//! | file | says |
//! |---|---|
//! | `bundle/config.json` | what is run |
//! | `created.json` | the first process, by number and start |
//! | `started` | the agent was about to start it: from here on it may have written data |
//! | `exit.json` | how it ended |
//! | `stdout.log`, `stderr.log` (of the generation) | what it said |
//!
//! Invariants:
//! * the program's output goes to files, so it never depends on an agent that reads;
//! * `started` is there before the program is;
//! * a run that was created before its data were exchanged is never started.

mod attend;
mod plan;
mod record;
mod run;
#[cfg(test)]
pub(crate) mod tests;
mod user;

pub use attend::{Attendance, attend};
pub use plan::{Planned, plan, with_data};
pub use record::Exit;
pub use run::{Run, RunError, Runner};
pub use user::{User, UserError, resolve};
