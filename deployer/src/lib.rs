//! Starts only verified releases and can always go back without losing data.

pub mod cli;
