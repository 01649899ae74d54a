//! The commands of this part: parse, call, report. No decision lives here.

mod data;
mod node;
mod operate;
mod run;
mod sentence;
#[cfg(test)]
mod tests;
mod verify;
mod watch;

use std::path::PathBuf;

use nebh_face::{Exit, Failure, Globals};

use crate::api::client::Agent;
use crate::container::{Attendance, attend};
use crate::settings::Settings;

/// Top-level commands of this part.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Check as a host does: who signed, what is missing, whether every byte is the right one.
    Verify(verify::Verify),
    /// The agent of this node, and its controls.
    #[command(subcommand)]
    Node(node::Command),
    /// The data of this node's applications: timelines and snapshots.
    #[command(subcommand)]
    Data(data::Command),
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
    match command {
        Command::Verify(verify) => verify::run(verify, globals).await,
        Command::Node(command) => node::run(command, globals).await,
        Command::Data(command) => data::run(command, globals).await,
        Command::Entrance { folder } => crate::entrance::serve(&folder)
            .await
            .map_err(|error| Failure::new(Exit::Failed, "the entrance cannot run").because(&error)),
        Command::Attend(attendance) => attend(&attendance)
            .await
            .map_err(|error| Failure::new(Exit::Failed, "the container cannot be attended").because(&error)),
    }
}

/// Where the node keeps its state if no settings say so.
fn state_default(globals: &Globals) -> PathBuf {
    globals.state(rustix::process::geteuid().is_root()).join("node")
}

/// The agent that the settings (or the place where it is kept without) lead to.
fn agent(globals: &Globals) -> Result<Agent, Failure> {
    let state = state_default(globals);
    match &globals.settings {
        Some(file) => Ok(Agent::new(&Settings::read(file, &state)?.socket())),
        None => Ok(Agent::new(&state.join("agent.sock"))),
    }
}
