//! What a person types and reads. Every part speaks through this crate, so that all of them speak alike.
//!
//! ```text
//!   YAML text ─► document ─► a struct, or Failure{file:line:column, nearest name}
//!   any error ─► Failure{what, why, next} + Exit ─► stderr, exit code
//!   result    ─► Out ─► stdout: text, or one JSON object a line
//! ```
//!
//! Invariants:
//! * nothing here opens a file, a socket or a clock (but `crash`, in debug builds, for tests); `Out` writes to the two
//!   standard streams and to nothing else;
//! * stdout carries results only, everything else goes to stderr;
//! * every failure has an exit code of the published table (`Exit`).

pub mod crash;
pub mod document;
pub mod failure;
pub mod out;

pub use failure::{Exit, Failure};
pub use out::{Globals, Out, OutputMode};
