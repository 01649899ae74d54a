//! The tables, and which of their versions this program writes and reads.
//!
//! Schema 12 adds when a payment was made. The column has a default, so that the program of schema 11 still reads and
//! writes the table: the way back stays open.

use rusqlite::Connection;

/// The version that this program makes of an older one.
pub const WRITES: i64 = 12;
/// The versions that it can work with.
pub const READS: std::ops::RangeInclusive<i64> = 11..=12;

const CREATE: &str = "BEGIN IMMEDIATE;
    CREATE TABLE payments (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        payer TEXT NOT NULL,
        payee TEXT NOT NULL,
        amount INTEGER NOT NULL,
        made INTEGER NOT NULL DEFAULT 0
    );
    PRAGMA user_version = 12;
    COMMIT;";

const FROM_11: &str = "BEGIN IMMEDIATE;
    ALTER TABLE payments ADD COLUMN made INTEGER NOT NULL DEFAULT 0;
    PRAGMA user_version = 12;
    COMMIT;";

/// Brings the tables to a version that this program works with, or says why it cannot.
pub fn prepare(database: &Connection) -> Result<i64, String> {
    let sql = |error: rusqlite::Error| format!("schema: {error}");
    let found: i64 = database.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(sql)?;
    match found {
        0 => database.execute_batch(CREATE).map_err(sql)?,
        11 => database.execute_batch(FROM_11).map_err(sql)?,
        12 => {}
        other => {
            return Err(format!(
                "the data has schema {other}; this program reads {} to {}",
                READS.start(),
                READS.end()
            ));
        }
    }
    Ok(WRITES)
}
