//! The protocol where it is ours to choose, and what an ordinary client sees.

use std::process::Command;

use nebh_oci::digest::{Algorithm, Digest};
use nebh_oci::manifest::{Descriptor, ImageManifest, RawManifest};
use nebh_oci::media_type::OCI_INDEX;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::support::{Server, refusal};

const OPEN: &str = "open/one";

#[tokio::test]
async fn blob_in_three_chunks_can_be_read_whole_and_in_part() {
    let server = Server::start().await;
    let bytes: Vec<u8> = (0..600_000_u32).flat_map(u32::to_le_bytes).collect();
    let begun = server.send(Method::POST, &format!("/v2/{OPEN}/blobs/uploads/"), &[], "").await;
    let mut location = begun.headers()["location"].to_str().unwrap().to_owned();
    for (start, piece) in [0, 1_000_000, 2_000_000].into_iter().zip(bytes.chunks(1_000_000)) {
        let range = format!("{start}-{}", start + piece.len() - 1);
        let response = server.send(Method::PATCH, &location, &[("content-range", &range)], piece.to_vec()).await;
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        assert_eq!(response.headers()["range"], format!("0-{}", start + piece.len() - 1));
        location = response.headers()["location"].to_str().unwrap().to_owned();
    }
    let digest = Digest::sha256(&bytes);
    let response = server.send(Method::PUT, &format!("{location}?digest={digest}"), &[], "").await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let path = format!("/v2/{OPEN}/blobs/{digest}");
    assert_eq!(server.get(&path).await.bytes().await.unwrap(), bytes);
    let part = server.send(Method::GET, &path, &[("range", "bytes=1000000-1000009")], "").await;
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.bytes().await.unwrap(), bytes[1_000_000..1_000_010]);
}

#[tokio::test]
async fn tags_come_in_pages_that_follow_each_other() {
    let server = Server::start().await;
    let manifest = server.push_image(OPEN, "one").await;
    for n in 0..25 {
        assert_eq!(server.put(OPEN, &format!("t{n:02}"), &manifest).await.status(), StatusCode::CREATED);
    }
    let mut seen = Vec::new();
    let mut path = format!("/v2/{OPEN}/tags/list?n=10");
    loop {
        let response = server.get(&path).await;
        let link = response.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        let page: Value = response.json().await.unwrap();
        let tags = page["tags"].as_array().unwrap().clone();
        assert!(tags.len() <= 10);
        seen.extend(tags.iter().map(|tag| tag.as_str().unwrap().to_owned()));
        match link {
            Some(link) => path = link[1..link.find('>').unwrap()].to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, (0..25).map(|n| format!("t{n:02}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn referrers_come_in_pages_and_filtered() {
    let server = Server::start().await;
    let manifest = server.push_image(OPEN, "one").await;
    let empty = server.push_blob(OPEN, b"{}").await;
    for n in 0..12 {
        let kind = if n % 2 == 0 { "application/x.even" } else { "application/x.odd" };
        let one = ImageManifest::artifact(kind, vec![Descriptor::new("text/plain", empty, 2)])
            .with_subject(manifest.descriptor())
            .with_annotation("n", n.to_string());
        let one = RawManifest::from_image(&one).unwrap();
        let response = server.put(OPEN, &one.digest().to_string(), &one).await;
        assert_eq!(response.headers()["oci-subject"], manifest.digest().to_string());
    }
    let path = format!("/v2/{OPEN}/referrers/{}", manifest.digest());
    let all: Value = server.get(&path).await.json().await.unwrap();
    assert_eq!((all["manifests"].as_array().unwrap().len(), &all["mediaType"]), (12, &OCI_INDEX.into()));
    let odd = server.get(&format!("{path}?artifactType=application/x.odd")).await;
    assert_eq!(odd.headers()["oci-filters-applied"], "artifactType");
    let odd: Value = odd.json().await.unwrap();
    assert_eq!(odd["manifests"].as_array().unwrap().len(), 6);
    assert!(odd["manifests"].as_array().unwrap().iter().all(|one| one["artifactType"] == "application/x.odd"));
}

#[tokio::test]
async fn upload_survives_a_restart_of_the_gateway_and_so_does_everything_pushed() {
    let server = Server::start().await;
    let manifest = server.push_image(OPEN, "one").await;
    assert_eq!(server.put(OPEN, "v1", &manifest).await.status(), StatusCode::CREATED);
    let begun = server.send(Method::POST, &format!("/v2/{OPEN}/blobs/uploads/"), &[], "").await;
    let location = begun.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(server.send(Method::PATCH, &location, &[], "hel").await.status(), StatusCode::ACCEPTED);
    let server = server.restart().await;
    let status = server.get(&location).await;
    assert_eq!((status.status(), status.headers()["range"].to_str().unwrap()), (StatusCode::NO_CONTENT, "0-2"));
    let digest = Digest::sha256(b"hello");
    let response = server.send(Method::PUT, &format!("{location}?digest={digest}"), &[], "lo").await;
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(server.get(&format!("/v2/{OPEN}/blobs/{digest}")).await.text().await.unwrap(), "hello");
    assert_eq!(server.get(&format!("/v2/{OPEN}/manifests/v1")).await.bytes().await.unwrap(), manifest.bytes());
}

#[tokio::test]
async fn manifest_has_its_own_bytes_and_type_again() {
    let server = Server::start().await;
    let text = b"{ \"schemaVersion\": 2,\n  \"mediaType\": \"application/vnd.oci.image.index.v1+json\", \"manifests\": [], \"x\": 1 }";
    let manifest = RawManifest::parse(text.to_vec(), None).unwrap();
    assert_eq!(server.put(OPEN, "odd", &manifest).await.status(), StatusCode::CREATED);
    let found = server.get(&format!("/v2/{OPEN}/manifests/odd")).await;
    assert_eq!(found.headers()["content-type"], OCI_INDEX);
    assert_eq!(found.bytes().await.unwrap(), text.as_slice());
    let wide = Digest::of(Algorithm::Sha512, text);
    assert_eq!(server.put(OPEN, &wide.to_string(), &manifest).await.status(), StatusCode::CREATED);
    let head = server.send(Method::HEAD, &format!("/v2/{OPEN}/manifests/{wide}"), &[], "").await;
    assert_eq!(head.headers()["docker-content-digest"], wide.to_string());
    assert_eq!(head.headers()["content-length"], text.len().to_string());
}

#[tokio::test]
async fn blob_that_a_manifest_needs_is_not_deleted_before_it() {
    let server = Server::start().await;
    let manifest = server.push_image(OPEN, "one").await;
    let layer = Digest::sha256(b"layer of one");
    let path = format!("/v2/{OPEN}/blobs/{layer}");
    let (status, _, message) = refusal(server.send(Method::DELETE, &path, &[], "").await).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(message.contains(&manifest.digest().to_string()), "{message}");
    let by_digest = format!("/v2/{OPEN}/manifests/{}", manifest.digest());
    assert_eq!(server.send(Method::DELETE, &by_digest, &[], "").await.status(), StatusCode::ACCEPTED);
    assert_eq!(server.send(Method::DELETE, &path, &[], "").await.status(), StatusCode::ACCEPTED);
    assert_eq!(server.get(&path).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn health_readiness_and_metrics_answer() {
    let server = Server::start().await;
    assert_eq!(server.get("/healthz").await.text().await.unwrap(), "ok\n");
    assert_eq!(server.get("/readyz").await.text().await.unwrap(), "ok\n");
    assert!(server.get("/metrics").await.text().await.unwrap().contains("nebh_gateway_requests_total 2\n"));
}

/// Runs a peer, or says loudly that it is not here.
fn peer(name: &str, arguments: &[&str]) -> Option<std::process::Output> {
    let found = Command::new(name).args(arguments).output().ok();
    if found.is_none() {
        let required = std::env::var_os("NEBH_REQUIRE_PEERS").is_some_and(|value| value == "1");
        assert!(!required, "{name} is not here");
        eprintln!("SKIPPED: {name} is not here");
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_copies_in_and_out_and_shows_why_it_was_refused() {
    let server = Server::start().await;
    let manifest = server.push_image(OPEN, "one").await;
    assert_eq!(server.put(OPEN, "v1", &manifest).await.status(), StatusCode::CREATED);
    let host = server.url.trim_start_matches("http://").to_owned();
    let folder = server.folder.path().join("copied");
    let (from, to) = (format!("docker://{host}/{OPEN}:v1"), format!("dir:{}", folder.display()));
    let copied = tokio::task::spawn_blocking(move || {
        peer("skopeo", &["--insecure-policy", "copy", "--src-tls-verify=false", &from, &to])
    });
    let Some(copied) = copied.await.unwrap() else { return };
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    assert_eq!(std::fs::read(folder.join("manifest.json")).unwrap(), manifest.bytes());
    let (from, to) = (format!("dir:{}", folder.display()), format!("docker://{host}/shop/api:v1"));
    let refused = tokio::task::spawn_blocking(move || {
        peer("skopeo", &["--insecure-policy", "copy", "--dest-tls-verify=false", &from, &to])
    });
    let refused = refused.await.unwrap().unwrap();
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    for word in ["is unsigned", "shop/*", "builder", &server.keys.builder.id().short()] {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_finds_the_image_under_a_release_tag() {
    let server = Server::start().await;
    let image = server.push_signed("shop/api", "one", "one").await;
    server.push_signed_release("shop/api", "1.0.0", &image).await;
    let host = server.url.trim_start_matches("http://").to_owned();
    let folder = server.folder.path().join("copied");
    let (from, to) = (format!("docker://{host}/shop/api:1.0.0"), format!("dir:{}", folder.display()));
    let copied = tokio::task::spawn_blocking(move || {
        let platform = ["--override-os=linux", "--override-arch=amd64"];
        peer("skopeo", &["--insecure-policy", platform[0], platform[1], "copy", "--src-tls-verify=false", &from, &to])
    });
    let Some(copied) = copied.await.unwrap() else { return };
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    assert_eq!(std::fs::read(folder.join("manifest.json")).unwrap(), image.bytes());
}
