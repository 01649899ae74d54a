//! Rows of blobs: which exist, which repository may hand them out, and when somebody last asked for them.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use nebh_oci::digest::Digest;
use nebh_oci::names::Repository;

use super::{Db, DbError, Write, column, digest, micros, size};

impl Db {
    /// A blob that this repository may hand out.
    pub async fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<BlobRow>, DbError> {
        let found = sqlx::query_as::<_, (i64, i64, String)>(
            "SELECT blob.size, blob.seen, blob.state FROM repository_blob \
             JOIN blob ON blob.digest = repository_blob.digest \
             WHERE repository_blob.repository = $1 AND repository_blob.digest = $2 AND blob.state <> 'quarantined'",
        )
        .bind(repository.as_str())
        .bind(digest.to_string())
        .fetch_optional(self.read())
        .await
        .map_err(DbError::at("looking up a blob"))?;
        Ok(found.map(|(bytes, seen, state)| BlobRow { size: size(bytes), seen, condemned: state == "condemned" }))
    }

    /// Whether a blob is known to be damaged.
    pub async fn is_quarantined(&self, digest: &Digest) -> Result<bool, DbError> {
        sqlx::query_scalar::<_, i64>("SELECT 1 FROM blob WHERE digest = $1 AND state = 'quarantined'")
            .bind(digest.to_string())
            .fetch_optional(self.read())
            .await
            .map(|found| found.is_some())
            .map_err(DbError::at("looking up a blob"))
    }

    /// The blobs between two digests, both included, whatever their state.
    pub async fn blobs_between(&self, first: &Digest, last: &Digest) -> Result<HashSet<Digest>, DbError> {
        let found = sqlx::query_scalar::<_, String>("SELECT digest FROM blob WHERE digest >= $1 AND digest <= $2")
            .bind(first.to_string())
            .bind(last.to_string())
            .fetch_all(self.read())
            .await
            .map_err(DbError::at("listing blobs"))?;
        found.iter().map(|text| digest(text)).collect()
    }

    /// Whether any repository has a blob; its size.
    pub async fn blob_anywhere(&self, digest: &Digest) -> Result<Option<u64>, DbError> {
        sqlx::query_scalar::<_, i64>(
            "SELECT size FROM blob WHERE digest = $1 AND state <> 'quarantined' \
             AND EXISTS (SELECT 1 FROM repository_blob WHERE repository_blob.digest = blob.digest)",
        )
        .bind(digest.to_string())
        .fetch_optional(self.read())
        .await
        .map(|found| found.map(size))
        .map_err(DbError::at("looking up a blob"))
    }
}

/// What is known of a blob.
#[derive(Clone, Copy, Debug)]
pub struct BlobRow {
    /// Its size.
    pub size: u64,
    seen: i64,
    condemned: bool,
}

impl BlobRow {
    /// Whether a pusher's question about the blob must be written down, so that the sweep leaves it alone: it is
    /// condemned, or was last seen more than a quarter of the grace ago.
    pub fn is_stale(&self, grace: Duration, now: Timestamp) -> bool {
        let quarter = i64::try_from(grace.as_micros() / 4).unwrap_or(i64::MAX);
        self.condemned || self.seen < micros(now).saturating_sub(quarter)
    }
}

/// Notes that a blob is wanted: takes back a condemnation and starts the grace anew. False if it is gone.
pub async fn touch(tx: &mut Write<'_>, digest: &Digest, now: Timestamp) -> Result<bool, DbError> {
    sqlx::query(
        "UPDATE blob SET seen = $2, state = 'live', condemned = NULL WHERE digest = $1 AND state <> 'quarantined'",
    )
    .bind(digest.to_string())
    .bind(micros(now))
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() > 0)
    .map_err(DbError::at("noting that a blob is wanted"))
}

/// Records a blob whose bytes are durable, and that this repository may hand it out.
pub async fn record(
    tx: &mut Write<'_>,
    repository: &Repository,
    digest: &Digest,
    bytes: u64,
    now: Timestamp,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO blob (digest, size, state, seen) VALUES ($1, $2, 'live', $3) \
         ON CONFLICT (digest) DO UPDATE SET size = $2, state = 'live', seen = $3, condemned = NULL",
    )
    .bind(digest.to_string())
    .bind(column(bytes))
    .bind(micros(now))
    .execute(&mut **tx)
    .await
    .map_err(DbError::at("recording a blob"))?;
    grant(tx, repository, digest, now).await
}

/// Lets a repository hand out a blob that exists.
pub async fn grant(
    tx: &mut Write<'_>,
    repository: &Repository,
    digest: &Digest,
    now: Timestamp,
) -> Result<(), DbError> {
    sqlx::query("INSERT INTO repository (name, created) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
        .bind(repository.as_str())
        .bind(micros(now))
        .execute(&mut **tx)
        .await
        .map_err(DbError::at("recording a repository"))?;
    sqlx::query("INSERT INTO repository_blob (repository, digest) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(repository.as_str())
        .bind(digest.to_string())
        .execute(&mut **tx)
        .await
        .map_err(DbError::at("granting a blob"))?;
    Ok(())
}

/// Takes a blob from a repository. False if the repository did not have it.
pub async fn withdraw(tx: &mut Write<'_>, repository: &Repository, digest: &Digest) -> Result<bool, DbError> {
    sqlx::query("DELETE FROM repository_blob WHERE repository = $1 AND digest = $2")
        .bind(repository.as_str())
        .bind(digest.to_string())
        .execute(&mut **tx)
        .await
        .map(|done| done.rows_affected() > 0)
        .map_err(DbError::at("withdrawing a blob"))
}

/// A live manifest of the repository that needs this blob.
pub async fn needed_by(tx: &mut Write<'_>, repository: &Repository, blob: &Digest) -> Result<Option<Digest>, DbError> {
    let found = sqlx::query_scalar::<_, String>(
        "SELECT manifest_part.manifest FROM manifest_part \
         JOIN manifest ON manifest.repository = manifest_part.repository AND manifest.digest = manifest_part.manifest \
         WHERE manifest_part.part = $2 AND manifest_part.repository = $1 AND manifest.dropped IS NULL LIMIT 1",
    )
    .bind(repository.as_str())
    .bind(blob.to_string())
    .fetch_optional(&mut **tx)
    .await
    .map_err(DbError::at("looking for a blob's users"))?;
    found.as_deref().map(digest).transpose()
}

/// Takes a damaged blob out of service; a new push of the same digest puts it back.
pub async fn quarantine(tx: &mut Write<'_>, digest: &Digest) -> Result<(), DbError> {
    sqlx::query("UPDATE blob SET state = 'quarantined', condemned = NULL WHERE digest = $1")
        .bind(digest.to_string())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(DbError::at("quarantining a blob"))
}

/// Blobs that nothing refers to and that were last seen before `bound`; at most `limit`. Referring counts from every
/// manifest row, dropped ones included: what can be restored needs its bytes.
pub async fn unreferenced(db: &Db, bound: Timestamp, limit: u32) -> Result<Vec<Digest>, DbError> {
    let found = sqlx::query_scalar::<_, String>(
        "SELECT digest FROM blob WHERE state = 'live' AND seen < $1 \
         AND NOT EXISTS (SELECT 1 FROM manifest_part WHERE manifest_part.part = blob.digest) LIMIT $2",
    )
    .bind(micros(bound))
    .bind(i64::from(limit))
    .fetch_all(db.read())
    .await
    .map_err(DbError::at("listing unreferenced blobs"))?;
    found.iter().map(|text| digest(text)).collect()
}

/// Condemns a blob if still nothing refers to it and nobody asked for it since `bound`. False if not.
pub async fn condemn(tx: &mut Write<'_>, blob: &Digest, bound: Timestamp, now: Timestamp) -> Result<bool, DbError> {
    sqlx::query(
        "UPDATE blob SET state = 'condemned', condemned = $3 WHERE digest = $1 AND state = 'live' AND seen < $2 \
         AND NOT EXISTS (SELECT 1 FROM manifest_part WHERE manifest_part.part = blob.digest)",
    )
    .bind(blob.to_string())
    .bind(micros(bound))
    .bind(micros(now))
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() > 0)
    .map_err(DbError::at("condemning a blob"))
}

/// Blobs condemned before `bound`; at most `limit`.
pub async fn condemned(db: &Db, bound: Timestamp, limit: u32) -> Result<Vec<Digest>, DbError> {
    let found = sqlx::query_scalar::<_, String>(
        "SELECT digest FROM blob WHERE state = 'condemned' AND condemned < $1 LIMIT $2",
    )
    .bind(micros(bound))
    .bind(i64::from(limit))
    .fetch_all(db.read())
    .await
    .map_err(DbError::at("listing condemned blobs"))?;
    found.iter().map(|text| digest(text)).collect()
}

/// Removes the rows of one blob if it is still condemned and still unreferenced; its size if so.
pub async fn forget(tx: &mut Write<'_>, blob: &Digest, bound: Timestamp) -> Result<Option<u64>, DbError> {
    let gone = sqlx::query_scalar::<_, i64>(
        "DELETE FROM blob WHERE digest = $1 AND state = 'condemned' AND condemned < $2 \
         AND NOT EXISTS (SELECT 1 FROM manifest_part WHERE manifest_part.part = blob.digest) RETURNING size",
    )
    .bind(blob.to_string())
    .bind(micros(bound))
    .fetch_optional(&mut **tx)
    .await
    .map_err(DbError::at("removing a blob's row"))?;
    if gone.is_some() {
        sqlx::query("DELETE FROM repository_blob WHERE digest = $1")
            .bind(blob.to_string())
            .execute(&mut **tx)
            .await
            .map_err(DbError::at("removing a blob's grants"))?;
    }
    Ok(gone.map(size))
}
