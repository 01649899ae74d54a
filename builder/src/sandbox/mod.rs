//! Where steps run: a container with a read-only root, no network, no capabilities, fixed names, paths, user and
//! environment, and bounds on memory, processes and time.
//!
//! ```text
//!   Job ─► BundleSpec ─► runc | crun ─► lines ─► events
//!                                   └─► exit  ─► done, or an error with the last lines
//! ```
//!
//! What a step can see is named by `plan::SANDBOX`; a change of it that a compiler could notice is a new name there.

mod job;
mod layered;
mod run;

pub use job::{Job, environment};
pub use layered::Layered;
pub use run::{Sandbox, SandboxError};

#[cfg(test)]
mod tests;
