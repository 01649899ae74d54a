//! What the machine is told: wishes of people and of the follower, and outcomes of effects. The journal keeps these.
//! Pure.
//!
//! Every outcome names the [`Step`] (or generation) it belongs to; `step` refuses one that comes too late. A failed
//! effect is an event like any other, never an error of the loop.

use serde::{Deserialize, Serialize};

use super::facts::Facts;
use super::ids::{GenerationId, OpId, ReleaseRef, SnapshotName, Step};
use super::wish::RollbackWish;

/// One fact or wish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "event")]
pub enum Event {
    /// Somebody wants a generation made ready.
    PrepareAsked {
        /// From what.
        source: PrepareSource,
        /// Who wants it; a bad digest passes only for a person.
        by: Author,
    },
    /// "Go!": switch to a prepared generation.
    SwitchAsked {
        /// Fresh id of the operation.
        op: OpId,
        /// The generation to switch to.
        to: GenerationId,
        /// Who wants it.
        by: Author,
    },
    /// A person accepts the generation in probation now.
    CommitAsked,
    /// A person wants another pair of program and data; also how a left timeline is adopted.
    RollbackAsked {
        /// Fresh id of the operation.
        op: OpId,
        /// Which program, config and data.
        want: RollbackWish,
    },
    /// Generations that nothing needs any more go (never live, way back or in use).
    RetireAsked {
        /// Which.
        generations: Vec<GenerationId>,
    },
    /// First event of every life of the agent: what is found outside.
    Restarted {
        /// Fresh id, used if a dead generation has to be started again.
        op: OpId,
        /// What is found.
        found: Observation,
    },

    /// The agent's host published a snapshot's manifest.
    Published {
        /// Whose.
        snapshot: SnapshotName,
    },

    /// Outcome of `Prepare`.
    Prepared {
        /// The generation.
        generation: GenerationId,
        /// What the machine has to know about it.
        facts: Box<Facts>,
    },
    /// Outcome of `Prepare`.
    PrepareFailed {
        /// The generation, whose number is not used again.
        generation: GenerationId,
        /// Why.
        why: Trouble,
    },
    /// Outcome of `Hold`: the entrance accepts and waits, nothing is on its way to the program any more.
    Held {
        /// Of which try.
        step: Step,
    },
    /// Outcome of `Hold`: something that had to be made ahead could not be made; nothing else was touched.
    AheadFailed {
        /// Of which try.
        step: Step,
        /// Why.
        why: Trouble,
    },
    /// Outcome of `Hold`.
    HoldFailed {
        /// Of which try.
        step: Step,
        /// Why.
        why: Trouble,
    },
    /// Outcome of `Stop`: no container of the application runs.
    Stopped {
        /// Of which try.
        step: Step,
    },
    /// Outcome of `Stop`: something still runs that may write.
    StopFailed {
        /// Of which try.
        step: Step,
        /// Why.
        why: Trouble,
    },
    /// Outcome of `Snapshot`: every dataset is cut and durable.
    Snapshotted {
        /// Of which try.
        step: Step,
    },
    /// Outcome of `Snapshot`.
    SnapshotFailed {
        /// Of which try.
        step: Step,
        /// Why.
        why: Trouble,
    },
    /// Outcome of `Exchange`: every dataset's live path shows the new timeline, durably.
    Exchanged {
        /// Of which try.
        step: Step,
    },
    /// Outcome of `Exchange`.
    ExchangeFailed {
        /// Of which try.
        step: Step,
        /// Why.
        why: Trouble,
        /// True if some datasets may show the new timeline and others not; else all are as they were.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        torn: bool,
    },
    /// Outcome of `Start`: the container's process runs, the entrance does not lead to it.
    Started {
        /// Of which try.
        step: Step,
    },
    /// Outcome of `Start`.
    StartFailed {
        /// Of which try.
        step: Step,
        /// Why; a refusal by today's trust policy is one.
        why: Trouble,
    },
    /// Outcome of `CheckAlive`.
    Alive {
        /// Of which try.
        step: Step,
        /// From start to the first good answer.
        after_ms: u64,
    },
    /// Outcome of `CheckAlive`: died, or no good answer in time.
    AliveFailed {
        /// Of which try.
        step: Step,
        /// Why.
        why: Trouble,
    },
    /// Outcome of `Open`: the entrance leads to the generation, waiting connections first.
    Opened {
        /// Of which try.
        step: Step,
        /// What the held connections went through.
        window: Window,
    },
    /// Outcome of `Open`.
    OpenFailed {
        /// Of which try.
        step: Step,
        /// Why.
        why: Trouble,
    },
    /// From `Watch`: the generation died or stopped answering.
    Lost {
        /// Fresh id, used if the generation has to be started again.
        op: OpId,
        /// Which.
        generation: GenerationId,
        /// How.
        why: Loss,
        /// Since it was opened.
        after_ms: u64,
    },
    /// Outcome of `Wait`.
    Waited {
        /// Of which try.
        step: Step,
    },
    /// Outcome of `Remove`.
    Removed {
        /// Which generation is gone from the disk.
        generation: GenerationId,
    },
    /// Outcome of `Remove`; tried again after the next start of the agent.
    RemoveFailed {
        /// Which generation is still there.
        generation: GenerationId,
        /// Why.
        why: Trouble,
    },
}

impl Event {
    /// The word for it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::PrepareAsked { .. } => "prepare-asked",
            Self::SwitchAsked { .. } => "switch-asked",
            Self::CommitAsked => "commit-asked",
            Self::RollbackAsked { .. } => "rollback-asked",
            Self::RetireAsked { .. } => "retire-asked",
            Self::Restarted { .. } => "restarted",
            Self::Published { .. } => "published",
            Self::Prepared { .. } => "prepared",
            Self::PrepareFailed { .. } => "prepare-failed",
            Self::Held { .. } => "held",
            Self::AheadFailed { .. } => "ahead-failed",
            Self::HoldFailed { .. } => "hold-failed",
            Self::Stopped { .. } => "stopped",
            Self::StopFailed { .. } => "stop-failed",
            Self::Snapshotted { .. } => "snapshotted",
            Self::SnapshotFailed { .. } => "snapshot-failed",
            Self::Exchanged { .. } => "exchanged",
            Self::ExchangeFailed { .. } => "exchange-failed",
            Self::Started { .. } => "started",
            Self::StartFailed { .. } => "start-failed",
            Self::Alive { .. } => "alive",
            Self::AliveFailed { .. } => "alive-failed",
            Self::Opened { .. } => "opened",
            Self::OpenFailed { .. } => "open-failed",
            Self::Lost { .. } => "lost",
            Self::Waited { .. } => "waited",
            Self::Removed { .. } => "removed",
            Self::RemoveFailed { .. } => "remove-failed",
        }
    }

    /// A wish whose end, or the way back from it, has to be written down later.
    pub const fn begins_something(&self) -> bool {
        matches!(self, Self::PrepareAsked { .. } | Self::SwitchAsked { .. })
    }

    /// The try that an outcome belongs to.
    pub const fn step(&self) -> Option<&Step> {
        match self {
            Self::Held { step }
            | Self::AheadFailed { step, .. }
            | Self::HoldFailed { step, .. }
            | Self::Stopped { step }
            | Self::StopFailed { step, .. }
            | Self::Snapshotted { step }
            | Self::SnapshotFailed { step, .. }
            | Self::Exchanged { step }
            | Self::ExchangeFailed { step, .. }
            | Self::Started { step }
            | Self::StartFailed { step, .. }
            | Self::Alive { step, .. }
            | Self::AliveFailed { step, .. }
            | Self::Opened { step, .. }
            | Self::OpenFailed { step, .. }
            | Self::Waited { step } => Some(step),
            _ => None,
        }
    }
}

/// What a generation is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "from")]
pub enum PrepareSource {
    /// A release, with the config that this node renders today.
    Release {
        /// The release.
        release: ReleaseRef,
    },
    /// The program of one generation with the rendered config of another, both here already.
    Mix {
        /// Whose release and image.
        binary: GenerationId,
        /// Whose rendered config.
        config: GenerationId,
    },
}

/// Who wants something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Author {
    /// A person, by name of the release or generation.
    Person,
    /// The follower of the channel head.
    Follower,
}

/// What an agent finds when it comes (back) to life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Observation {
    /// Generations whose container runs now.
    pub running: Vec<GenerationId>,
    /// True if the host was not booted since the last record: what does not run now died by itself.
    pub same_boot: bool,
}

/// What connections went through while the entrance was held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Window {
    /// From the last request let through before to the first let through after.
    pub held_ms: u64,
    /// Connections or requests that waited and went on.
    pub waited: u64,
    /// Requests that were refused, cut or timed out because of the switch.
    pub lost: u64,
}

/// How a generation was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "how")]
pub enum Loss {
    /// Killed by a signal.
    Signal {
        /// Its name, like `SIGSEGV`.
        name: String,
    },
    /// Ended by itself.
    Exit {
        /// Its exit code.
        code: i32,
    },
    /// Ended while nobody could see how (the agent was away).
    Gone,
    /// The liveness probe failed as often as the release allows.
    Probe {
        /// The last answer.
        text: String,
    },
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signal { name } => write!(f, "died of {name}"),
            Self::Exit { code } => write!(f, "ended with exit code {code}"),
            Self::Gone => f.write_str("ended while the agent was away"),
            Self::Probe { text } => write!(f, "stopped answering ({text})"),
        }
    }
}

/// A failed effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
#[error("{text}")]
pub struct Trouble {
    /// What kind, for the exit code.
    pub kind: TroubleKind,
    /// What happened and why, with the nouns in it.
    pub text: String,
}

impl Trouble {
    /// A failure of this kind.
    pub fn new(kind: TroubleKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

/// Kinds of failure that lead to different exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TroubleKind {
    /// Trust said no: exit 3.
    Refused,
    /// A server does not answer: exit 4.
    Unreachable,
    /// A file that a person wrote is wrong, or asks for what this node cannot do: exit 2.
    Wrong,
    /// No space left.
    NoSpace,
    /// Anything else.
    Failed,
}
