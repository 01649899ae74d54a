//! Keeps the heads of the channels alive: hosts stop believing a head that has expired, and then prepare nothing more.
//! Side effects: the maker's (the registry), rows of the queue.
//!
//! A head is signed anew with the same content and the next counter. What the registry serves is held against the highest
//! head that this service has seen, so an old one that is served again is never made young by us.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nebh_trust::channel::Floor;

use super::Service;
use super::settings::Project;
use super::worker::Maker;
use crate::channel::Renewed;

/// How often every head is looked at. Heads live for hours at least.
const LOOK: Duration = Duration::from_mins(10);

/// Looks after the heads for as long as the service runs. Safe to drop at any await.
pub async fn run<M: Maker>(service: Arc<Service>, maker: Arc<M>) {
    loop {
        pass(&service, &*maker, Timestamp::now()).await;
        tokio::time::sleep(LOOK).await;
    }
}

/// Looks at every head once, as of `now`. One that cannot be renewed does not keep the others from it.
pub(super) async fn pass<M: Maker>(service: &Service, maker: &M, now: Timestamp) {
    for project in service.settings.projects.values() {
        let Some(channel) = &project.channel else { continue };
        if let Err(why) = look(service, maker, project, channel, now).await {
            tracing::error!(project = %project.name, channel, why, "the head of the channel is not looked after");
        }
    }
}

async fn look<M: Maker>(
    service: &Service,
    maker: &M,
    project: &Project,
    channel: &str,
    now: Timestamp,
) -> Result<(), String> {
    let destination = project.to.to_string();
    let said = |error: &dyn std::error::Error| nebh_face::failure::chain(error);
    let floor: Floor = service.queue.floor(&destination, channel).await.map_err(|error| said(&error))?;
    let renewed = maker.renew(project, channel, &floor, now).await.map_err(|failure| failure.to_string())?;
    match &renewed {
        Renewed::None | Renewed::Young(_) => {}
        Renewed::Shared(head) => {
            let expires = head.expires;
            tracing::warn!(project = %project.name, channel, %expires, "others signed the head too: have it set anew");
        }
        Renewed::Again(head) => {
            let (counter, expires) = (head.counter, head.expires);
            tracing::info!(project = %project.name, channel, counter, %expires, "the head was signed anew");
        }
    }
    if let Some(head) = renewed.head() {
        let floor = Floor { counter: head.counter, head: Some(head.digest().map_err(|error| said(&error))?) };
        service.queue.raise(&destination, channel, &floor).await.map_err(|error| said(&error))?;
    }
    Ok(())
}
