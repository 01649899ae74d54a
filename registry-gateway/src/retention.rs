//! Retention as people use it: a plan with a digest, and applying exactly that plan.
//!
//! The plan is computed by `retain`; its digest covers verdicts and reasons. Applying computes it anew inside the
//! writing transaction and refuses if the digest differs: what a person looked at is what is done, or nothing is.

use std::fmt;

use jiff::Timestamp;
use nebh_oci::digest::Digest;
use nebh_oci::json;
use nebh_oci::names::{Repository, Tag};
use serde::{Deserialize, Serialize};

use crate::crash;
use crate::db::{self, DbError, Write};
use crate::gateway::Gateway;
use crate::retain::{self, DropReason, KeepReason, Verdict};
use crate::settings::{Keep, Settings};

/// Repositories of one page while planning.
const PAGE: u32 = 500;

/// The verdicts of one repository.
#[derive(Clone, Debug, Serialize)]
pub struct RepositoryPlan {
    /// Which.
    pub repository: Repository,
    /// What its rule keeps; absent: everything.
    pub keep: Option<Keep>,
    /// One for each manifest.
    pub verdicts: Vec<Verdict>,
}

impl RepositoryPlan {
    /// Versions here, and how many of them go.
    pub fn versions(&self) -> (usize, usize) {
        let versions = self.verdicts.iter().filter(|verdict| has_version_tag(verdict));
        versions.fold((0, 0), |(all, dropped), verdict| (all + 1, dropped + usize::from(verdict.drops())))
    }

    /// Whether more than `share_max` percent of the versions go.
    pub fn is_large(&self, share_max: u32) -> bool {
        let (all, dropped) = self.versions();
        dropped * 100 > all * share_max as usize
    }
}

fn has_version_tag(verdict: &Verdict) -> bool {
    verdict.tags().iter().any(|tag| crate::tag_kind(tag) == retain::TagKind::Version)
}

/// What would be kept and dropped, everywhere, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Of the format.
    pub version: u32,
    /// Of all that follows: applying takes it.
    pub digest: Digest,
    /// Repositories that have a manifest.
    pub repositories: Vec<RepositoryPlan>,
    /// Repositories of which a larger part goes than `share-max` allows without confirmation.
    pub large: Vec<Repository>,
}

/// Why a plan was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// Not what the person looked at.
    #[error("the plan is not the one you looked at: {asked} was asked for, and it is {actual} now")]
    Stale {
        /// What was asked for.
        asked: Digest,
        /// What it would be now.
        actual: Digest,
    },
    /// More than is dropped without asking.
    #[error(
        "the plan drops {dropped} of {all} versions of `{repository}`, more than {share_max} %, and needs confirmation"
    )]
    NeedsConfirmation {
        /// Where.
        repository: Repository,
        /// How many go.
        dropped: usize,
        /// Of how many.
        all: usize,
        /// The limit.
        share_max: u32,
    },
}

/// What applying did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Applied {
    /// Tags dropped.
    pub tags: Vec<String>,
    /// Manifests dropped.
    pub manifests: usize,
    /// Until when they can be restored, as text.
    pub restorable_until: String,
}

/// Plans every repository.
pub async fn plan(gateway: &Gateway, now: Timestamp) -> Result<Plan, DbError> {
    let mut tx = gateway.db.read_transaction().await?;
    let found = plan_in(&mut tx, &gateway.settings, now).await;
    tx.rollback().await.map_err(DbError::at("planning retention"))?;
    found
}

async fn plan_in(
    connection: &mut sqlx::SqliteConnection,
    settings: &Settings,
    now: Timestamp,
) -> Result<Plan, DbError> {
    let mut repositories = Vec::new();
    let mut after = String::new();
    loop {
        let names = db::tags::repository_names(connection, &after, PAGE).await?;
        let Some(last) = names.last().cloned() else {
            break;
        };
        for name in names {
            let repository: Repository = db::parsed("repository", &name)?;
            let (candidates, holds) = db::retention::read(connection, &repository).await?;
            if candidates.is_empty() {
                continue;
            }
            let keep = settings.rule(&repository).and_then(|rule| rule.keep);
            let verdicts = retain::retain(keep, &candidates, &holds, settings.grace, now);
            repositories.push(RepositoryPlan { repository, keep, verdicts });
        }
        after = last;
    }
    let large = repositories.iter().filter(|plan| plan.is_large(settings.share_max));
    let large = large.map(|plan| plan.repository.clone()).collect();
    Ok(Plan { version: 1, digest: digest(&repositories), repositories, large })
}

/// The identity of a plan: all verdicts and reasons, and nothing that changes by itself.
fn digest(repositories: &[RepositoryPlan]) -> Digest {
    let bytes = json::canonical(&repositories).unwrap_or_default();
    Digest::sha256(&bytes)
}

/// Applies the plan with this digest.
pub async fn apply(gateway: &Gateway, asked: Digest, confirmed: bool, now: Timestamp) -> Result<Applied, ApplyError> {
    let settings = &gateway.settings;
    let mut tx = gateway.db.write().await?;
    let plan = plan_in(&mut tx, settings, now).await?;
    if plan.digest != asked {
        return Err(ApplyError::Stale { asked, actual: plan.digest });
    }
    if let Some(large) = plan.repositories.iter().find(|one| one.is_large(settings.share_max))
        && !confirmed
    {
        let (all, dropped) = large.versions();
        let repository = large.repository.clone();
        return Err(ApplyError::NeedsConfirmation { repository, dropped, all, share_max: settings.share_max });
    }
    let mut applied = Applied::default();
    for one in &plan.repositories {
        for verdict in one.verdicts.iter().filter(|verdict| verdict.drops()) {
            drop_one(&mut tx, &one.repository, verdict, &mut applied, now).await?;
            crash::point("retention-begun");
        }
    }
    db::events::record(&mut tx, "retention", None, &asked.to_string(), &applied.to_string(), now).await?;
    crash::point("retention-written");
    db::commit(tx).await?;
    crash::point("retention-recorded");
    applied.restorable_until = now.checked_add(settings.restorable).map(|until| until.to_string()).unwrap_or_default();
    Ok(applied)
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dropped {} tags and {} manifests", self.tags.len(), self.manifests)
    }
}

async fn drop_one(
    tx: &mut Write<'_>,
    repository: &Repository,
    verdict: &Verdict,
    applied: &mut Applied,
    now: Timestamp,
) -> Result<(), DbError> {
    let reason = format!("retention: {}", verdict.reason());
    for name in verdict.tags() {
        let tag: Tag = db::parsed("tag", name)?;
        db::tags::drop_tag(tx, repository, &tag, &reason, now).await?;
        db::events::record(tx, "dropped", Some(repository), name, &reason, now).await?;
        applied.tags.push(format!("{repository}:{name}"));
    }
    let digest = verdict.digest();
    if db::dropped::drop_manifest(tx, repository, &digest, &reason, now).await? {
        db::events::record(tx, "dropped", Some(repository), &digest.to_string(), &reason, now).await?;
        applied.manifests += 1;
    }
    Ok(())
}

/// Brings a dropped tag back, with its manifest and all that hangs under it. False if it was not dropped, or longer
/// ago than can be restored.
pub async fn restore(gateway: &Gateway, repository: &Repository, tag: &Tag, now: Timestamp) -> Result<bool, DbError> {
    let mut tx = gateway.db.write().await?;
    let Some(digest) = db::tags::dropped(&mut tx, repository, tag).await? else {
        return Ok(false);
    };
    let present = db::tags::state_locked(&mut tx, repository, tag).await?.present;
    if present.is_some() {
        return Ok(false);
    }
    for one in db::dropped::under(&mut tx, repository, &digest).await? {
        db::dropped::restore(&mut tx, repository, &one).await?;
    }
    if !db::dropped::is_live(&mut tx, repository, &digest).await? {
        return Ok(false);
    }
    db::tags::set(&mut tx, repository, tag, &digest, None, now).await?;
    for (name, to) in db::tags::dropped_attachments(&mut tx, repository).await? {
        let attached =
            matches!(crate::tag_kind(name.as_str()), retain::TagKind::Attached(subject) if subject == digest);
        if attached && db::tags::state_locked(&mut tx, repository, &name).await?.present.is_none() {
            db::dropped::restore(&mut tx, repository, &to).await?;
            if db::dropped::is_live(&mut tx, repository, &to).await? {
                db::tags::set(&mut tx, repository, &name, &to, None, now).await?;
            }
        }
    }
    db::events::record(&mut tx, "restored", Some(repository), tag.as_str(), &digest.to_string(), now).await?;
    crash::point("restore-written");
    db::commit(tx).await?;
    crash::point("restore-recorded");
    Ok(true)
}

/// Why one manifest stays or goes.
pub async fn explain(
    gateway: &Gateway,
    repository: &Repository,
    digest: &Digest,
    now: Timestamp,
) -> Result<Option<Verdict>, DbError> {
    let (candidates, holds) = gateway.db.snapshot(repository).await?;
    let keep = gateway.settings.rule(repository).and_then(|rule| rule.keep);
    let verdicts = retain::retain(keep, &candidates, &holds, gateway.settings.grace, now);
    Ok(verdicts.into_iter().find(|verdict| verdict.digest() == *digest))
}

/// The reason in one word, for programs.
pub fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Keep { because, .. } => match because {
            KeepReason::NoRule => "no-rule",
            KeepReason::Pinned(_) => "pinned",
            KeepReason::Used(_) => "used",
            KeepReason::Channel(_) => "channel",
            KeepReason::Recent(_) => "recent",
            KeepReason::AgeUnknown => "age-unknown",
            KeepReason::PartOf(_) => "part-of",
            KeepReason::Attached(_) => "attached",
            KeepReason::TooYoung => "too-young",
            KeepReason::ChannelHead => "channel-head",
        },
        Verdict::Drop { because, .. } => match because {
            DropReason::BeyondRecent { .. } => "beyond-recent",
            DropReason::With(_) => "with",
            DropReason::Nowhere => "nowhere",
        },
    }
}
