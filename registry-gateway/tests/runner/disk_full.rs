//! The gateway's disk is full: what is refused, with which status; what still works; and what works again afterwards.
//!
//! The disk is a small tmpfs, so this needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

use nebh_oci::digest::Digest;
use nebh_oci::manifest::{Descriptor, ImageManifest, RawManifest};
use nebh_oci::media_type::OCI_CONFIG;
use reqwest::{Method, StatusCode};

use crate::support::{SETTINGS, Server, refusal};

const OPEN: &str = "open/one";
const MIB: usize = 1 << 20;

/// A tmpfs, unmounted at the end whatever happens.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir(at).unwrap();
        let arguments = ["-t", "tmpfs", "-o", "size=24m,mode=0700", "nebh-test"];
        let mounted = Command::new("mount").args(arguments).arg(at).output();
        if mounted.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Self(at.to_owned()));
        }
        let required = std::env::var_os("NEBH_REQUIRE_PEERS").is_some_and(|value| value == "1");
        assert!(!required, "cannot mount a tmpfs: {mounted:?}");
        eprintln!("SKIPPED: cannot mount a tmpfs (needs root)");
        None
    }

    /// Leaves so many bytes for everybody else.
    fn fill(&self, left: u64) {
        let disk = rustix::fs::statvfs(&self.0).unwrap();
        let ballast = (disk.f_bavail * disk.f_frsize).saturating_sub(left);
        std::fs::write(self.0.join("ballast"), vec![0; usize::try_from(ballast).unwrap()]).unwrap();
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the gateway's files are still open.
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
    }
}

async fn full(response: reqwest::Response) {
    let (status, _, message) = refusal(response).await;
    assert_eq!(status, StatusCode::INSUFFICIENT_STORAGE, "{message}");
    assert_eq!(message, "the gateway's disk is full; what is stored can still be read");
}

async fn start() -> Option<(Server, Disk)> {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::mount(&folder.path().join("state"))?;
    Some((Server::with_in(SETTINGS, folder).await, disk))
}

fn large_manifest(config: Digest, note: &str) -> RawManifest {
    let image = ImageManifest::image(Descriptor::new(OCI_CONFIG, config, 2), vec![]);
    RawManifest::from_image(&image.with_annotation("note", note.repeat(MIB))).unwrap()
}

#[tokio::test]
async fn upload_on_a_full_disk_is_507_and_leaves_nothing() {
    let Some((server, _disk)) = start().await else { return };
    let kept = vec![1; MIB];
    let digest = server.push_blob(OPEN, &kept).await;
    let large = vec![2; 30 * MIB];
    let name = Digest::sha256(&large);
    let whole = format!("/v2/{OPEN}/blobs/uploads/?digest={name}");
    // Again and again: what a failed push leaves must not make the next one fail sooner.
    for _ in 0..2 {
        full(server.send(Method::POST, &whole, &[], large.clone()).await).await;
        assert_eq!(server.gateway.uploads.count(), 0);
        assert_eq!(std::fs::read_dir(server.folder.path().join("state/uploads")).unwrap().count(), 0);
    }
    // In chunks: the session keeps what was whole, and says so.
    let begun = server.send(Method::POST, &format!("/v2/{OPEN}/blobs/uploads/"), &[], "").await;
    let location = begun.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(server.send(Method::PATCH, &location, &[], &b"hello"[..]).await.status(), StatusCode::ACCEPTED);
    full(server.send(Method::PATCH, &location, &[], large.clone()).await).await;
    assert_eq!(server.get(&location).await.headers()["range"], "0-4");
    let end = format!("{location}?digest={}", Digest::sha256(b"hello world"));
    assert_eq!(server.send(Method::PUT, &end, &[], " world").await.status(), StatusCode::CREATED);
    assert_eq!(server.get(&format!("/v2/{OPEN}/blobs/{digest}")).await.bytes().await.unwrap(), kept);
}

#[tokio::test]
async fn deleting_and_sweeping_work_when_uploads_find_no_room() {
    let Some((server, disk)) = start().await else { return };
    let manifest = server.push_image(OPEN, "one").await;
    assert_eq!(server.put(OPEN, "v1", &manifest).await.status(), StatusCode::CREATED);
    // Within the reserve, which uploads leave to the database.
    disk.fill(MIB as u64);
    let path = format!("/v2/{OPEN}/blobs/uploads/?digest={}", Digest::sha256(b"small"));
    full(server.send(Method::POST, &path, &[], "small").await).await;
    assert_eq!(server.get(&format!("/v2/{OPEN}/manifests/v1")).await.status(), StatusCode::OK);
    let tag = format!("/v2/{OPEN}/manifests/v1");
    assert_eq!(server.send(Method::DELETE, &tag, &[], "").await.status(), StatusCode::ACCEPTED);
    assert_eq!(server.order("sweep", &serde_json::json!({})).await.0, StatusCode::OK);
    disk.empty();
    server.push_blob(OPEN, b"small").await;
}

#[tokio::test]
async fn manifest_on_a_full_disk_is_507_and_the_tag_stays_where_it_was() {
    let Some((server, disk)) = start().await else { return };
    let config = server.push_blob(OPEN, b"{}").await;
    let (old, new) = (large_manifest(config, "a"), large_manifest(config, "b"));
    assert_eq!(server.put(OPEN, "v1", &old).await.status(), StatusCode::CREATED);
    disk.fill(0);
    full(server.put(OPEN, "v1", &new).await).await;
    let found = server.get(&format!("/v2/{OPEN}/manifests/v1")).await;
    assert_eq!(found.bytes().await.unwrap(), old.bytes());
    assert_eq!(server.get("/healthz").await.status(), StatusCode::OK);
    disk.empty();
    assert_eq!(server.put(OPEN, "v1", &new).await.status(), StatusCode::CREATED);
    let server = server.restart().await;
    let found = server.get(&format!("/v2/{OPEN}/manifests/v1")).await;
    assert_eq!(found.bytes().await.unwrap(), new.bytes());
}
