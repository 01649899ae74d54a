//! Brings every input of a lock into the archive and tells how it gets on. The one place where a build waits for a server.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use nebh_face::Failure;

use crate::archive::InputArchive;
use crate::event::{BuildEvent, Events};
use crate::fetch::{FetchEvent, fetch};
use crate::lock::Lock;
use crate::store::Store;
use crate::upstream::{UpstreamSettings, Upstreams};

/// Brings what is not here yet.
pub async fn bring(
    lock: &Lock,
    archive: &InputArchive,
    store: &Store,
    upstreams: &UpstreamSettings,
    offline: bool,
    events: &Events,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let (total, here) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (arrived, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
    let tell = |event| match event {
        FetchEvent::Planned { inputs, missing, .. } => {
            total.store(inputs, Ordering::Relaxed);
            here.store(inputs - missing, Ordering::Relaxed);
        }
        FetchEvent::Arrived { bytes: more, .. } => {
            let sum = bytes.fetch_add(more, Ordering::Relaxed) + more;
            let done = here.load(Ordering::Relaxed) + arrived.fetch_add(1, Ordering::Relaxed) + 1;
            events.send(BuildEvent::Fetching { done, total: total.load(Ordering::Relaxed), bytes: sum });
        }
    };
    let upstreams = Upstreams::from_machine(upstreams.clone());
    fetch(lock, &upstreams, archive, store.root(), offline, &tell).await?;
    events.send(BuildEvent::Fetched {
        here: here.into_inner(),
        total: total.into_inner(),
        bytes: bytes.into_inner(),
        millis: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    Ok(())
}
