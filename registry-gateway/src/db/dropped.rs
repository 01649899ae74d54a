//! Manifests that were dropped: restorable for a time, then forgotten with their parts.

use jiff::Timestamp;
use nebh_oci::digest::Digest;
use nebh_oci::names::Repository;

use super::{DbError, Write, digest, micros};

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

/// Forgets manifests dropped before `bound`: from here on they cannot be restored. Returns how many.
pub async fn forget_dropped(tx: &mut Write<'_>, bound: Timestamp) -> Result<u64, DbError> {
    let bound = micros(bound);
    sqlx::query(
        "DELETE FROM manifest_part WHERE EXISTS (SELECT 1 FROM manifest \
         WHERE manifest.repository = manifest_part.repository AND manifest.digest = manifest_part.manifest \
         AND manifest.dropped < $1)",
    )
    .bind(bound)
    .execute(&mut **tx)
    .await
    .map_err(DbError::at("forgetting dropped manifests"))?;
    let gone = sqlx::query("DELETE FROM manifest WHERE dropped < $1")
        .bind(bound)
        .execute(&mut **tx)
        .await
        .map_err(DbError::at("forgetting dropped manifests"))?
        .rows_affected();
    if gone > 0 {
        sqlx::query(
            "DELETE FROM manifest_bytes WHERE NOT EXISTS (\
             SELECT 1 FROM manifest WHERE manifest.digest = manifest_bytes.digest)",
        )
        .execute(&mut **tx)
        .await
        .map_err(DbError::at("forgetting dropped manifests"))?;
    }
    sqlx::query("DELETE FROM dropped_tag WHERE dropped < $1")
        .bind(bound)
        .execute(&mut **tx)
        .await
        .map_err(DbError::at("forgetting dropped tags"))?;
    Ok(gone)
}
