//! Manifests that were dropped: restorable for a time, then forgotten with their parts.

use jiff::Timestamp;
use nebh_oci::digest::Digest;
use nebh_oci::names::Repository;

use super::{Db, DbError, Write, digest, micros};

/// Whether a manifest is there and not dropped, inside a writing transaction.
pub async fn is_live(tx: &mut Write<'_>, repository: &Repository, name: &Digest) -> Result<bool, DbError> {
    sqlx::query_scalar::<_, i64>("SELECT 1 FROM manifest WHERE repository = $1 AND digest = $2 AND dropped IS NULL")
        .bind(repository.as_str())
        .bind(name.to_string())
        .fetch_optional(&mut **tx)
        .await
        .map(|found| found.is_some())
        .map_err(DbError::at("looking up a manifest"))
}

/// Drops a manifest so that it can be restored. False if it is not there.
pub async fn drop_manifest(
    tx: &mut Write<'_>,
    repository: &Repository,
    name: &Digest,
    reason: &str,
    now: Timestamp,
) -> Result<bool, DbError> {
    sqlx::query(
        "UPDATE manifest SET dropped = $3, drop_reason = $4 \
         WHERE repository = $1 AND digest = $2 AND dropped IS NULL",
    )
    .bind(repository.as_str())
    .bind(name.to_string())
    .bind(micros(now))
    .bind(reason)
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() > 0)
    .map_err(DbError::at("dropping a manifest"))
}

/// Brings back a dropped manifest, and the repository's right to hand out its blobs. False if it is not dropped.
pub async fn restore(tx: &mut Write<'_>, repository: &Repository, name: &Digest) -> Result<bool, DbError> {
    let back = sqlx::query(
        "UPDATE manifest SET dropped = NULL, drop_reason = NULL \
         WHERE repository = $1 AND digest = $2 AND dropped IS NOT NULL",
    )
    .bind(repository.as_str())
    .bind(name.to_string())
    .execute(&mut **tx)
    .await
    .map_err(DbError::at("restoring a manifest"))?
    .rows_affected()
        > 0;
    if back {
        sqlx::query(
            "INSERT INTO repository_blob (repository, digest) \
             SELECT $1, manifest_part.part FROM manifest_part JOIN blob ON blob.digest = manifest_part.part \
             WHERE manifest_part.repository = $1 AND manifest_part.manifest = $2 AND manifest_part.kind = 'blob' \
             ON CONFLICT DO NOTHING",
        )
        .bind(repository.as_str())
        .bind(name.to_string())
        .execute(&mut **tx)
        .await
        .map_err(DbError::at("restoring a manifest's blobs"))?;
    }
    Ok(back)
}

/// A manifest, all that it consists of, and all that is attached to any of these; dropped ones included.
pub async fn under(tx: &mut Write<'_>, repository: &Repository, top: &Digest) -> Result<Vec<Digest>, DbError> {
    let found = sqlx::query_scalar::<_, String>(
        "WITH RECURSIVE below(digest) AS (\
           SELECT $2 \
           UNION SELECT manifest_part.part FROM below JOIN manifest_part ON manifest_part.manifest = below.digest \
             WHERE manifest_part.repository = $1 AND manifest_part.kind = 'manifest' \
           UNION SELECT manifest.digest FROM below JOIN manifest ON manifest.subject = below.digest \
             WHERE manifest.repository = $1) \
         SELECT digest FROM below",
    )
    .bind(repository.as_str())
    .bind(top.to_string())
    .fetch_all(&mut **tx)
    .await
    .map_err(DbError::at("looking for what belongs to a manifest"))?;
    found.iter().map(|text| digest(text)).collect()
}

/// Manifests dropped before `bound`, oldest first; at most `limit`.
pub async fn dropped(db: &Db, bound: Timestamp, limit: u32) -> Result<Vec<(String, String)>, DbError> {
    sqlx::query_as("SELECT repository, digest FROM manifest WHERE dropped < $1 ORDER BY dropped LIMIT $2")
        .bind(micros(bound))
        .bind(i64::from(limit))
        .fetch_all(db.read())
        .await
        .map_err(DbError::at("listing dropped manifests"))
}

/// Forgets a manifest if it still is dropped since before `bound`: from here on it cannot be restored. False if not.
pub async fn forget(tx: &mut Write<'_>, repository: &str, digest: &str, bound: Timestamp) -> Result<bool, DbError> {
    let failed = || DbError::at("forgetting a dropped manifest");
    let gone = sqlx::query("DELETE FROM manifest WHERE repository = $1 AND digest = $2 AND dropped < $3")
        .bind(repository)
        .bind(digest)
        .bind(micros(bound))
        .execute(&mut **tx)
        .await
        .map_err(failed())?
        .rows_affected();
    if gone == 0 {
        return Ok(false);
    }
    sqlx::query("DELETE FROM manifest_part WHERE repository = $1 AND manifest = $2")
        .bind(repository)
        .bind(digest)
        .execute(&mut **tx)
        .await
        .map_err(failed())?;
    sqlx::query(
        "DELETE FROM manifest_bytes WHERE digest = $1 AND NOT EXISTS (SELECT 1 FROM manifest WHERE manifest.digest = $1)",
    )
    .bind(digest)
    .execute(&mut **tx)
    .await
    .map_err(failed())?;
    Ok(true)
}

/// Forgets where tags dropped before `bound` led; at most `limit`. Returns how many.
pub async fn forget_tags(tx: &mut Write<'_>, bound: Timestamp, limit: u32) -> Result<u64, DbError> {
    sqlx::query("DELETE FROM dropped_tag WHERE rowid IN (SELECT rowid FROM dropped_tag WHERE dropped < $1 LIMIT $2)")
        .bind(micros(bound))
        .bind(i64::from(limit))
        .execute(&mut **tx)
        .await
        .map(|done| done.rows_affected())
        .map_err(DbError::at("forgetting dropped tags"))
}
