//! Attacks by name: what a hostile client, a hostile manifest or a rotten disk can try.

use std::io::{Read, Write};
use std::net::TcpStream;

use nebh_oci::digest::Digest;
use nebh_oci::manifest::{Descriptor, ImageManifest, MANIFEST_SIZE_MAX, RawManifest};
use nebh_oci::media_type::{OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{SETTINGS, Server, image, refusal};

const OPEN: &str = "open/one";

/// Sends bytes as they are: no client library would.
fn raw(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    // The gateway may close while we still write: what it said counts.
    drop(stream.read_to_string(&mut answer));
    answer
}

async fn put_raw(server: &Server, body: impl Into<reqwest::Body>, content_type: &str) -> (StatusCode, String) {
    let headers = [("content-type", content_type)];
    let response = server.send(Method::PUT, &format!("/v2/{OPEN}/manifests/evil"), &headers, body).await;
    let (status, code, _) = refusal(response).await;
    (status, code)
}

#[tokio::test(flavor = "multi_thread")]
async fn path_traversal_in_raw_requests_finds_nothing() {
    let server = Server::start().await;
    std::fs::write(server.folder.path().join("secret"), "secret").unwrap();
    for path in [
        "/v2/../secret",
        "/v2/open/../../secret/blobs/x",
        "/v2/%2e%2e/%2e%2e/secret/manifests/v1",
        "/v2/open%2fone/tags/list",
        "/v2/open/one/blobs/sha256:../../../../secret",
        "/v2/open/one/blobs/uploads/../../../secret",
        "/v2/open/one%00/tags/list",
        "/v2/open//one/tags/list",
        "/v2/open\\one/tags/list",
    ] {
        let answer = raw(&server, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(["400", "404", "405"].contains(&status), "{path}: {answer}");
        assert!(!answer.contains("secret\n") && !answer.ends_with("secret"), "{path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn header_bomb_ends_the_connection() {
    let server = Server::start().await;
    let bomb = "x-bomb: y\r\n".repeat(200);
    let answer = raw(&server, &format!("GET /v2/ HTTP/1.1\r\nhost: x\r\n{bomb}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let long = "a".repeat(100_000);
    let answer = raw(&server, &format!("GET /v2/{long} HTTP/1.1\r\nhost: x\r\n\r\n"));
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert_eq!(server.get("/v2/").await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_flood_waits_and_does_not_kill_the_listener() {
    let server = Server::with(&format!("{SETTINGS}limits: {{ connections: 4 }}\n")).await;
    let address = server.url.trim_start_matches("http://").to_owned();
    let idle: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(&address).unwrap()).collect();
    drop(idle);
    assert_eq!(server.get("/v2/").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn manifest_over_the_limit_is_413_before_it_is_read() {
    let server = Server::start().await;
    let (status, code) = put_raw(&server, vec![b' '; MANIFEST_SIZE_MAX + 1], OCI_MANIFEST).await;
    assert_eq!((status, code.as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"));
    // Announced, never sent: the answer must not wait for the body.
    let length = MANIFEST_SIZE_MAX + 1;
    let request = format!(
        "PUT /v2/{OPEN}/manifests/x HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    let address = server.url.clone();
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address.trim_start_matches("http://")).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    });
    assert_eq!(answer.await.unwrap(), "HTTP/1.1 413");
}

#[tokio::test]
async fn manifest_without_an_announced_length_is_cut_off_at_the_limit() {
    let server = Server::start().await;
    let pieces = (0..80).map(|_| Ok::<_, std::io::Error>(vec![b' '; 64 << 10]));
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let (status, _) = put_raw(&server, body, OCI_MANIFEST).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn manifest_that_two_readers_would_read_differently_is_refused() {
    let server = Server::start().await;
    let digest = Digest::sha256(b"x");
    let part = json!({ "mediaType": OCI_CONFIG, "digest": digest, "size": 1 });
    let both = json!({ "schemaVersion": 2, "manifests": [], "layers": [], "config": part });
    let wrong_type = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] });
    let negative =
        json!({ "schemaVersion": 2, "layers": [], "config": { "mediaType": "x", "digest": digest, "size": -1 } });
    let neither = json!({ "schemaVersion": 2 });
    let deep = format!("{{\"schemaVersion\":2,\"manifests\":[],\"x\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    let twice = r#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#.to_owned();
    for (name, body, content_type) in [
        ("both", both.to_string(), OCI_MANIFEST),
        ("wrong type", wrong_type.to_string(), OCI_MANIFEST),
        ("negative size", negative.to_string(), OCI_MANIFEST),
        ("neither", neither.to_string(), OCI_MANIFEST),
        ("deep", deep, OCI_INDEX),
        ("duplicate key", twice, OCI_INDEX),
        ("byte order mark", "\u{feff}{\"schemaVersion\":2,\"manifests\":[]}".to_owned(), OCI_INDEX),
        ("trailing", "{\"schemaVersion\":2,\"manifests\":[]} {}".to_owned(), OCI_INDEX),
        ("no manifest type", json!({ "schemaVersion": 2, "manifests": [] }).to_string(), "text/html"),
    ] {
        let (status, code) = put_raw(&server, body, content_type).await;
        assert_eq!((status, code.as_str()), (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"), "{name}");
    }
}

#[tokio::test]
async fn manifest_that_lies_about_a_blobs_size_or_data_is_refused() {
    let server = Server::start().await;
    let config = server.push_blob(OPEN, b"{}").await;
    let layer = server.push_blob(OPEN, b"layer").await;
    let lie =
        ImageManifest::image(Descriptor::new(OCI_CONFIG, config, 2), vec![Descriptor::new(OCI_LAYER_GZIP, layer, 500)]);
    let lie = RawManifest::from_image(&lie).unwrap();
    let (status, _, message) = refusal(server.put(OPEN, "v1", &lie).await).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(message.contains("it has 5"), "{message}");
    let mut part = Descriptor::new(OCI_CONFIG, config, 2);
    part.data = Some("AAAA".to_owned());
    let lie = RawManifest::from_image(&ImageManifest::image(part, vec![])).unwrap();
    assert_eq!(server.put(OPEN, "v1", &lie).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn media_type_of_the_first_push_stays() {
    let server = Server::start().await;
    let body = json!({ "schemaVersion": 2, "manifests": [] }).to_string();
    let path = format!("/v2/{OPEN}/manifests/v1");
    for content_type in [OCI_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"] {
        let headers = [("content-type", content_type)];
        assert_eq!(server.send(Method::PUT, &path, &headers, body.clone()).await.status(), StatusCode::CREATED);
        assert_eq!(server.get(&path).await.headers()["content-type"], OCI_INDEX);
    }
}

#[tokio::test]
async fn upload_of_one_repository_cannot_be_used_through_another() {
    let server = Server::start().await;
    let begun = server.send(Method::POST, &format!("/v2/{OPEN}/blobs/uploads/"), &[], "").await;
    let location = begun.headers()["location"].to_str().unwrap().to_owned();
    let other = location.replace(OPEN, "open/two");
    for method in [Method::GET, Method::PATCH, Method::DELETE] {
        let response = server.send(method, &other, &[], "").await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }
    let digest = Digest::sha256(b"");
    assert_eq!(
        server.send(Method::PUT, &format!("{other}?digest={digest}"), &[], "").await.status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(server.get(&location).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn upload_with_another_digest_than_its_bytes_is_refused_and_gone() {
    let server = Server::start().await;
    let wrong = Digest::sha256(b"other");
    let begun = server.send(Method::POST, &format!("/v2/{OPEN}/blobs/uploads/"), &[], "").await;
    let location = begun.headers()["location"].to_str().unwrap().to_owned();
    let (status, code, _) =
        refusal(server.send(Method::PUT, &format!("{location}?digest={wrong}"), &[], "hello").await).await;
    assert_eq!((status, code.as_str()), (StatusCode::BAD_REQUEST, "DIGEST_INVALID"));
    assert_eq!(server.get(&location).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(server.get(&format!("/v2/{OPEN}/blobs/{wrong}")).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn upload_chunks_out_of_order_or_overlapping_are_refused() {
    let server = Server::start().await;
    let begun = server.send(Method::POST, &format!("/v2/{OPEN}/blobs/uploads/"), &[], "").await;
    let location = begun.headers()["location"].to_str().unwrap().to_owned();
    let send = |range: &'static str, body: &'static str| {
        let location = location.clone();
        let server = &server;
        async move { server.send(Method::PATCH, &location, &[("content-range", range)], body).await.status() }
    };
    assert_eq!(send("0-4", "hello").await, StatusCode::ACCEPTED);
    assert_eq!(send("0-4", "hello").await, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(send("4-5", "xx").await, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(send("9-10", "xx").await, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(send("5-9", "xx").await, StatusCode::BAD_REQUEST);
    assert_eq!(send("5-6", "xx").await, StatusCode::ACCEPTED);
    let digest = Digest::sha256(b"helloxx");
    assert_eq!(
        server.send(Method::PUT, &format!("{location}?digest={digest}"), &[], "").await.status(),
        StatusCode::CREATED
    );
    // Used up: neither more bytes nor a second end.
    assert_eq!(send("7-8", "xx").await, StatusCode::NOT_FOUND);
    assert_eq!(
        server.send(Method::PUT, &format!("{location}?digest={digest}"), &[], "").await.status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn upload_sessions_cannot_be_exhausted_without_an_answer() {
    let server = Server::with(&format!("{SETTINGS}limits: {{ uploads: 3 }}\n")).await;
    let path = format!("/v2/{OPEN}/blobs/uploads/");
    let mut first = None;
    for _ in 0..3 {
        let response = server.send(Method::POST, &path, &[], "").await;
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        first = Some(response.headers()["location"].to_str().unwrap().to_owned());
    }
    let response = server.send(Method::POST, &path, &[], "").await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(server.send(Method::DELETE, &first.unwrap(), &[], "").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(server.send(Method::POST, &path, &[], "").await.status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn endless_blob_is_stopped_at_the_limit() {
    let server = Server::with(&format!("{SETTINGS}limits: {{ blob-bytes: 1000 }}\n")).await;
    let begun = server.send(Method::POST, &format!("/v2/{OPEN}/blobs/uploads/"), &[], "").await;
    let location = begun.headers()["location"].to_str().unwrap().to_owned();
    let (status, code, _) = refusal(server.send(Method::PATCH, &location, &[], vec![0; 1001]).await).await;
    assert_eq!((status, code.as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"));
}

#[tokio::test]
async fn blob_of_one_repository_is_unknown_in_another_until_it_is_mounted() {
    let server = Server::start().await;
    let digest = server.push_blob(OPEN, b"mine").await;
    let other = format!("/v2/open/two/blobs/{digest}");
    assert_eq!(server.get(&other).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(server.send(Method::HEAD, &other, &[], "").await.status(), StatusCode::NOT_FOUND);
    let mount = |from: &str| format!("/v2/open/two/blobs/uploads/?mount={digest}&from={from}");
    assert_eq!(server.send(Method::POST, &mount("open/three"), &[], "").await.status(), StatusCode::ACCEPTED);
    assert_eq!(server.get(&other).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(server.send(Method::POST, &mount(OPEN), &[], "").await.status(), StatusCode::CREATED);
    assert_eq!(server.get(&other).await.text().await.unwrap(), "mine");
}

#[tokio::test]
async fn blob_with_a_flipped_bit_breaks_off_is_quarantined_and_healed_by_a_push() {
    let server = Server::start().await;
    let bytes = vec![7_u8; 900_000];
    let digest = server.push_blob(OPEN, &bytes).await;
    let path = format!("/v2/{OPEN}/blobs/{digest}");
    let file = server.gateway.store.tree().blob(&digest);
    let mut rotten = bytes.clone();
    rotten[400_000] ^= 1;
    std::fs::write(&file, &rotten).unwrap();
    let body = server.get(&path).await.bytes().await;
    assert!(body.is_err(), "a damaged blob was handed out whole");
    assert_eq!(server.get(&path).await.status(), StatusCode::NOT_FOUND);
    assert!(server.gateway.store.tree().quarantined(&digest, 0).exists());
    assert_eq!(server.push_blob(OPEN, &bytes).await, digest);
    assert_eq!(server.get(&path).await.bytes().await.unwrap(), bytes);
}

/// Rot changes no time of the file: here the comparison is remembered as if it had been made of the rotten bytes.
#[tokio::test]
async fn blob_that_rots_unseen_is_found_once_its_comparison_is_old() {
    for (rehash_after, found) in [("24h", false), ("0s", true)] {
        let server = Server::with(&format!("{SETTINGS}rehash-after: {rehash_after}\n")).await;
        let digest = server.push_blob(OPEN, b"hello world").await;
        let path = format!("/v2/{OPEN}/blobs/{digest}");
        let file = server.gateway.store.tree().blob(&digest);
        std::fs::write(&file, b"hellO world").unwrap();
        let state = nebh_gateway::store::read::state(&std::fs::File::open(&file).unwrap()).unwrap();
        server.gateway.compared.remember(digest, state);
        assert_eq!(server.get(&path).await.bytes().await.is_err(), found, "{rehash_after}");
        assert_eq!(server.gateway.store.tree().quarantined(&digest, 0).exists(), found, "{rehash_after}");
        // A restart remembers nothing.
        let server = server.restart().await;
        let after = server.get(&path).await;
        assert!(after.status() == StatusCode::NOT_FOUND || after.bytes().await.is_err(), "{rehash_after}");
    }
}

#[tokio::test]
async fn part_of_a_rotten_blob_is_never_handed_out() {
    let server = Server::start().await;
    let digest = server.push_blob(OPEN, b"hello world").await;
    let path = format!("/v2/{OPEN}/blobs/{digest}");
    let range = [("range", "bytes=0-3")];
    assert_eq!(server.send(Method::GET, &path, &range, "").await.text().await.unwrap(), "hell");
    std::fs::write(server.gateway.store.tree().blob(&digest), b"hellO world").unwrap();
    assert_eq!(server.send(Method::GET, &path, &range, "").await.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(server.get(&path).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn blob_whose_file_is_gone_is_an_error_and_then_absent_so_that_clients_push_it_again() {
    let server = Server::start().await;
    let digest = server.push_blob(OPEN, b"hello").await;
    std::fs::remove_file(server.gateway.store.tree().blob(&digest)).unwrap();
    let path = format!("/v2/{OPEN}/blobs/{digest}");
    assert_eq!(server.get(&path).await.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(server.send(Method::HEAD, &path, &[], "").await.status(), StatusCode::NOT_FOUND);
    server.push_blob(OPEN, b"hello").await;
    assert_eq!(server.get(&path).await.text().await.unwrap(), "hello");
}

#[tokio::test]
async fn list_of_a_huge_page_is_bounded() {
    let server = Server::start().await;
    let manifest = server.push_image(OPEN, "one").await;
    assert_eq!(server.put(OPEN, "v1", &manifest).await.status(), StatusCode::CREATED);
    for query in ["n=999999999999", "n=-5", "n=x", "n=18446744073709551616"] {
        assert_eq!(server.get(&format!("/v2/_catalog?{query}")).await.status(), StatusCode::OK);
        assert_eq!(server.get(&format!("/v2/{OPEN}/tags/list?{query}")).await.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn orders_without_a_json_type_are_refused() {
    let server = Server::start().await;
    let body = json!({ "repository": OPEN, "name": "v1", "reason": "x" }).to_string();
    let response = server.send(Method::POST, "/api/v1/pins", &[("content-type", "text/plain")], body).await;
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

/// What is remembered of lookups must never outlive a write, however many look meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn tag_that_moves_under_many_readers_is_never_seen_old_after_its_201() {
    let server = Server::start().await;
    let (one, two) = (image("one"), image("two"));
    server.push_image(OPEN, "one").await;
    server.push_image(OPEN, "two").await;
    let path = format!("/v2/{OPEN}/manifests/v1");
    let moves = async {
        for to in [&one, &two].into_iter().cycle().take(60) {
            assert_eq!(server.put(OPEN, "v1", to).await.status(), StatusCode::CREATED);
            let head = server.send(Method::HEAD, &path, &[], "").await;
            assert_eq!(head.headers()["docker-content-digest"].to_str().unwrap(), to.digest().to_string());
            assert_eq!(server.get(&path).await.bytes().await.unwrap(), to.bytes());
        }
        assert_eq!(server.send(Method::DELETE, &path, &[], "").await.status(), StatusCode::ACCEPTED);
        assert_eq!(server.send(Method::HEAD, &path, &[], "").await.status(), StatusCode::NOT_FOUND);
        assert_eq!(server.get(&path).await.status(), StatusCode::NOT_FOUND);
    };
    let reads = futures_util::future::join_all((0..4).map(|nth| {
        let (server, path) = (&server, &path);
        let method = if nth % 2 == 0 { Method::GET } else { Method::HEAD };
        async move {
            loop {
                drop(server.send(method.clone(), path, &[], "").await.bytes().await);
            }
        }
    }));
    tokio::select! {
        () = moves => {}
        _ = reads => {}
    }
}

#[tokio::test]
async fn two_pushes_of_one_tag_at_once_leave_one_of_the_two() {
    let server = Server::start().await;
    let (one, two) = (image("one"), image("two"));
    server.push_image(OPEN, "one").await;
    server.push_image(OPEN, "two").await;
    for _ in 0..10 {
        let (first, second) = tokio::join!(server.put(OPEN, "v1", &one), server.put(OPEN, "v1", &two));
        assert!(first.status() == StatusCode::CREATED && second.status() == StatusCode::CREATED);
        let found = server.get(&format!("/v2/{OPEN}/manifests/v1")).await.bytes().await.unwrap();
        assert!(found == one.bytes() || found == two.bytes());
    }
}
