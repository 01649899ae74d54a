//! Removing bytes that nothing needs any more, while everything else goes on.
//!
//! ```text
//!   dropped long enough ago ─► forgotten ─┐
//!   unreferenced, unseen for the grace ───┴─► condemned ─► still unreferenced a grace step later ─► row, then bytes
//! ```
//!
//! A push that meets a condemned blob takes the condemnation back, in the same transaction in which it looks at it.
//! Row and bytes go under the digest's lock, so a push that comes between finds either both or neither. Bytes go last:
//! a crash leaves bytes without a row, which the next push of that digest adopts, or else `orphans` removes. Errors
//! mean keep.
//!
//! There is one writer, and pushes come first: what to do is looked for by readers, done in small steps that ask again,
//! and between two steps the sweep rests for several times as long as the step took.

mod orphans;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::crash;
use crate::db::{self, DbError};
use crate::gateway::Gateway;
use crate::store::{StoreError, blocking};

/// Manifests forgotten, and blobs condemned and removed, in one pass. After a full one comes the next.
const BATCH: u32 = 1000;
/// Manifests or blobs of one step, which holds the writer for about as long as a push does.
const STEP: usize = 20;
/// Tags of one step: one row each.
const TAGS_STEP: u32 = 200;
/// How many times as long as it worked the sweep rests: a push meets it in one case of so many.
const REST: u32 = 12;
/// Longest rest: on a slow disk a pass is to end while whoever ordered it still listens.
const REST_MAX: Duration = Duration::from_millis(50);
/// Pause before the next pass when there is more to do.
const NEXT_PASS: Duration = Duration::from_secs(1);
/// Refusals that are kept to be explained, of all tags together.
const REFUSALS_KEPT: u32 = 10_000;
/// A condemned blob waits this part of the grace: longer than any request that was already running.
const CONDEMNED_PART: u32 = 24;

/// Why a pass stopped.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What one pass did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Swept {
    /// Manifests that can no longer be restored.
    pub forgotten: u64,
    /// Blobs that will go in a later pass.
    pub condemned: u64,
    /// Blobs that are gone.
    pub removed: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Abandoned uploads thrown away.
    pub uploads: u64,
    /// Files that a crash had left without a row, removed.
    pub orphans: u64,
}

impl Swept {
    fn is_full(&self) -> bool {
        [self.forgotten, self.condemned, self.removed].contains(&u64::from(BATCH))
    }
}

/// Rests after each step, in proportion to it.
struct Pace(Instant);

impl Pace {
    fn begin() -> Self {
        Self(Instant::now())
    }

    async fn rest(&mut self) {
        tokio::time::sleep((self.0.elapsed() * REST).min(REST_MAX)).await;
        self.0 = Instant::now();
    }
}

fn before(now: Timestamp, span: Duration) -> Timestamp {
    now.checked_sub(span).unwrap_or(Timestamp::MIN)
}

/// One pass.
pub async fn pass(gateway: &Gateway, now: Timestamp) -> Result<Swept, SweepError> {
    let settings = &gateway.settings;
    let mut swept = Swept::default();
    let expired = gateway.uploads.expire(settings.limits.upload_age_max, SystemTime::now()).await?;
    swept.uploads = expired as u64;
    crash::point("sweep-uploads-gone");
    swept.forgotten = forget(gateway, before(now, settings.restorable)).await?;
    swept.condemned = condemn(gateway, before(now, settings.grace), now).await?;
    let bound = before(now, settings.grace / CONDEMNED_PART);
    let mut pace = Pace::begin();
    for digest in db::blobs::condemned(&gateway.db, bound, BATCH).await? {
        let guard = gateway.store.lock(&digest).await;
        let mut tx = gateway.db.write().await?;
        let Some(bytes) = db::blobs::forget(&mut tx, &digest, bound).await? else {
            continue;
        };
        crash::point("sweep-row-written");
        db::commit(tx).await?;
        crash::point("sweep-row-recorded");
        let store = Arc::clone(&gateway.store);
        blocking(move || store.remove(&digest)).await??;
        crash::point("sweep-bytes-gone");
        drop(guard);
        swept.removed += 1;
        swept.bytes += bytes;
        pace.rest().await;
    }
    swept.orphans = orphans::pass(gateway, now).await?;
    gateway.metrics.swept.fetch_add(swept.removed, Ordering::Relaxed);
    Ok(swept)
}

/// What was dropped long enough ago cannot be restored from here on. All of the tags first: what a tag is known of can
/// be restored, and a manifest never was dropped before the last of its tags.
async fn forget(gateway: &Gateway, bound: Timestamp) -> Result<u64, SweepError> {
    let mut pace = Pace::begin();
    loop {
        let mut tx = gateway.db.write().await?;
        let tags = db::dropped::forget_tags(&mut tx, bound, TAGS_STEP).await?;
        db::events::forget_refusals(&mut tx, REFUSALS_KEPT).await?;
        db::commit(tx).await?;
        pace.rest().await;
        if tags < u64::from(TAGS_STEP) {
            break;
        }
    }
    let mut forgotten = 0;
    for step in db::dropped::dropped(&gateway.db, bound, BATCH).await?.chunks(STEP) {
        let mut tx = gateway.db.write().await?;
        for (repository, digest) in step {
            forgotten += u64::from(db::dropped::forget(&mut tx, repository, digest, bound).await?);
        }
        crash::point("sweep-forgotten-written");
        db::commit(tx).await?;
        crash::point("sweep-forgotten-recorded");
        pace.rest().await;
    }
    Ok(forgotten)
}

/// What nothing refers to and nobody asked for since `bound` goes in a later pass.
async fn condemn(gateway: &Gateway, bound: Timestamp, now: Timestamp) -> Result<u64, SweepError> {
    let mut condemned = 0;
    let mut pace = Pace::begin();
    for step in db::blobs::unreferenced(&gateway.db, bound, BATCH).await?.chunks(STEP) {
        let mut tx = gateway.db.write().await?;
        for digest in step {
            condemned += u64::from(db::blobs::condemn(&mut tx, digest, bound, now).await?);
        }
        crash::point("sweep-condemned-written");
        db::commit(tx).await?;
        crash::point("sweep-condemned-recorded");
        pace.rest().await;
    }
    Ok(condemned)
}

/// Passes until the gateway ends. The owner aborts the task; every await point is safe to drop.
pub async fn run(gateway: Arc<Gateway>) {
    let every = gateway.settings.sweep_every.max(NEXT_PASS);
    let mut pause = every;
    loop {
        tokio::time::sleep(pause).await;
        pause = every;
        match pass(&gateway, Timestamp::now()).await {
            Ok(swept) => {
                tracing::info!(?swept, "swept");
                if swept.is_full() {
                    pause = NEXT_PASS;
                }
            }
            Err(error) => tracing::error!(error = nebh_face::failure::chain(&error), "the sweep stopped early"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pass_that_took_all_it_may_is_followed_by_the_next() {
        let full = u64::from(BATCH);
        assert!(!Swept { forgotten: 3, condemned: full - 1, removed: 4, bytes: full, ..Swept::default() }.is_full());
        for swept in [
            Swept { forgotten: full, ..Swept::default() },
            Swept { condemned: full, ..Swept::default() },
            Swept { removed: full, ..Swept::default() },
        ] {
            assert!(swept.is_full(), "{swept:?}");
        }
    }
}
