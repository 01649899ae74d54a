//! Turns a buildspec and a commit into a signed image, the same bytes every time.

pub mod cli;
pub mod service;
