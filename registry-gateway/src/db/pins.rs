//! Rows of pins, channel heads and what hosts reported: all that keeps things beside being recent.

use jiff::Timestamp;
use nebh_oci::digest::Digest;
use nebh_oci::media_type::SIGSTORE_BUNDLE_V03;
use nebh_oci::names::{Repository, Tag};
use sqlx::SqliteConnection;

use super::{Db, DbError, Write, column, digest, micros, parsed, timestamp};

/// Who made a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinKind {
    /// Admission, for a release tag.
    Release,
    /// A person.
    Manual,
}

impl PinKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Manual => "manual",
        }
    }
}

/// One pin.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Pin {
    /// In this repository.
    pub repository: Repository,
    /// A tag, or a digest's text.
    pub name: String,
    /// What stays in place.
    pub digest: Digest,
    /// Who made it.
    pub kind: PinKind,
    /// Why.
    pub reason: String,
    /// When.
    #[serde(serialize_with = "super::as_text")]
    pub made: Option<Timestamp>,
}

/// One thing that a host uses.
#[derive(Clone, Debug, serde::Serialize)]
pub struct HostUse {
    /// In this repository.
    pub repository: Repository,
    /// This manifest.
    pub digest: Digest,
    /// Version and role: `1.0.0 running`, `1.0.0 way-back`.
    pub why: String,
}

/// What a host reported at one time.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Reported {
    /// Which host.
    pub node: String,
    /// For which application.
    pub app: String,
    /// When.
    #[serde(serialize_with = "super::as_text")]
    pub at: Option<Timestamp>,
    /// What it uses.
    #[serde(flatten)]
    pub used: HostUse,
}

impl Db {
    /// All pins, of one repository or of all.
    pub async fn pins(&self, repository: Option<&Repository>) -> Result<Vec<Pin>, DbError> {
        let rows = sqlx::query_as::<_, (String, String, String, String, String, i64)>(
            "SELECT repository, name, digest, kind, reason, made FROM pin \
             WHERE $1 IS NULL OR repository = $1 ORDER BY repository, name",
        )
        .bind(repository.map(Repository::as_str))
        .fetch_all(self.read())
        .await
        .map_err(DbError::at("listing pins"))?;
        rows.into_iter()
            .map(|(repository, name, held, kind, reason, made)| {
                Ok(Pin {
                    repository: parsed("repository", &repository)?,
                    name,
                    digest: digest(&held)?,
                    kind: if kind == "release" { PinKind::Release } else { PinKind::Manual },
                    reason,
                    made: timestamp(made),
                })
            })
            .collect()
    }

    /// What hosts reported last.
    pub async fn host_uses(&self) -> Result<Vec<Reported>, DbError> {
        let rows = sqlx::query_as::<_, (String, String, String, String, String, i64)>(
            "SELECT node, app, repository, digest, why, reported FROM host_use ORDER BY node, app, repository, digest",
        )
        .fetch_all(self.read())
        .await
        .map_err(DbError::at("listing what hosts use"))?;
        rows.into_iter()
            .map(|(node, app, repository, used, why, reported)| {
                let used = HostUse { repository: parsed("repository", &repository)?, digest: digest(&used)?, why };
                Ok(Reported { node, app, at: timestamp(reported), used })
            })
            .collect()
    }
}

/// Pins a name to a digest; a pin that is there stays as it was made.
pub async fn pin(
    tx: &mut Write<'_>,
    repository: &Repository,
    name: &str,
    to: &Digest,
    kind: PinKind,
    reason: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO pin (repository, name, digest, kind, reason, made) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (repository, name) DO NOTHING",
    )
    .bind(repository.as_str())
    .bind(name)
    .bind(to.to_string())
    .bind(kind.as_str())
    .bind(reason)
    .bind(micros(now))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(DbError::at("pinning"))
}

/// Takes a pin away. False if there is none.
pub async fn unpin(tx: &mut Write<'_>, repository: &Repository, name: &str) -> Result<bool, DbError> {
    sqlx::query("DELETE FROM pin WHERE repository = $1 AND name = $2")
        .bind(repository.as_str())
        .bind(name)
        .execute(&mut **tx)
        .await
        .map(|done| done.rows_affected() > 0)
        .map_err(DbError::at("unpinning"))
}

/// The pin that holds a manifest in place: its own, that of an index it belongs to (a release holds an image index, which
/// holds images), or that of what it signs: whoever could delete the signatures of a release would make it worthless.
pub async fn holding(
    connection: &mut SqliteConnection,
    repository: &Repository,
    held: &Digest,
) -> Result<Option<String>, DbError> {
    sqlx::query_scalar::<_, String>(
        "WITH RECURSIVE above(digest, depth) AS (\
           SELECT $2, 0 \
           UNION SELECT manifest_part.manifest, above.depth + 1 FROM above \
           JOIN manifest_part ON manifest_part.part = above.digest \
           WHERE manifest_part.repository = $1 AND above.depth < 8 \
           UNION SELECT manifest.subject, above.depth + 1 FROM above JOIN manifest ON manifest.digest = above.digest \
           WHERE manifest.repository = $1 AND manifest.artifact_type = $3 AND manifest.subject IS NOT NULL \
           AND above.depth < 8) \
         SELECT pin.name FROM pin JOIN above ON pin.digest = above.digest WHERE pin.repository = $1 LIMIT 1",
    )
    .bind(repository.as_str())
    .bind(held.to_string())
    .bind(SIGSTORE_BUNDLE_V03)
    .fetch_optional(connection)
    .await
    .map_err(DbError::at("looking for a pin"))
}

/// Raises the floor of a channel.
pub async fn raise_head(
    tx: &mut Write<'_>,
    repository: &Repository,
    tag: &Tag,
    counter: u64,
    head: &Digest,
    lists: &[Digest],
) -> Result<(), DbError> {
    let lists = serde_json::json!(lists).to_string();
    sqlx::query(
        "INSERT INTO channel (repository, name, counter, digest, lists) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (repository, name) DO UPDATE SET counter = $3, digest = $4, lists = $5 \
         WHERE channel.counter <= $3",
    )
    .bind(repository.as_str())
    .bind(tag.as_str())
    .bind(column(counter))
    .bind(head.to_string())
    .bind(lists)
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(DbError::at("recording a channel head"))
}

/// Replaces what a host uses for one application by its newest report.
pub async fn report(
    tx: &mut Write<'_>,
    node: &str,
    app: &str,
    uses: &[HostUse],
    now: Timestamp,
) -> Result<(), DbError> {
    sqlx::query("DELETE FROM host_use WHERE node = $1 AND app = $2")
        .bind(node)
        .bind(app)
        .execute(&mut **tx)
        .await
        .map_err(DbError::at("recording a host's report"))?;
    for used in uses {
        sqlx::query(
            "INSERT INTO host_use (node, app, repository, digest, why, reported) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (node, app, repository, digest) DO UPDATE SET why = host_use.why || ', ' || $5",
        )
        .bind(node)
        .bind(app)
        .bind(used.repository.as_str())
        .bind(used.digest.to_string())
        .bind(&used.why)
        .bind(micros(now))
        .execute(&mut **tx)
        .await
        .map_err(DbError::at("recording a host's report"))?;
    }
    Ok(())
}
