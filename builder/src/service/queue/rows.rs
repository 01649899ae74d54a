//! The queue's rows and what they mean: texts of the database are parsed here, once.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use nebh_trust::channel::Floor;
use serde::Serialize;

use super::super::reference::RefName;

/// Why the queue cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The database refused or is damaged.
    #[error("the build queue's database does not answer")]
    Database {
        /// Cause.
        #[source]
        source: sqlx::Error,
    },
    /// The file was written by a newer program, or is damaged.
    #[error("cannot bring the build queue's database to this program's schema")]
    Migrate {
        /// Cause.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// A row holds what this program never writes.
    #[error("the build queue holds {what} `{text}`")]
    Row {
        /// Which column.
        what: &'static str,
        /// Its text.
        text: String,
    },
}

// `?` on every statement: there is one thing a database error can mean here.
impl From<sqlx::Error> for QueueError {
    fn from(source: sqlx::Error) -> Self {
        Self::Database { source }
    }
}

fn row_error(what: &'static str, text: impl Into<String>) -> QueueError {
    QueueError::Row { what, text: text.into() }
}

/// Identity of a build.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct BuildId(String);

impl BuildId {
    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BuildId {
    type Err = QueueError;

    fn from_str(text: &str) -> Result<Self, QueueError> {
        match uuid::Uuid::try_parse(text) {
            Ok(id) => Ok(Self(id.to_string())),
            Err(_) => Err(row_error("build id", text.chars().take(80).collect::<String>())),
        }
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a build stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildState {
    /// Waits for the worker.
    Queued,
    /// Being built.
    Running,
    /// Built, signed, pushed.
    Done,
    /// Failed; the build says why.
    Failed,
}

impl BuildState {
    /// The text form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    /// True once nothing more will happen by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed)
    }
}

impl FromStr for BuildState {
    type Err = QueueError;

    fn from_str(text: &str) -> Result<Self, QueueError> {
        [Self::Queued, Self::Running, Self::Done, Self::Failed]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| row_error("build state", text))
    }
}

/// One delivery of a webhook, or of `trigger`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Project.
    pub project: String,
    /// The sender's id, unique in the project.
    pub delivery: String,
    /// Event name.
    pub event: String,
    /// The reference it speaks of.
    pub reference: RefName,
    /// True if a failed build shall run again.
    pub again: bool,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// In the ledger; its reference was not read yet.
    Received,
    /// This build does what it asked for.
    Queued(BuildId),
    /// Nothing to build.
    Ignored(String),
}

/// One build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// Identity.
    pub id: BuildId,
    /// Project.
    pub project: String,
    /// Branch or tag that asked for it.
    pub reference: RefName,
    /// Commit, as the repository named it.
    pub commit: String,
    /// Where it stands.
    pub state: BuildState,
    /// How often it was begun.
    pub attempt: i64,
    /// When it was queued.
    pub created: Timestamp,
    /// When it was last begun.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// What came of it, JSON.
    pub outcome: Option<String>,
    /// Why it failed.
    pub failure: Option<String>,
}

/// One event of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Place in the build's stream, from 1.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// JSON.
    pub body: String,
}

#[derive(sqlx::FromRow)]
pub(super) struct DeliveryRow {
    project: String,
    delivery: String,
    event: String,
    reference: String,
    again: i64,
}

#[derive(sqlx::FromRow)]
pub(super) struct BuildRow {
    id: String,
    project: String,
    reference: String,
    commit_id: String,
    state: String,
    attempt: i64,
    created: i64,
    started: Option<i64>,
    finished: Option<i64>,
    outcome: Option<String>,
    failure: Option<String>,
}

#[derive(sqlx::FromRow)]
pub(super) struct EventRow {
    seq: i64,
    at: i64,
    body: String,
}

fn time(micros: i64) -> Result<Timestamp, QueueError> {
    Timestamp::from_microsecond(micros).map_err(|_| row_error("time", micros.to_string()))
}

fn reference(text: &str) -> Result<RefName, QueueError> {
    text.parse().map_err(|_| row_error("reference", text))
}

impl TryFrom<DeliveryRow> for Delivery {
    type Error = QueueError;

    fn try_from(row: DeliveryRow) -> Result<Self, QueueError> {
        Ok(Self {
            reference: reference(&row.reference)?,
            project: row.project,
            delivery: row.delivery,
            event: row.event,
            again: row.again != 0,
        })
    }
}

impl TryFrom<BuildRow> for Build {
    type Error = QueueError;

    fn try_from(row: BuildRow) -> Result<Self, QueueError> {
        Ok(Self {
            id: row.id.parse()?,
            reference: reference(&row.reference)?,
            state: row.state.parse()?,
            created: time(row.created)?,
            started: row.started.map(time).transpose()?,
            finished: row.finished.map(time).transpose()?,
            project: row.project,
            commit: row.commit_id,
            attempt: row.attempt,
            outcome: row.outcome,
            failure: row.failure,
        })
    }
}

impl TryFrom<EventRow> for Event {
    type Error = QueueError;

    fn try_from(row: EventRow) -> Result<Self, QueueError> {
        Ok(Self { seq: row.seq, at: time(row.at)?, body: row.body })
    }
}

pub(super) fn floor((counter, head): (i64, String)) -> Result<Floor, QueueError> {
    let counter = u64::try_from(counter).map_err(|_| row_error("counter", counter.to_string()))?;
    let head = head.parse().map_err(|_| row_error("head", head))?;
    Ok(Floor { counter, head: Some(head) })
}

pub(super) fn delivery_state(
    (state, reason, build): (String, Option<String>, Option<String>),
) -> Result<DeliveryState, QueueError> {
    match (state.as_str(), reason, build) {
        ("received", ..) => Ok(DeliveryState::Received),
        ("queued", _, Some(build)) => Ok(DeliveryState::Queued(build.parse()?)),
        ("ignored", reason, _) => Ok(DeliveryState::Ignored(reason.unwrap_or_default())),
        _ => Err(row_error("delivery state", state)),
    }
}
