//! Bytes without a row: what a crash between the link and the row of a push leaves, or one between the row's end and
//! the unlink of a sweep. A push of the same digest adopts them; what nobody pushes again would lie there for ever.
//!
//! A file is looked at before its row: one that is published meanwhile is not in the list yet. Under the digest's lock
//! the question is asked again, and from the link to the row a push holds that lock. So only what really has no row goes,
//! and only when it is older than the grace.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use nebh_oci::digest::{Algorithm, Digest};

use super::SweepError;
use crate::crash;
use crate::gateway::Gateway;
use crate::store::keys::Tree;
use crate::store::{StoreError, blocking};

/// Removes what has no row; how many files that were.
pub(super) async fn pass(gateway: &Gateway, now: Timestamp) -> Result<u64, SweepError> {
    let mut gone = 0;
    for (algorithm, root) in gateway.store.tree().blob_roots() {
        for folder in blocking(move || folders(&root)).await?? {
            gone += one_folder(gateway, algorithm, folder, now).await?;
        }
    }
    Ok(gone)
}

/// One folder holds a 256th of all blobs: that many digests are in memory at a time.
async fn one_folder(
    gateway: &Gateway,
    algorithm: Algorithm,
    folder: PathBuf,
    now: Timestamp,
) -> Result<u64, SweepError> {
    let files = blocking(move || files(algorithm, &folder)).await??;
    let (Some(first), Some(last)) = (files.iter().min(), files.iter().max()) else { return Ok(0) };
    let known = gateway.db.blobs_between(first, last).await?;
    let mut gone = 0;
    for digest in files.iter().filter(|digest| !known.contains(digest)) {
        let digest = *digest;
        let _guard = gateway.store.lock(&digest).await;
        if !gateway.db.blobs_between(&digest, &digest).await?.is_empty() {
            continue;
        }
        let (store, bound) = (Arc::clone(&gateway.store), super::before(now, gateway.settings.grace));
        let removed = blocking(move || {
            let path = store.tree().blob(&digest);
            let modified = std::fs::metadata(&path).and_then(|found| found.modified());
            // A time in the future, or none: keep.
            let old = modified.is_ok_and(|at| Timestamp::try_from(at).is_ok_and(|at| at < bound));
            if old { store.remove(&digest).map(|()| true) } else { Ok(false) }
        })
        .await??;
        if removed {
            crash::point("sweep-orphan-gone");
            tracing::info!(%digest, "bytes that a crash had left without a row are gone");
            gone += 1;
        }
    }
    Ok(gone)
}

fn folders(root: &PathBuf) -> Result<Vec<PathBuf>, StoreError> {
    let entries = std::fs::read_dir(root).map_err(StoreError::io("list", root))?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(StoreError::io("list", root))).collect()
}

/// Blobs by the names of their files. What has another name is not ours to remove.
fn files(algorithm: Algorithm, folder: &PathBuf) -> Result<Vec<Digest>, StoreError> {
    let entries = std::fs::read_dir(folder).map_err(StoreError::io("list", folder))?;
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(StoreError::io("list", folder))?.file_name();
        found.extend(Tree::named(algorithm, &name));
    }
    Ok(found)
}
