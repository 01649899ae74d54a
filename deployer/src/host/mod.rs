//! The one seam between the machine and the world: a host performs effects for one application and says what it sees.
//!
//! Two implementations, held to one suite: [`LocalHost`] (containers, datasets, the entrance) and [`sim`] (the twin that
//! crash and property tests use). No decision lives behind this trait; an implementation that has to decide
//! something asks for a new event instead.

mod admission;
mod blocking;
mod branch;
mod change;
mod clear;
mod disk;
mod evidence;
mod fetch;
mod generation;
mod local;
mod node;
mod parts;
mod perform;
mod places;
mod prepare;
mod remote;
mod spare;
#[cfg(test)]
mod tests;
mod trouble;

use std::sync::Arc;

pub use local::LocalHost;
pub use node::{LocalNode, entrance_folder};

use crate::machine::{Effect, Event, GenerationId, Loss, ReleaseRef, SnapshotFacts, Trouble};

pub mod sim;
pub mod world;

/// What the world does for one application of this node.
///
/// Every future may be dropped at an await point by a dying agent, and the process may be killed inside of any: the
/// same effect comes again after the restart and has to find what the first try left.
pub trait Host: Send + Sync + 'static {
    /// Generations whose container runs right now, by whatever agent started them.
    fn observe(&self) -> impl Future<Output = Vec<GenerationId>> + Send;

    /// Performs one of `Prepare`, `Hold`, `Stop`, `Snapshot`, `Exchange`, `Start`, `CheckAlive`, `Open`, `Remove` and
    /// answers with its outcome as listed at [`Effect`], with the same step or generation in it. Any other effect is
    /// a fault of the agent and answered with nothing.
    fn perform(&self, effect: Effect, progress: &Progress) -> impl Future<Output = Option<Event>> + Send;

    /// Returns when the generation's process is gone or its `live` probe failed as often as the release allows. A
    /// process that is gone already is returned at once. Safe to drop.
    fn watch(&self, generation: GenerationId) -> impl Future<Output = Loss> + Send;

    /// Which release a person means by a version or a digest. Asks the registry; refuses what no signature covers
    /// only later, in `Prepare`.
    fn resolve(&self, wanted: &str) -> impl Future<Output = Result<ReleaseRef, Trouble>> + Send;

    /// Waits until the followed channel has a verified head with a counter above `seen`. A host that follows nothing
    /// never returns. Unreachable servers are tried again at the host's own pace. Safe to drop.
    fn head(&self, seen: Option<u64>) -> impl Future<Output = Head> + Send;

    /// Signs the manifest of a snapshot with the node's key and pushes it as a referrer of the release.
    fn publish(&self, snapshot: &SnapshotFacts) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Tells the gateway what this node runs, has prepared and needs for its way back.
    fn report(&self, report: &serde_json::Value) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// The last bytes that a generation's program wrote to its standard streams.
    fn output(&self, generation: GenerationId, bytes_max: u64)
    -> impl Future<Output = Result<Vec<u8>, Trouble>> + Send;
}

/// A verified channel head, as far as the agent needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its counter, kept durably by the host before it is returned.
    pub counter: u64,
    /// The release to run.
    pub current: ReleaseRef,
    /// Releases to have ready.
    pub recent: Vec<ReleaseRef>,
    /// Releases that are pinned.
    pub pinned: Vec<ReleaseRef>,
}

/// Where long work says how far it is. Cheap to clone; saying something never waits.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(String) + Send + Sync>);

impl Progress {
    /// Hands every line to `sink`.
    pub fn new(sink: impl Fn(String) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Says nothing to nobody.
    pub fn silent() -> Self {
        Self::new(drop)
    }

    /// One line for a person, like `pull 3 of 5 blobs`.
    pub fn say(&self, line: impl Into<String>) {
        (self.0)(line.into());
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}
