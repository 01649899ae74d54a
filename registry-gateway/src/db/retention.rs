//! What the database knows about one repository, as `retain` wants to see it.

use std::collections::BTreeMap;

use nebh_oci::digest::Digest;
use nebh_oci::names::Repository;

use super::{Db, DbError, digest, timestamp};
use crate::retain::{Candidate, Holds, TagFact};
use crate::tag_kind;

impl Db {
    /// Every live manifest of a repository, and all that holds any of them. One consistent view: all in one
    /// transaction.
    pub async fn snapshot(&self, repository: &Repository) -> Result<(Vec<Candidate>, Holds), DbError> {
        let mut tx = self.read_transaction().await?;
        let found = read(&mut tx, repository).await;
        tx.rollback().await.map_err(DbError::at("reading a repository"))?;
        found
    }
}

/// The same inside a transaction, for the one who then writes.
pub async fn read(
    connection: &mut sqlx::SqliteConnection,
    repository: &Repository,
) -> Result<(Vec<Candidate>, Holds), DbError> {
    let what = "reading a repository";
    let rows = sqlx::query_as::<_, (String, Option<i64>, Option<String>)>(
        "SELECT digest, pushed, subject FROM manifest WHERE repository = $1 AND dropped IS NULL ORDER BY digest",
    )
    .bind(repository.as_str())
    .fetch_all(&mut *connection)
    .await
    .map_err(DbError::at(what))?;
    let mut candidates = BTreeMap::new();
    for (name, pushed, subject) in rows {
        let name = digest(&name)?;
        let candidate = Candidate {
            digest: name,
            tags: Vec::new(),
            pushed: pushed.and_then(timestamp),
            subject: subject.as_deref().map(digest).transpose()?,
            children: Vec::new(),
        };
        candidates.insert(name, candidate);
    }
    let tags = sqlx::query_as::<_, (String, String, Option<i64>)>(
        "SELECT name, digest, moved FROM tag WHERE repository = $1 ORDER BY name",
    )
    .bind(repository.as_str())
    .fetch_all(&mut *connection)
    .await
    .map_err(DbError::at(what))?;
    for (name, to, moved) in tags {
        if let Some(candidate) = candidates.get_mut(&digest(&to)?) {
            let kind = tag_kind(&name);
            candidate.tags.push(TagFact { name, kind, moved: moved.and_then(timestamp) });
        }
    }
    let parts = sqlx::query_as::<_, (String, String)>(
        "SELECT manifest, part FROM manifest_part WHERE repository = $1 AND kind = 'manifest' ORDER BY manifest, part",
    )
    .bind(repository.as_str())
    .fetch_all(&mut *connection)
    .await
    .map_err(DbError::at(what))?;
    for (parent, part) in parts {
        if let Some(candidate) = candidates.get_mut(&digest(&parent)?) {
            candidate.children.push(digest(&part)?);
        }
    }
    Ok((candidates.into_values().collect(), holds(connection, repository).await?))
}

async fn holds(connection: &mut sqlx::SqliteConnection, repository: &Repository) -> Result<Holds, DbError> {
    let what = "reading what holds a repository's manifests";
    let mut holds = Holds::default();
    let pins =
        sqlx::query_as::<_, (String, String)>("SELECT name, digest FROM pin WHERE repository = $1 ORDER BY name")
            .bind(repository.as_str())
            .fetch_all(&mut *connection)
            .await
            .map_err(DbError::at(what))?;
    for (name, held) in pins {
        holds.pins.entry(digest(&held)?).or_default().push(name);
    }
    let hosts = sqlx::query_as::<_, (String, String, String)>(
        "SELECT node, digest, why FROM host_use WHERE repository = $1 ORDER BY node",
    )
    .bind(repository.as_str())
    .fetch_all(&mut *connection)
    .await
    .map_err(DbError::at(what))?;
    for (node, used, why) in hosts {
        holds.hosts.entry(digest(&used)?).or_default().push(format!("{node} ({why})"));
    }
    let channels =
        sqlx::query_as::<_, (String, String)>("SELECT name, lists FROM channel WHERE repository = $1 ORDER BY name")
            .bind(repository.as_str())
            .fetch_all(&mut *connection)
            .await
            .map_err(DbError::at(what))?;
    for (name, lists) in channels {
        let lists: Vec<Digest> =
            serde_json::from_str(&lists).map_err(|_| DbError::Row { what: "list of digests", value: lists })?;
        for named in lists {
            holds.channels.entry(named).or_default().push(name.clone());
        }
    }
    Ok(holds)
}
