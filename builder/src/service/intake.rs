//! From a delivery to a queued build: the reference is read from the project's own repository, and nowhere else.
//!
//! A delivery is in the ledger before this looks at it. So a repository that does not answer costs time, not builds: the
//! delivery stays unread and is tried again. Side effects: `git ls-remote`, rows of the queue.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Service;
use super::queue::{Delivery, QueueError};
use super::settings::Project;
use crate::git::{GitError, Remote, RemoteRef};

/// Pause after a repository did not answer; it doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_secs(1);
/// Longest pause. A forge that comes back is noticed within it.
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// Reads references for as long as the service runs. Safe to drop at any await.
pub async fn run(service: Arc<Service>) {
    let mut changes = service.queue.changes();
    let mut pause = PAUSE;
    loop {
        changes.mark_unchanged();
        let clean = match pass(&service).await {
            Ok(clean) => clean,
            Err(error) => {
                tracing::error!(error = nebh_face::failure::chain(&error), "deliveries cannot be read");
                false
            }
        };
        if clean {
            pause = PAUSE;
            if changes.changed().await.is_err() {
                return;
            }
        } else {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// Looks at every unread delivery once. False if one has to be tried again.
async fn pass(service: &Service) -> Result<bool, QueueError> {
    let mut by_project: BTreeMap<String, Vec<Delivery>> = BTreeMap::new();
    for delivery in service.queue.unread().await? {
        by_project.entry(delivery.project.clone()).or_default().push(delivery);
    }
    // All at once: a repository that does not answer takes its time.
    let passes = by_project.iter().map(|(name, deliveries)| pass_project(service, name, deliveries));
    let passed = futures_util::future::join_all(passes).await;
    passed.into_iter().try_fold(true, |clean, one| Ok(one? && clean))
}

async fn pass_project(service: &Service, name: &str, deliveries: &[Delivery]) -> Result<bool, QueueError> {
    let Some(project) = service.project(name) else {
        for delivery in deliveries {
            service.queue.ignore(delivery, "the project is no longer set up").await?;
        }
        return Ok(true);
    };
    match references(project, service.mirrors()).await {
        Ok(references) => {
            for delivery in deliveries {
                settle(service, project, delivery, &references).await?;
            }
            Ok(true)
        }
        Err(error) => {
            let error = nebh_face::failure::chain(&error);
            tracing::warn!(project = name, source = project.source, error, "the repository does not answer");
            Ok(false)
        }
    }
}

async fn settle(
    service: &Service,
    project: &Project,
    delivery: &Delivery,
    references: &[RemoteRef],
) -> Result<(), QueueError> {
    match references.iter().find(|known| known.name == delivery.reference.full()) {
        Some(found) => {
            let build = service
                .queue
                .enqueue(delivery, found.commit.as_str(), &project.to.to_string(), Timestamp::now())
                .await?;
            tracing::info!(project = delivery.project, %build, reference = %delivery.reference, "queued");
            Ok(())
        }
        None => service.queue.ignore(delivery, &format!("the repository has no `{}`", delivery.reference)).await,
    }
}

async fn references(project: &Project, mirrors: PathBuf) -> Result<Vec<RemoteRef>, GitError> {
    let remote = Remote::parse(&project.source)?;
    let asked = tokio::task::spawn_blocking(move || remote.refs(&mirrors)).await;
    asked.unwrap_or(Err(GitError::Answer("ls-remote")))
}
