//! The twin: a host on top of a [`World`] of values, for tests of the agent and for dry runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::world::World;
use super::{Head, Host, Progress};
use crate::machine::{Effect, Event, GenerationId, Loss, ReleaseRef, SnapshotFacts, Trouble, TroubleKind};

/// The twin as a host: everybody who has a clone sees the same world.
#[derive(Clone, Debug)]
pub struct Sim {
    world: Arc<Mutex<World>>,
    died: Arc<watch::Sender<u64>>,
    head: Arc<watch::Sender<Option<Head>>>,
}

impl Sim {
    /// A host of this world.
    pub fn new(world: World) -> Self {
        let (died, head) = (Arc::new(watch::channel(0).0), Arc::new(watch::channel(None).0));
        Self { world: Arc::new(Mutex::new(world)), died, head }
    }

    /// The world, to look at and to change.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A generation dies.
    pub fn kill(&self, generation: GenerationId) {
        self.world().running.remove(&generation);
        self.died.send_modify(|deaths| *deaths += 1);
    }

    /// The followed channel has this head from now on.
    pub fn announce(&self, head: Head) {
        self.head.send_replace(Some(head));
    }
}

impl Host for Sim {
    async fn observe(&self) -> Vec<GenerationId> {
        self.world().running.iter().copied().collect()
    }

    async fn perform(&self, effect: Effect, _progress: &Progress) -> Option<Event> {
        self.world().perform(&effect)
    }

    async fn watch(&self, generation: GenerationId) -> Loss {
        let mut deaths = self.died.subscribe();
        while self.world().running.contains(&generation) {
            // The sender lives in this very host.
            if deaths.changed().await.is_err() {
                break;
            }
        }
        Loss::Signal { name: "SIGSEGV".to_owned() }
    }

    async fn resolve(&self, wanted: &str) -> Result<ReleaseRef, Trouble> {
        let is = |release: &&ReleaseRef| release.version.as_text() == wanted || release.digest.to_string() == wanted;
        let world = self.world();
        let found = world.releases.values().map(|facts| &facts.release).find(is).cloned();
        found.ok_or_else(|| Trouble::new(TroubleKind::Failed, format!("there is no tag `{wanted}`")))
    }

    async fn head(&self, seen: Option<u64>) -> Head {
        let mut heads = self.head.subscribe();
        let is_new =
            |head: &Option<Head>| head.as_ref().is_some_and(|head| seen.is_none_or(|seen| head.counter > seen));
        // The sender lives in this very host.
        let found = heads.wait_for(is_new).await.ok().and_then(|head| head.clone());
        match found {
            Some(head) => head,
            None => std::future::pending().await,
        }
    }

    async fn publish(&self, snapshot: &SnapshotFacts) -> Result<(), Trouble> {
        self.world().published.insert(snapshot.name.clone());
        Ok(())
    }

    async fn report(&self, _report: &serde_json::Value) -> Result<(), Trouble> {
        Ok(())
    }

    async fn output(&self, generation: GenerationId, _bytes_max: u64) -> Result<Vec<u8>, Trouble> {
        Ok(format!("{generation} says hello\n").into_bytes())
    }
}
