//! The durable queue: deliveries, builds and their events in one SQLite file (WAL, every commit synced).
//!
//! ```text
//!   delivery: received ──► queued (build) | ignored (reason)
//!   build:    queued ──► running (attempt, lease) ──► done | failed
//!                ▲            │ lease over, or the service ended
//!                └────────────┘ at most ATTEMPTS_MAX times
//! ```
//!
//! A delivery is durable before it is answered. A reference at a commit is one build per destination, however many deliveries name it:
//! the `UNIQUE` row says so, not the code. A worker proves by its attempt number that a build is still its own, so one that
//! was thought dead can finish nothing.

use std::path::Path;
use std::str::FromStr;

use jiff::Timestamp;
use nebh_trust::channel::Floor;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, Transaction};
use tokio::sync::watch;

mod rows;
#[cfg(test)]
mod tests;

pub use rows::{Build, BuildId, BuildState, Delivery, DeliveryState, Event, QueueError};
use rows::{BuildRow, DeliveryRow, EventRow};

use crate::crash;

/// Attempts of one build. A build during which the service ends three times is taken for the cause of it.
pub const ATTEMPTS_MAX: i64 = 3;
/// Deliveries of one project that are looked at together.
const UNREAD_MAX: i64 = 100;
/// Builds that one listing gives back.
pub const LIST_MAX: i64 = 500;
/// Events of one build that are kept; a step that prints without end must not fill the disk.
pub const EVENTS_MAX: i64 = 100_000;

/// The queue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue {
    /// One writer: transactions that read and then write never meet each other.
    writer: SqlitePool,
    reader: SqlitePool,
    /// Counts changes, so that workers and watchers wake without asking again and again.
    changes: watch::Sender<u64>,
}

/// What recording a delivery found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// First time.
    New,
    /// The ledger has this delivery already; this is what became of it.
    Replayed(DeliveryState),
}

impl Queue {
    /// Opens or creates the file.
    pub async fn open(file: &Path) -> Result<Self, QueueError> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(std::time::Duration::from_secs(10));
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        sqlx::migrate!("./migrations").run(&writer).await.map_err(|source| QueueError::Migrate { source })?;
        let reader = SqlitePoolOptions::new().max_connections(4).connect_with(options.read_only(true)).await?;
        Ok(Self { writer, reader, changes: watch::Sender::new(0) })
    }

    /// Wakes at every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, QueueError> {
        match self.writer.begin_with("BEGIN IMMEDIATE").await {
            // A full disk makes SQLite end a transaction by itself, and the driver, whose own end of it then fails, counts
            // one that is open for ever. The next connection is new.
            Err(sqlx::Error::InvalidSavePointStatement | sqlx::Error::BeginFailed) => {
                self.writer.acquire().await?.close().await?;
                Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
            }
            outcome => Ok(outcome?),
        }
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Enters a delivery into the ledger, durably; or says that it is there already.
    pub async fn receive(&self, delivery: &Delivery, now: Timestamp) -> Result<Receipt, QueueError> {
        crash::point("delivery-entering");
        let entered = sqlx::query(
            "INSERT INTO deliveries (project, delivery, event, reference, again, received, state) \
             VALUES ($1, $2, $3, $4, $5, $6, 'received') ON CONFLICT (project, delivery) DO NOTHING",
        )
        .bind(&delivery.project)
        .bind(&delivery.delivery)
        .bind(&delivery.event)
        .bind(delivery.reference.full())
        .bind(i64::from(delivery.again))
        .bind(now.as_microsecond())
        .execute(&self.writer)
        .await?;
        crash::point("delivery-entered");
        if entered.rows_affected() == 1 {
            self.changed();
            return Ok(Receipt::New);
        }
        Ok(Receipt::Replayed(self.delivery_state(&delivery.project, &delivery.delivery).await?))
    }

    /// What became of a delivery.
    pub async fn delivery_state(&self, project: &str, delivery: &str) -> Result<DeliveryState, QueueError> {
        let row: (String, Option<String>, Option<String>) =
            sqlx::query_as("SELECT state, reason, build FROM deliveries WHERE project = $1 AND delivery = $2")
                .bind(project)
                .bind(delivery)
                .fetch_one(&self.reader)
                .await?;
        rows::delivery_state(row)
    }

    /// Deliveries whose reference was not read yet, oldest first; of each project some, so that one whose repository is away
    /// does not hold up the others.
    pub async fn unread(&self) -> Result<Vec<Delivery>, QueueError> {
        let rows: Vec<DeliveryRow> = sqlx::query_as(
            "SELECT project, delivery, event, reference, again FROM \
             (SELECT *, row_number() OVER (PARTITION BY project ORDER BY received, delivery) AS place \
             FROM deliveries WHERE state = 'received') WHERE place <= $1 ORDER BY received, delivery",
        )
        .bind(UNREAD_MAX)
        .fetch_all(&self.reader)
        .await?;
        rows.into_iter().map(Delivery::try_from).collect()
    }

    /// The delivery has nothing to build.
    pub async fn ignore(&self, delivery: &Delivery, reason: &str) -> Result<(), QueueError> {
        crash::point("delivery-ignoring");
        sqlx::query(
            "UPDATE deliveries SET state = 'ignored', reason = $3 \
             WHERE project = $1 AND delivery = $2 AND state = 'received'",
        )
        .bind(&delivery.project)
        .bind(&delivery.delivery)
        .bind(reason)
        .execute(&self.writer)
        .await?;
        crash::point("delivery-ignored");
        self.changed();
        Ok(())
    }

    /// The delivery's reference is at `commit`: queues its build for `destination`, or finds the one that is there. Once per
    /// delivery.
    pub async fn enqueue(
        &self,
        delivery: &Delivery,
        commit: &str,
        destination: &str,
        now: Timestamp,
    ) -> Result<BuildId, QueueError> {
        let mut transaction = self.begin().await?;
        let fresh = uuid::Uuid::now_v7().to_string();
        let (id,): (String,) = sqlx::query_as(
            "INSERT INTO builds (id, project, reference, commit_id, destination, state, attempt, created) \
             VALUES ($1, $2, $3, $4, $5, 'queued', 0, $6) \
             ON CONFLICT (project, reference, commit_id, destination) DO UPDATE SET id = id RETURNING id",
        )
        .bind(fresh)
        .bind(&delivery.project)
        .bind(delivery.reference.full())
        .bind(commit)
        .bind(destination)
        .bind(now.as_microsecond())
        .fetch_one(&mut *transaction)
        .await?;
        let taken = sqlx::query(
            "UPDATE deliveries SET state = 'queued', build = $3 \
             WHERE project = $1 AND delivery = $2 AND state = 'received'",
        )
        .bind(&delivery.project)
        .bind(&delivery.delivery)
        .bind(&id)
        .execute(&mut *transaction)
        .await?;
        if taken.rows_affected() == 1 && delivery.again {
            sqlx::query(
                "UPDATE builds SET state = 'queued', attempt = 0, failure = NULL, finished = NULL \
                 WHERE id = $1 AND state = 'failed'",
            )
            .bind(&id)
            .execute(&mut *transaction)
            .await?;
        }
        crash::point("build-queueing");
        transaction.commit().await?;
        crash::point("build-queued");
        self.changed();
        BuildId::from_str(&id)
    }

    /// Takes the oldest waiting build, until `lease_until`.
    pub async fn claim(&self, now: Timestamp, lease_until: Timestamp) -> Result<Option<Build>, QueueError> {
        let row: Option<BuildRow> = sqlx::query_as(
            "UPDATE builds SET state = 'running', attempt = attempt + 1, started = $1, lease_until = $2 \
             WHERE id = (SELECT id FROM builds WHERE state = 'queued' ORDER BY created, id LIMIT 1) RETURNING *",
        )
        .bind(now.as_microsecond())
        .bind(lease_until.as_microsecond())
        .fetch_optional(&self.writer)
        .await?;
        // A claim that found nothing changed nothing: to say so would wake the worker that asked, for ever.
        if row.is_some() {
            crash::point("build-claimed");
            self.changed();
        }
        row.map(Build::try_from).transpose()
    }

    /// Keeps a running build for longer. False if it is no longer this attempt's.
    pub async fn renew(&self, build: &Build, lease_until: Timestamp) -> Result<bool, QueueError> {
        let renewed =
            sqlx::query("UPDATE builds SET lease_until = $3 WHERE id = $1 AND attempt = $2 AND state = 'running'")
                .bind(build.id.as_str())
                .bind(build.attempt)
                .bind(lease_until.as_microsecond())
                .execute(&self.writer)
                .await?;
        Ok(renewed.rows_affected() == 1)
    }

    /// Puts back what an ended service left running: builds whose lease ends by `lease`. A build that used up its
    /// attempts fails instead. Returns how many were put back or failed.
    pub async fn recover(&self, lease: Timestamp, now: Timestamp) -> Result<u64, QueueError> {
        let mut transaction = self.begin().await?;
        let failed = sqlx::query(
            "UPDATE builds SET state = 'failed', finished = $1, lease_until = NULL, \
             failure = 'the service ended during each of ' || attempt || ' attempts' \
             WHERE state = 'running' AND lease_until <= $2 AND attempt >= $3",
        )
        .bind(now.as_microsecond())
        .bind(lease.as_microsecond())
        .bind(ATTEMPTS_MAX)
        .execute(&mut *transaction)
        .await?;
        let queued = sqlx::query(
            "UPDATE builds SET state = 'queued', lease_until = NULL WHERE state = 'running' AND lease_until <= $1",
        )
        .bind(lease.as_microsecond())
        .execute(&mut *transaction)
        .await?;
        crash::point("builds-recovering");
        transaction.commit().await?;
        crash::point("builds-recovered");
        self.changed();
        Ok(failed.rows_affected() + queued.rows_affected())
    }

    /// Gives a running build back untried, because the service is asked to end.
    pub async fn give_back(&self, build: &Build) -> Result<(), QueueError> {
        crash::point("build-giving-back");
        sqlx::query(
            "UPDATE builds SET state = 'queued', attempt = attempt - 1, lease_until = NULL \
             WHERE id = $1 AND attempt = $2 AND state = 'running'",
        )
        .bind(build.id.as_str())
        .bind(build.attempt)
        .execute(&self.writer)
        .await?;
        crash::point("build-given-back");
        Ok(())
    }

    /// Ends a running build: `Ok` with what came of it (JSON), or `Err` with why it failed. False if it is no longer this
    /// attempt's, and then nothing is changed.
    pub async fn finish(&self, build: &Build, end: Result<&str, &str>, now: Timestamp) -> Result<bool, QueueError> {
        let (state, outcome, failure) = match end {
            Ok(outcome) => (BuildState::Done, Some(outcome), None),
            Err(failure) => (BuildState::Failed, None, Some(failure)),
        };
        crash::point("build-ending");
        let ended = sqlx::query(
            "UPDATE builds SET state = $3, outcome = $4, failure = $5, finished = $6, lease_until = NULL \
             WHERE id = $1 AND attempt = $2 AND state = 'running'",
        )
        .bind(build.id.as_str())
        .bind(build.attempt)
        .bind(state.as_str())
        .bind(outcome)
        .bind(failure)
        .bind(now.as_microsecond())
        .execute(&self.writer)
        .await?;
        crash::point("build-ended");
        self.changed();
        Ok(ended.rows_affected() == 1)
    }

    /// Appends events of a build in one transaction. Beyond [`EVENTS_MAX`] nothing more is kept.
    pub async fn append(&self, build: &BuildId, events: &[(Timestamp, String)]) -> Result<(), QueueError> {
        let mut transaction = self.begin().await?;
        for (at, body) in events {
            sqlx::query(
                "INSERT INTO events (build, seq, at, body) SELECT $1, n, $2, $3 \
                 FROM (SELECT coalesce(max(seq), 0) + 1 AS n FROM events WHERE build = $1) WHERE n <= $4",
            )
            .bind(build.as_str())
            .bind(at.as_microsecond())
            .bind(body)
            .bind(EVENTS_MAX)
            .execute(&mut *transaction)
            .await?;
        }
        crash::point("events-writing");
        transaction.commit().await?;
        crash::point("events-written");
        self.changed();
        Ok(())
    }

    /// Events of a build after a sequence number, in order, a page at a time.
    pub async fn events(&self, build: &BuildId, after: i64) -> Result<Vec<Event>, QueueError> {
        let rows: Vec<EventRow> =
            sqlx::query_as("SELECT seq, at, body FROM events WHERE build = $1 AND seq > $2 ORDER BY seq LIMIT 500")
                .bind(build.as_str())
                .bind(after)
                .fetch_all(&self.reader)
                .await?;
        rows.into_iter().map(Event::try_from).collect()
    }

    /// How far a channel has come, as far as this service has seen.
    pub async fn floor(&self, destination: &str, channel: &str) -> Result<Floor, QueueError> {
        let row: Option<(i64, String)> =
            sqlx::query_as("SELECT counter, head FROM heads WHERE destination = $1 AND channel = $2")
                .bind(destination)
                .bind(channel)
                .fetch_optional(&self.reader)
                .await?;
        row.map_or(Ok(Floor::default()), rows::floor)
    }

    /// Remembers how far a channel has come. It never goes back.
    pub async fn raise(&self, destination: &str, channel: &str, floor: &Floor) -> Result<(), QueueError> {
        let Some(head) = &floor.head else { return Ok(()) };
        sqlx::query(
            "INSERT INTO heads (destination, channel, counter, head) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (destination, channel) DO UPDATE SET counter = excluded.counter, head = excluded.head \
             WHERE excluded.counter > heads.counter",
        )
        .bind(destination)
        .bind(channel)
        .bind(i64::try_from(floor.counter).unwrap_or(i64::MAX))
        .bind(head.to_string())
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// One build.
    pub async fn build(&self, id: &BuildId) -> Result<Option<Build>, QueueError> {
        let row: Option<BuildRow> =
            sqlx::query_as("SELECT * FROM builds WHERE id = $1").bind(id.as_str()).fetch_optional(&self.reader).await?;
        row.map(Build::try_from).transpose()
    }

    /// The newest builds first.
    pub async fn builds(&self, project: Option<&str>) -> Result<Vec<Build>, QueueError> {
        let rows: Vec<BuildRow> = sqlx::query_as(
            "SELECT * FROM builds WHERE $1 IS NULL OR project = $1 ORDER BY created DESC, id DESC LIMIT $2",
        )
        .bind(project)
        .bind(LIST_MAX)
        .fetch_all(&self.reader)
        .await?;
        rows.into_iter().map(Build::try_from).collect()
    }
}
