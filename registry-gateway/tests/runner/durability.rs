//! The gateway is killed at every step of a push, as by a power cut; what it acknowledged is there afterwards, and what
//! it did not acknowledge can be pushed again.
//!
//! The killed gateway is this test binary itself, started again with one "test" that serves when it is told to.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use nebh_gateway::gateway::Gateway;
use nebh_gateway::http::{router, server};
use nebh_gateway::settings::Settings;
use nebh_oci::digest::Digest;
use nebh_oci::manifest::RawManifest;
use reqwest::{Client, Method, StatusCode};
use tokio::sync::watch;

use crate::support::image;

const STATE: &str = "NEBH_TEST_GATEWAY_STATE";
const REPOSITORY: &str = "open/one";

/// Not a test: the gateway that the others kill.
#[tokio::test(flavor = "multi_thread")]
async fn child_process() {
    let Some(state) = std::env::var_os(STATE) else { return };
    let settings = Settings::embedded(Path::new(&state)).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("serving http://{}", listener.local_addr().unwrap());
    let gateway = Gateway::open(settings).await.unwrap();
    let (_stop, stopped) = watch::channel(false);
    server::serve(listener, router(Arc::clone(&gateway)), 100, stopped).await;
}

struct Killed {
    child: Child,
    url: String,
    http: Client,
}

impl Killed {
    fn start(state: &Path, crash_point: Option<&str>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["durability::child_process", "--exact", "--nocapture"]).env(STATE, state);
        match crash_point {
            Some(point) => command.env("NEBH_CRASH_POINT", point),
            None => command.env_remove("NEBH_CRASH_POINT"),
        };
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.map_while(Result::ok).find(|line| line.contains("serving http://")).unwrap();
        let url = line[line.find("http://").unwrap()..].to_owned();
        Self { child, url, http: Client::builder().no_proxy().build().unwrap() }
    }

    /// The status, or nothing if the gateway died before it answered.
    async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Option<StatusCode> {
        let request = self.http.request(method, format!("{}{path}", self.url)).body(body);
        request.send().await.ok().map(|response| response.status())
    }

    async fn push_blob(&self, bytes: &[u8]) -> bool {
        let path = format!("/v2/{REPOSITORY}/blobs/uploads/?digest={}", Digest::sha256(bytes));
        self.send(Method::POST, &path, bytes.to_vec()).await == Some(StatusCode::CREATED)
    }

    async fn push_manifest(&self, manifest: &RawManifest, tag: &str) -> bool {
        let path = format!("/v2/{REPOSITORY}/manifests/{tag}");
        self.send(Method::PUT, &path, manifest.bytes().to_vec()).await == Some(StatusCode::CREATED)
    }

    async fn read(&self, path: &str) -> Option<Vec<u8>> {
        let response = self.http.get(format!("{}{path}", self.url)).send().await.ok()?;
        if response.status() != StatusCode::OK {
            return None;
        }
        response.bytes().await.ok().map(|bytes| bytes.to_vec())
    }

    async fn blob(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.read(&format!("/v2/{REPOSITORY}/blobs/{}", Digest::sha256(bytes))).await
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_killed_at_every_step_of_a_blob_push_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let before = b"pushed before".to_vec();
    {
        let gateway = Killed::start(&state, None);
        assert!(gateway.push_blob(&before).await);
    }
    for point in ["blob-written", "blob-synced", "blob-linked", "blob-folder-synced", "blob-recorded"] {
        let bytes = format!("pushed at {point}").into_bytes();
        {
            let gateway = Killed::start(&state, Some(point));
            assert!(!gateway.push_blob(&bytes).await, "{point}: answered after its own death");
        }
        let gateway = Killed::start(&state, None);
        assert_eq!(gateway.blob(&before).await.as_ref(), Some(&before), "{point}");
        let found = gateway.blob(&bytes).await;
        assert!(found.is_none() || found.as_ref() == Some(&bytes), "{point}: half a blob");
        assert_eq!(found.is_some(), point == "blob-recorded", "{point}");
        assert!(gateway.push_blob(&bytes).await, "{point}: cannot be pushed again");
        assert_eq!(gateway.blob(&bytes).await.as_ref(), Some(&bytes), "{point}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_killed_while_it_tags_has_the_old_tag_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let (old, new) = (image("old"), image("new"));
    let path = format!("/v2/{REPOSITORY}/manifests/v1");
    {
        let gateway = Killed::start(&state, None);
        assert!(gateway.push_manifest(&old, "v1").await);
    }
    for (point, expected) in [("manifest-begun", &old), ("manifest-recorded", &new)] {
        {
            let gateway = Killed::start(&state, Some(point));
            assert!(!gateway.push_manifest(&new, "v1").await);
        }
        let gateway = Killed::start(&state, None);
        assert_eq!(gateway.read(&path).await.as_deref(), Some(expected.bytes()), "{point}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_killed_between_pushes_keeps_every_acknowledged_one() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let mut acknowledged: Vec<Vec<u8>> = Vec::new();
    for round in 0..3 {
        let mut gateway = Killed::start(&state, None);
        for bytes in &acknowledged {
            assert_eq!(gateway.blob(bytes).await.as_ref(), Some(bytes));
        }
        let pushes = (0..8).map(|n| {
            let bytes = format!("round {round}, push {n}").repeat(1000).into_bytes();
            let gateway = &gateway;
            async move { gateway.push_blob(&bytes).await.then_some(bytes) }
        });
        acknowledged.extend(futures_util::future::join_all(pushes).await.into_iter().flatten());
        gateway.child.kill().unwrap();
    }
    assert_eq!(acknowledged.len(), 24);
    let gateway = Killed::start(&state, None);
    for bytes in &acknowledged {
        assert_eq!(gateway.blob(bytes).await.as_ref(), Some(bytes));
    }
}
