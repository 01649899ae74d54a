//! `nebh data …`: timelines as a person sees them.

use nebh_face::{Failure, Globals, Out};
use serde::Serialize;

use super::node::Of;
use super::{agent, operate};
use crate::machine::{AppName, SnapshotName, Stamps, State, TimelineId, TimelineStatus};

/// Commands under `data`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the timelines of an application's data.
    List {
        #[command(flatten)]
        of: Of,
    },
    /// Serve with a left timeline again. What is live now becomes a left timeline in turn.
    Adopt {
        #[command(flatten)]
        of: Of,
        /// Which, like `tl2`.
        timeline: TimelineId,
    },
}

#[derive(Serialize)]
struct Line<'a> {
    version: u32,
    kind: &'static str,
    app: &'a AppName,
    timeline: TimelineId,
    status: TimelineStatus,
    parent: Option<TimelineId>,
    branched_from: Option<&'a SnapshotName>,
    begun: String,
    written_by: Option<String>,
    schema: &'a Stamps,
    last_snapshot: Option<&'a SnapshotName>,
}

/// Runs one command under `data`.
pub(super) async fn run(command: Command, globals: &Globals) -> Result<(), Failure> {
    match command {
        Command::List { of } => list(globals, of.app).await,
        Command::Adopt { of, timeline } => operate::adopt(globals, of.app, timeline).await,
    }
}

async fn list(globals: &Globals, app: Option<AppName>) -> Result<(), Failure> {
    let status = operate::one(&agent(globals)?, app).await?;
    let out = Out::new(globals);
    for line in lines(&status.app, &status.state) {
        out.result(&text(&line), &line, &line.timeline.to_string());
    }
    Ok(())
}

fn lines<'a>(app: &'a AppName, state: &'a State) -> Vec<Line<'a>> {
    let of = |(id, line): (&TimelineId, &'a crate::machine::Timeline)| Line {
        version: 1,
        kind: "timeline",
        app,
        timeline: *id,
        status: state.data.status(*id),
        parent: line.parent.as_ref().and_then(|name| state.data.snapshots.get(name)).map(|facts| facts.timeline),
        branched_from: line.parent.as_ref(),
        begun: line.begun.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        written_by: line.generation.map(|id| state.version(id)),
        schema: &line.schema,
        last_snapshot: line.last.as_ref(),
    };
    state.data.timelines.iter().map(of).collect()
}

fn text(line: &Line<'_>) -> String {
    let status = match line.status {
        TimelineStatus::Current => "CURRENT",
        TimelineStatus::Parent => "PARENT",
        TimelineStatus::Orphan => "ORPHAN",
    };
    let parent = line.parent.map(|parent| format!("  from {parent}")).unwrap_or_default();
    let written = line.written_by.as_ref().map(|version| format!("  written by {version}")).unwrap_or_default();
    let schema: Vec<String> = line.schema.iter().map(|(name, stamp)| format!("{name} {stamp}")).collect();
    let schema = if schema.is_empty() { String::new() } else { format!("  schema {}", schema.join(", ")) };
    let next = match line.status {
        TimelineStatus::Orphan => format!("  nebh data adopt {}", line.timeline),
        TimelineStatus::Current | TimelineStatus::Parent => String::new(),
    };
    format!("{:<5} {status:<8} {}{parent}{written}{schema}{next}", line.timeline.to_string(), line.begun)
}
