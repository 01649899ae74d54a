//! Layouts that cosign 2.5.0 and 3.1.3 signed themselves: each verifies with its key, and with no other.

use std::path::{Path, PathBuf};

use nebh_oci::digest::Digest;
use nebh_oci::manifest::{Attached, RawManifest};
use nebh_oci::names::Repository;
use nebh_trust::RejectionKind as Kind;
use nebh_trust::policy::TrustPolicy;
use nebh_trust::statement::{CYCLONEDX_BOM, SLSA_PROVENANCE_V1, SPDX_DOCUMENT};
use nebh_trust::verify::{verify_attestations, verify_image};

use super::support::{now, refused};

const KEYS: [&str; 6] = ["k2", "k3", "k2-empty", "k3-empty", "k2-utf8", "k3-utf8"];
/// Layout, and whether the index's children are signed as well as what the tag names.
const SIGNATURES: [(&str, bool); 12] = [
    ("c2-annot", false),
    ("c2-identity", false),
    ("c2-index", false),
    ("c2-index-r", true),
    ("c2-simple", false),
    ("c2-simple-oci11", false),
    ("c3-both", false),
    ("c3-bundle", false),
    ("c3-bundle-annot", false),
    ("c3-index", false),
    ("c3-index-r", true),
    ("c3-simple", false),
];
const ATTESTATIONS: [(&str, &str); 8] = [
    ("c2-att-cdx", CYCLONEDX_BOM),
    ("c2-att-slsa", SLSA_PROVENANCE_V1),
    ("c2-att-slsa-bundle", SLSA_PROVENANCE_V1),
    ("c2-att-spdx", SPDX_DOCUMENT),
    ("c3-att-cdx", CYCLONEDX_BOM),
    ("c3-att-slsa", SLSA_PROVENANCE_V1),
    ("c3-att-slsa-legacy", SLSA_PROVENANCE_V1),
    ("c3-att-spdx", SPDX_DOCUMENT),
];

fn good() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/signing/good")
}

/// One layout: its manifests, and the tags of some.
struct Signed {
    name: String,
    manifests: Vec<(Option<String>, RawManifest)>,
}

impl Signed {
    fn read(name: &str) -> Self {
        let index = std::fs::read(good().join(name).join("index.json")).unwrap();
        let index = RawManifest::parse(index, None).unwrap();
        let manifests = index.index().unwrap().manifests.iter().map(|child| {
            let tag = child.annotations.get("org.opencontainers.image.ref.name").cloned();
            (tag, RawManifest::parse(blob(name, &child.digest), Some(&child.media_type)).unwrap())
        });
        Self { name: name.to_owned(), manifests: manifests.collect() }
    }

    fn tagged(&self, tag: &str) -> &RawManifest {
        &self.manifests.iter().find(|(known, _)| known.as_deref() == Some(tag)).unwrap().1
    }

    /// What a registry client finds attached: referrers, and the manifests under cosign's tags.
    fn attached_to(&self, subject: &Digest) -> Vec<Attached> {
        let prefix = format!("sha256-{}.", subject.hex());
        let found = self.manifests.iter().filter(|(tag, manifest)| {
            tag.as_ref().is_some_and(|tag| tag.starts_with(&prefix))
                || manifest.subject().is_some_and(|named| named.digest == *subject)
        });
        found
            .map(|(_, manifest)| {
                let layers = manifest.image().unwrap().layers.iter();
                let layers = layers.map(|layer| (layer.clone(), blob(&self.name, &layer.digest))).collect();
                Attached { manifest: manifest.clone(), layers }
            })
            .collect()
    }

    fn repository(&self) -> Repository {
        // `cosign sign --sign-container-identity` named another place.
        if self.name == "c2-identity" {
            "prod/app".parse().unwrap()
        } else {
            format!("good/{}", self.name).parse().unwrap()
        }
    }
}

fn blob(layout: &str, digest: &Digest) -> Vec<u8> {
    std::fs::read(good().join(layout).join("blobs/sha256").join(digest.hex())).unwrap()
}

fn policy(key: &str) -> TrustPolicy {
    let text = "roles: { builder: { keys: [key] } }\nrules: [{ match: \"**\", image: builder }]\n";
    let pem = std::fs::read_to_string(good().join(format!("{key}.pub"))).unwrap();
    TrustPolicy::parse("trust.yaml", text, &mut |_| Ok(pem.clone())).unwrap()
}

/// cosign 2's layouts are signed by `k2`, cosign 3's by `k3`.
fn signer(layout: &str) -> &'static str {
    if layout.starts_with("c2") { "k2" } else { "k3" }
}

#[test]
fn every_layout_is_on_one_of_the_lists() {
    let listed = SIGNATURES.iter().map(|(name, _)| *name).chain(ATTESTATIONS.iter().map(|(name, _)| *name));
    let mut listed: Vec<String> = listed.map(str::to_owned).collect();
    listed.sort();
    let mut found: Vec<String> = std::fs::read_dir(good())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, listed);
}

#[test]
fn every_signature_verifies_with_its_key_and_with_no_other() {
    for (name, recursive) in SIGNATURES {
        let layout = Signed::read(name);
        let targets = if recursive { vec!["v1", "amd64", "arm64"] } else { vec!["v1"] };
        for target in targets {
            let manifest = layout.tagged(target);
            let attached = layout.attached_to(manifest.digest());
            for key in KEYS {
                let result = verify_image(&policy(key), &layout.repository(), manifest, &attached, now());
                if key == signer(name) {
                    assert_eq!(result.unwrap().signers().len(), 1, "{name} {target}");
                } else {
                    refused(result, Kind::Untrusted);
                }
            }
        }
    }
}

#[test]
fn child_of_a_signed_index_is_unsigned_unless_signed_itself() {
    for name in ["c2-index", "c3-index"] {
        let layout = Signed::read(name);
        let child = layout.tagged("amd64");
        let policy = policy(signer(name));
        let own = layout.attached_to(child.digest());
        refused(verify_image(&policy, &layout.repository(), child, &own, now()), Kind::Unsigned);
        let of_the_index = layout.attached_to(layout.tagged("v1").digest());
        refused(verify_image(&policy, &layout.repository(), child, &of_the_index, now()), Kind::WrongSubject);
    }
}

#[test]
fn every_attestation_verifies_with_its_key_and_with_no_other() {
    for (name, predicate_type) in ATTESTATIONS {
        let layout = Signed::read(name);
        let manifest = layout.tagged("v1");
        let attached = layout.attached_to(manifest.digest());
        for key in KEYS {
            let found =
                verify_attestations(&policy(key), &layout.repository(), manifest, &attached, predicate_type, now())
                    .unwrap();
            assert_eq!(found.len(), usize::from(key == signer(name)), "{name} {key}");
        }
        let other = verify_attestations(
            &policy(signer(name)),
            &layout.repository(),
            manifest,
            &attached,
            "https://x.test",
            now(),
        );
        assert!(other.unwrap().is_empty());
    }
}

#[test]
fn attestation_of_cosign_is_not_a_signature() {
    for (name, _) in ATTESTATIONS {
        let layout = Signed::read(name);
        let manifest = layout.tagged("v1");
        let attached = layout.attached_to(manifest.digest());
        let result = verify_image(&policy(signer(name)), &layout.repository(), manifest, &attached, now());
        let text = refused(result, Kind::Unsigned);
        assert!(text.contains("is no signature"), "{text}");
    }
}

#[test]
fn simple_signature_of_cosign_is_refused_in_another_repository() {
    for name in ["c2-simple", "c3-simple", "c2-identity"] {
        let layout = Signed::read(name);
        let manifest = layout.tagged("v1");
        let attached = layout.attached_to(manifest.digest());
        let elsewhere = "good/elsewhere".parse().unwrap();
        refused(verify_image(&policy(signer(name)), &elsewhere, manifest, &attached, now()), Kind::WrongSubject);
    }
}
