//! The gateway, killed at every one of its points. What it acknowledged is there afterwards, whole; what it did not can be
//! done again; no tag leads to missing content; and after a sweep no file is left that nothing needs.
//!
//! One state folder lives through all of it. Each scene makes ready, asks for the death, does the one thing that comes
//! by that point, starts the gateway again, looks, and does the thing once more.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
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

    fn scene(&mut self, point: &'static str) -> &'static str {
        match point {
            "upload-made" | "upload-appended" | "upload-closed" => self.in_chunks(point),
            "mount-written" | "mount-recorded" => self.mounted(point),
            "manifest-begun" | "manifest-written" | "tag-written" | "manifest-recorded" => self.moved_tag(point),
            "delete-written" | "delete-recorded" => self.deleted(point),
            "withdraw-written" | "withdraw-recorded" => self.withdrawn(point),
            "pin-written" | "pin-recorded" | "unpin-written" | "unpin-recorded" => self.pinned(point),
            "report-written" | "report-recorded" => self.reported(point),
            "retention-begun" | "retention-written" | "retention-recorded" => self.retained(point),
            "restore-written" | "restore-recorded" => self.restored(point),
            "sweep-uploads-gone" => self.expired(point),
            "sweep-condemned-written" | "sweep-condemned-recorded" => self.condemned(point),
            "sweep-row-written" | "sweep-row-recorded" | "sweep-bytes-gone" => self.swept(point),
            "sweep-orphan-gone" => self.orphaned(point),
            "damage-written" | "damage-recorded" | "damage-kept" | "damage-unlinked" | "heal-set-aside" => {
                self.damaged(point)
            }
            point if point.starts_with("blob-") => self.pushed(point),
            point => panic!("no scene comes by the gateway's point {point}"),
        }
    }

    fn pushed(&mut self, point: &str) -> &'static str {
        let bytes = if point == "blob-folder-made" { self.bytes_of_a_new_folder() } else { self.bytes() };
        let digest = Digest::sha256(&bytes);
        self.dies(point, |story| story.push(ONE, &bytes));
        let found = self.blob(ONE, &digest);
        assert!(found.is_none() || found.as_ref() == Some(&bytes), "{point}: half a blob");
        assert_eq!(found.is_some(), point == "blob-recorded", "{point}");
        created(&self.push(ONE, &bytes), "the blob again");
        same(self.blob(ONE, &digest).as_deref(), Some(&bytes), point);
        if found.is_some() { "the blob is there" } else { "no blob" }
    }

    fn in_chunks(&mut self, point: &str) -> &'static str {
        let (bytes, sessions) = (self.bytes(), format!("/v2/{ONE}/blobs/uploads/"));
        let begun = (point != "upload-made").then(|| self.send(Method::POST, &sessions, b""));
        let place = begun.flatten().map(|(_, _, location)| location);
        let half = bytes.len() / 2;
        self.dies(point, |story| match (point, &place) {
            ("upload-appended", Some(place)) => story.send(Method::PATCH, place, &bytes[..half]),
            ("upload-closed", Some(place)) => story.send(Method::DELETE, place, b""),
            _ => story.send(Method::POST, &sessions, b""),
        });
        let left = place.and_then(|place| {
            let (status, _, range) = self.send(Method::GET, &place, b"")?;
            (status == StatusCode::NO_CONTENT).then_some((place, range))
        });
        assert!(point == "upload-appended" || left.is_none() || self.ground.cuts(), "{point}: a session from nowhere");
        let end = format!("digest={}", Digest::sha256(&bytes));
        if let Some((place, range)) = left {
            // The session goes on where it says that it stands; what a power cut took is found out by the digest.
            let has = range.rsplit('-').next().and_then(|last| last.parse::<usize>().ok()).map_or(0, |last| last + 1);
            let has = if has == 1 { 0 } else { has };
            let done = self.send(Method::PUT, &format!("{place}?{end}"), &bytes[has.min(bytes.len())..]);
            let status = done.expect("an answer").0;
            assert!(status == StatusCode::CREATED || self.ground.cuts(), "{point}: {status}");
            assert_eq!(self.blob(ONE, &Digest::sha256(&bytes)).is_some(), status == StatusCode::CREATED, "{point}");
            return "the session goes on";
        }
        let (_, _, place) = self.send(Method::POST, &sessions, b"").expect("a session");
        created(&self.send(Method::PUT, &format!("{place}?{end}"), &bytes), "the blob again");
        same(self.blob(ONE, &Digest::sha256(&bytes)).as_deref(), Some(&bytes), point);
        "no session"
    }

    fn mounted(&mut self, point: &str) -> &'static str {
        let bytes = self.bytes();
        let digest = Digest::sha256(&bytes);
        created(&self.push(ONE, &bytes), "a blob");
        let path = format!("/v2/{OTHER}/blobs/uploads/?mount={digest}&from={ONE}");
        self.dies(point, |story| story.send(Method::POST, &path, b""));
        let found = self.blob(OTHER, &digest).is_some();
        assert_eq!(found, point == "mount-recorded", "{point}");
        created(&self.send(Method::POST, &path, b""), "the mount again");
        same(self.blob(OTHER, &digest).as_deref(), Some(&bytes), point);
        if found { "mounted" } else { "not mounted" }
    }

    fn moved_tag(&mut self, point: &str) -> &'static str {
        let (old, new) = (self.image(ONE), self.image(ONE));
        self.tag(ONE, point, &old);
        self.dies(point, |story| story.put(ONE, point, &new));
        let moved = point == "manifest-recorded";
        let expected = if moved { &new } else { &old };
        same(self.tagged(ONE, point).as_deref(), Some(expected.bytes()), point);
        assert_eq!(self.tagged(ONE, &new.digest().to_string()).is_some(), moved, "{point}");
        self.tag(ONE, point, &new);
        self.forget_manifest(ONE, &old);
        if moved { "the new tag" } else { "the old tag" }
    }

    /// Takes a manifest without a tag away, so that its blobs can go.
    fn forget_manifest(&self, repository: &str, manifest: &RawManifest) {
        let path = format!("/v2/{repository}/manifests/{}", manifest.digest());
        let (status, ..) = self.send(Method::DELETE, &path, b"").expect("an answer");
        assert_eq!(status, StatusCode::ACCEPTED);
    }

    fn deleted(&mut self, point: &str) -> &'static str {
        let image = self.image(ONE);
        self.tag(ONE, "goes", &image);
        let path = format!("/v2/{ONE}/manifests/{}", image.digest());
        self.tags.remove(&(ONE, "goes".to_owned()));
        self.dies(point, |story| story.send(Method::DELETE, &path, b""));
        let there = self.tagged(ONE, "goes").is_some();
        assert_eq!(there, point == "delete-written", "{point}");
        assert_eq!(self.tagged(ONE, &image.digest().to_string()).is_some(), there, "{point}: tag and manifest differ");
        let (status, ..) = self.send(Method::DELETE, &path, b"").expect("an answer");
        assert_eq!(status, if there { StatusCode::ACCEPTED } else { StatusCode::NOT_FOUND }, "{point}");
        if there { "still there" } else { "gone" }
    }

    fn withdrawn(&mut self, point: &str) -> &'static str {
        let bytes = self.bytes();
        let digest = Digest::sha256(&bytes);
        created(&self.push(ONE, &bytes), "a blob");
        let path = format!("/v2/{ONE}/blobs/{digest}");
        self.dies(point, |story| story.send(Method::DELETE, &path, b""));
        let there = self.blob(ONE, &digest).is_some();
        assert_eq!(there, point == "withdraw-written", "{point}");
        created(&self.push(ONE, &bytes), "the blob again");
        if there { "still there" } else { "gone" }
    }

    fn pinned(&mut self, point: &str) -> &'static str {
        let image = self.image(ONE);
        self.tag(ONE, point, &image);
        let name = json!({ "repository": ONE, "name": point });
        let pin = json!({ "repository": ONE, "name": point, "reason": "a test" });
        let is_pin = point.starts_with("pin");
        if !is_pin {
            self.order("pins", &pin).expect("pinned");
        }
        let pins = |story: &Self| story.ask("pins").contains(&format!("\"{point}\""));
        self.dies(point, |story| if is_pin { story.order("pins", &pin) } else { story.order("unpin", &name) });
        let found = pins(self);
        assert_eq!(found, matches!(point, "pin-recorded" | "unpin-written"), "{point}");
        if found {
            let (status, ..) =
                self.send(Method::DELETE, &format!("/v2/{ONE}/manifests/{point}"), b"").expect("an answer");
            assert_eq!(status, StatusCode::FORBIDDEN, "{point}: a pin that does not hold");
        }
        self.order("pins", &pin).expect("pinned again");
        assert!(pins(self), "{point}");
        if found { "pinned" } else { "not pinned" }
    }

    fn reported(&mut self, point: &str) -> &'static str {
        let report = |role: &str| {
            let release = json!({ "release": Digest::sha256(b"r"), "version": "1.0.0", "role": role });
            json!({ "app": "shop/api", "repository": format!("127.0.0.1:1/{ONE}"), "releases": [release] })
        };
        self.order("hosts/n1/report", &report("before")).expect("reported");
        self.dies(point, |story| story.order("hosts/n1/report", &report(point)));
        let told = self.ask("hosts");
        let (old, new) = (told.contains("before"), told.contains(point));
        assert_eq!((old, new), (point == "report-written", point == "report-recorded"), "{told}");
        self.order("hosts/n1/report", &report("again")).expect("reported again");
        assert!(self.ask("hosts").contains("again"), "{point}");
        if new { "the new report" } else { "the old report" }
    }

    fn apply(&self) -> Answer {
        let plan: Value = serde_json::from_str(&self.ask("retention/plan")).expect("JSON");
        self.order("retention/apply", &json!({ "digest": plan["digest"], "confirm": true }))
    }

    /// Versions beyond the two that stay.
    fn four_versions(&mut self) -> [String; 4] {
        let names = [1, 2, 3, 4].map(|nth| format!("v{nth}-{}", self.fresh));
        for name in &names {
            let image = self.image(SHORT);
            self.tag(SHORT, name, &image);
        }
        names
    }

    fn forget_all_but(&mut self, kept: &[String]) {
        self.tags.retain(|(repository, name), _| *repository != SHORT || kept.contains(name));
    }

    fn retained(&mut self, point: &str) -> &'static str {
        let names = self.four_versions();
        self.dies(point, Story::apply_mut);
        let there: Vec<bool> = names.iter().map(|name| self.tagged(SHORT, name).is_some()).collect();
        let applied = point == "retention-recorded";
        assert_eq!(there, [!applied, !applied, true, true], "{point}");
        assert_eq!(self.apply().expect("an answer").0, StatusCode::OK, "{point}");
        assert!(self.tagged(SHORT, &names[0]).is_none() && self.tagged(SHORT, &names[3]).is_some(), "{point}");
        self.forget_all_but(&names[2..]);
        if applied { "applied whole" } else { "nothing applied" }
    }

    fn apply_mut(&mut self) -> Answer {
        self.apply()
    }

    fn restored(&mut self, point: &str) -> &'static str {
        let names = self.four_versions();
        assert_eq!(self.apply().expect("an answer").0, StatusCode::OK);
        let (kept, named) = (self.tags.clone(), json!({ "repository": SHORT, "name": names[1] }));
        self.forget_all_but(&names[2..]);
        self.dies(point, |story| story.order("retention/restore", &named));
        let there = self.tagged(SHORT, &names[1]).is_some();
        assert_eq!(there, point == "restore-recorded", "{point}");
        if !there {
            assert_eq!(self.order("retention/restore", &named).expect("an answer").0, StatusCode::OK, "{point}");
        }
        let key = (SHORT, names[1].clone());
        self.tags.insert(key.clone(), kept[&key].clone());
        self.whole(point);
        // Out of the way of the next scene's count.
        self.tags.remove(&key);
        assert_eq!(self.apply().expect("an answer").0, StatusCode::OK);
        let left: Vec<String> = names.iter().filter(|name| self.tagged(SHORT, name).is_some()).cloned().collect();
        self.tags = kept.into_iter().filter(|((at, name), _)| *at != SHORT || left.contains(name)).collect();
        if there { "restored whole" } else { "not restored" }
    }

    fn expired(&mut self, point: &str) -> &'static str {
        let (_, _, place) = self.send(Method::POST, &format!("/v2/{ONE}/blobs/uploads/"), b"").expect("a session");
        self.dies(point, |story| story.sweep());
        let (status, ..) = self.send(Method::GET, &place, b"").expect("an answer");
        assert!(status == StatusCode::NOT_FOUND || self.ground.cuts(), "{point}: {status}");
        "no session"
    }

    fn condemned(&mut self, point: &str) -> &'static str {
        let image = self.image(ONE);
        self.dies(point, |story| story.sweep());
        // A push that meets condemned blobs takes the condemnation back.
        self.tag(ONE, point, &image);
        self.whole(point);
        "still there, and wanted again"
    }

    fn swept(&mut self, point: &str) -> &'static str {
        let bytes = self.bytes();
        let digest = Digest::sha256(&bytes);
        created(&self.push(ONE, &bytes), "a blob");
        self.sweep_done(1);
        self.dies(point, |story| story.sweep());
        let there = self.blob(ONE, &digest).is_some();
        assert_eq!(there, point == "sweep-row-written", "{point}");
        if !self.ground.cuts() {
            assert_eq!(self.file(&digest).exists(), point != "sweep-bytes-gone", "{point}: row first, bytes last");
        }
        created(&self.push(ONE, &bytes), "the blob again");
        same(self.blob(ONE, &digest).as_deref(), Some(&bytes), point);
        if there { "still there" } else { "gone" }
    }

    fn orphaned(&mut self, point: &str) -> &'static str {
        let bytes = self.bytes();
        let digest = Digest::sha256(&bytes);
        self.dies("blob-folder-synced", |story| story.push(ONE, &bytes));
        assert!(self.file(&digest).exists() && self.blob(ONE, &digest).is_none(), "bytes without a row");
        self.dies(point, |story| story.sweep());
        assert!(!self.file(&digest).exists() || self.ground.cuts(), "{point}");
        created(&self.push(ONE, &bytes), "the blob again");
        same(self.blob(ONE, &digest).as_deref(), Some(&bytes), point);
        "bytes without a row are gone"
    }

    fn damaged(&mut self, point: &str) -> &'static str {
        let image = self.image(ONE);
        self.tag(ONE, point, &image);
        let layer = image.image().expect("an image").layers[0].digest;
        let bytes = self.blobs[&layer].clone();
        let mut wrong = bytes.clone();
        wrong[7] ^= 1;
        let file = std::fs::File::create(self.file(&layer)).and_then(|mut file| {
            file.write_all(&wrong)?;
            file.sync_all()
        });
        file.expect("a blob is damaged");
        if point == "heal-set-aside" {
            same(self.blob(ONE, &layer).as_deref(), None, "damaged bytes were handed out");
            self.dies(point, |story| story.push(ONE, &bytes));
        } else {
            let path = format!("/v2/{ONE}/blobs/{layer}");
            self.dies(point, |story| story.send(Method::GET, &path, b""));
        }
        same(self.blob(ONE, &layer).as_deref(), None, "damaged bytes were handed out");
        created(&self.push(ONE, &bytes), "the blob again");
        same(self.blob(ONE, &layer).as_deref(), Some(&bytes), "not healed");
        "out of service, then healed"
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
