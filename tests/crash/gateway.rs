//! The gateway, killed at every one of its points. What it acknowledged is there afterwards, whole; what it did not can be
//! done again; no tag leads to missing content; and after a sweep no file is left that nothing needs.
//!
//! One state folder lives through all of it. Each of the `scenes` makes ready, asks for the death, does the one thing that comes
//! by that point, starts the gateway again, looks, and does the thing once more.

mod scenes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use nebh_oci::digest::Digest;
use nebh_oci::manifest::{Descriptor, ImageManifest, RawManifest};
use nebh_oci::media_type::{OCI_CONFIG, OCI_LAYER};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::ground::Ground;
use super::{Asking, Table};
use crate::support::{Server, free_port, listens, nebh};

const ONE: &str = "open/one";
const OTHER: &str = "open/other";
/// Where retention keeps two versions.
const SHORT: &str = "short/one";

/// An answer; none if the gateway died before it gave one.
type Answer = Option<(StatusCode, Vec<u8>, String)>;

struct Story {
    ground: Ground,
    port: u16,
    asking: Asking,
    server: Option<Server>,
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    /// Tags and blobs that were acknowledged, by repository.
    tags: BTreeMap<(&'static str, String), RawManifest>,
    blobs: BTreeMap<Digest, Vec<u8>>,
    fresh: usize,
}

/// Kills at every point on this ground; the lines go to the table.
pub(super) fn story(table: &Table, ground: Ground, points: &[&'static str]) {
    let mut story = Story::new(ground);
    for &point in points {
        let found = story.scene(point);
        story.whole(point);
        story.sweep_clean(point);
        table.reached(point);
        table.line(
            &format!("{}{point}", story.ground.prefix()),
            "gateway",
            found,
            "acknowledged whole, retried, swept clean",
        );
    }
}

impl Story {
    fn new(ground: Ground) -> Self {
        let (port, asking) = (free_port(), Asking::new());
        let settings = format!(
            "listen: 127.0.0.1:{port}\nstate: {}\nrepositories:\n  - {{ match: short/*, admit: open, keep: {{ recent: 2 }} }}\n  \
             - {{ match: \"**\", admit: open }}\nretention: {{ grace: 0s, restorable: 0s, sweep-every: 1d, share-max: 100 }}\n\
             limits: {{ upload-age: 0s }}\n",
            ground.folder().join("gateway").display()
        );
        std::fs::write(asking.folder().join("gateway.yaml"), settings).expect("settings");
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("a client");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (tags, blobs) = (BTreeMap::new(), BTreeMap::new());
        let mut story = Self { ground, port, asking, server: None, http, runtime, tags, blobs, fresh: 0 };
        story.start();
        let first = story.image(ONE);
        story.tag(ONE, "first", &first);
        story
    }

    fn start(&mut self) {
        let folder = self.asking.folder().to_owned();
        let mut command = nebh();
        command.args(["gateway", "serve", "--settings"]).arg(folder.join("gateway.yaml"));
        self.asking.arm(&mut command);
        let mut server = Server::start(&mut command, &folder.join("gateway.log"));
        let port = self.port;
        server.wait_until("the gateway", || listens(port));
        self.server = Some(server);
    }

    fn send(&self, method: Method, path: &str, body: &[u8]) -> Answer {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        // Where a session stands is asked for, where it is comes as an answer.
        let wanted = if method == Method::GET { "range" } else { "location" };
        let mut request = self.http.request(method, url).body(body.to_vec());
        if path.starts_with("/api/") {
            request = request.header("content-type", "application/json");
        }
        self.runtime.block_on(async {
            let response = request.send().await.ok()?;
            let header = response.headers().get(wanted).and_then(|value| value.to_str().ok());
            let (status, header) = (response.status(), header.unwrap_or_default().to_owned());
            let bytes = response.bytes().await.ok()?;
            Some((status, bytes.to_vec(), header))
        })
    }

    /// Does one thing that the gateway must not survive, and starts it again.
    fn dies(&mut self, point: &str, deed: impl FnOnce(&mut Self) -> Answer) {
        self.asking.ask(point);
        let answer = deed(self);
        assert!(answer.is_none(), "{point}: the gateway answered after its own death, or never came by: {answer:?}");
        self.asking.died(point, self.server.take());
        self.ground.cut();
        self.start();
    }

    fn bytes(&mut self) -> Vec<u8> {
        self.fresh += 1;
        format!("bytes number {}", self.fresh).repeat(100 + self.fresh).into_bytes()
    }

    /// Bytes whose blob needs a folder that is not there yet.
    fn bytes_of_a_new_folder(&mut self) -> Vec<u8> {
        loop {
            let bytes = self.bytes();
            if self.file(&Digest::sha256(&bytes)).parent().is_some_and(|folder| !folder.exists()) {
                return bytes;
            }
        }
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.ground.folder().join("gateway/blobs/sha256").join(&hex[..2]).join(hex)
    }

    fn push(&self, repository: &str, bytes: &[u8]) -> Answer {
        self.send(Method::POST, &format!("/v2/{repository}/blobs/uploads/?digest={}", Digest::sha256(bytes)), bytes)
    }

    fn blob(&self, repository: &str, digest: &Digest) -> Option<Vec<u8>> {
        let (status, bytes, _) = self.send(Method::GET, &format!("/v2/{repository}/blobs/{digest}"), b"")?;
        (status == StatusCode::OK).then_some(bytes)
    }

    fn put(&self, repository: &str, name: &str, manifest: &RawManifest) -> Answer {
        self.send(Method::PUT, &format!("/v2/{repository}/manifests/{name}"), manifest.bytes())
    }

    /// A new image whose blobs are there.
    fn image(&mut self, repository: &'static str) -> RawManifest {
        let (config, layer) = (b"{}".to_vec(), self.bytes());
        for bytes in [&config, &layer] {
            created(&self.push(repository, bytes), "a blob");
            self.blobs.insert(Digest::sha256(bytes), bytes.clone());
        }
        let image = ImageManifest::image(Descriptor::of(OCI_CONFIG, &config), vec![Descriptor::of(OCI_LAYER, &layer)]);
        RawManifest::from_image(&image).expect("a manifest")
    }

    fn tag(&mut self, repository: &'static str, name: &str, manifest: &RawManifest) {
        created(&self.put(repository, name, manifest), name);
        self.tags.insert((repository, name.to_owned()), manifest.clone());
    }

    fn tagged(&self, repository: &str, name: &str) -> Option<Vec<u8>> {
        let (status, bytes, _) = self.send(Method::GET, &format!("/v2/{repository}/manifests/{name}"), b"")?;
        (status == StatusCode::OK).then_some(bytes)
    }

    fn order(&self, path: &str, order: &Value) -> Answer {
        self.send(Method::POST, &format!("/api/v1/{path}"), order.to_string().as_bytes())
    }

    fn ask(&self, path: &str) -> String {
        let (status, bytes, _) = self.send(Method::GET, &format!("/api/v1/{path}"), b"").expect("an answer");
        assert_eq!(status, StatusCode::OK, "{path}");
        String::from_utf8(bytes).expect("text")
    }

    fn sweep(&self) -> Answer {
        self.order("sweep", &json!({}))
    }

    fn sweep_done(&self, times: usize) {
        for _ in 0..times {
            let (status, said, _) = self.sweep().expect("the sweep answers");
            assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&said));
        }
    }

    /// Every acknowledged tag leads to its manifest, and all that the gateway lists is whole, blob for blob.
    fn whole(&self, point: &str) {
        for ((repository, name), manifest) in &self.tags {
            let found = self.tagged(repository, name);
            same(found.as_deref(), Some(manifest.bytes()), &format!("{point}: {repository}:{name}"));
        }
        for repository in [ONE, OTHER, SHORT] {
            let listed = self.send(Method::GET, &format!("/v2/{repository}/tags/list"), b"").expect("an answer");
            let listed: Value = serde_json::from_slice(&listed.1).expect("JSON");
            for name in listed["tags"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let bytes = self.tagged(repository, name).unwrap_or_else(|| panic!("{point}: {name} leads nowhere"));
                let manifest = RawManifest::parse(bytes, None).expect("a manifest");
                let image = manifest.image().expect("an image");
                for part in image.layers.iter().chain([&image.config]) {
                    let known = self.blobs.get(&part.digest);
                    assert!(known.is_some(), "{point}: {name} has a blob that nobody pushed");
                    same(
                        self.blob(repository, &part.digest).as_deref(),
                        known.map(Vec::as_slice),
                        &format!("{point}: blob of {name}"),
                    );
                }
            }
        }
    }

    /// After the sweep there are the blobs of what is tagged, and nothing else.
    fn sweep_clean(&self, point: &str) {
        self.sweep_done(2);
        let parts = self.tags.values().filter_map(RawManifest::image);
        let parts = parts.flat_map(|image| image.layers.iter().chain([&image.config]));
        let needed: BTreeSet<String> = parts.map(|part| part.digest.hex()).collect();
        let gateway = self.ground.folder().join("gateway");
        let folders = names(&gateway.join("blobs/sha256")).into_iter();
        let there: BTreeSet<String> =
            folders.flat_map(|folder| names(&gateway.join("blobs/sha256").join(folder))).collect();
        assert_eq!(there, needed, "{point}: files of blobs after the sweep");
        assert_eq!(names(&gateway.join("uploads")), [""; 0], "{point}: uploads after the sweep");
    }
}

/// Bytes are compared, and not printed.
fn same(found: Option<&[u8]>, expected: Option<&[u8]>, what: &str) {
    let told = |bytes: Option<&[u8]>| bytes.map_or("nothing".to_owned(), |bytes| format!("{} bytes", bytes.len()));
    assert!(found == expected, "{what}: found {}, expected {}", told(found), told(expected));
}

fn created(answer: &Answer, what: &str) {
    let (status, said, _) = answer.as_ref().unwrap_or_else(|| panic!("{what}: no answer"));
    assert_eq!(*status, StatusCode::CREATED, "{what}: {}", String::from_utf8_lossy(said));
}

/// Names in a folder, in order.
fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
