//! Hostile content: manifests and blobs that lie, swell or mean two things.
//!
//! | attack | test |
//! |---|---|
//! | CVE-2021-41190: `manifests` beside `layers`, types that disagree | `attacks::manifest_that_two_readers_would_read_differently_is_refused`, `attacks::media_type_of_the_first_push_stays` |
//! | keys twice, byte order mark, depth, other encodings, trailing bytes | the same; `member_in_another_case_is_refused` |
//! | sizes: negative, fractions, beyond 64 bits, not those of the blob | `size_that_is_no_size_is_refused`, `attacks::manifest_that_lies_about_a_blobs_size_or_data_is_refused` |
//! | manifest beyond 4 MiB; just below it | `attacks::manifest_over_the_limit_is_413_before_it_is_read`, `manifest_just_below_the_limit_is_taken` |
//! | layers, children, tags without number | `counts_have_bounds` |
//! | index recursion, 2^N shared children, 10 k children | `index_with_two_to_the_twentieth_ways_is_judged_once_each`, `index_with_ten_thousand_children_is_refused_in_few_words` |
//! | digest mismatch in every way of pushing | `digest_mismatch_in_every_style_of_upload` |
//! | digests: spelling, CVE-2024-3727 | `hostile_http::digest_in_every_wrong_spelling` |
//! | sha256 and sha512 of one content | `admission::sha512_name_of_a_signed_image_is_admitted_and_of_an_unsigned_one_refused`, `blob_under_two_algorithms_is_two_blobs` |
//! | CVE-2020-15157: foreign layers, `urls`, `data` | `admission::image_with_a_layer_from_elsewhere_gets_no_tag`, `index_that_points_elsewhere_gets_no_tag` |
//! | bombs under compression | not here: nothing is decompressed in the gateway |
//! | decoy artifact types | `image_in_the_clothes_of_a_signature_is_still_an_image` |
//! | memory: large manifests at once | `large_manifests_wait_for_a_place_and_small_ones_do_not` |
//! | rotten rows | `manifest_whose_row_rotted_is_not_handed_out_and_healed_by_a_push` |

use nebh_oci::digest::{Algorithm, Digest};
use nebh_oci::manifest::{Descriptor, ImageIndex, ImageManifest, MANIFEST_SIZE_MAX, RawManifest};
use nebh_oci::media_type::{OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST, SIGSTORE_BUNDLE_V03};
use reqwest::{Method, Response, StatusCode};
use serde_json::json;

use crate::support::{Server, image, index, refusal};

const OPEN: &str = "open/one";
const SIGNED: &str = "shop/api";

async fn put(server: &Server, body: String, content_type: &str) -> Response {
    let headers = [("content-type", content_type)];
    server.send(Method::PUT, &format!("/v2/{OPEN}/manifests/evil"), &headers, body).await
}

#[tokio::test]
async fn member_in_another_case_is_refused() {
    let server = Server::start().await;
    let config = json!({ "mediaType": OCI_CONFIG, "digest": Digest::sha256(b"{}"), "size": 2 });
    // Go reads members in any case, and takes the last one: an index for it, an image for everybody else.
    for (key, value) in
        [("Manifests", json!([])), ("MEDIATYPE", json!(OCI_INDEX)), ("Layers", json!([])), ("Config", config.clone())]
    {
        let mut manifest = json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [] });
        manifest[key] = value;
        let (status, code, message) = refusal(put(&server, manifest.to_string(), OCI_MANIFEST).await).await;
        assert_eq!((status, code.as_str()), (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"), "{key}");
        assert!(message.contains(key), "{message}");
    }
}

#[tokio::test]
async fn size_that_is_no_size_is_refused() {
    let server = Server::start().await;
    let digest = server.push_blob(OPEN, b"{}").await;
    for size in ["-1", "2.0", "2.5", "1e3", "1e400", "18446744073709551616", "\"2\"", "null", "true", "[2]", "02"] {
        let config = format!(r#"{{"mediaType":"{OCI_CONFIG}","digest":"{digest}","size":{size}}}"#);
        let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
        let (status, code, _) = refusal(put(&server, manifest, OCI_MANIFEST).await).await;
        assert_eq!((status, code.as_str()), (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"), "{size}");
    }
}

#[tokio::test]
async fn manifest_just_below_the_limit_is_taken() {
    let server = Server::start().await;
    let config = server.push_blob(OPEN, b"{}").await;
    let large = ImageManifest::image(Descriptor::new(OCI_CONFIG, config, 2), vec![])
        .with_annotation("large", "x".repeat(MANIFEST_SIZE_MAX - 1000));
    let large = RawManifest::from_image(&large).unwrap();
    assert_eq!(server.put(OPEN, "large", &large).await.status(), StatusCode::CREATED);
    let found = server.get(&format!("/v2/{OPEN}/manifests/large")).await.bytes().await.unwrap();
    assert_eq!(found, large.bytes());
}

#[tokio::test]
async fn counts_have_bounds() {
    let server = Server::start().await;
    let part = |n: u32| json!({ "mediaType": OCI_LAYER_GZIP, "digest": Digest::sha256(&n.to_le_bytes()), "size": 1 });
    let layers: Vec<_> = (0..1025).map(part).collect();
    let image = json!({ "schemaVersion": 2, "config": part(0), "layers": layers });
    let (status, _, message) = refusal(put(&server, image.to_string(), OCI_MANIFEST).await).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(message.contains("1025 parts, more than 1024"), "{message}");
    let children: Vec<_> = (0..16_385).map(part).collect();
    let list = json!({ "schemaVersion": 2, "manifests": children });
    let (status, _, message) = refusal(put(&server, list.to_string(), OCI_INDEX).await).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(message.contains("16385 parts, more than 16384"), "{message}");
    let manifest = server.push_image(OPEN, "one").await;
    let tags = (0..65).map(|n| format!("tag=t{n}")).collect::<Vec<_>>().join("&");
    let response = server.put(OPEN, &format!("{}?{tags}", manifest.digest()), &manifest).await;
    assert_eq!(response.status(), StatusCode::URI_TOO_LONG);
    let tags: serde_json::Value = server.get(&format!("/v2/{OPEN}/tags/list")).await.json().await.unwrap();
    assert_eq!(tags["tags"], json!([]));
}

#[tokio::test]
async fn index_with_two_to_the_twentieth_ways_is_judged_once_each() {
    let server = Server::start().await;
    let leaf = server.push_signed(SIGNED, "leaf", "leaf").await;
    let mut level = [leaf.clone(), leaf];
    for depth in 0..20 {
        let side = |name: &str| {
            let mut list =
                ImageIndex { manifests: level.iter().map(RawManifest::descriptor).collect(), ..ImageIndex::default() };
            list.manifests.dedup();
            list.annotations.insert("side".to_owned(), format!("{name} {depth}"));
            RawManifest::from_index(&list).unwrap()
        };
        let next = [side("left"), side("right")];
        for list in &next {
            assert_eq!(server.put(SIGNED, &list.digest().to_string(), list).await.status(), StatusCode::CREATED);
        }
        level = next;
    }
    let [top, _] = level;
    server.sign(SIGNED, &top, &["v1"], &server.keys.builder).await;
    // All levels are judged, and the first child without a signature ends it.
    let (status, _, message) = refusal(server.put(SIGNED, "v1", &top).await).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(message.contains("is unsigned"), "{message}");
    // The graph is walked by retention, by pins and by deleting as well.
    let plan = server.ask("retention/plan").await;
    assert_eq!(plan["repositories"][0]["verdicts"].as_array().unwrap().len(), 45);
    let order = json!({ "repository": SIGNED, "name": top.digest(), "reason": "kept" });
    assert_eq!(server.order("pins", &order).await.0, StatusCode::OK);
    let path = format!("/v2/{SIGNED}/manifests/{}", top.digest());
    assert_eq!(server.send(Method::DELETE, &path, &[], "").await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn index_with_ten_thousand_children_is_refused_in_few_words() {
    let server = Server::start().await;
    let child = |n: u32| Descriptor::new(OCI_MANIFEST, Digest::sha256(&n.to_le_bytes()), 100);
    let list = ImageIndex { manifests: (0..10_000).map(child).collect(), ..ImageIndex::default() };
    let list = RawManifest::from_index(&list).unwrap();
    let (status, code, message) = refusal(server.put(SIGNED, &list.digest().to_string(), &list).await).await;
    assert_eq!((status, code.as_str()), (StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN"));
    assert!(message.contains("9992 more") && message.len() < 2000, "{message}");
    server.sign(SIGNED, &list, &["v1"], &server.keys.builder).await;
    let (status, _, message) = refusal(server.put(SIGNED, "v1", &list).await).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(message.contains("there is more than is looked at: 256 children"), "{message}");
    // An open repository takes copies of one platform out of many.
    assert_eq!(server.put(OPEN, "v1", &list).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn digest_mismatch_in_every_style_of_upload() {
    let server = Server::start().await;
    let wrong = Digest::sha256(b"other");
    let begin = || async {
        let begun = server.send(Method::POST, &format!("/v2/{OPEN}/blobs/uploads/"), &[], "").await;
        begun.headers()["location"].to_str().unwrap().to_owned()
    };
    let end = |location: String| format!("{location}?digest={wrong}");
    let pieces = || {
        let pieces = [&b"hel"[..], b"lo"].map(|piece| Ok::<_, std::io::Error>(piece.to_vec()));
        reqwest::Body::wrap_stream(futures_util::stream::iter(pieces))
    };
    let mut outcomes = Vec::new();
    // Whole in one POST; POST and PUT; POST, PATCH and PUT; the last chunk in the PUT; a stream of no announced length.
    outcomes.push(server.send(Method::POST, &end(format!("/v2/{OPEN}/blobs/uploads/")), &[], "hello").await);
    outcomes.push(server.send(Method::PUT, &end(begin().await), &[], "hello").await);
    for (chunk, last) in [("hello", ""), ("hel", "lo")] {
        let location = begin().await;
        assert_eq!(server.send(Method::PATCH, &location, &[], chunk).await.status(), StatusCode::ACCEPTED);
        outcomes.push(server.send(Method::PUT, &end(location), &[], last).await);
    }
    outcomes.push(server.send(Method::PUT, &end(begin().await), &[], pieces()).await);
    for outcome in outcomes {
        let (status, code, message) = refusal(outcome).await;
        assert_eq!((status, code.as_str()), (StatusCode::BAD_REQUEST, "DIGEST_INVALID"));
        assert!(message.contains(&wrong.to_string()), "{message}");
    }
    let manifest = image("one");
    let (status, code, _) = refusal(server.put(OPEN, &wrong.to_string(), &manifest).await).await;
    assert_eq!((status, code.as_str()), (StatusCode::BAD_REQUEST, "DIGEST_INVALID"));
    assert_eq!(server.gateway.uploads.count(), 0);
    let right = Digest::sha256(b"hello");
    for digest in [wrong, right] {
        assert_eq!(server.get(&format!("/v2/{OPEN}/blobs/{digest}")).await.status(), StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn blob_under_two_algorithms_is_two_blobs() {
    let server = Server::start().await;
    let narrow = server.push_blob(OPEN, b"hello").await;
    let wide = Digest::of(Algorithm::Sha512, b"hello");
    let blob = |digest: &Digest| format!("/v2/{OPEN}/blobs/{digest}");
    assert_eq!(server.get(&blob(&wide)).await.status(), StatusCode::NOT_FOUND);
    let path = format!("/v2/{OPEN}/blobs/uploads/?digest={wide}");
    assert_eq!(server.send(Method::POST, &path, &[], "hello").await.status(), StatusCode::CREATED);
    assert_eq!(server.send(Method::DELETE, &blob(&narrow), &[], "").await.status(), StatusCode::ACCEPTED);
    assert_eq!(server.get(&blob(&narrow)).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(server.get(&blob(&wide)).await.text().await.unwrap(), "hello");
}

#[tokio::test]
async fn index_that_points_elsewhere_gets_no_tag() {
    let server = Server::start().await;
    let child = server.push_signed(SIGNED, "one", "one").await;
    let mut part = child.descriptor();
    part.urls = vec!["http://example.org/manifest".to_owned()];
    let list = RawManifest::from_index(&ImageIndex { manifests: vec![part], ..ImageIndex::default() }).unwrap();
    server.sign(SIGNED, &list, &["v1"], &server.keys.builder).await;
    let (status, _, message) = refusal(server.put(SIGNED, "v1", &list).await).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(message.contains("to be fetched from other addresses"), "{message}");
    // And a child with such a layer, under an honest index.
    let config = server.push_blob(SIGNED, b"{}").await;
    let layer = server.push_blob(SIGNED, b"layer").await;
    let mut part = Descriptor::new(OCI_LAYER_GZIP, layer, 5);
    part.urls = vec!["http://example.org/layer".to_owned()];
    let child = ImageManifest::image(Descriptor::new(OCI_CONFIG, config, 2), vec![part]);
    let child = RawManifest::from_image(&child).unwrap();
    let list = index(&[&child]);
    assert_eq!(server.put(SIGNED, &child.digest().to_string(), &child).await.status(), StatusCode::CREATED);
    for signed in [&child, &list] {
        server.sign(SIGNED, signed, &[], &server.keys.builder).await;
    }
    let (_, _, message) = refusal(server.put(SIGNED, "v1", &list).await).await;
    assert!(message.contains("to be fetched from other addresses"), "{message}");
}

#[tokio::test]
async fn image_in_the_clothes_of_a_signature_is_still_an_image() {
    let server = Server::start().await;
    let honest = server.push_signed(SIGNED, "one", "one").await;
    server.push_image_blobs(SIGNED, "evil").await;
    let mut evil = image("evil").image().unwrap().clone();
    evil.artifact_type = Some(SIGSTORE_BUNDLE_V03.to_owned());
    evil.subject = Some(honest.descriptor());
    let evil =
        RawManifest::from_image(&evil.with_annotation("vnd.docker.reference.type", "attestation-manifest")).unwrap();
    assert_eq!(server.put(SIGNED, &evil.digest().to_string(), &evil).await.status(), StatusCode::CREATED);
    let mut part = evil.descriptor();
    part.artifact_type = Some(SIGSTORE_BUNDLE_V03.to_owned());
    let list = ImageIndex { manifests: vec![honest.descriptor(), part], ..ImageIndex::default() };
    let list = RawManifest::from_index(&list).unwrap();
    server.sign(SIGNED, &list, &["v1"], &server.keys.builder).await;
    let (status, _, message) = refusal(server.put(SIGNED, "v1", &list).await).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(message.contains(&evil.digest().to_string()) && message.contains("unsigned"), "{message}");
    // Nor does it get a name by itself, or the name of a signature.
    for tag in ["v2".to_owned(), format!("sha256-{}.sig", honest.digest().hex())] {
        assert_eq!(server.put(SIGNED, &tag, &evil).await.status(), StatusCode::FORBIDDEN, "{tag}");
    }
}

#[tokio::test]
async fn large_manifests_wait_for_a_place_and_small_ones_do_not() {
    let server = Server::start().await;
    let config = server.push_blob(OPEN, b"{}").await;
    let of = |size: usize| {
        let image = ImageManifest::image(Descriptor::new(OCI_CONFIG, config, 2), vec![]);
        RawManifest::from_image(&image.with_annotation("large", "x".repeat(size))).unwrap()
    };
    let all = u32::try_from(server.gateway.large.available_permits()).unwrap();
    let places = server.gateway.large.acquire_many(all).await.unwrap();
    assert_eq!(server.put(OPEN, "small", &of(1000)).await.status(), StatusCode::CREATED);
    let large = of(1 << 20);
    let waiting = server.put(OPEN, "large", &large);
    let mut waiting = std::pin::pin!(waiting);
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), waiting.as_mut()).await;
    assert!(early.is_err(), "a large manifest was taken without a place");
    drop(places);
    assert_eq!(waiting.await.status(), StatusCode::CREATED);
    assert_eq!(server.gateway.large.available_permits(), all as usize);
}

#[tokio::test]
async fn manifest_whose_row_rotted_is_not_handed_out_and_healed_by_a_push() {
    let server = Server::start().await;
    let manifest = server.push_image(OPEN, "one").await;
    assert_eq!(server.put(OPEN, "v1", &manifest).await.status(), StatusCode::CREATED);
    let mut rotten = manifest.bytes().to_vec();
    let middle = rotten.len() / 2;
    rotten[middle] ^= 1;
    let mut tx = server.gateway.db.write().await.unwrap();
    sqlx::query("UPDATE manifest_bytes SET bytes = $1 WHERE digest = $2")
        .bind(rotten)
        .bind(manifest.digest().to_string())
        .execute(&mut *tx)
        .await
        .unwrap();
    nebh_gateway::db::commit(tx).await.unwrap();
    let path = format!("/v2/{OPEN}/manifests/v1");
    assert_eq!(server.get(&path).await.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(server.put(OPEN, "v1", &manifest).await.status(), StatusCode::CREATED);
    assert_eq!(server.get(&path).await.bytes().await.unwrap(), manifest.bytes());
}
