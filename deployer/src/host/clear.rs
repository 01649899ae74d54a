//! What changes leave behind: containers that ended, containers that wait and can never be started, records of runs
//! that nobody asks for any more.
//!
//! Side effects: removes containers and folders of runs, in the background: it takes tens of milliseconds, and callers
//! are served by then. Best effort: what is missed now is removed another time, or with its generation.

use super::local::LocalHost;
use super::spare::sees;
use crate::container::{Run, RunError};

/// Records of ended runs that a generation keeps. A program that dies again and again is started for ever.
const ENDED_KEPT: usize = 4;

/// What becomes of a run.
enum Clearing {
    /// Its container goes, its record stays.
    Container(Run),
    /// All of it goes.
    Whole(Run),
}

impl LocalHost {
    /// Clears up behind a change that is at its end.
    pub(super) fn clear(&self) {
        let (runner, clearings) = (self.node.runner.clone(), self.clearings());
        drop(tokio::spawn(async move {
            for clearing in clearings {
                let result: Result<(), RunError> = match &clearing {
                    Clearing::Container(run) => runner.forget(run).await,
                    Clearing::Whole(run) => runner.discard(run).await,
                };
                let (Clearing::Container(run) | Clearing::Whole(run)) = &clearing;
                if let Err(error) = result {
                    tracing::warn!(container = run.id(), %error, "cannot clear up");
                }
            }
        }));
    }

    fn clearings(&self) -> Vec<Clearing> {
        let mut found = Vec::new();
        for folder in self.folders() {
            let (ended, others): (Vec<Run>, Vec<Run>) = folder.runs().into_iter().partition(|run| run.exit().is_some());
            let old = ended.len().saturating_sub(ENDED_KEPT);
            let clearing = |(at, run)| if at < old { Clearing::Whole(run) } else { Clearing::Container(run) };
            found.extend(ended.into_iter().enumerate().map(clearing));
            // Those that see data which are not live any more.
            let Ok(generation) = folder.read() else { continue };
            let data = self.live_places(&generation.statement);
            let stale = |run: &Run| run.is_spare() && !sees(run, &generation.statement, &data);
            found.extend(others.into_iter().filter(stale).map(Clearing::Whole));
        }
        found
    }
}
