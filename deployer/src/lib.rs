//! Starts only verified releases and can always go back without losing data.

pub mod cli;
pub mod data;
pub mod entrance;
pub mod netns;
