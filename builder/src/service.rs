//! The build service: a pushed commit becomes a signed image, a pushed version tag becomes a release.

pub mod queue;
pub mod reference;
