//! Rows of manifests: their bytes, what they consist of, and what they are attached to.

use std::collections::BTreeMap;

use jiff::Timestamp;
use nebh_oci::digest::Digest;
use nebh_oci::names::Repository;
use sqlx::sqlite::SqliteRow;

use super::{Db, DbError, Write, column, digest, micros, size};
use crate::Name;

/// A manifest as it was pushed.
#[derive(Clone, Debug)]
pub struct StoredManifest {
    /// Under this name.
    pub digest: Digest,
    /// With this `Content-Type`.
    pub media_type: String,
    /// These bytes.
    pub bytes: Vec<u8>,
}

/// What a manifest consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A config or a layer, and its size.
    Blob(Digest, u64),
    /// A child of an index.
    Manifest(Digest),
}

impl Part {
    /// Its digest.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Blob(digest, _) | Self::Manifest(digest) => *digest,
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Blob(..) => "blob",
            Self::Manifest(_) => "manifest",
        }
    }
}

/// What is wrong with a part of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The repository does not have it.
    Missing(Digest),
    /// It has it, and it is not as large as the manifest says.
    Size {
        /// Which.
        digest: Digest,
        /// By the manifest.
        said: u64,
        /// In fact.
        actual: u64,
    },
}

/// A manifest to be stored.
#[derive(Clone, Debug)]
pub struct NewManifest {
    /// The name, bytes and type.
    pub stored: StoredManifest,
    /// For the referrers list.
    pub artifact_type: Option<String>,
    /// What it is attached to.
    pub subject: Option<Digest>,
    /// For the referrers list.
    pub annotations: BTreeMap<String, String>,
    /// What it consists of.
    pub parts: Vec<Part>,
}

/// One line of a referrers list.
#[derive(Clone, Debug)]
pub struct Referrer {
    /// The manifest that is attached.
    pub digest: Digest,
    /// Its type.
    pub media_type: String,
    /// Its size.
    pub size: u64,
    /// What kind of artifact it is.
    pub artifact_type: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A manifest's line without its bytes.
#[derive(Clone, Debug)]
pub struct ManifestHead {
    /// Its name.
    pub digest: Digest,
    /// Its type.
    pub media_type: String,
    /// Its size.
    pub size: u64,
}

type BytesRow = (String, String, Vec<u8>);
type HeadRow = (String, String, i64);

/// The live manifest that a name leads to: `$1` the repository, `$2` a digest or nothing, `$3` a tag or nothing.
macro_rules! by_name {
    ($columns:literal) => {
        concat!(
            "SELECT manifest.digest, manifest.media_type, ",
            $columns,
            " WHERE manifest.repository = $1 AND manifest.dropped IS NULL AND manifest.digest = \
              COALESCE($2, (SELECT digest FROM tag WHERE repository = $1 AND name = $3))"
        )
    };
}

impl Db {
    /// A live manifest.
    pub async fn manifest(&self, repository: &Repository, name: &Name) -> Result<Option<StoredManifest>, DbError> {
        let quiet = self.remembered.quiet();
        if let Some(found) = quiet.and_then(|quiet| self.remembered.manifest(quiet, repository, name)) {
            return Ok(Some(found));
        }
        let sql = by_name!(
            "manifest_bytes.bytes FROM manifest JOIN manifest_bytes ON manifest_bytes.digest = manifest.digest"
        );
        let row: Option<BytesRow> = self.by_name(sql, repository, name).await?;
        let found = row.map(stored).transpose()?;
        if let (Some(quiet), Some(found)) = (quiet, &found) {
            self.remembered.keep_manifest(quiet, repository, name, found);
        }
        Ok(found)
    }

    /// Whether a live manifest is there, without its bytes.
    pub async fn manifest_head(&self, repository: &Repository, name: &Name) -> Result<Option<ManifestHead>, DbError> {
        let quiet = self.remembered.quiet();
        if let Some(found) = quiet.and_then(|quiet| self.remembered.head(quiet, repository, name)) {
            return Ok(Some(found));
        }
        let row: Option<HeadRow> = self.by_name(by_name!("manifest.size FROM manifest"), repository, name).await?;
        let found = row.map(head).transpose()?;
        if let (Some(quiet), Some(found)) = (quiet, &found) {
            self.remembered.keep_head(quiet, repository, name, found);
        }
        Ok(found)
    }

    async fn by_name<R>(&self, sql: &'static str, repository: &Repository, name: &Name) -> Result<Option<R>, DbError>
    where
        R: for<'r> sqlx::FromRow<'r, SqliteRow> + Send + Unpin,
    {
        let (digest, tag) = match name {
            Name::Digest(digest) => (Some(digest.to_string()), None),
            Name::Tag(tag) => (None, Some(tag.as_str())),
        };
        sqlx::query_as(sql)
            .bind(repository.as_str())
            .bind(digest)
            .bind(tag)
            .fetch_optional(self.read())
            .await
            .map_err(DbError::at("looking up a manifest"))
    }

    /// One page of what is attached to a manifest, in the order of the digests.
    pub async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Digest>,
        limit: u32,
    ) -> Result<Vec<Referrer>, DbError> {
        let rows = sqlx::query_as::<_, (String, String, i64, Option<String>, String)>(
            "SELECT digest, media_type, size, artifact_type, annotations FROM manifest \
             WHERE repository = $1 AND subject = $2 AND digest > $3 AND dropped IS NULL \
             AND ($4 IS NULL OR artifact_type = $4) ORDER BY digest LIMIT $5",
        )
        .bind(repository.as_str())
        .bind(subject.to_string())
        .bind(after.map(Digest::to_string).unwrap_or_default())
        .bind(artifact_type)
        .bind(i64::from(limit))
        .fetch_all(self.read())
        .await
        .map_err(DbError::at("listing referrers"))?;
        rows.into_iter().map(referrer).collect()
    }
}

fn stored((name, media_type, bytes): BytesRow) -> Result<StoredManifest, DbError> {
    Ok(StoredManifest { digest: digest(&name)?, media_type, bytes })
}

fn head((name, media_type, bytes): HeadRow) -> Result<ManifestHead, DbError> {
    Ok(ManifestHead { digest: digest(&name)?, media_type, size: size(bytes) })
}

fn referrer(row: (String, String, i64, Option<String>, String)) -> Result<Referrer, DbError> {
    let (name, media_type, bytes, artifact_type, annotations) = row;
    let annotations = serde_json::from_str(&annotations)
        .map_err(|_| DbError::Row { what: "map of annotations", value: annotations })?;
    Ok(Referrer { digest: digest(&name)?, media_type, size: size(bytes), artifact_type, annotations })
}

/// Stores a manifest, or brings it back if it was dropped. Returns what is wrong with its parts; the caller
/// decides whether that is an error. Blobs that are there are noted as wanted.
pub async fn put(
    tx: &mut Write<'_>,
    repository: &Repository,
    new: &NewManifest,
    now: Timestamp,
) -> Result<Vec<Lack>, DbError> {
    let name = new.stored.digest.to_string();
    let lacks = present_parts(tx, repository, &new.parts, now).await?;
    sqlx::query("INSERT INTO repository (name, created) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
        .bind(repository.as_str())
        .bind(micros(now))
        .execute(&mut **tx)
        .await
        .map_err(DbError::at("recording a repository"))?;
    // Bytes that rotted are replaced: these here were compared with their name a moment ago.
    sqlx::query(
        "INSERT INTO manifest_bytes (digest, bytes) VALUES ($1, $2) \
         ON CONFLICT (digest) DO UPDATE SET bytes = $2 WHERE manifest_bytes.bytes <> $2",
    )
    .bind(&name)
    .bind(&new.stored.bytes)
    .execute(&mut **tx)
    .await
    .map_err(DbError::at("storing a manifest"))?;
    let annotations = serde_json::Value::from_iter(new.annotations.clone()).to_string();
    // The media type of the first push stays: the same bytes cannot be two things.
    sqlx::query(
        "INSERT INTO manifest (repository, digest, media_type, size, artifact_type, subject, annotations, pushed) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
         ON CONFLICT (repository, digest) DO UPDATE SET pushed = $8, dropped = NULL, drop_reason = NULL",
    )
    .bind(repository.as_str())
    .bind(&name)
    .bind(&new.stored.media_type)
    .bind(column(new.stored.bytes.len() as u64))
    .bind(&new.artifact_type)
    .bind(new.subject.map(|subject| subject.to_string()))
    .bind(annotations)
    .bind(micros(now))
    .execute(&mut **tx)
    .await
    .map_err(DbError::at("storing a manifest"))?;
    for part in &new.parts {
        sqlx::query(
            "INSERT INTO manifest_part (repository, manifest, part, kind) VALUES ($1, $2, $3, $4) \
             ON CONFLICT DO NOTHING",
        )
        .bind(repository.as_str())
        .bind(&name)
        .bind(part.digest().to_string())
        .bind(part.kind())
        .execute(&mut **tx)
        .await
        .map_err(DbError::at("storing a manifest's parts"))?;
    }
    Ok(lacks)
}

/// What is wrong with the parts; those that are there are noted as wanted.
async fn present_parts(
    tx: &mut Write<'_>,
    repository: &Repository,
    parts: &[Part],
    now: Timestamp,
) -> Result<Vec<Lack>, DbError> {
    let what = "looking for a manifest's parts";
    let mut lacks = Vec::new();
    for part in parts {
        let digest = part.digest();
        match part {
            Part::Blob(_, said) => {
                let found = sqlx::query_scalar::<_, i64>(
                    "UPDATE blob SET seen = $3, state = 'live', condemned = NULL \
                     WHERE digest = $2 AND state <> 'quarantined' AND EXISTS (\
                       SELECT 1 FROM repository_blob WHERE repository = $1 AND digest = $2) RETURNING size",
                )
                .bind(repository.as_str())
                .bind(digest.to_string())
                .bind(micros(now))
                .fetch_optional(&mut **tx)
                .await
                .map_err(DbError::at(what))?;
                match found.map(size) {
                    None => lacks.push(Lack::Missing(digest)),
                    Some(actual) if actual != *said => lacks.push(Lack::Size { digest, said: *said, actual }),
                    Some(_) => {}
                }
            }
            // What only retention dropped is wanted again.
            Part::Manifest(_) => {
                let found = sqlx::query(
                    "UPDATE manifest SET dropped = NULL, drop_reason = NULL WHERE repository = $1 AND digest = $2 \
                     AND (dropped IS NULL OR drop_reason LIKE 'retention:%')",
                )
                .bind(repository.as_str())
                .bind(digest.to_string())
                .execute(&mut **tx)
                .await
                .map_err(DbError::at(what))?;
                if found.rows_affected() == 0 {
                    lacks.push(Lack::Missing(digest));
                }
            }
        }
    }
    Ok(lacks)
}
