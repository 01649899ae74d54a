//! The tables, and which of their versions this program writes and reads.

use rusqlite::Connection;

/// The version that this program makes of an older one.
pub const WRITES: i64 = 11;
/// The versions that it can work with.
pub const READS: std::ops::RangeInclusive<i64> = 11..=12;

/// Brings the tables to a version that this program works with, or says why it cannot.
pub fn prepare(database: &Connection) -> Result<i64, String> {
    let sql = |error: rusqlite::Error| format!("schema: {error}");
    let found: i64 = database.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(sql)?;
    if found == 0 {
        database
            .execute_batch(
                "BEGIN IMMEDIATE;
                 CREATE TABLE payments (
                     id INTEGER PRIMARY KEY,
                     key TEXT NOT NULL UNIQUE,
                     payer TEXT NOT NULL,
                     payee TEXT NOT NULL,
                     amount INTEGER NOT NULL
                 );
                 PRAGMA user_version = 11;
                 COMMIT;",
            )
            .map_err(sql)?;
        return Ok(WRITES);
    }
    if !READS.contains(&found) {
        return Err(format!("the data has schema {found}; this program reads {} to {}", READS.start(), READS.end()));
    }
    Ok(found)
}
