//! A registry in memory that remembers the order in which things came, and can refuse the tag.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use nebh_oci::digest::Digest;
use nebh_oci::manifest::RawManifest;
use nebh_oci::names::RepositoryAddress;

#[derive(Default)]
pub(crate) struct State_ {
    blobs: BTreeMap<String, Bytes>,
    manifests: BTreeMap<String, (String, Bytes)>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) order: Vec<String>,
    pub(crate) refuse_tags: bool,
}

pub(crate) struct Twin {
    pub(crate) address: RepositoryAddress,
    pub(crate) state: Arc<Mutex<State_>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Twin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Twin {
    /// Serves one repository, `shop/api`.
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("{}/shop/api", listener.local_addr().unwrap()).parse().unwrap();
        let state = Arc::new(Mutex::new(State_::default()));
        let router = Router::new().fallback(serve).with_state(state.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, state, task }
    }

    pub(crate) fn order(&self) -> Vec<String> {
        self.state.lock().unwrap().order.clone()
    }

    pub(crate) fn tag(&self, tag: &str) -> Option<String> {
        self.state.lock().unwrap().tags.get(tag).cloned()
    }
}

async fn serve(State(state): State<Arc<Mutex<State_>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 64 << 20).await.unwrap();
    let path = parts.uri.path().trim_start_matches("/v2/shop/api/").to_owned();
    let query = parts.uri.query().unwrap_or("").to_owned();
    let content_type =
        parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let state = &mut state.lock().unwrap();
    match (parts.method, path.split_once('/').unwrap_or((&path, ""))) {
        (Method::POST, ("blobs", _)) => {
            (StatusCode::ACCEPTED, [(header::LOCATION, "/v2/shop/api/blobs/uploads/one")]).into_response()
        }
        (Method::PATCH, ("blobs", _)) => {
            state.blobs.insert("upload".to_owned(), body);
            (StatusCode::ACCEPTED, [(header::LOCATION, "/v2/shop/api/blobs/uploads/one")]).into_response()
        }
        (Method::PUT, ("blobs", _)) => {
            let body = if body.is_empty() { state.blobs.remove("upload").unwrap_or_default() } else { body };
            let digest = query.trim_start_matches("digest=").replace("%3A", ":");
            assert_eq!(Digest::sha256(&body).to_string(), digest);
            state.order.push(format!("blob {digest}"));
            state.blobs.insert(digest, body);
            StatusCode::CREATED.into_response()
        }
        (method, ("blobs", digest)) => match state.blobs.get(digest) {
            Some(bytes) => sized(&method, "application/octet-stream", bytes),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        (Method::PUT, ("manifests", name)) => put_manifest(state, name, content_type, body),
        (method, ("manifests", name)) => {
            let digest = state.tags.get(name).cloned().unwrap_or_else(|| name.to_owned());
            match state.manifests.get(&digest) {
                Some((kind, bytes)) => sized(&method, kind, bytes),
                None => StatusCode::NOT_FOUND.into_response(),
            }
        }
        (_, ("referrers", digest)) => referrers(state, digest),
        (_, ("tags", _)) => {
            let tags: Vec<&String> = state.tags.keys().collect();
            axum::Json(serde_json::json!({ "name": "shop/api", "tags": tags })).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn put_manifest(state: &mut State_, name: &str, kind: String, body: Bytes) -> Response {
    let digest = Digest::sha256(&body).to_string();
    if name != digest && !name.starts_with("sha256-") && state.refuse_tags {
        return (StatusCode::FORBIDDEN, "not admitted").into_response();
    }
    let manifest = RawManifest::parse(body.to_vec(), Some(&kind)).unwrap();
    let subject = manifest.subject().map(|subject| subject.digest.to_string());
    if name != digest {
        state.tags.insert(name.to_owned(), digest.clone());
    }
    let what = if manifest.subject().is_some() { "referrer" } else { "manifest" };
    state.order.push(format!("{what} {name}"));
    state.manifests.insert(digest, (kind, body));
    let created = (StatusCode::CREATED, [("oci-subject", subject.clone().unwrap_or_default())]);
    if subject.is_some() { created.into_response() } else { StatusCode::CREATED.into_response() }
}

fn referrers(state: &State_, digest: &str) -> Response {
    let mut list = Vec::new();
    for (kind, bytes) in state.manifests.values() {
        let manifest = RawManifest::parse(bytes.to_vec(), Some(kind)).unwrap();
        if manifest.subject().is_some_and(|subject| subject.digest.to_string() == digest) {
            let mut descriptor = manifest.descriptor();
            descriptor.artifact_type = manifest.artifact_type().map(str::to_owned);
            list.push(descriptor);
        }
    }
    let index = nebh_oci::manifest::ImageIndex { manifests: list, ..Default::default() };
    let index = RawManifest::from_index(&index).unwrap();
    sized(&Method::GET, index.media_type(), &Bytes::copy_from_slice(index.bytes()))
}

fn sized(method: &Method, kind: &str, bytes: &Bytes) -> Response {
    let body = if method == Method::HEAD { Body::empty() } else { Body::from(bytes.clone()) };
    let digest = Digest::sha256(bytes).to_string();
    let headers = [
        (header::CONTENT_TYPE.as_str(), kind.to_owned()),
        ("docker-content-digest", digest),
        (header::CONTENT_LENGTH.as_str(), bytes.len().to_string()),
    ];
    (StatusCode::OK, headers, body).into_response()
}
