//! Rows of events: what was done and refused, in order, for people and audits. Never changed afterwards; only refusals,
//! which anybody can cause, are forgotten when there are very many.

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

/// Writes that a tag was refused, unless the last that is known of it says the same: whoever repeats a push a thousand
/// times must not fill the disk with it.
pub async fn refused(
    tx: &mut Write<'_>,
    repository: &Repository,
    subject: &str,
    detail: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    let last = sqlx::query_as::<_, (String, String)>(
        "SELECT kind, detail FROM event WHERE repository = $1 AND subject = $2 ORDER BY id DESC LIMIT 1",
    )
    .bind(repository.as_str())
    .bind(subject)
    .fetch_optional(&mut **tx)
    .await
    .map_err(DbError::at("looking for the last event"))?;
    if last.is_some_and(|(kind, told)| kind == "refused" && told == detail) {
        return Ok(());
    }
    record(tx, "refused", Some(repository), subject, detail, now).await
}

/// Forgets the oldest refusals beyond the newest `kept`; everything else that happened is kept for ever.
pub async fn forget_refusals(tx: &mut Write<'_>, kept: u32) -> Result<u64, DbError> {
    sqlx::query(
        "DELETE FROM event WHERE kind = 'refused' AND id <= \
           (SELECT id FROM event WHERE kind = 'refused' ORDER BY id DESC LIMIT 1 OFFSET $1)",
    )
    .bind(i64::from(kept))
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected())
    .map_err(DbError::at("forgetting old refusals"))
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
