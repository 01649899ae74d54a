//! A registry in memory that only gives: manifests, blobs, referrers. It can be taken away, and it can lie.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use nebh_oci::manifest::{Artifact, Descriptor, ImageIndex, RawManifest};
use nebh_oci::names::RepositoryAddress;

#[derive(Default)]
struct Kept {
    manifests: BTreeMap<String, RawManifest>,
    blobs: BTreeMap<String, Vec<u8>>,
    requests: u64,
}

pub(super) struct Registry {
    kept: Arc<Mutex<Kept>>,
    pub(super) address: RepositoryAddress,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.server.abort();
    }
}

type Shared = State<Arc<Mutex<Kept>>>;

impl Registry {
    pub(super) async fn start() -> Self {
        let kept = Arc::<Mutex<Kept>>::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("{}/shop/api", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new()
            .route("/v2/shop/api/manifests/{name}", get(manifest))
            .route("/v2/shop/api/blobs/{digest}", get(blob))
            .route("/v2/shop/api/referrers/{digest}", get(referrers))
            .with_state(Arc::clone(&kept));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { kept, address, server }
    }

    pub(super) fn put(&self, artifact: &Artifact) {
        let mut kept = self.kept.lock().unwrap();
        for (descriptor, bytes) in &artifact.blobs {
            kept.blobs.insert(descriptor.digest.to_string(), bytes.clone());
        }
        kept.manifests.insert(artifact.manifest.digest().to_string(), artifact.manifest.clone());
        if let Some(tag) = &artifact.tag {
            kept.manifests.insert(tag.to_string(), artifact.manifest.clone());
        }
    }

    /// Changes one byte of a blob and keeps its name.
    pub(super) fn tamper(&self, digest: &str) {
        let mut kept = self.kept.lock().unwrap();
        let blob = kept.blobs.get_mut(digest).unwrap();
        let middle = blob.len() / 2;
        blob[middle] ^= 1;
    }

    /// Loses a blob, as a registry does that sets damaged bytes aside.
    pub(super) fn lose(&self, digest: &str) {
        self.kept.lock().unwrap().blobs.remove(digest).unwrap();
    }

    pub(super) fn requests(&self) -> u64 {
        self.kept.lock().unwrap().requests
    }
}

async fn manifest(State(kept): Shared, Path(name): Path<String>) -> Response {
    let mut kept = kept.lock().unwrap();
    kept.requests += 1;
    match kept.manifests.get(&name) {
        Some(manifest) => {
            ([(header::CONTENT_TYPE, manifest.media_type().to_owned())], manifest.bytes().to_vec()).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn blob(State(kept): Shared, Path(digest): Path<String>) -> Response {
    let mut kept = kept.lock().unwrap();
    kept.requests += 1;
    match kept.blobs.get(&digest) {
        Some(bytes) => bytes.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn referrers(State(kept): Shared, Path(digest): Path<String>) -> Response {
    let mut kept = kept.lock().unwrap();
    kept.requests += 1;
    let about =
        |manifest: &&RawManifest| manifest.subject().is_some_and(|subject| subject.digest.to_string() == digest);
    let mut found: Vec<Descriptor> =
        kept.manifests.values().filter(about).map(RawManifest::referrer_descriptor).collect();
    found.dedup();
    let index = RawManifest::from_index(&ImageIndex { manifests: found, ..ImageIndex::default() }).unwrap();
    ([(header::CONTENT_TYPE, index.media_type().to_owned())], index.bytes().to_vec()).into_response()
}
