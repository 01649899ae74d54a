//! The distribution protocol over HTTP: request ─► action ─► permit ─► handler ─► response.
//!
//! Handlers get a parsed action and the permit for it, never a URL. Nothing here decides about trust or retention;
//! handlers gather facts, ask the pure functions, and write once.

pub mod action;
pub mod api;
pub mod blobs;
pub mod error;
pub mod lists;
pub mod manifests;
pub mod permit;
pub mod range;
pub mod reading;
pub mod server;
pub mod uploads;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};

use self::action::Action;
use self::error::{Code, Refusal};
use self::permit::permits;
use crate::gateway::Gateway;

/// What every handler may look at of a request, beside its action.
#[derive(Debug)]
pub struct Asked {
    /// HEAD: headers only.
    pub head: bool,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Body,
}

impl Asked {
    /// A header as text.
    pub fn header(&self, name: &header::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The announced length of the body.
    pub fn length(&self) -> Option<u64> {
        self.header(&header::CONTENT_LENGTH).and_then(|text| text.parse().ok())
    }
}

/// All addresses.
pub fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/v2", any(registry))
        .route("/v2/", any(registry))
        .route("/v2/{*rest}", any(registry))
        .nest("/api/v1", api::router())
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&gateway), count))
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(gateway)
}

async fn registry(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let head = parts.method == Method::HEAD;
    let action = match Action::parse(&parts.method, parts.uri.path(), parts.uri.query()) {
        Ok(action) => action,
        Err(refusal) => return without_body_if(head, refusal.into_response()),
    };
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let asked = Asked { head, headers: parts.headers, body };
    let outcome = perform(&gateway, action, peer, asked).await;
    let mut response = outcome.unwrap_or_else(Refusal::into_response);
    response.headers_mut().insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    without_body_if(head, response)
}

/// The answer to HEAD has the headers of the answer to GET, its length included.
fn without_body_if(head: bool, response: Response) -> Response {
    if !head {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    if !parts.headers.contains_key(header::CONTENT_LENGTH)
        && let Some(length) = http_body_util_length(&body)
    {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(parts, Body::empty())
}

fn http_body_util_length(body: &Body) -> Option<u64> {
    axum::body::HttpBody::size_hint(body).exact()
}

async fn perform(
    gateway: &Arc<Gateway>,
    action: Action,
    peer: Option<SocketAddr>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let permit = permits(&gateway.settings, peer, &action)?;
    match action {
        Action::Ping => Ok(([(header::CONTENT_TYPE, "application/json")], "{}").into_response()),
        Action::Catalog(page) => lists::catalog(gateway, &page).await,
        Action::Tags(repository, page) => lists::tags(gateway, &repository, &page).await,
        Action::Referrers { repository, subject, artifact_type, after } => {
            lists::referrers(gateway, &repository, &subject, artifact_type.as_deref(), after.as_ref()).await
        }
        Action::GetManifest(repository, name) => manifests::get(gateway, &repository, &name, asked.head).await,
        Action::PutManifest(repository, name, tags) => {
            manifests::put(gateway, &permit, &repository, name, tags, asked).await
        }
        Action::DeleteManifest(repository, name) => manifests::delete(gateway, &permit, &repository, &name).await,
        Action::GetBlob(repository, digest) => {
            let (head, range) = (asked.head, asked.header(&header::RANGE).map(str::to_owned));
            blobs::get(gateway, &repository, digest, head, range.as_deref()).await
        }
        Action::DeleteBlob(repository, digest) => blobs::delete(gateway, &permit, &repository, &digest).await,
        Action::Begin(repository, start) => uploads::begin(gateway, &permit, repository, start, asked).await,
        Action::UploadStatus(repository, id) => uploads::status(gateway, &permit, &repository, id).await,
        Action::Append(repository, id) => uploads::append(gateway, &permit, repository, id, asked).await,
        Action::Finish(repository, id, digest) => {
            uploads::finish(gateway, &permit, repository, id, digest, asked).await
        }
        Action::Cancel(repository, id) => uploads::cancel(gateway, &permit, &repository, id).await,
    }
}

async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    match gateway.db.repositories(None, 1).await {
        Ok(_) => "ok\n".into_response(),
        Err(error) => {
            tracing::error!(error = nebh_face::failure::chain(&error), "not ready");
            (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response()
        }
    }
}

async fn metrics(State(gateway): State<Arc<Gateway>>) -> Response {
    let uploads = gateway.uploads.count();
    let text = gateway.metrics.text();
    let gauge = format!("# TYPE nebh_gateway_uploads_open gauge\nnebh_gateway_uploads_open {uploads}\n");
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text + &gauge).into_response()
}

/// What no client of a registry sends.
fn refuse_strange(request: &Request) -> Result<(), Refusal> {
    let headers = request.headers();
    if !request.method().is_safe() && headers.contains_key(header::ORIGIN) {
        // A page in a person's browser, which may reach what its owner cannot.
        return Err(Refusal::new(
            Code::Denied,
            "requests that change something are not taken from browsers (`origin`)",
        ));
    }
    Ok(())
}

async fn count(State(gateway): State<Arc<Gateway>>, request: Request, next: axum::middleware::Next) -> Response {
    let response = match refuse_strange(&request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    gateway.metrics.requests.fetch_add(1, Ordering::Relaxed);
    if response.status().is_server_error() {
        gateway.metrics.failures.fetch_add(1, Ordering::Relaxed);
    }
    response
}

/// A digest as a header's value.
pub(crate) fn digest_value(digest: &nebh_oci::digest::Digest) -> HeaderValue {
    HeaderValue::from_str(&digest.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Text of ours as a header's value; what no header can carry is left out.
pub(crate) fn text_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
