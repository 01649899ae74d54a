//! The commands of this part: parse, call, report. No decision lives here.

use nebh_face::{Failure, Globals};

pub mod build;
pub mod channel;
mod interrupt;
pub mod key;
pub mod lock;
mod progress;
pub mod rebuild;
pub mod release;
pub mod service;
pub mod sign;
pub mod signer;

/// Top-level commands of this part.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Resolve every input of a buildspec into its lock.
    Lock(lock::Args),
    /// Build the image of a commit.
    Build(build::Args),
    /// Build an image again from its provenance, and compare.
    Rebuild(rebuild::Args),
    /// Add a signature, in both forms, to something that is pushed already.
    Sign(sign::Args),
    /// Key pairs in cosign's format.
    #[command(subcommand)]
    Key(key::Command),
    /// Releases: an image with its config and its demands on data, signed as one.
    #[command(subcommand)]
    Release(release::Command),
    /// Channels: the signed head that hosts follow.
    #[command(subcommand)]
    Channel(channel::Command),
    /// The build service.
    #[command(subcommand)]
    Builder(service::Command),
}

/// Runs one command.
pub async fn run(command: Command, globals: &Globals) -> Result<(), Failure> {
    match command {
        Command::Lock(args) => lock::run(&args, globals).await,
        Command::Build(args) => Box::pin(build::run(&args, globals)).await,
        Command::Rebuild(args) => rebuild::run(&args, globals).await,
        Command::Sign(args) => sign::run(&args, globals).await,
        Command::Key(command) => key::run(&command, globals),
        Command::Release(command) => release::run(command, globals).await,
        Command::Channel(command) => channel::run(command, globals).await,
        Command::Builder(command) => service::run(command, globals).await,
    }
}
