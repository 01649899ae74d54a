//! The service over HTTP: webhooks in, builds and their events out.
//!
//! ```text
//!   POST /hooks/<project>            404 unknown · 413 too large · 401 not signed · 503 no secret · 202 taken
//!   GET  /api/v1/builds[?project=]   newest first
//!   GET  /api/v1/builds/<id>
//!   GET  /api/v1/builds/<id>/events  server-sent events; `?follow=false` ends with what there is
//!   GET  /healthz
//! ```

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Service;
use super::queue::{Build, BuildId, Delivery, DeliveryState, Queue, QueueError, Receipt};
use super::settings::Project;
use super::webhook::{self, BODY_BYTES_MAX, Change, Headers, Notice, Refusal};

mod stream;

/// Time for a sender to hand over its body. Whoever is slower occupies one of few places.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Time that an answer waits for the reference to be read. GitHub gives up after ten seconds.
const READ_TIME: Duration = Duration::from_secs(6);

/// All routes.
pub fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/hooks/{*project}", post(hook))
        .route("/api/v1/builds", get(builds))
        .route("/api/v1/builds/{id}", get(build))
        .route("/api/v1/builds/{id}/events", get(stream::events))
        .route("/healthz", get(health))
        .with_state(service)
}

/// What goes wrong, with its status. Text of causes stays in our log.
#[derive(Debug)]
enum Problem {
    Refused(Refusal),
    NoProject(String),
    NoBuild,
    TooLarge,
    TooSlow,
    Busy,
    Queue(QueueError),
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        Self::Queue(error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, kind, text) = match self {
            Self::Refused(refusal) => refused(&refusal),
            Self::NoProject(name) => {
                (StatusCode::NOT_FOUND, "project_unknown", format!("there is no project `{}`", name.escape_debug()))
            }
            Self::NoBuild => (StatusCode::NOT_FOUND, "build_unknown", "there is no such build".to_owned()),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("more than {BODY_BYTES_MAX} bytes")),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too_slow", "the body did not arrive in time".to_owned()),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "too many webhooks at once: try again".to_owned()),
            Self::Queue(error) => {
                tracing::error!(error = nebh_face::failure::chain(&error), "the queue does not answer");
                (StatusCode::SERVICE_UNAVAILABLE, "queue", "the queue does not answer: try again".to_owned())
            }
        };
        (status, Json(json!({ "version": 1, "error": kind, "message": text }))).into_response()
    }
}

fn refused(refusal: &Refusal) -> (StatusCode, &'static str, String) {
    let (status, kind) = match refusal {
        Refusal::NoSecret => (StatusCode::SERVICE_UNAVAILABLE, "no_secret"),
        Refusal::MissingSignature => (StatusCode::UNAUTHORIZED, "missing_signature"),
        Refusal::WeakSignature => (StatusCode::UNAUTHORIZED, "sha1_only"),
        Refusal::BadSignature => (StatusCode::UNAUTHORIZED, "bad_signature"),
        Refusal::WrongContentType(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "wrong_content_type"),
        Refusal::BadDelivery => (StatusCode::BAD_REQUEST, "bad_delivery"),
        Refusal::BadEvent => (StatusCode::BAD_REQUEST, "bad_event"),
        Refusal::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed"),
    };
    (status, kind, refusal.to_string())
}

async fn health() -> Json<Value> {
    Json(json!({ "version": 1, "ok": true }))
}

async fn hook(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Some(project) = service.project(&name) else { return Err(Problem::NoProject(name)) };
    let _place = service.places.try_acquire().map_err(|_| Problem::Busy)?;
    let body = read_body(&headers, body).await?;
    let secrets = secrets(project).await;
    let notice = webhook::accept(&secrets, &headers_of(&headers), &body).map_err(|refusal| {
        tracing::warn!(project = name, %refusal, "webhook refused");
        Problem::Refused(refusal)
    })?;
    match notice {
        Notice::Ping => Ok(answer(StatusCode::OK, &json!({ "pong": true }))),
        Notice::Ignored { reason } => Ok(answer(StatusCode::OK, &json!({ "ignored": reason }))),
        Notice::Changed(change) if project.wish(&change.reference).is_none() => {
            let reason = format!("`{}` is not among the references that build", change.reference);
            Ok(answer(StatusCode::OK, &json!({ "ignored": reason })))
        }
        Notice::Changed(change) => take(&service.queue, project, change).await,
    }
}

/// Enters the delivery into the ledger, and waits a little for what becomes of it.
async fn take(queue: &Queue, project: &Project, change: Change) -> Result<Response, Problem> {
    let delivery = Delivery {
        project: project.name.to_string(),
        delivery: change.delivery,
        event: change.event,
        reference: change.reference,
        again: change.again,
    };
    let mut changes = queue.changes();
    match queue.receive(&delivery, Timestamp::now()).await? {
        Receipt::Replayed(state) => Ok(answer(StatusCode::OK, &said(&state, true))),
        Receipt::New => {
            let settled = async {
                loop {
                    changes.mark_unchanged();
                    let state = queue.delivery_state(&delivery.project, &delivery.delivery).await?;
                    if state != DeliveryState::Received || changes.changed().await.is_err() {
                        return Ok::<_, QueueError>(state);
                    }
                }
            };
            let state = match tokio::time::timeout(READ_TIME, settled).await {
                Ok(state) => state?,
                Err(_) => DeliveryState::Received,
            };
            Ok(answer(StatusCode::ACCEPTED, &said(&state, false)))
        }
    }
}

fn said(state: &DeliveryState, replayed: bool) -> Value {
    match state {
        DeliveryState::Received => json!({ "replayed": replayed, "received": true }),
        DeliveryState::Queued(build) => json!({ "replayed": replayed, "build": build }),
        DeliveryState::Ignored(reason) => json!({ "replayed": replayed, "ignored": reason }),
    }
}

fn answer(status: StatusCode, value: &Value) -> Response {
    let mut body = json!({ "version": 1 });
    if let (Some(body), Some(value)) = (body.as_object_mut(), value.as_object()) {
        body.extend(value.clone());
    }
    (status, Json(body)).into_response()
}

async fn read_body(headers: &HeaderMap, body: Body) -> Result<axum::body::Bytes, Problem> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > BODY_BYTES_MAX) {
        return Err(Problem::TooLarge);
    }
    match tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(Problem::TooLarge),
        Err(_) => Err(Problem::TooSlow),
    }
}

/// Read at every request, so that a secret is replaced without a restart. None, if the file cannot be read: fail closed.
async fn secrets(project: &Project) -> Vec<Vec<u8>> {
    let file = project.secret_file.clone();
    let read = tokio::task::spawn_blocking(move || crate::keys::read_private(&file, "webhook secret")).await;
    match read {
        Ok(Ok(text)) => webhook::secrets(text.as_bytes()),
        Ok(Err(failure)) => {
            tracing::error!(project = %project.name, %failure, "no webhook secret");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

fn headers_of(headers: &HeaderMap) -> Headers<'_> {
    // A header that stands there twice counts as absent: which one was signed for nobody could say.
    let one = |name: &str| {
        let mut all = headers.get_all(name).iter();
        let first = all.next()?;
        if all.next().is_some() { None } else { first.to_str().ok() }
    };
    Headers {
        signature: one("x-hub-signature-256"),
        sha1_signature: one("x-hub-signature"),
        delivery: one("x-github-delivery"),
        event: one("x-github-event"),
        content_type: one("content-type"),
    }
}

#[derive(Deserialize)]
struct Which {
    project: Option<String>,
}

async fn builds(State(service): State<Arc<Service>>, Query(which): Query<Which>) -> Result<Json<Value>, Problem> {
    let builds = service.queue.builds(which.project.as_deref()).await?;
    Ok(Json(json!({ "version": 1, "builds": builds.iter().map(wire).collect::<Vec<_>>() })))
}

async fn build(State(service): State<Arc<Service>>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(wire(&find(&service.queue, &id).await?)))
}

async fn find(queue: &Queue, id: &str) -> Result<Build, Problem> {
    let id: BuildId = id.parse().map_err(|_| Problem::NoBuild)?;
    queue.build(&id).await?.ok_or(Problem::NoBuild)
}

/// The wire form of a build.
fn wire(build: &Build) -> Value {
    let outcome: Option<Value> = build.outcome.as_deref().and_then(|text| serde_json::from_str(text).ok());
    json!({
        "version": 1,
        "id": build.id,
        "project": build.project,
        "ref": build.reference.full(),
        "commit": build.commit,
        "state": build.state,
        "attempt": build.attempt,
        "created": build.created.to_string(),
        "started": build.started.map(|time| time.to_string()),
        "finished": build.finished.map(|time| time.to_string()),
        "outcome": outcome,
        "failure": build.failure,
    })
}

#[cfg(test)]
mod tests;
