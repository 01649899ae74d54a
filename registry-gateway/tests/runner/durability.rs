//! The gateway is killed between pushes, and what it acknowledged is there afterwards. (At every step of everything it is
//! killed by the workspace's own tests, with the real program.)
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
use reqwest::{Client, Method, StatusCode};
use tokio::sync::watch;

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
    server::serve(listener, router(Arc::clone(&gateway)), gateway.settings.limits, stopped).await;
}

struct Killed {
    child: Child,
    url: String,
    http: Client,
}

impl Killed {
    fn start(state: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["durability::child_process", "--exact", "--nocapture"]).env(STATE, state);
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
async fn gateway_killed_between_pushes_keeps_every_acknowledged_one() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let mut acknowledged: Vec<Vec<u8>> = Vec::new();
    for round in 0..3 {
        let mut gateway = Killed::start(&state);
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
    let gateway = Killed::start(&state);
    for bytes in &acknowledged {
        assert_eq!(gateway.blob(bytes).await.as_ref(), Some(bytes));
    }
}
