//! The one program: parse, dispatch, exit code; nothing else.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use nebh_face::{Exit, Failure, Globals, Out};

/// Containers fit for serious production: hermetic builds, a verifying registry gateway, releases that can always go back.
#[derive(Debug, Parser)]
#[command(name = "nebh", version, infer_subcommands = false)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "builder")]
    #[command(flatten)]
    Builder(nebh_builder::cli::Command),
    #[cfg(feature = "gateway")]
    #[command(flatten)]
    Gateway(nebh_gateway::cli::Command),
    #[cfg(feature = "deployer")]
    #[command(flatten)]
    Deployer(nebh_deployer::cli::Command),
    /// Print the completion script of a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = Out::new(&cli.globals);
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            out.failure(&failure);
            ExitCode::from(failure.exit.code())
        }
    }
}

fn start(cli: Cli) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("NEBH_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(if cli.globals.verbose { "info" } else { "warn" }));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, "cannot start the async runtime").because(&error))?;
    runtime.block_on(dispatch(cli.command, &cli.globals))
}

async fn dispatch(command: Command, globals: &Globals) -> Result<(), Failure> {
    match command {
        #[cfg(feature = "builder")]
        Command::Builder(command) => nebh_builder::cli::run(command, globals).await,
        #[cfg(feature = "gateway")]
        Command::Gateway(command) => nebh_gateway::cli::run(command, globals).await,
        #[cfg(feature = "deployer")]
        Command::Deployer(command) => nebh_deployer::cli::run(command, globals).await,
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "nebh", &mut std::io::stdout());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_commands_and_flags_are_unambiguous() {
        Cli::command().debug_assert();
    }
}
