//! A gateway on a port of its own, keys, and a small client that does only what a test says.

use std::path::Path;
use std::sync::Arc;

use nebh_gateway::gateway::Gateway;
use nebh_gateway::http::{router, server};
use nebh_gateway::settings::Settings;
use nebh_oci::digest::Digest;
use nebh_oci::manifest::{Artifact, Descriptor, ImageIndex, ImageManifest, Platform, RawManifest};
use nebh_oci::media_type::{OCI_CONFIG, OCI_LAYER_GZIP};
use nebh_oci::names::{Repository, RepositoryAddress, Tag};
use nebh_trust::channel::{self, ChannelHead, HeadRelease};
use nebh_trust::key::PrivateKey;
use nebh_trust::release::{ConfigSnapshot, ReleaseSpec, assemble};
use nebh_trust::signing;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Keys by role.
pub(crate) struct Keys {
    pub(crate) builder: PrivateKey,
    pub(crate) releaser: PrivateKey,
    pub(crate) stranger: PrivateKey,
}

/// A gateway that serves, and its state.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) keys: Keys,
    pub(crate) folder: tempfile::TempDir,
    http: reqwest::Client,
    stop: watch::Sender<bool>,
    running: Option<JoinHandle<()>>,
}

const TRUST: &str = "\
roles:
  builder:  { keys: [builder.pub] }
  releaser: { keys: [releaser.pub] }
rules:
  - { match: \"shop/*\", image: builder, release: releaser }
";

/// The settings of most tests: `shop/*` signed, `open/*` open, `final/*` releases only.
pub(crate) const SETTINGS: &str = "\
listen: 127.0.0.1:0
state: state
trust: trust.yaml
repositories:
  - { match: shop/*, admit: signed, keep: { recent: 2 } }
  - { match: open/*, admit: open, keep: { recent: 2 } }
";

fn write_keys(folder: &Path) -> Keys {
    let keys = Keys {
        builder: PrivateKey::generate().unwrap(),
        releaser: PrivateKey::generate().unwrap(),
        stranger: PrivateKey::generate().unwrap(),
    };
    for (name, key) in [("builder", &keys.builder), ("releaser", &keys.releaser)] {
        std::fs::write(folder.join(format!("{name}.pub")), key.public().to_pem().unwrap()).unwrap();
    }
    std::fs::write(folder.join("trust.yaml"), TRUST).unwrap();
    keys
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(SETTINGS).await
    }

    pub(crate) async fn with(settings: &str) -> Self {
        Self::with_in(settings, tempfile::tempdir().unwrap()).await
    }

    pub(crate) async fn with_in(settings: &str, folder: tempfile::TempDir) -> Self {
        let keys = write_keys(folder.path());
        let settings = Settings::parse("gateway.yaml", settings, folder.path(), Path::new("state")).unwrap();
        Self::open(settings, folder, keys).await
    }

    async fn open(settings: Settings, folder: tempfile::TempDir, keys: Keys) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let limits = settings.limits;
        let gateway = Gateway::open(settings).await.unwrap();
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(server::serve(listener, router(Arc::clone(&gateway)), limits, stopped));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { url, gateway, keys, folder, http, stop, running: Some(running) }
    }

    /// The same state served again, as after a restart.
    pub(crate) async fn restart(mut self) -> Self {
        self.stop.send_replace(true);
        self.running.take().unwrap().await.unwrap();
        self.gateway.db.close().await;
        let settings = self.gateway.settings.clone();
        drop(self.gateway);
        Self::open(settings, self.folder, self.keys).await
    }

    pub(crate) fn address(&self, repository: &str) -> RepositoryAddress {
        format!("{}/{repository}", self.url.trim_start_matches("http://")).parse().unwrap()
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Response {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.url) };
        let mut request = self.http.request(method, url).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.send(Method::GET, path, &[], "").await
    }

    pub(crate) async fn order(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let response = self
            .send(Method::POST, &format!("/api/v1/{path}"), &[("content-type", "application/json")], body.to_string())
            .await;
        (response.status(), response.json().await.unwrap())
    }

    pub(crate) async fn ask(&self, path: &str) -> Value {
        self.get(&format!("/api/v1/{path}")).await.json().await.unwrap()
    }

    pub(crate) async fn push_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let response = self.send(Method::POST, &path, &[], bytes.to_vec()).await;
        assert_eq!(response.status(), StatusCode::CREATED, "{:?}", response.text().await);
        digest
    }

    pub(crate) async fn put(&self, repository: &str, name: &str, manifest: &RawManifest) -> Response {
        let path = format!("/v2/{repository}/manifests/{name}");
        self.send(Method::PUT, &path, &[("content-type", manifest.media_type())], manifest.bytes().to_vec()).await
    }

    /// The blobs of an image, and its manifest by digest.
    pub(crate) async fn push_image(&self, repository: &str, content: &str) -> RawManifest {
        let manifest = self.push_image_blobs(repository, content).await;
        let response = self.put(repository, &manifest.digest().to_string(), &manifest).await;
        assert_eq!(response.status(), StatusCode::CREATED, "{:?}", response.text().await);
        manifest
    }

    pub(crate) async fn push_image_blobs(&self, repository: &str, content: &str) -> RawManifest {
        let (layer, config) = (format!("layer of {content}"), json!({ "os": "linux", "of": content }).to_string());
        self.push_blob(repository, layer.as_bytes()).await;
        self.push_blob(repository, config.as_bytes()).await;
        image(content)
    }

    /// Everything of an artifact, in push order.
    pub(crate) async fn push_artifact(&self, repository: &str, artifact: &Artifact) -> Response {
        for (_, bytes) in &artifact.blobs {
            self.push_blob(repository, bytes).await;
        }
        let name = match &artifact.tag {
            Some(tag) => tag.to_string(),
            None => artifact.manifest.digest().to_string(),
        };
        self.put(repository, &name, &artifact.manifest).await
    }

    pub(crate) async fn sign(&self, repository: &str, manifest: &RawManifest, tags: &[&str], key: &PrivateKey) {
        let tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        for artifact in signing::sign_both(None, manifest, &self.address(repository), &tags, key).unwrap() {
            let response = self.push_artifact(repository, &artifact).await;
            assert_eq!(response.status(), StatusCode::CREATED, "{:?}", response.text().await);
        }
    }

    /// An image, signed by the builder, under a tag.
    pub(crate) async fn push_signed(&self, repository: &str, content: &str, tag: &str) -> RawManifest {
        let manifest = self.push_image(repository, content).await;
        self.sign(repository, &manifest, &[tag], &self.keys.builder).await;
        let response = self.put(repository, tag, &manifest).await;
        assert_eq!(response.status(), StatusCode::CREATED, "{:?}", response.text().await);
        manifest
    }

    /// A release's parts and its index by digest; not signed, not tagged.
    pub(crate) async fn push_release(&self, repository: &str, version: &str, image: &RawManifest) -> RawManifest {
        let spec = ReleaseSpec::parse("release.yaml", RELEASE).unwrap();
        let descriptor = image.descriptor().with_platform(Platform::new("linux", "amd64"));
        let commit = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
        let parts =
            assemble(&spec, &version.parse().unwrap(), &commit, 1, &[descriptor], &ConfigSnapshot::default()).unwrap();
        for artifact in parts.artifacts() {
            let response = self.push_artifact(repository, &artifact).await;
            assert_eq!(response.status(), StatusCode::CREATED, "{:?}", response.text().await);
        }
        parts.index().clone()
    }

    /// A release, signed by the releaser, under its tag.
    pub(crate) async fn push_signed_release(
        &self,
        repository: &str,
        version: &str,
        image: &RawManifest,
    ) -> RawManifest {
        let index = self.push_release(repository, version, image).await;
        self.sign(repository, &index, &[version], &self.keys.releaser).await;
        let response = self.put(repository, version, &index).await;
        assert_eq!(response.status(), StatusCode::CREATED, "{:?}", response.text().await);
        index
    }
}

pub(crate) const RELEASE: &str = "\
name: shop/api
run:
  switch: stop-first
  ports: [8080]
  alive: { http: \":8080/healthz\", within: 30s }
";

/// An image whose blobs [`Server::push_image_blobs`] pushes.
pub(crate) fn image(content: &str) -> RawManifest {
    let (layer, config) = (format!("layer of {content}"), json!({ "os": "linux", "of": content }).to_string());
    RawManifest::from_image(&ImageManifest::image(
        Descriptor::of(OCI_CONFIG, config.as_bytes()),
        vec![Descriptor::of(OCI_LAYER_GZIP, layer.as_bytes())],
    ))
    .unwrap()
}

pub(crate) fn index(children: &[&RawManifest]) -> RawManifest {
    let manifests = children.iter().map(|child| child.descriptor()).collect();
    RawManifest::from_index(&ImageIndex { manifests, ..ImageIndex::default() }).unwrap()
}

/// A signed channel head.
pub(crate) fn head(
    channel: &str,
    repository: &str,
    counter: u64,
    release: &RawManifest,
    days: i64,
    key: &PrivateKey,
) -> Artifact {
    let now = jiff::Timestamp::now();
    let hour = jiff::SignedDuration::from_hours;
    let current = HeadRelease { version: "1.0.0".to_owned(), digest: *release.digest() };
    let repository: Repository = repository.parse().unwrap();
    let head = ChannelHead::new(channel, repository, counter, current, now - hour(24 * 30), now + hour(24 * days));
    channel::sign_head(&head, key).unwrap()
}

/// The message of an error body.
pub(crate) async fn refusal(response: Response) -> (StatusCode, String, String) {
    let status = response.status();
    let value: Value = response.json().await.unwrap();
    let error = &value["errors"][0];
    (status, error["code"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
}
