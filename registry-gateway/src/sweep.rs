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

mod orphans;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::crash;
use crate::db::{self, DbError};
use crate::gateway::Gateway;
use crate::store::{StoreError, blocking};

/// Blobs condemned and removed in one pass: a pass holds the writer for milliseconds, never for minutes.
const BATCH: u32 = 1000;
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
    let mut tx = gateway.db.write().await?;
    swept.forgotten = db::dropped::forget_dropped(&mut tx, before(now, settings.restorable)).await?;
    db::events::forget_refusals(&mut tx, REFUSALS_KEPT).await?;
    swept.condemned = db::blobs::condemn(&mut tx, before(now, settings.grace), now, BATCH).await?;
    crash::point("sweep-condemned-written");
    db::commit(tx).await?;
    crash::point("sweep-condemned-recorded");
    let bound = before(now, settings.grace / CONDEMNED_PART);
    for digest in db::blobs::condemned(&gateway.db, bound, BATCH).await? {
        let _guard = gateway.store.lock(&digest).await;
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
        swept.removed += 1;
        swept.bytes += bytes;
    }
    swept.orphans = orphans::pass(gateway, now).await?;
    gateway.metrics.swept.fetch_add(swept.removed, Ordering::Relaxed);
    Ok(swept)
}

/// Passes until the gateway ends. The owner aborts the task; every await point is safe to drop.
pub async fn run(gateway: Arc<Gateway>) {
    loop {
        tokio::time::sleep(gateway.settings.sweep_every.max(Duration::from_secs(1))).await;
        match pass(&gateway, Timestamp::now()).await {
            Ok(swept) => tracing::info!(?swept, "swept"),
            Err(error) => tracing::error!(error = nebh_face::failure::chain(&error), "the sweep stopped early"),
        }
    }
}
