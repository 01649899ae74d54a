//! What the machine orders: effects on the outside world, each idempotent by name, each answered by an event.
//! Pure.
//!
//! | effect | idempotency key | outcome |
//! |---|---|---|
//! | `Prepare` | generation | `Prepared`, `PrepareFailed` |
//! | `Hold` | – (a state) | `Held`, `AheadFailed`, `HoldFailed` |
//! | `Stop` | – (a state) | `Stopped`, `StopFailed` |
//! | `Snapshot` | snapshot name | `Snapshotted`, `SnapshotFailed` |
//! | `Exchange` | new timeline | `Exchanged`, `ExchangeFailed` |
//! | `Start` | generation | `Started`, `StartFailed` |
//! | `CheckAlive` | – (a question) | `Alive`, `AliveFailed` |
//! | `Open` | generation | `Opened`, `OpenFailed` |
//! | `Remove` | generation | `Removed`, `RemoveFailed` |
//! | `Watch` | generation | `Lost`, once, or never |
//! | `Wait` | step | `Waited` (the agent does it) |
//! | `Report` | – (best effort) | none |
//!
//! `Prepare`, `Remove`, `Watch`, `Wait` and `Report` run beside the machine; the others one after another.

use serde::{Deserialize, Serialize};

use super::event::PrepareSource;
use super::ids::{DatasetName, GenerationId, SnapshotKind, SnapshotName, Step, TimelineId};

/// One order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "effect")]
pub enum Effect {
    /// Makes a generation ready: pull, verify on this host, unpack, render the config, run the release's check in the
    /// new image, pre-create the container, probe the drivers, see that there is space for `pre` and `abandoned`.
    /// Everything lands under the generation's name, so a half-done earlier try is continued or replaced.
    /// For `Mix` nothing is fetched.
    Prepare {
        /// The number given to it.
        generation: GenerationId,
        /// From what.
        source: PrepareSource,
        /// The generation that it would follow: its way back (a spare container) is rehearsed.
        beside: Option<GenerationId>,
    },
    /// The entrance accepts and waits; requests already with the program are let out first, for a bounded time.
    /// An entrance that holds already is `Held`. An entrance that was just started holds by itself.
    Hold {
        /// Of which try.
        step: Step,
        /// What is made before anybody has to wait; if it cannot be made, nothing is held.
        ahead: Option<Box<Ahead>>,
    },
    /// No container of the application runs afterwards: the release's signal, its grace, then SIGKILL. All of them, not
    /// only the one believed to run: two writers on one dataset must not happen. Nothing running is `Stopped`.
    Stop {
        /// Of which try.
        step: Step,
    },
    /// Cuts every dataset read-only under one name, durably. Only asked for while nothing runs. A dataset whose
    /// snapshot of this name exists complete is left alone: after a crash that snapshot is the right one and a new
    /// one would be wrong.
    Snapshot {
        /// Of which try.
        step: Step,
        /// The name, in every dataset.
        name: SnapshotName,
        /// What for.
        kind: SnapshotKind,
        /// Which datasets.
        datasets: Vec<DatasetName>,
        /// The timeline that is cut, for the manifest.
        timeline: TimelineId,
        /// The generation that wrote it last, if any, for the manifest.
        generation: Option<GenerationId>,
    },
    /// For each dataset: makes a writable branch of `snapshot` called `timeline` and exchanges it with the live
    /// path; what was live stays beside as `aside`. A dataset whose live data are the branch `timeline` already
    /// (by the driver's own id, not by file name) is left alone: the program may have written to it. If one dataset
    /// cannot be exchanged, those before it are put back: programs never see half of another timeline.
    Exchange {
        /// Of which try.
        step: Step,
        /// The branch.
        branch: Branch,
        /// Name under which what was live is kept.
        aside: TimelineId,
    },
    /// Starts the generation's container dark (the entrance does not lead to it), after today's trust policy accepted
    /// it again from what is on this disk. One that runs already is `Started`.
    Start {
        /// Of which try.
        step: Step,
        /// Which.
        generation: GenerationId,
    },
    /// Probes `alive` of the release until it answers well, the time is over, or the process is gone.
    CheckAlive {
        /// Of which try.
        step: Step,
        /// Which.
        generation: GenerationId,
    },
    /// Leads the entrance to the generation and releases what waits. An entrance that leads there already is
    /// `Opened` with the figures of the last window.
    Open {
        /// Of which try.
        step: Step,
        /// Which.
        generation: GenerationId,
    },
    /// Watches process and `live` probe until something is lost. Ended by the agent when the generation is left.
    Watch {
        /// Which.
        generation: GenerationId,
    },
    /// Waits. Done by the agent.
    Wait {
        /// Of which try.
        step: Step,
        /// How long.
        ms: u64,
    },
    /// Removes a prepared generation's files and container. Never data.
    Remove {
        /// Which.
        generation: GenerationId,
    },
    /// Tells the gateway what runs, is prepared and is needed for the way back, and publishes manifests of
    /// snapshots that are not published yet. Best effort, never waited for. Done by the agent.
    Report,
}

/// What a change needs that takes long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ahead {
    /// The generation that will be started: it needs a container that sees the data which will be live.
    pub generation: GenerationId,
    /// The branch that will be exchanged in, if the data change.
    pub branch: Option<Branch>,
}

/// A writable branch of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Branch {
    /// The snapshot.
    pub snapshot: SnapshotName,
    /// Name of the branch.
    pub timeline: TimelineId,
    /// Which datasets.
    pub datasets: Vec<DatasetName>,
}

impl Effect {
    /// The name in crash points and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Prepare { .. } => "prepare",
            Self::Hold { .. } => "hold",
            Self::Stop { .. } => "stop",
            Self::Snapshot { .. } => "snapshot",
            Self::Exchange { .. } => "exchange",
            Self::Start { .. } => "start",
            Self::CheckAlive { .. } => "check-alive",
            Self::Open { .. } => "open",
            Self::Watch { .. } => "watch",
            Self::Wait { .. } => "wait",
            Self::Remove { .. } => "remove",
            Self::Report => "report",
        }
    }

    /// True if the machine goes on without its outcome.
    pub const fn is_beside(&self) -> bool {
        matches!(
            self,
            Self::Prepare { .. } | Self::Watch { .. } | Self::Wait { .. } | Self::Remove { .. } | Self::Report
        )
    }
}
