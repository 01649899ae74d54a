//! The commands of this part: parse, call, report. No decision lives here.

use nebh_face::{Failure, Globals};

/// Top-level commands of this part.
#[derive(Debug, clap::Subcommand)]
pub enum Command {}

/// Runs one command.
pub async fn run(command: Command, globals: &Globals) -> Result<(), Failure> {
    let _ = globals;
    match command {}
}
