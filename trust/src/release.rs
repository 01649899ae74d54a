//! The release: an image index that keeps image, config snapshot and release statement together. Pure.
//!
//! ```text
//!   release.yaml ─► ReleaseSpec ─┐
//!   config files ─► ConfigSnapshot ─┼─► assemble ─► ReleaseParts ─► artifacts: config, statement, index (in push order)
//!   images (descriptors) ────────┘
//!                                      read_release ◄─ index as served;  ReleaseStatement::parse ◄─ its statement
//! ```
//!
//! Children that are images come first, with their platform, so that any OCI tool that pulls the release's tag runs
//! the image. The others carry the platform `unknown/unknown`, which docker, containerd and podman pass by.

mod index;
mod names;
mod parts;
mod probe;
mod snapshot;
mod spec;
mod statement;
#[cfg(test)]
mod tests;
mod units;

pub use index::{COUNTER_ANNOTATION, ReleaseError, ReleaseIndex, read_release};
pub use names::{AbsolutePath, CommitId, DatasetName, NounError, RelativePath};
pub use parts::{ReleaseParts, assemble};
pub use probe::{Alive, Live, Probe};
pub use snapshot::{ConfigFile, ConfigLayer, ConfigSnapshot, SnapshotError};
pub use spec::{ConfigSpec, DataClass, DatasetSpec, Limits, Network, ReleaseSpec, RunSpec, SchemaWindow, Stop, Switch};
pub use statement::{ReleaseIdentity, ReleaseStatement, StatementConfig, StatementImage};
pub use units::{ByteSize, Cpus, Signal, Span, UnitError};
