//! Turns a buildspec and a commit into a signed image, the same bytes every time.

pub mod archive;
pub mod cli;
pub mod git;
pub mod keys;
pub mod lock;
pub mod service;
pub mod spec;
