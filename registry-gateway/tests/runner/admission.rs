//! Admission over HTTP, case by case: what is refused, with which words, and what the refusal leaves behind.

use nebh_oci::digest::{Algorithm, Digest};
use nebh_oci::manifest::{Descriptor, ImageIndex, ImageManifest, RawManifest};
use nebh_oci::media_type::{OCI_CONFIG, OCI_LAYER_GZIP};
use nebh_trust::signing;
use reqwest::{Method, Response, StatusCode};

use crate::support::{Server, head, image, index, refusal};

const REPOSITORY: &str = "shop/api";

async fn denied(response: Response, kind: &str, words: &[&str]) {
    let status = response.status();
    let value: serde_json::Value = response.json().await.unwrap();
    let error = &value["errors"][0];
    let message = error["message"].as_str().unwrap_or_default();
    assert_eq!(status, StatusCode::FORBIDDEN, "{value}");
    assert_eq!(error["code"], "DENIED", "{value}");
    assert_eq!(error["detail"]["kind"], kind, "{message}");
    for word in words {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
}

async fn is_absent(server: &Server, name: &str) {
    let response = server.get(&format!("/v2/{REPOSITORY}/manifests/{name}")).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn unsigned_image_gets_no_tag_and_the_message_names_rule_key_and_digest() {
    let server = Server::start().await;
    let manifest = server.push_image(REPOSITORY, "one").await;
    let key = server.keys.builder.id().short();
    let digest = manifest.digest().to_string();
    denied(server.put(REPOSITORY, "v1", &manifest).await, "unsigned", &["v1", "shop/*", "builder", &key, &digest])
        .await;
    is_absent(&server, "v1").await;
    // Stored by digest all the same: that is what a later signature is for.
    assert_eq!(server.get(&format!("/v2/{REPOSITORY}/manifests/{digest}")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn image_signed_before_it_is_pushed_gets_its_tag_in_one_push() {
    let server = Server::start().await;
    let manifest = server.push_image_blobs(REPOSITORY, "one").await;
    server.sign(REPOSITORY, &manifest, &["v1"], &server.keys.builder).await;
    assert_eq!(server.put(REPOSITORY, "v1", &manifest).await.status(), StatusCode::CREATED);
    let found = server.get(&format!("/v2/{REPOSITORY}/manifests/v1")).await;
    assert_eq!(found.headers()["docker-content-digest"], manifest.digest().to_string());
}

#[tokio::test]
async fn either_form_of_signature_alone_is_enough() {
    let server = Server::start().await;
    for (at, content) in ["simple", "bundle"].into_iter().enumerate() {
        let manifest = server.push_image(REPOSITORY, content).await;
        let tags = [content.parse().unwrap()];
        let both =
            signing::sign_both(None, &manifest, &server.address(REPOSITORY), &tags, &server.keys.builder).unwrap();
        assert_eq!(server.push_artifact(REPOSITORY, &both[at]).await.status(), StatusCode::CREATED);
        assert_eq!(server.put(REPOSITORY, content, &manifest).await.status(), StatusCode::CREATED, "{content}");
    }
}

#[tokio::test]
async fn image_signed_by_a_strange_key_gets_no_tag() {
    let server = Server::start().await;
    let manifest = server.push_image(REPOSITORY, "one").await;
    server.sign(REPOSITORY, &manifest, &["v1"], &server.keys.stranger).await;
    denied(server.put(REPOSITORY, "v1", &manifest).await, "untrusted", &["builder"]).await;
}

#[tokio::test]
async fn image_signed_by_the_key_of_another_role_gets_no_tag() {
    let server = Server::start().await;
    let manifest = server.push_image(REPOSITORY, "one").await;
    server.sign(REPOSITORY, &manifest, &["v1"], &server.keys.releaser).await;
    denied(server.put(REPOSITORY, "v1", &manifest).await, "untrusted", &["builder"]).await;
}

#[tokio::test]
async fn signature_of_another_image_moved_here_is_refused() {
    let server = Server::start().await;
    let signed = server.push_image(REPOSITORY, "signed").await;
    let other = server.push_image(REPOSITORY, "other").await;
    let mut stolen =
        signing::simple_signing(None, &signed, &server.address(REPOSITORY), &[], &server.keys.builder).unwrap();
    stolen.tag = Some(format!("sha256-{}.sig", other.digest().hex()).parse().unwrap());
    assert_eq!(server.push_artifact(REPOSITORY, &stolen).await.status(), StatusCode::CREATED);
    denied(server.put(REPOSITORY, "v1", &other).await, "wrong-subject", &[&other.digest().to_string()]).await;
}

#[tokio::test]
async fn signature_made_for_another_repository_is_refused() {
    let server = Server::start().await;
    let manifest = server.push_image(REPOSITORY, "one").await;
    let foreign =
        signing::sign_both(None, &manifest, &server.address("shop/other"), &[], &server.keys.builder).unwrap();
    for artifact in &foreign {
        assert_eq!(server.push_artifact(REPOSITORY, artifact).await.status(), StatusCode::CREATED);
    }
    denied(server.put(REPOSITORY, "v1", &manifest).await, "wrong-subject", &["shop/other"]).await;
}

#[tokio::test]
async fn repository_that_no_rule_matches_takes_nothing() {
    let server = Server::start().await;
    let response = server.send(Method::POST, "/v2/elsewhere/blobs/uploads/", &[], "").await;
    let (status, code, message) = refusal(response).await;
    assert_eq!((status, code.as_str()), (StatusCode::FORBIDDEN, "DENIED"));
    assert!(message.contains("elsewhere"), "{message}");
}

#[tokio::test]
async fn index_with_an_unsigned_child_gets_no_tag() {
    let server = Server::start().await;
    let signed = server.push_signed(REPOSITORY, "amd64", "amd64").await;
    let unsigned = server.push_image(REPOSITORY, "arm64").await;
    let list = index(&[&signed, &unsigned]);
    server.sign(REPOSITORY, &list, &["v1"], &server.keys.builder).await;
    denied(server.put(REPOSITORY, "v1", &list).await, "unsigned", &[&unsigned.digest().to_string()]).await;
    server.sign(REPOSITORY, &unsigned, &[], &server.keys.builder).await;
    assert_eq!(server.put(REPOSITORY, "v1", &list).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn index_of_which_a_child_is_missing_gets_no_tag() {
    let server = Server::start().await;
    let list = index(&[&image("never pushed")]);
    server.sign(REPOSITORY, &list, &["v1"], &server.keys.builder).await;
    denied(server.put(REPOSITORY, "v1", &list).await, "child-missing", &[]).await;
}

#[tokio::test]
async fn image_whose_layer_is_missing_is_not_stored() {
    let server = Server::start().await;
    let manifest = image("never pushed");
    server.sign(REPOSITORY, &manifest, &["v1"], &server.keys.builder).await;
    let (status, code, message) = refusal(server.put(REPOSITORY, "v1", &manifest).await).await;
    assert_eq!((status, code.as_str()), (StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN"));
    assert!(message.contains(&Digest::sha256(b"layer of never pushed").to_string()), "{message}");
    is_absent(&server, &manifest.digest().to_string()).await;
}

#[tokio::test]
async fn image_with_a_layer_from_elsewhere_gets_no_tag() {
    let server = Server::start().await;
    let config = server.push_blob(REPOSITORY, b"{}").await;
    let layer = server.push_blob(REPOSITORY, b"layer").await;
    let mut part = Descriptor::new(OCI_LAYER_GZIP, layer, 5);
    part.urls = vec!["http://example.org/layer".to_owned()];
    let manifest =
        RawManifest::from_image(&ImageManifest::image(Descriptor::new(OCI_CONFIG, config, 2), vec![part])).unwrap();
    server.sign(REPOSITORY, &manifest, &["v1"], &server.keys.builder).await;
    denied(server.put(REPOSITORY, "v1", &manifest).await, "elsewhere", &[&layer.to_string()]).await;
}

#[tokio::test]
async fn name_of_a_signature_does_not_tag_an_image() {
    let server = Server::start().await;
    let evil = server.push_image(REPOSITORY, "evil").await;
    let victim = server.push_signed(REPOSITORY, "good", "v1").await;
    for suffix in ["", ".sig", ".att"] {
        let tag = format!("sha256-{}{suffix}", victim.digest().hex());
        denied(server.put(REPOSITORY, &tag, &evil).await, "no-attachment", &[]).await;
        let list = index(&[&evil]);
        denied(server.put(REPOSITORY, &tag, &list).await, "no-attachment", &[]).await;
    }
}

#[tokio::test]
async fn digest_push_with_a_tag_parameter_is_admitted_by_the_same_door() {
    let server = Server::start().await;
    let manifest = server.push_image(REPOSITORY, "one").await;
    let name = format!("{}?tag=v1", manifest.digest());
    denied(server.put(REPOSITORY, &name, &manifest).await, "unsigned", &[]).await;
    is_absent(&server, "v1").await;
    server.sign(REPOSITORY, &manifest, &["v1"], &server.keys.builder).await;
    assert_eq!(server.put(REPOSITORY, &name, &manifest).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn one_refused_tag_among_several_sets_none() {
    let server = Server::start().await;
    let first = server.push_signed(REPOSITORY, "first", "first").await;
    let release = server.push_signed_release(REPOSITORY, "1.0.0", &first).await;
    let other = server.push_signed(REPOSITORY, "other", "other").await;
    let name = format!("{}?tag=fresh&tag=1.0.0", other.digest());
    denied(server.put(REPOSITORY, &name, &other).await, "pinned", &[&release.digest().to_string()]).await;
    is_absent(&server, "fresh").await;
}

#[tokio::test]
async fn sha512_name_of_a_signed_image_is_admitted_and_of_an_unsigned_one_refused() {
    let server = Server::start().await;
    let manifest = server.push_image(REPOSITORY, "one").await;
    let name = format!("{}?tag=v1", Digest::of(Algorithm::Sha512, manifest.bytes()));
    denied(server.put(REPOSITORY, &name, &manifest).await, "unsigned", &[]).await;
    server.sign(REPOSITORY, &manifest, &["v1"], &server.keys.builder).await;
    assert_eq!(server.put(REPOSITORY, &name, &manifest).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn release_tag_is_a_pin_that_cannot_be_moved_or_deleted_until_it_is_unpinned() {
    let server = Server::start().await;
    let first = server.push_signed(REPOSITORY, "first", "first").await;
    let second = server.push_signed(REPOSITORY, "second", "second").await;
    let release = server.push_signed_release(REPOSITORY, "1.0.0", &first).await;
    let moved = server.push_release(REPOSITORY, "1.0.0", &second).await;
    server.sign(REPOSITORY, &moved, &["1.0.0"], &server.keys.releaser).await;
    let held = release.digest().to_string();
    denied(server.put(REPOSITORY, "1.0.0", &moved).await, "pinned", &["1.0.0", &held]).await;
    for name in ["1.0.0".to_owned(), held.clone(), first.digest().to_string()] {
        let response = server.send(Method::DELETE, &format!("/v2/{REPOSITORY}/manifests/{name}"), &[], "").await;
        let (status, _, message) = refusal(response).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{name}");
        assert!(message.contains("1.0.0"), "{message}");
    }
    // The same release again is no move.
    assert_eq!(server.put(REPOSITORY, "1.0.0", &release).await.status(), StatusCode::CREATED);
    let order = serde_json::json!({ "repository": REPOSITORY, "name": "1.0.0" });
    assert_eq!(server.order("unpin", &order).await.0, StatusCode::OK);
    assert_eq!(server.put(REPOSITORY, "1.0.0", &moved).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn release_signed_by_the_builder_only_gets_no_tag() {
    let server = Server::start().await;
    let first = server.push_signed(REPOSITORY, "first", "first").await;
    let release = server.push_release(REPOSITORY, "1.0.0", &first).await;
    server.sign(REPOSITORY, &release, &["1.0.0"], &server.keys.builder).await;
    denied(server.put(REPOSITORY, "1.0.0", &release).await, "untrusted", &["releaser"]).await;
}

#[tokio::test]
async fn release_of_an_unsigned_image_gets_no_tag() {
    let server = Server::start().await;
    let unsigned = server.push_image(REPOSITORY, "unsigned").await;
    let release = server.push_release(REPOSITORY, "1.0.0", &unsigned).await;
    server.sign(REPOSITORY, &release, &["1.0.0"], &server.keys.releaser).await;
    denied(server.put(REPOSITORY, "1.0.0", &release).await, "unsigned", &[&unsigned.digest().to_string()]).await;
}

#[tokio::test]
async fn release_under_the_name_of_another_version_is_refused() {
    let server = Server::start().await;
    let first = server.push_signed(REPOSITORY, "first", "first").await;
    let release = server.push_release(REPOSITORY, "1.0.0", &first).await;
    server.sign(REPOSITORY, &release, &["1.0.0"], &server.keys.releaser).await;
    for tag in ["1.1.0", "latest"] {
        denied(server.put(REPOSITORY, tag, &release).await, "other-version", &["1.0.0"]).await;
    }
}

#[tokio::test]
async fn release_repository_tags_nothing_but_releases_and_heads() {
    let settings = crate::support::SETTINGS.replace("admit: signed", "admit: release");
    let server = Server::with(&settings).await;
    let first = server.push_image(REPOSITORY, "first").await;
    server.sign(REPOSITORY, &first, &["v1"], &server.keys.builder).await;
    denied(server.put(REPOSITORY, "v1", &first).await, "not-a-release", &["shop/*"]).await;
    server.push_signed_release(REPOSITORY, "1.0.0", &first).await;
}

#[tokio::test]
async fn channel_head_goes_forward_only_and_its_floor_outlives_the_tag() {
    let server = Server::start().await;
    let first = server.push_signed(REPOSITORY, "first", "first").await;
    let release = server.push_signed_release(REPOSITORY, "1.0.0", &first).await;
    let make = |counter, days, key| head("stable", REPOSITORY, counter, &release, days, key);
    let releaser = &server.keys.releaser;
    let five = make(5, 30, releaser);
    assert_eq!(server.push_artifact(REPOSITORY, &five).await.status(), StatusCode::CREATED);
    assert_eq!(server.push_artifact(REPOSITORY, &five).await.status(), StatusCode::CREATED);
    denied(server.push_artifact(REPOSITORY, &make(4, 30, releaser)).await, "regressed", &["stable"]).await;
    denied(server.push_artifact(REPOSITORY, &make(5, 31, releaser)).await, "regressed", &["stable"]).await;
    denied(server.push_artifact(REPOSITORY, &make(6, -1, releaser)).await, "expired", &["stable"]).await;
    denied(server.push_artifact(REPOSITORY, &make(6, 30, &server.keys.stranger)).await, "untrusted", &[]).await;
    let path = format!("/v2/{REPOSITORY}/manifests/channel.stable");
    assert_eq!(server.send(Method::DELETE, &path, &[], "").await.status(), StatusCode::ACCEPTED);
    denied(server.push_artifact(REPOSITORY, &make(4, 30, releaser)).await, "regressed", &["stable"]).await;
    assert_eq!(server.push_artifact(REPOSITORY, &make(6, 30, releaser)).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn channel_head_of_another_channel_or_repository_is_refused() {
    let server = Server::start().await;
    let first = server.push_signed(REPOSITORY, "first", "first").await;
    let releaser = &server.keys.releaser;
    let mut other = head("testing", REPOSITORY, 1, &first, 30, releaser);
    other.tag = Some("channel.stable".parse().unwrap());
    denied(server.push_artifact(REPOSITORY, &other).await, "wrong-subject", &["testing"]).await;
    let foreign = head("stable", "shop/other", 1, &first, 30, releaser);
    denied(server.push_artifact(REPOSITORY, &foreign).await, "wrong-subject", &["shop/other"]).await;
}

#[tokio::test]
async fn junk_attachments_do_not_hide_a_good_signature() {
    let server = Server::start().await;
    let manifest = server.push_image(REPOSITORY, "one").await;
    let empty = server.push_blob(REPOSITORY, b"{}").await;
    for n in 0..40 {
        let junk = ImageManifest::artifact("application/x.junk", vec![Descriptor::new("text/plain", empty, 2)])
            .with_subject(manifest.descriptor())
            .with_annotation("n", n.to_string());
        let junk = RawManifest::from_image(&junk).unwrap();
        let name = junk.digest().to_string();
        assert_eq!(server.put(REPOSITORY, &name, &junk).await.status(), StatusCode::CREATED);
    }
    denied(server.put(REPOSITORY, "v1", &manifest).await, "unsigned", &[]).await;
    server.sign(REPOSITORY, &manifest, &["v1"], &server.keys.builder).await;
    assert_eq!(server.put(REPOSITORY, "v1", &manifest).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn attestation_is_not_taken_for_a_signature() {
    let server = Server::start().await;
    let manifest = server.push_image(REPOSITORY, "one").await;
    let predicate = serde_json::json!({ "any": "thing" });
    let attestation =
        signing::attest(&manifest, "https://example.org/any/v1", &predicate, &server.keys.builder).unwrap();
    assert_eq!(server.push_artifact(REPOSITORY, &attestation).await.status(), StatusCode::CREATED);
    denied(server.put(REPOSITORY, "v1", &manifest).await, "unsigned", &[]).await;
}

#[tokio::test]
async fn refusal_can_be_explained_afterwards() {
    let server = Server::start().await;
    let manifest = server.push_image(REPOSITORY, "one").await;
    denied(server.put(REPOSITORY, "v1", &manifest).await, "unsigned", &[]).await;
    let by_digest = server.ask(&format!("explain/admission?repository={REPOSITORY}&name={}", manifest.digest())).await;
    assert_eq!((&by_digest["admitted"], &by_digest["kind"]), (&false.into(), &"unsigned".into()), "{by_digest}");
    let events = server.ask(&format!("events?repository={REPOSITORY}&subject=v1")).await;
    assert_eq!(events["events"][0]["kind"], "refused");
    server.sign(REPOSITORY, &manifest, &["v1"], &server.keys.builder).await;
    assert_eq!(server.put(REPOSITORY, "v1", &manifest).await.status(), StatusCode::CREATED);
    let by_tag = server.ask(&format!("explain/admission?repository={REPOSITORY}&name=v1")).await;
    assert_eq!(by_tag["admitted"], true, "{by_tag}");
    assert!(by_tag["reason"].as_str().unwrap().contains(&server.keys.builder.id().short()), "{by_tag}");
}

#[tokio::test]
async fn nested_index_needs_signatures_at_every_level() {
    let server = Server::start().await;
    let signed = server.push_signed(REPOSITORY, "amd64", "amd64").await;
    let inner = index(&[&signed]);
    assert_eq!(server.put(REPOSITORY, &inner.digest().to_string(), &inner).await.status(), StatusCode::CREATED);
    let mut outer = ImageIndex { manifests: vec![inner.descriptor()], ..ImageIndex::default() };
    outer.annotations.insert("level".to_owned(), "outer".to_owned());
    let outer = RawManifest::from_index(&outer).unwrap();
    server.sign(REPOSITORY, &outer, &["v1"], &server.keys.builder).await;
    denied(server.put(REPOSITORY, "v1", &outer).await, "unsigned", &[&inner.digest().to_string()]).await;
    server.sign(REPOSITORY, &inner, &[], &server.keys.builder).await;
    assert_eq!(server.put(REPOSITORY, "v1", &outer).await.status(), StatusCode::CREATED);
    let unsigned = server.push_image(REPOSITORY, "unsigned").await;
    let inner = index(&[&unsigned]);
    assert_eq!(server.put(REPOSITORY, &inner.digest().to_string(), &inner).await.status(), StatusCode::CREATED);
    let outer = index(&[&inner]);
    for list in [&inner, &outer] {
        server.sign(REPOSITORY, list, &[], &server.keys.builder).await;
    }
    denied(server.put(REPOSITORY, "v2", &outer).await, "unsigned", &[&unsigned.digest().to_string()]).await;
}
