//! The commands of this part: parse, call, report. No decision lives here.

use nebh_face::{Failure, Globals};

pub mod key;
pub mod signer;

/// Top-level commands of this part.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Key pairs in cosign's format.
    #[command(subcommand)]
    Key(key::Command),
}

/// Runs one command.
pub async fn run(command: Command, globals: &Globals) -> Result<(), Failure> {
    match command {
        Command::Key(command) => key::run(&command, globals),
    }
}
