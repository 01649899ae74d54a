//! Names of journal records: what a transition means to somebody who reads the journal, and whether it must be on the
//! disk before anything that follows from it happens.
//! Pure.

use serde::{Deserialize, Serialize};

/// One kind of record. `Durable` ones are synced before the first effect that others can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Record {
    /// A generation is on its way.
    PrepBegin,
    /// It is ready.
    PrepDone,
    /// It will not be.
    PrepFailed,
    /// A switch begins.
    SwBegin,
    /// The entrance holds.
    Held,
    /// Nothing runs.
    Stopped,
    /// The new generation may run from here on; `pre` is cut.
    StartPoint,
    /// It runs, dark.
    Started,
    /// It is alive; the outside may see it from here on.
    Open,
    /// The outside sees it.
    Opened,
    /// It is accepted.
    Commit,
    /// Going back, or to other data, begins.
    RbBegin,
    /// The data that are left are cut.
    RbSnap,
    /// The data are as the old generation shall find them; it may run from here on.
    RbStartPoint,
    /// It is alive; the outside may see it from here on.
    RbOpen,
    /// It serves again.
    RolledBack,
    /// Nothing had happened: the old generation is wanted again.
    CancelBegin,
    /// A cancelled switch ended: the old generation serves.
    Cancelled,
    /// The live generation died.
    Lost,
    /// The dead generation may be opened again.
    ReOpen,
    /// It serves again.
    Restarted,
    /// The next start of a dead generation waits.
    BackOff,
    /// The agent came back to life.
    Recovered,
    /// A person has to choose.
    NeedsOp,
    /// Generations go from the disk.
    Retire,
    /// One is gone.
    Removed,
    /// A snapshot's manifest is at the gateway.
    Published,
}

impl Record {
    /// Every kind, for tables and crash tests.
    pub const ALL: [Self; 27] = [
        Self::PrepBegin,
        Self::PrepDone,
        Self::PrepFailed,
        Self::SwBegin,
        Self::Held,
        Self::Stopped,
        Self::StartPoint,
        Self::Started,
        Self::Open,
        Self::Opened,
        Self::Commit,
        Self::RbBegin,
        Self::RbSnap,
        Self::RbStartPoint,
        Self::RbOpen,
        Self::RolledBack,
        Self::CancelBegin,
        Self::Cancelled,
        Self::Lost,
        Self::ReOpen,
        Self::Restarted,
        Self::BackOff,
        Self::Recovered,
        Self::NeedsOp,
        Self::Retire,
        Self::Removed,
        Self::Published,
    ];

    /// The name in the journal and in crash points.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PrepBegin => "prep-begin",
            Self::PrepDone => "prep-done",
            Self::PrepFailed => "prep-failed",
            Self::SwBegin => "sw-begin",
            Self::Held => "held",
            Self::Stopped => "stopped",
            Self::StartPoint => "start-point",
            Self::Started => "started",
            Self::Open => "open",
            Self::Opened => "opened",
            Self::Commit => "commit",
            Self::RbBegin => "rb-begin",
            Self::RbSnap => "rb-snap",
            Self::RbStartPoint => "rb-start-point",
            Self::RbOpen => "rb-open",
            Self::RolledBack => "rolled-back",
            Self::CancelBegin => "cancel-begin",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
            Self::ReOpen => "re-open",
            Self::Restarted => "restarted",
            Self::BackOff => "back-off",
            Self::Recovered => "recovered",
            Self::NeedsOp => "needs-op",
            Self::Retire => "retire",
            Self::Removed => "removed",
            Self::Published => "published",
        }
    }

    /// True if it is synced before its effects begin. The others are hints: losing one to a power cut means that
    /// effects are performed a second time. Inside the held window only `start-point` and `open` (`rb-start-point` and
    /// `rb-open`) are.
    pub const fn is_durable(self) -> bool {
        !matches!(
            self,
            Self::PrepBegin
                | Self::PrepFailed
                | Self::Held
                | Self::Stopped
                | Self::Started
                | Self::Opened
                | Self::RbSnap
                | Self::BackOff
                | Self::Removed
                | Self::Published
        )
    }
}
