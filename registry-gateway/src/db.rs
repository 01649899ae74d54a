//! The database: the truth about what exists, who may hand it out, and why it stays.
//!
//! SQLite in WAL mode with `synchronous=FULL`: a commit that returned is on the disk. One writer connection, always
//! with BEGIN IMMEDIATE (a deferred transaction that reads and then writes is refused at once when another one wrote
//! in between); several readers that cannot write. The SQL text keeps to what Postgres understands as well (`$1`,
//! BIGINT microseconds, `ON CONFLICT … RETURNING`), so that a second typed pool can stand beside this one.

pub mod blobs;
pub mod dropped;
pub mod events;
pub mod manifests;
pub mod pins;
mod remembered;
pub mod retention;
pub mod tags;

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use nebh_oci::digest::Digest;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqliteConnection, Transaction};

use remembered::{Remembered, Turn};

/// Connections for reading. Each is a thread and a page cache; reads take microseconds.
const READERS: u32 = 4;

/// SQLite's own number for a disk without room.
const SQLITE_FULL: u32 = 13;

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The engine said no.
    #[error("the database failed at {what}")]
    Sql {
        /// What was being done.
        what: &'static str,
        /// The engine's answer.
        #[source]
        source: sqlx::Error,
    },
    /// A row holds what this program never writes.
    #[error("the database holds `{value}` where a {what} belongs")]
    Row {
        /// What belongs there.
        what: &'static str,
        /// What is there.
        value: String,
    },
    /// The schema is of a newer program, or damaged.
    #[error("cannot bring the database's schema up to date")]
    Schema(#[source] sqlx::migrate::MigrateError),
}

impl DbError {
    pub(crate) fn at(what: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Sql { what, source }
    }

    /// Whether the file system is full.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Sql { source: sqlx::Error::Database(error), .. } => {
                error.code().is_some_and(|code| code.parse::<u32>().is_ok_and(|code| code & 0xff == SQLITE_FULL))
            }
            Self::Sql { .. } | Self::Row { .. } | Self::Schema(_) => false,
        }
    }
}

/// A writing transaction. Dropped without a commit, it changes nothing.
#[derive(Debug)]
pub struct Write<'a> {
    tx: Transaction<'a, Sqlite>,
    turn: Turn,
}

impl Deref for Write<'_> {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.tx
    }
}

impl DerefMut for Write<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.tx
    }
}

/// The two pools.
#[derive(Clone, Debug)]
pub struct Db {
    writer: SqlitePool,
    reader: SqlitePool,
    remembered: Arc<Remembered>,
}

impl Db {
    /// Opens or makes the database and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Self, DbError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(std::time::Duration::from_secs(30));
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false)
            .connect_with(options.clone().create_if_missing(true))
            .await
            .map_err(DbError::at("opening"))?;
        sqlx::migrate!("migrations/sqlite").run(&writer).await.map_err(DbError::Schema)?;
        let reader = SqlitePoolOptions::new()
            .max_connections(READERS)
            .test_before_acquire(false)
            .connect_with(options.read_only(true))
            .await
            .map_err(DbError::at("opening"))?;
        Ok(Self { writer, reader, remembered: Arc::default() })
    }

    /// Begins a writing transaction; waits for the one before.
    pub async fn write(&self) -> Result<Write<'static>, DbError> {
        let failed = DbError::at("beginning to write");
        let tx = match self.writer.begin_with("BEGIN IMMEDIATE").await {
            // A full disk makes SQLite end the transaction by itself, and the driver, whose own end of it then fails,
            // counts one that is open for ever. Such a connection is of no use any more; the next one is new.
            Err(sqlx::Error::InvalidSavePointStatement | sqlx::Error::BeginFailed) => {
                tracing::warn!("the writing connection lost count of its transactions and is replaced");
                let lost = self.writer.acquire().await.map_err(DbError::at("beginning to write"))?;
                lost.close().await.map_err(DbError::at("replacing a connection"))?;
                self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?
            }
            outcome => outcome.map_err(failed)?,
        };
        Ok(Write { tx, turn: self.remembered.begin() })
    }

    /// Begins a reading transaction: one view of everything, whatever is written meanwhile.
    pub async fn read_transaction(&self) -> Result<Transaction<'static, Sqlite>, DbError> {
        self.reader.begin().await.map_err(DbError::at("beginning to read"))
    }

    /// The pool for reading.
    pub(crate) fn read(&self) -> &SqlitePool {
        &self.reader
    }

    /// Finishes what is running and closes both pools.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

/// Makes a transaction durable.
pub async fn commit(tx: Write<'_>) -> Result<(), DbError> {
    let Write { tx, mut turn } = tx;
    turn.ending = true;
    tx.commit().await.map_err(DbError::at("committing"))?;
    turn.ending = false;
    Ok(())
}

/// A time as it stands in the database.
pub(crate) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// A time from the database; what is out of range is unknown.
pub(crate) fn timestamp(micros: i64) -> Option<Timestamp> {
    Timestamp::from_microsecond(micros).ok()
}

/// A size from the database.
pub(crate) fn size(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A size for the database.
pub(crate) fn column(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn digest(text: &str) -> Result<Digest, DbError> {
    text.parse().map_err(|_| DbError::Row { what: "digest", value: text.to_owned() })
}

pub(crate) fn parsed<T: std::str::FromStr>(what: &'static str, text: &str) -> Result<T, DbError> {
    text.parse().map_err(|_| DbError::Row { what, value: text.to_owned() })
}

/// A time as text; an unknown one as null.
#[expect(clippy::ref_option, reason = "serde's `serialize_with` passes a reference to the field")]
pub(crate) fn as_text<S: serde::Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serializer.collect_str(at),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn transaction_that_the_database_ended_by_itself_does_not_end_the_gateway() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&folder.path().join("db")).await.unwrap();
        // What a full disk does.
        let mut tx = db.write().await.unwrap();
        sqlx::query("ROLLBACK").execute(&mut *tx).await.unwrap();
        drop(tx);
        commit(db.write().await.unwrap()).await.unwrap();
    }
}
