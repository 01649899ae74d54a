//! The events of one build as server-sent events, from any place on, until the build ends.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use tokio::sync::watch;

use super::{Problem, find, wire};
use crate::service::Service;
use crate::service::queue::{BuildId, Event, Queue, QueueError};

/// Silence after which a comment is sent, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
pub(super) struct How {
    #[serde(default = "yes")]
    follow: bool,
}

fn yes() -> bool {
    true
}

/// `Last-Event-ID` is where the reader stopped.
pub(super) async fn events(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
    Query(how): Query<How>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, Problem> {
    let build = find(&service.queue, &id).await?;
    let seen = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
    let follower = Follower {
        changes: service.queue.changes(),
        queue: service.queue.clone(),
        build: build.id,
        seen,
        ready: VecDeque::new(),
        follow: how.follow,
        ended: false,
    };
    Ok(Sse::new(stream::unfold(follower, Follower::next)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

struct Follower {
    queue: Queue,
    changes: watch::Receiver<u64>,
    build: BuildId,
    seen: i64,
    ready: VecDeque<Event>,
    follow: bool,
    ended: bool,
}

impl Follower {
    async fn next(mut self) -> Option<(Result<Sent, Infallible>, Self)> {
        if self.ended {
            return None;
        }
        match self.wait().await {
            Ok(Some(event)) => {
                self.seen = event.seq;
                Some((Ok(Sent::default().id(event.seq.to_string()).event("build").data(event.body)), self))
            }
            // The last word is the build itself.
            Ok(None) => {
                self.ended = true;
                let build = self.queue.build(&self.build).await.ok().flatten()?;
                Some((Ok(Sent::default().event("state").data(wire(&build).to_string())), self))
            }
            Err(error) => {
                tracing::error!(error = nebh_face::failure::chain(&error), "events cannot be read");
                None
            }
        }
    }

    /// The next event; none once the build has ended and all of them were given.
    async fn wait(&mut self) -> Result<Option<Event>, QueueError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            self.changes.mark_unchanged();
            // The state is read before the events: what a build said last stands before its end.
            let build = self.queue.build(&self.build).await?;
            self.ready = self.queue.events(&self.build, self.seen).await?.into();
            if !self.ready.is_empty() {
                continue;
            }
            let ended = build.is_none_or(|build| build.state.is_final());
            if ended || !self.follow || self.changes.changed().await.is_err() {
                return Ok(None);
            }
        }
    }
}
