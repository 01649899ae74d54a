//! Rows of events: what was done and refused, in order, for people and audits. Never changed afterwards.

use jiff::Timestamp;
use nebh_oci::names::Repository;

use super::{Db, DbError, Write, micros, timestamp};

/// One event.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Event {
    /// Ordered by time.
    pub id: String,
    /// When.
    #[serde(serialize_with = "super::as_text")]
    pub at: Option<Timestamp>,
    /// `admitted`, `refused`, `pinned`, …
    pub kind: String,
    /// Where.
    pub repository: String,
    /// On which tag or digest.
    pub subject: String,
    /// In words.
    pub detail: String,
}

/// Writes an event in the transaction that does what it tells.
pub async fn record(
    tx: &mut Write<'_>,
    kind: &'static str,
    repository: Option<&Repository>,
    subject: &str,
    detail: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    sqlx::query("INSERT INTO event (id, at, kind, repository, subject, detail) VALUES ($1, $2, $3, $4, $5, $6)")
        .bind(uuid::Uuid::now_v7().to_string())
        .bind(micros(now))
        .bind(kind)
        .bind(repository.map(Repository::as_str).unwrap_or_default())
        .bind(subject)
        .bind(detail)
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(DbError::at("recording an event"))
}

impl Db {
    /// The newest events first, of one subject or of all.
    pub async fn events(
        &self,
        repository: Option<&Repository>,
        subject: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Event>, DbError> {
        let rows = sqlx::query_as::<_, (String, i64, String, String, String, String)>(
            "SELECT id, at, kind, repository, subject, detail FROM event \
             WHERE ($1 IS NULL OR repository = $1) AND ($2 IS NULL OR subject = $2) ORDER BY id DESC LIMIT $3",
        )
        .bind(repository.map(Repository::as_str))
        .bind(subject)
        .bind(i64::from(limit))
        .fetch_all(self.read())
        .await
        .map_err(DbError::at("listing events"))?;
        Ok(rows
            .into_iter()
            .map(|(id, at, kind, repository, subject, detail)| Event {
                id,
                at: timestamp(at),
                kind,
                repository,
                subject,
                detail,
            })
            .collect())
    }
}
