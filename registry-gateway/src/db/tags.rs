//! Rows of tags: names that admission granted, and what dropped ones led to.

use jiff::Timestamp;
use nebh_oci::digest::Digest;
use nebh_oci::manifest::RawManifest;
use nebh_oci::names::{Repository, Tag};
use sqlx::SqliteConnection;

use super::pins::holding;
use super::{Db, DbError, Write, digest, micros, parsed};
use crate::retain::TagKind;
use crate::tag_kind;

/// What holds of one tag at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagState {
    /// What it leads to.
    pub present: Option<Digest>,
    /// The digest that a pin holds it to.
    pub pinned: Option<Digest>,
    /// The counter and digest of the highest channel head ever admitted under it.
    pub head: Option<(u64, Digest)>,
    /// Signatures that it leads to and that must stay, because what they sign is pinned.
    pub guarded: Vec<Digest>,
}

impl Db {
    /// One page of a repository's tags in byte order; `None` for a repository that was never pushed to.
    pub async fn tags(
        &self,
        repository: &Repository,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Option<Vec<String>>, DbError> {
        let known = sqlx::query_scalar::<_, i64>("SELECT 1 FROM repository WHERE name = $1")
            .bind(repository.as_str())
            .fetch_optional(self.read())
            .await
            .map_err(DbError::at("looking up a repository"))?;
        if known.is_none() {
            return Ok(None);
        }
        sqlx::query_scalar::<_, String>(
            "SELECT name FROM tag WHERE repository = $1 AND name > $2 ORDER BY name LIMIT $3",
        )
        .bind(repository.as_str())
        .bind(after.unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(self.read())
        .await
        .map(Some)
        .map_err(DbError::at("listing tags"))
    }

    /// One page of all repositories in byte order.
    pub async fn repositories(&self, after: Option<&str>, limit: u32) -> Result<Vec<String>, DbError> {
        sqlx::query_scalar::<_, String>("SELECT name FROM repository WHERE name > $1 ORDER BY name LIMIT $2")
            .bind(after.unwrap_or_default())
            .bind(i64::from(limit))
            .fetch_all(self.read())
            .await
            .map_err(DbError::at("listing repositories"))
    }

    /// What holds of a tag, as readers see it.
    pub async fn tag_state(&self, repository: &Repository, tag: &Tag) -> Result<TagState, DbError> {
        let mut connection = self.read().acquire().await.map_err(DbError::at("looking up a tag"))?;
        state(&mut connection, repository, tag).await
    }
}

async fn state(connection: &mut SqliteConnection, repository: &Repository, tag: &Tag) -> Result<TagState, DbError> {
    let row = sqlx::query_as::<_, (Option<String>, Option<String>, Option<i64>, Option<String>)>(
        "SELECT (SELECT digest FROM tag WHERE repository = $1 AND name = $2), \
                (SELECT digest FROM pin WHERE repository = $1 AND name = $2), \
                (SELECT counter FROM channel WHERE repository = $1 AND name = $2), \
                (SELECT digest FROM channel WHERE repository = $1 AND name = $2)",
    )
    .bind(repository.as_str())
    .bind(tag.as_str())
    .fetch_one(&mut *connection)
    .await
    .map_err(DbError::at("looking up a tag"))?;
    let (present, pinned, counter, head) = row;
    let head = match (counter, head) {
        (Some(counter), Some(head)) => Some((super::size(counter), digest(&head)?)),
        _ => None,
    };
    let present = present.as_deref().map(digest).transpose()?;
    let guarded = match (tag_kind(tag.as_str()), present) {
        (TagKind::Attached(subject), Some(present)) if holding(connection, repository, &subject).await?.is_some() => {
            signatures(connection, &present).await?
        }
        _ => Vec::new(),
    };
    Ok(TagState { present, pinned: pinned.as_deref().map(digest).transpose()?, head, guarded })
}

/// The layers of a manifest, or its children if it is a list.
async fn signatures(connection: &mut SqliteConnection, name: &Digest) -> Result<Vec<Digest>, DbError> {
    let bytes = sqlx::query_scalar::<_, Vec<u8>>("SELECT bytes FROM manifest_bytes WHERE digest = $1")
        .bind(name.to_string())
        .fetch_optional(connection)
        .await
        .map_err(DbError::at("looking up a manifest"))?;
    let manifest = bytes.and_then(|bytes| RawManifest::parse(bytes, None).ok());
    Ok(manifest.map(|manifest| manifest.parts().iter().map(|part| part.digest).collect()).unwrap_or_default())
}

/// What holds of a tag inside a writing transaction: nobody can change it until the commit.
pub async fn state_locked(tx: &mut Write<'_>, repository: &Repository, tag: &Tag) -> Result<TagState, DbError> {
    state(tx, repository, tag).await
}

/// Lets a tag lead to a manifest. What it led to before can be looked up among the dropped tags.
pub async fn set(
    tx: &mut Write<'_>,
    repository: &Repository,
    tag: &Tag,
    to: &Digest,
    before: Option<&Digest>,
    now: Timestamp,
) -> Result<(), DbError> {
    if before.is_some_and(|before| before != to) {
        shelve(tx, repository, tag, "moved to another manifest", now).await?;
    }
    sqlx::query(
        "INSERT INTO tag (repository, name, digest, moved) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (repository, name) DO UPDATE SET digest = $3, moved = $4",
    )
    .bind(repository.as_str())
    .bind(tag.as_str())
    .bind(to.to_string())
    .bind(micros(now))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(DbError::at("setting a tag"))
}

async fn shelve(
    tx: &mut Write<'_>,
    repository: &Repository,
    tag: &Tag,
    reason: &str,
    now: Timestamp,
) -> Result<bool, DbError> {
    sqlx::query(
        "INSERT INTO dropped_tag (repository, name, digest, moved, dropped, reason) \
         SELECT repository, name, digest, moved, $3, $4 FROM tag WHERE repository = $1 AND name = $2",
    )
    .bind(repository.as_str())
    .bind(tag.as_str())
    .bind(micros(now))
    .bind(reason)
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() > 0)
    .map_err(DbError::at("shelving a tag"))
}

/// Drops a tag so that it can be restored. False if it is not there.
pub async fn drop_tag(
    tx: &mut Write<'_>,
    repository: &Repository,
    tag: &Tag,
    reason: &str,
    now: Timestamp,
) -> Result<bool, DbError> {
    let there = shelve(tx, repository, tag, reason, now).await?;
    sqlx::query("DELETE FROM tag WHERE repository = $1 AND name = $2")
        .bind(repository.as_str())
        .bind(tag.as_str())
        .execute(&mut **tx)
        .await
        .map_err(DbError::at("dropping a tag"))?;
    Ok(there)
}

/// The tags that lead to a manifest.
pub async fn of_digest(tx: &mut Write<'_>, repository: &Repository, to: &Digest) -> Result<Vec<Tag>, DbError> {
    let names = sqlx::query_scalar::<_, String>("SELECT name FROM tag WHERE repository = $1 AND digest = $2")
        .bind(repository.as_str())
        .bind(to.to_string())
        .fetch_all(&mut **tx)
        .await
        .map_err(DbError::at("listing the tags of a manifest"))?;
    names.iter().map(|name| parsed("tag", name)).collect()
}

/// What a dropped tag led to when it was dropped last.
pub async fn dropped(tx: &mut Write<'_>, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, DbError> {
    let found = sqlx::query_scalar::<_, String>(
        "SELECT digest FROM dropped_tag WHERE repository = $1 AND name = $2 ORDER BY dropped DESC LIMIT 1",
    )
    .bind(repository.as_str())
    .bind(tag.as_str())
    .fetch_optional(&mut **tx)
    .await
    .map_err(DbError::at("looking up a dropped tag"))?;
    found.as_deref().map(digest).transpose()
}

/// One page of the names of all repositories, inside a transaction.
pub async fn repository_names(
    connection: &mut SqliteConnection,
    after: &str,
    limit: u32,
) -> Result<Vec<String>, DbError> {
    sqlx::query_scalar::<_, String>("SELECT name FROM repository WHERE name > $1 ORDER BY name LIMIT $2")
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await
        .map_err(DbError::at("listing repositories"))
}

/// Dropped tags that name signatures, the last dropped first.
pub async fn dropped_attachments(tx: &mut Write<'_>, repository: &Repository) -> Result<Vec<(Tag, Digest)>, DbError> {
    let rows = sqlx::query_as::<_, (String, String)>(
        "SELECT name, digest FROM dropped_tag WHERE repository = $1 AND name LIKE 'sha%-%' ORDER BY dropped DESC",
    )
    .bind(repository.as_str())
    .fetch_all(&mut **tx)
    .await
    .map_err(DbError::at("listing dropped signatures"))?;
    rows.iter().map(|(name, to)| Ok((parsed("tag", name)?, digest(to)?))).collect()
}
