//! The state of one application on this node: the fold of its journal. Nothing here is stored by itself.
//! Pure.
//!
//! ```text
//!                      ┌────────────────────────── Resume ◄────────────┐ nothing happened yet
//!   Empty, Serving ─► Holding ─► Stopping ─► Snapshotting ─► Starting ─► Checking ─► Opening ─► Probation ─► Serving
//!        ▲                                    │      ▲ start-point‡         │ open‡                │ commit‡
//!        │                                    ▼      │                      │                      │
//!        └──────────── the same rooms ◄── Exchanging ┘ ◄── Rollback ◄───────┴──────────────────────┘
//! ```
//!
//! One row of rooms serves switch, rollback, resume (of a cancelled switch) and restart (of a dead generation);
//! `Kind` says which of them is on its way.

use std::collections::BTreeMap;

use jiff::Timestamp;
use nebh_oci::digest::Digest;
use serde::{Deserialize, Serialize};

use super::data::Data;
use super::event::{PrepareSource, Trouble};
use super::facts::Facts;
use super::ids::{DatasetName, GenerationId, OpId, ReleaseRef, SnapshotKind, SnapshotName, Step, TimelineId};

/// Everything that is known of one application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct State {
    /// Generations on this disk, prepared or on their way.
    pub generations: BTreeMap<GenerationId, Generation>,
    /// The number that the next generation gets.
    pub next_generation: GenerationId,
    /// Releases that were rolled back, and why. They start only by a person's word.
    pub bad: BTreeMap<Digest, String>,
    /// Timelines and snapshots.
    pub data: Data,
    /// Where it stands.
    pub phase: Phase,
    /// The last switch that came as far as its start-point: gives "old", "new" and "pre" their meaning.
    pub last_switch: Option<LastSwitch>,
    /// How the last operation ended.
    pub ended: Option<Ended>,
}

/// One generation on this disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Generation {
    /// What it is made from.
    pub source: PrepareSource,
    /// How far it is.
    pub stage: Stage,
}

/// How far a generation is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// On its way.
    Preparing,
    /// Ready to start.
    Prepared(Box<Facts>),
    /// On its way off the disk.
    Retiring(Box<Facts>),
}

/// Where the application stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing ever ran, or the first release never came alive.
    Empty,
    /// A committed generation serves.
    Serving(GenerationId),
    /// The entrance is asked to hold.
    Holding(Change),
    /// Whatever runs is being stopped.
    Stopping(Change),
    /// The data are being cut.
    Snapshotting(Change),
    /// Another timeline is being exchanged in.
    Exchanging(Change),
    /// The target is being started, dark. Everything up to here is durable.
    Starting(Change),
    /// The target runs dark and is being probed.
    Checking(Change),
    /// The target is alive, and the outside may see it from here on.
    Opening(Change),
    /// The target serves and is watched before it is committed.
    Probation(Change),
    /// A dead generation waits for its next start.
    BackingOff(Change),
    /// Nothing happens without a person. Both data states are intact.
    NeedsOperator(Stuck),
}

/// An operation on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// This try of it.
    pub step: Step,
    /// What it is.
    pub kind: Kind,
    /// What served before.
    pub from: Option<GenerationId>,
    /// What shall serve; none only where a failed first release goes back to nothing.
    pub to: Option<GenerationId>,
    /// When it began.
    #[serde(with = "super::stamp")]
    pub begun: Timestamp,
    /// Starts that may still be tried.
    pub tries_left: u32,
    /// True once the start-point is durable: the data are as the target shall find them, and it may have run.
    pub started: bool,
    /// True once `open` is durable: the outside may have been answered by the target.
    pub opened: bool,
}

/// What an operation is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Kind {
    /// To another generation, with probation.
    Switch,
    /// Back, or to other data.
    Rollback {
        /// The failure that led to it; none if a person asked.
        why: Option<String>,
        /// What happens to the data.
        data: DataMove,
        /// The release to latch as bad at the end.
        bad: Option<Digest>,
        /// True if the target had been opened when it failed.
        was_opened: bool,
    },
    /// The old generation again, because a switch or an asked rollback was cancelled before its start-point.
    Resume {
        /// Why it was cancelled.
        why: Trouble,
    },
    /// The committed generation again, because it died.
    Restart {
        /// How.
        why: String,
    },
}

/// What a rollback does to the data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum DataMove {
    /// They stay.
    Keep,
    /// A branch of a snapshot is exchanged in.
    Branch {
        /// From where.
        snapshot: SnapshotName,
        /// Its name.
        timeline: TimelineId,
    },
}

/// Why nothing happens without a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Stuck {
    /// The operation's last try.
    pub step: Step,
    /// What happened.
    pub why: String,
    /// What served before the operation.
    pub from: Option<GenerationId>,
    /// What it wanted.
    pub to: Option<GenerationId>,
}

/// The last switch that came as far as its start-point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LastSwitch {
    /// The operation.
    pub op: OpId,
    /// What ran before it.
    pub old: Option<GenerationId>,
    /// What it brought.
    pub new: GenerationId,
    /// The data before it.
    pub pre: SnapshotName,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ended {
    /// Which.
    pub op: OpId,
    /// How.
    pub outcome: Outcome,
}

/// Ends of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// The new generation is accepted.
    Committed {
        /// Which.
        live: GenerationId,
    },
    /// Nothing happened; the old generation serves.
    Cancelled {
        /// Why.
        why: Trouble,
        /// What serves.
        live: Option<GenerationId>,
    },
    /// Went back by itself.
    ChangedBack {
        /// Why.
        why: String,
        /// What serves; none if a failed first release left nothing to serve.
        live: Option<GenerationId>,
        /// What was left.
        left: GenerationId,
        /// True if what was left had been opened.
        was_opened: bool,
        /// What happened to the data.
        data: DataMove,
    },
    /// Went where a person asked.
    Done {
        /// What serves.
        live: GenerationId,
        /// What happened to the data.
        data: DataMove,
    },
    /// A person has to choose.
    Stuck {
        /// Why.
        why: String,
    },
}

impl State {
    /// An application that this node never ran.
    pub fn new(at: Timestamp) -> Self {
        Self {
            generations: BTreeMap::new(),
            next_generation: GenerationId::new(1),
            bad: BTreeMap::new(),
            data: Data::first(at),
            phase: Phase::Empty,
            last_switch: None,
            ended: None,
        }
    }

    /// What is known of a generation that can start.
    pub fn facts(&self, id: GenerationId) -> Option<&Facts> {
        match &self.generations.get(&id)?.stage {
            Stage::Prepared(facts) => Some(facts),
            Stage::Preparing | Stage::Retiring(_) => None,
        }
    }

    /// The release of a generation.
    pub fn release(&self, id: GenerationId) -> Option<&ReleaseRef> {
        self.facts(id).map(|facts| &facts.release)
    }

    /// What people call a generation: its version.
    pub fn version(&self, id: GenerationId) -> String {
        self.release(id).map_or_else(|| id.to_string(), |release| release.version.to_string())
    }

    /// The newest prepared generation of a release digest.
    pub fn prepared(&self, digest: &Digest) -> Option<GenerationId> {
        let of = |id: &GenerationId| self.release(*id).is_some_and(|release| release.digest == *digest);
        self.generations.keys().rev().copied().find(of)
    }

    /// Datasets that are cut and exchanged when these generations change places.
    pub fn datasets(&self, of: &[Option<GenerationId>]) -> Vec<DatasetName> {
        let facts = of.iter().flatten().filter_map(|id| self.facts(*id));
        let mut names: Vec<DatasetName> = facts
            .flat_map(|facts| facts.datasets.iter())
            .filter(|(_, dataset)| dataset.class.is_snapshotted())
            .map(|(name, _)| name.clone())
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

impl Change {
    /// The snapshot that this operation cuts.
    pub fn snapshot_kind(&self) -> SnapshotKind {
        match self.kind {
            Kind::Switch => SnapshotKind::Pre,
            Kind::Rollback { .. } | Kind::Resume { .. } | Kind::Restart { .. } => SnapshotKind::Abandoned,
        }
    }

    /// Its name.
    pub fn snapshot(&self) -> SnapshotName {
        SnapshotName::of(&self.step.op, self.snapshot_kind())
    }
}

impl Phase {
    /// The word for it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Serving(_) => "serving",
            Self::Holding(_) => "holding",
            Self::Stopping(_) => "stopping",
            Self::Snapshotting(_) => "snapshotting",
            Self::Exchanging(_) => "exchanging",
            Self::Starting(_) => "starting",
            Self::Checking(_) => "checking",
            Self::Opening(_) => "opening",
            Self::Probation(_) => "probation",
            Self::BackingOff(_) => "backing-off",
            Self::NeedsOperator(_) => "needs-operator",
        }
    }

    /// The operation on its way, if any.
    pub const fn change(&self) -> Option<&Change> {
        match self {
            Self::Empty | Self::Serving(_) | Self::NeedsOperator(_) => None,
            Self::Holding(change)
            | Self::Stopping(change)
            | Self::Snapshotting(change)
            | Self::Exchanging(change)
            | Self::Starting(change)
            | Self::Checking(change)
            | Self::Opening(change)
            | Self::Probation(change)
            | Self::BackingOff(change) => Some(change),
        }
    }

    /// True on the way from `hold` to `open`, where callers may wait at the entrance.
    pub const fn holds(&self) -> bool {
        self.change().is_some() && !matches!(self, Self::Probation(_) | Self::BackingOff(_))
    }

    /// The generation that the entrance leads to.
    pub const fn serving(&self) -> Option<GenerationId> {
        match self {
            Self::Serving(live) => Some(*live),
            Self::Probation(change) => change.to,
            _ => None,
        }
    }
}

impl Kind {
    /// The word for it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Switch => "switch",
            Self::Rollback { .. } => "rollback",
            Self::Resume { .. } => "resume",
            Self::Restart { .. } => "restart",
        }
    }
}
