//! Turns a buildspec and a commit into a signed image, the same bytes every time.

pub mod archive;
pub mod assembly;
pub mod channel;
pub mod cli;
pub mod event;
pub mod git;
pub mod keys;
pub mod lock;
pub mod publish;
pub mod registry;
pub mod release;
pub mod root;
pub mod service;
pub mod spec;
pub mod store;
