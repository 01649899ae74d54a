//! Turns a buildspec and a commit into a signed image, the same bytes every time.

pub mod archive;
pub mod assembly;
pub mod channel;
pub mod cli;
pub mod event;
pub mod git;
pub mod image;
pub mod inputs;
pub mod keys;
pub mod lock;
pub mod packages;
pub mod pipeline;
pub mod plan;
pub mod publish;
pub mod registry;
pub mod release;
pub mod root;
pub mod sandbox;
pub mod service;
pub mod source;
pub mod spec;
pub mod step;
pub mod store;
