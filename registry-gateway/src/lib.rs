//! The registry that grants a tag only to what trusted keys signed.

pub mod cli;
