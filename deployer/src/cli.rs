//! The commands of this part: parse, call, report. No decision lives here.

use std::path::PathBuf;

use nebh_face::{Exit, Failure, Globals};

use crate::container::{Attendance, attend};

/// Top-level commands of this part.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Own the listening sockets of this host; started by the agent, not by a person.
    #[command(hide = true)]
    Entrance {
        /// Where its control socket and its note lie.
        #[arg(long)]
        folder: PathBuf,
    },
    /// Stay beside one container until it ends; started by the agent, not by a person.
    #[command(hide = true)]
    Attend(Attendance),
}

/// Runs one command.
pub async fn run(command: Command, globals: &Globals) -> Result<(), Failure> {
    let _ = globals;
    match command {
        Command::Entrance { folder } => crate::entrance::serve(&folder)
            .await
            .map_err(|error| Failure::new(Exit::Failed, "the entrance cannot run").because(&error)),
        Command::Attend(attendance) => attend(&attendance)
            .await
            .map_err(|error| Failure::new(Exit::Failed, "the container cannot be attended").because(&error)),
    }
}
