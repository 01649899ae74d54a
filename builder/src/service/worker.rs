//! The one worker: takes the oldest queued build, keeps its lease, has it made, and writes down how it ended.
//!
//! What a build does is behind [`Maker`], so that the promises of this loop (a crash, a stop, a panic, a lost lease) are
//! tested without a compiler. Side effects: rows of the queue, and the maker's own.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nebh_face::Failure;
use nebh_trust::channel::Floor;
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use super::Service;
use super::queue::{Build, Queue, QueueError};
use super::settings::Project;
use crate::channel::Renewed;

/// How long a build is the worker's without a sign of life.
const LEASE: SignedDuration = SignedDuration::from_secs(60);
/// How often it gives one.
const RENEWAL: Duration = Duration::from_secs(20);
/// Events between maker and database; a maker that is faster waits.
const EVENTS_WAITING_MAX: usize = 1024;

/// Makes builds. Dropping the future cancels the build.
pub trait Maker: Send + Sync + 'static {
    /// Makes one build and returns what came of it. Making the same one again must do no harm: a service that ended
    /// halfway does it again.
    fn make(
        &self,
        project: &Project,
        build: &Build,
        events: EventSink,
    ) -> impl Future<Output = Result<Outcome, Failure>> + Send;

    /// Looks after the head of a channel of ours, and signs it anew before it expires.
    fn renew(
        &self,
        project: &Project,
        channel: &str,
        floor: &Floor,
        now: Timestamp,
    ) -> impl Future<Output = Result<Renewed, Failure>> + Send;
}

/// What came of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Digest of the image manifest.
    pub image: String,
    /// Where it was pushed, with the digest.
    pub reference: String,
    /// Tags that point to it now.
    pub tags: Vec<String>,
    /// The release, if the reference was a version tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseOutcome>,
}

/// A release that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReleaseOutcome {
    /// Its version, which is its tag.
    pub version: String,
    /// Digest of its index.
    pub digest: String,
    /// The head that points to it, `channel#counter`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
}

/// Where a maker says what it does.
#[derive(Clone, Debug)]
pub struct EventSink(mpsc::Sender<(Timestamp, String)>);

impl EventSink {
    /// Says one thing. An event that has no JSON form is dropped, since a log must not end a build.
    pub async fn say<T: Serialize>(&self, event: &T) {
        if let Ok(body) = serde_json::to_string(event) {
            // The receiver lives as long as the build; if it is gone, the build is being dropped.
            drop(self.0.send((Timestamp::now(), body)).await);
        }
    }
}

/// Works until `stop` turns true; then gives back what it was building.
pub async fn run<M: Maker>(service: Arc<Service>, maker: Arc<M>, mut stop: watch::Receiver<bool>) {
    let mut changes = service.queue.changes();
    while !*stop.borrow() {
        changes.mark_unchanged();
        let now = Timestamp::now();
        let claimed = service.queue.claim(now, later(now)).await;
        let worked = match claimed {
            Ok(Some(build)) => work(&service, &maker, &build, &mut stop).await,
            Ok(None) => {
                tokio::select! {
                    _ = changes.changed() => {}
                    () = asked_to_stop(&mut stop) => {}
                }
                Ok(())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = worked {
            tracing::error!(error = nebh_face::failure::chain(&error), "the queue does not answer");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Returns once the service is asked to end.
pub(super) async fn asked_to_stop(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

fn later(now: Timestamp) -> Timestamp {
    now.saturating_add(LEASE).unwrap_or(Timestamp::MAX)
}

async fn work<M: Maker>(
    service: &Arc<Service>,
    maker: &Arc<M>,
    build: &Build,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), QueueError> {
    tracing::info!(build = %build.id, project = build.project, commit = build.commit, attempt = build.attempt, "building");
    let (sender, receiver) = mpsc::channel(EVENTS_WAITING_MAX);
    let recorder = tokio::spawn(record(service.queue.clone(), build.clone(), receiver));
    // A task of its own, so that a panic in a build is that build's failure and not the service's end.
    let mut making = tokio::spawn({
        let (service, maker, build) = (service.clone(), maker.clone(), build.clone());
        async move {
            match service.project(&build.project) {
                Some(project) => maker.make(project, &build, EventSink(sender)).await,
                None => Err(Failure::new(nebh_face::Exit::Failed, "the project is no longer set up")),
            }
        }
    });
    let end = loop {
        tokio::select! {
            made = &mut making => break made,
            () = tokio::time::sleep(RENEWAL) => match service.queue.renew(build, later(Timestamp::now())).await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::error!(build = %build.id, "the build is another worker's now");
                    making.abort();
                    return Ok(());
                }
                // To leave now would leave the build behind, running and nobody's; the lease lasts for more tries.
                Err(error) => {
                    tracing::warn!(build = %build.id, error = nebh_face::failure::chain(&error), "no sign of life");
                }
            },
            () = asked_to_stop(stop) => {
                making.abort();
                drop((&mut making).await);
                tracing::info!(build = %build.id, "given back");
                return service.queue.give_back(build).await;
            }
        }
    };
    drop(recorder.await);
    let end = match end {
        Ok(made) => made,
        Err(error) => Err(Failure::new(nebh_face::Exit::Failed, "the builder failed within").because(&error)),
    };
    let end = end.map(|outcome| serde_json::to_string(&outcome).unwrap_or_default()).map_err(|why| why.to_string());
    if let Err(failure) = &end {
        tracing::warn!(build = %build.id, failure, "failed");
    }
    finish(&service.queue, build, end.as_deref().map_err(String::as_str), stop).await
}

/// Writes down how a build ended. A database that does not answer is asked again: what it never hears of would stand there
/// as running until the service starts anew.
async fn finish(
    queue: &Queue,
    build: &Build,
    end: Result<&str, &str>,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), QueueError> {
    loop {
        match queue.finish(build, end, Timestamp::now()).await {
            Ok(true) => return Ok(()),
            Ok(false) => {
                tracing::error!(build = %build.id, "ended, but is another worker's now");
                return Ok(());
            }
            Err(error) if *stop.borrow() => return Err(error),
            Err(error) => {
                tracing::error!(build = %build.id, error = nebh_face::failure::chain(&error), "its end is not written");
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    () = asked_to_stop(stop) => {}
                }
            }
        }
    }
}

/// Writes events down, as many in one transaction as there are.
async fn record(queue: Queue, build: Build, mut events: mpsc::Receiver<(Timestamp, String)>) {
    let mut batch = Vec::new();
    while events.recv_many(&mut batch, EVENTS_WAITING_MAX).await > 0 {
        if let Err(error) = queue.append(&build.id, &batch).await {
            tracing::error!(build = %build.id, error = nebh_face::failure::chain(&error), "events are lost");
        }
        batch.clear();
    }
}

#[cfg(test)]
mod tests;
