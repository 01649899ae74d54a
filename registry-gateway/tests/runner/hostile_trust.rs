//! Hostile signatures and names: what somebody with the right to push, but without a key, can try; and the attacks that
//! The Update Framework lists, on tags, releases and channel heads.
//!
//! | attack | test |
//! |---|---|
//! | signature of another digest, repository, key, role; of the index for a child | `admission::*` |
//! | revoked, rotated, expired key; policy that cannot be read | `revocation::*`; expiry and thresholds: the trust crate's `attacks` |
//! | strip: signatures deleted or overwritten | `signatures_of_a_pinned_release_cannot_be_deleted`, `…_overwritten`, `image_whose_signature_was_deleted_gets_no_further_tag` |
//! | strip: a thousand other referrers, or bundles, before the good one | `flood_of_referrers_does_not_hide_the_signature`, `flood_of_bundles_is_refused_and_said` |
//! | forged `sha256-…` index | `admission::name_of_a_signature_does_not_tag_an_image` |
//! | referrer whose subject lies about size or type | `referrer_that_lies_about_its_subject_neither_helps_nor_hurts` |
//! | CVE-2024-29902, -29903: signatures of any size and number | `signature_layer_without_end_is_passed_over` |
//! | CVE-2026-22703: transparency entries; DSSE confusion; malleable or odd keys | the trust crate's `malformed`, `attacks` and Wycheproof vectors |
//! | JWT, tokens | not here: there are none |
//! | arbitrary installation, wrong software | `admission::unsigned_…`, `admission::signature_made_for_another_repository_is_refused` |
//! | rollback | heads: `admission::channel_head_goes_forward_only…`; releases are pins. A plain version tag may go back: hosts follow heads |
//! | indefinite freeze | `admission::channel_head_…` (expired); hosts judge the expiry themselves |
//! | fast-forward | `fast_forward_of_a_channel_is_refused` |
//! | mix-and-match | `mix_and_match_of_two_releases_is_refused` |
//! | endless data, slow retrieval | `attacks::endless_blob…`, `hostile_http::slow_loris_*`; hosts: the oci crate's `hostile` |
//! | key compromise | `revocation::*` |

use nebh_oci::digest::Digest;
use nebh_oci::manifest::{Artifact, Attached, Descriptor, EMPTY_BLOB, ImageIndex, ImageManifest, RawManifest};
use nebh_oci::media_type::SIGSTORE_BUNDLE_V03;
use nebh_trust::signing;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{Server, head, image, refusal};

const REPOSITORY: &str = "shop/api";

fn bundle(server: &Server, manifest: &RawManifest) -> Artifact {
    signing::bundle(manifest, &server.address(REPOSITORY), &[], &server.keys.builder).unwrap()
}

/// The bundle that is attached to a manifest, by the registry's own list.
async fn bundle_of(server: &Server, manifest: &RawManifest) -> String {
    let kind = SIGSTORE_BUNDLE_V03.replace('+', "%2B");
    let path = format!("/v2/{REPOSITORY}/referrers/{}?artifactType={kind}", manifest.digest());
    let list: serde_json::Value = server.get(&path).await.json().await.unwrap();
    list["manifests"][0]["digest"].as_str().unwrap().to_owned()
}

async fn delete(server: &Server, name: &str) -> StatusCode {
    server.send(Method::DELETE, &format!("/v2/{REPOSITORY}/manifests/{name}"), &[], "").await.status()
}

#[tokio::test]
async fn signatures_of_a_pinned_release_cannot_be_deleted() {
    let server = Server::start().await;
    let image = server.push_signed(REPOSITORY, "one", "one").await;
    let release = server.push_signed_release(REPOSITORY, "1.0.0", &image).await;
    let bundle_of_image = bundle_of(&server, &image).await;
    let sig = |digest: &Digest| format!("sha256-{}.sig", digest.hex());
    for name in [sig(release.digest()), sig(image.digest()), bundle_of_image.clone()] {
        assert_eq!(delete(&server, &name).await, StatusCode::FORBIDDEN, "{name}");
    }
    assert_eq!(server.order("unpin", &json!({ "repository": REPOSITORY, "name": "1.0.0" })).await.0, StatusCode::OK);
    for name in [sig(image.digest()), bundle_of_image] {
        assert_eq!(delete(&server, &name).await, StatusCode::ACCEPTED, "{name}");
    }
}

#[tokio::test]
async fn image_whose_signature_was_deleted_gets_no_further_tag() {
    let server = Server::start().await;
    let manifest = server.push_signed(REPOSITORY, "one", "v1").await;
    assert_eq!(delete(&server, &bundle_of(&server, &manifest).await).await, StatusCode::ACCEPTED);
    assert_eq!(server.put(REPOSITORY, "v2", &manifest).await.status(), StatusCode::CREATED);
    assert_eq!(delete(&server, &format!("sha256-{}.sig", manifest.digest().hex())).await, StatusCode::ACCEPTED);
    let (status, _, message) = refusal(server.put(REPOSITORY, "v3", &manifest).await).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(message.contains("is unsigned"), "{message}");
}

#[tokio::test]
async fn signatures_of_a_pinned_release_cannot_be_overwritten() {
    let server = Server::start().await;
    let image = server.push_signed(REPOSITORY, "one", "one").await;
    let release = server.push_signed_release(REPOSITORY, "1.0.0", &image).await;
    let simple =
        |key, existing| signing::simple_signing(existing, &release, &server.address(REPOSITORY), &[], key).unwrap();
    // A list of its own, in the right form, by a stranger: it would take the place of the good one.
    let strange = simple(&server.keys.stranger, None);
    let (status, _, message) = refusal(server.push_artifact(REPOSITORY, &strange).await).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(message.contains("signatures are only added"), "{message}");
    // Added to what is there, it is taken like any other.
    let tag = strange.tag.clone().unwrap();
    let name = nebh_gateway::Name::Tag(tag);
    let held = server.gateway.db.manifest(&REPOSITORY.parse().unwrap(), &name).await.unwrap().unwrap();
    let held = RawManifest::parse(held.bytes, None).unwrap();
    let mut layers = Vec::new();
    for layer in held.parts() {
        let bytes = server.get(&format!("/v2/{REPOSITORY}/blobs/{}", layer.digest)).await.bytes().await.unwrap();
        layers.push((layer.clone(), bytes.to_vec()));
    }
    let both = simple(&server.keys.stranger, Some(&Attached { manifest: held, layers }));
    assert_eq!(server.push_artifact(REPOSITORY, &both).await.status(), StatusCode::CREATED);
    assert_eq!(server.put(REPOSITORY, "1.0.0", &release).await.status(), StatusCode::CREATED);
}

/// Referrers of `subject`, each before `limit` in every list that is ordered by digest.
fn junk(subject: &RawManifest, artifact_type: &str, count: usize, limit: &Digest) -> Vec<RawManifest> {
    let make = |n: usize| {
        let junk = ImageManifest::artifact(artifact_type, vec![])
            .with_subject(subject.descriptor())
            .with_annotation("n", n.to_string());
        RawManifest::from_image(&junk).unwrap()
    };
    (0..).map(make).filter(|junk| junk.digest() < limit).take(count).collect()
}

/// An image whose bundle comes late in a list.
async fn late(server: &Server) -> (RawManifest, Artifact) {
    for n in 0.. {
        let (manifest, content) = (image(&n.to_string()), n.to_string());
        let signature = bundle(server, &manifest);
        if signature.manifest.digest().bytes()[0] >= 0x80 {
            server.push_image(REPOSITORY, &content).await;
            return (manifest, signature);
        }
    }
    unreachable!("half of all digests are late")
}

#[tokio::test]
async fn flood_of_referrers_does_not_hide_the_signature() {
    let server = Server::start().await;
    let (manifest, signature) = late(&server).await;
    server.push_blob(REPOSITORY, EMPTY_BLOB).await;
    for junk in junk(&manifest, "application/x.junk", 300, signature.manifest.digest()) {
        let name = junk.digest().to_string();
        assert_eq!(server.put(REPOSITORY, &name, &junk).await.status(), StatusCode::CREATED);
    }
    let (_, _, message) = refusal(server.put(REPOSITORY, "v1", &manifest).await).await;
    assert!(message.contains("there is more than is looked at"), "{message}");
    assert_eq!(server.push_artifact(REPOSITORY, &signature).await.status(), StatusCode::CREATED);
    assert_eq!(server.put(REPOSITORY, "v1", &manifest).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn flood_of_bundles_is_refused_and_said() {
    let server = Server::start().await;
    let (manifest, signature) = late(&server).await;
    server.push_blob(REPOSITORY, EMPTY_BLOB).await;
    for junk in junk(&manifest, SIGSTORE_BUNDLE_V03, 257, signature.manifest.digest()) {
        let name = junk.digest().to_string();
        assert_eq!(server.put(REPOSITORY, &name, &junk).await.status(), StatusCode::CREATED);
    }
    assert_eq!(server.push_artifact(REPOSITORY, &signature).await.status(), StatusCode::CREATED);
    let (status, _, message) = refusal(server.put(REPOSITORY, "v1", &manifest).await).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(message.contains("256 attached manifests of each"), "{message}");
    // The other form has a place of its own.
    server.sign(REPOSITORY, &manifest, &[], &server.keys.builder).await;
    assert_eq!(server.put(REPOSITORY, "v1", &manifest).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn referrer_that_lies_about_its_subject_neither_helps_nor_hurts() {
    let server = Server::start().await;
    let (signed, other) = (server.push_image(REPOSITORY, "one").await, server.push_image(REPOSITORY, "two").await);
    let honest = bundle(&server, &signed);
    let with_subject = |subject: Descriptor| {
        let mut lie = honest.manifest.image().unwrap().clone();
        lie.subject = Some(subject);
        Artifact { manifest: RawManifest::from_image(&lie).unwrap(), ..honest.clone() }
    };
    // The good signature, hung under another image.
    let moved = with_subject(other.descriptor());
    assert_eq!(server.push_artifact(REPOSITORY, &moved).await.status(), StatusCode::CREATED);
    assert_eq!(server.put(REPOSITORY, "v1", &other).await.status(), StatusCode::FORBIDDEN);
    // The right one, whose subject has another size and type: what counts is what was signed.
    let mut subject = signed.descriptor();
    (subject.size, subject.media_type) = (1, "text/plain".to_owned());
    assert_eq!(server.push_artifact(REPOSITORY, &with_subject(subject)).await.status(), StatusCode::CREATED);
    assert_eq!(server.put(REPOSITORY, "v1", &signed).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn signature_layer_without_end_is_passed_over() {
    let server = Server::start().await;
    let manifest = server.push_image(REPOSITORY, "one").await;
    let mut large = bundle(&server, &manifest);
    large.blobs.push((Descriptor::of(SIGSTORE_BUNDLE_V03, &vec![b' '; 5 << 20]), vec![b' '; 5 << 20]));
    let mut image = large.manifest.image().unwrap().clone();
    image.layers = vec![large.blobs.last().unwrap().0.clone()];
    large.manifest = RawManifest::from_image(&image).unwrap();
    assert_eq!(server.push_artifact(REPOSITORY, &large).await.status(), StatusCode::CREATED);
    let (status, _, message) = refusal(server.put(REPOSITORY, "v1", &manifest).await).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(message.contains("there is more than is looked at"), "{message}");
    assert_eq!(server.push_artifact(REPOSITORY, &bundle(&server, &manifest)).await.status(), StatusCode::CREATED);
    assert_eq!(server.put(REPOSITORY, "v1", &manifest).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn fast_forward_of_a_channel_is_refused() {
    let server = Server::start().await;
    let image = server.push_signed(REPOSITORY, "one", "one").await;
    let release = server.push_signed_release(REPOSITORY, "1.0.0", &image).await;
    let make = |counter| head("stable", REPOSITORY, counter, &release, 30, &server.keys.releaser);
    assert_eq!(server.push_artifact(REPOSITORY, &make(1)).await.status(), StatusCode::CREATED);
    for counter in [(1 << 53) - 1, 1 << 40, 1 << 22] {
        let response = server.push_artifact(REPOSITORY, &make(counter)).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{counter}");
    }
    assert_eq!(server.push_artifact(REPOSITORY, &make(2)).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn mix_and_match_of_two_releases_is_refused() {
    let server = Server::start().await;
    let (first, second) =
        (server.push_signed(REPOSITORY, "one", "one").await, server.push_signed(REPOSITORY, "two", "two").await);
    let old = server.push_signed_release(REPOSITORY, "1.0.0", &first).await;
    let new = server.push_signed_release(REPOSITORY, "1.1.0", &second).await;
    // Every part is genuine and signed; the set never was.
    let mut mixed: ImageIndex = new.index().unwrap().clone();
    let at = mixed.manifests.iter().position(|part| part.digest == *second.digest()).unwrap();
    let from = old.index().unwrap().manifests.iter().find(|part| part.digest == *first.digest()).unwrap();
    mixed.manifests[at] = from.clone();
    let mixed = RawManifest::from_index(&mixed).unwrap();
    assert_eq!(server.put(REPOSITORY, &mixed.digest().to_string(), &mixed).await.status(), StatusCode::CREATED);
    for tag in ["1.2.0", "1.1.0", "latest"] {
        assert_eq!(server.put(REPOSITORY, tag, &mixed).await.status(), StatusCode::FORBIDDEN, "{tag}");
    }
}
