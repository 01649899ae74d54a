//! `nebh node …`: the flags, and the agent itself.

use clap::Args;
use nebh_face::{Failure, Globals};

use super::operate;
use crate::machine::{AppName, DataWish, GenerationId, RollbackWish, Side};

/// Commands under `node`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Run the agent: drive this node's applications until a signal comes. What runs goes on without it.
    Run,
    /// Make a release ready on this node, without touching what serves.
    Prepare {
        #[command(flatten)]
        of: Of,
        /// Version or digest; left out: what the followed channel names.
        #[arg(long, value_name = "RELEASE")]
        to: Option<String>,
    },
    /// Go: switch to a prepared release. One that is not prepared is prepared first.
    Switch {
        #[command(flatten)]
        of: Of,
        /// Version, digest or generation; left out: what the channel names, else the newest that is prepared.
        #[arg(long, value_name = "RELEASE")]
        to: Option<String>,
        /// Do not wait for the end of the probation.
        #[arg(long)]
        no_wait: bool,
    },
    /// Accept the release on probation now.
    Commit {
        #[command(flatten)]
        of: Of,
    },
    /// Go back. Program, config and data are chosen each for itself; what is left behind is kept.
    Rollback {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        want: Want,
        /// Say what would happen, and change nothing.
        #[arg(long)]
        plan: bool,
    },
    /// How this node stands.
    Status {
        #[command(flatten)]
        of: Of,
    },
    /// What happened, record by record.
    History {
        #[command(flatten)]
        of: Of,
    },
    /// What the program of a generation wrote.
    Logs {
        #[command(flatten)]
        of: Of,
        /// Which; left out: the live one.
        generation: Option<GenerationId>,
    },
}

/// Which application.
#[derive(Debug, Args)]
pub struct Of {
    /// The application; may be left out where the node has one.
    #[arg(long, value_name = "NAME")]
    pub app: Option<AppName>,
}

/// Which program, config and data.
#[derive(Debug, Args)]
pub struct Want {
    /// This generation.
    #[arg(long, value_name = "GEN", conflicts_with_all = ["binary", "config"])]
    to: Option<GenerationId>,
    /// Program of which side of the last switch. Left out: old.
    #[arg(long, value_enum)]
    binary: Option<SideFlag>,
    /// Config of which side of the last switch. Left out: that of the program.
    #[arg(long, value_enum)]
    config: Option<SideFlag>,
    /// live, pre (from before the last switch), or a left timeline. Left out: live.
    #[arg(long, value_name = "live|pre|TIMELINE")]
    data: Option<DataWish>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum SideFlag {
    Old,
    New,
}

impl From<Want> for RollbackWish {
    fn from(want: Want) -> Self {
        let side = |flag| match flag {
            SideFlag::Old => Side::Old,
            SideFlag::New => Side::New,
        };
        Self { to: want.to, binary: want.binary.map(side), config: want.config.map(side), data: want.data }
    }
}

/// Runs one command under `node`.
pub(super) async fn run(command: Command, globals: &Globals) -> Result<(), Failure> {
    match command {
        Command::Run => super::run::serve(globals).await,
        Command::Prepare { of, to } => operate::prepare(globals, of.app, to).await,
        Command::Switch { of, to, no_wait } => operate::switch(globals, of.app, to, no_wait).await,
        Command::Commit { of } => operate::commit(globals, of.app).await,
        Command::Rollback { of, want, plan: true } => operate::plan(globals, of.app, want.into()).await,
        Command::Rollback { of, want, plan: false } => operate::rollback(globals, of.app, want.into()).await,
        Command::Status { of } => operate::status(globals, of.app).await,
        Command::History { of } => operate::history(globals, of.app).await,
        Command::Logs { of, generation } => operate::logs(globals, of.app, generation).await,
    }
}
