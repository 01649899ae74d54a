//! Payments in SQLite: on disk before they are acknowledged.

use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::schema;

/// What a client asks for.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Order {
    pub payer: String,
    pub payee: String,
    pub amount: i64,
}

/// What was written down.
#[derive(Clone, Debug, Serialize)]
pub struct Payment {
    pub id: i64,
    pub key: String,
    pub payer: String,
    pub payee: String,
    pub amount: i64,
}

/// How an order ended.
#[derive(Debug)]
pub enum Accepted {
    New(Payment),
    /// The same key and the same order: the first answer again.
    Again(Payment),
    /// The key is taken by another order.
    Conflict,
}

/// The one database, behind one lock.
#[derive(Clone, Debug)]
pub struct Store {
    database: Arc<Mutex<Connection>>,
    pub schema: i64,
}

impl Store {
    /// Opens the database in `folder` and prepares its tables.
    pub fn open(folder: &str) -> Result<Self, String> {
        let path = format!("{folder}/ledger.db");
        let database = Connection::open(&path).map_err(|error| format!("{path}: {error}"))?;
        database
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;")
            .map_err(|error| format!("{path}: {error}"))?;
        let schema = schema::prepare(&database)?;
        Ok(Self { database: Arc::new(Mutex::new(database)), schema })
    }

    /// Writes one payment. Returns after it is on disk.
    pub fn accept(&self, key: &str, order: &Order) -> Result<Accepted, rusqlite::Error> {
        let mut database = self.database.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let transaction = database.transaction()?;
        let known = transaction
            .query_row("SELECT id, key, payer, payee, amount FROM payments WHERE key = ?1", [key], read)
            .optional()?;
        if let Some(payment) = known {
            let same = payment.payer == order.payer && payment.payee == order.payee && payment.amount == order.amount;
            return Ok(if same { Accepted::Again(payment) } else { Accepted::Conflict });
        }
        let payment = transaction.query_row(
            "INSERT INTO payments (key, payer, payee, amount) VALUES (?1, ?2, ?3, ?4)
             RETURNING id, key, payer, payee, amount",
            params![key, order.payer, order.payee, order.amount],
            read,
        )?;
        transaction.commit()?;
        Ok(Accepted::New(payment))
    }

    /// All payments, oldest first.
    pub fn list(&self) -> Result<Vec<Payment>, rusqlite::Error> {
        let database = self.database.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut statement = database.prepare("SELECT id, key, payer, payee, amount FROM payments ORDER BY id")?;
        statement.query_map([], read)?.collect()
    }
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Payment> {
    Ok(Payment { id: row.get(0)?, key: row.get(1)?, payer: row.get(2)?, payee: row.get(3)?, amount: row.get(4)? })
}
