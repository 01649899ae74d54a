//! A small shop: keys, a policy, an image, and ways to attach things to it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use nebh_oci::digest::Digest;
use nebh_oci::manifest::{Artifact, Attached, Descriptor, EMPTY_BLOB, ImageManifest, RawManifest};
use nebh_oci::media_type::{OCI_CONFIG, OCI_LAYER, SIGSTORE_BUNDLE_V03};
use nebh_oci::names::{Repository, RepositoryAddress, Tag};
use nebh_trust::dsse::{self, Envelope};
use nebh_trust::key::PrivateKey;
use nebh_trust::policy::TrustPolicy;
use nebh_trust::simple::SIGNATURE_ANNOTATION;
use nebh_trust::statement::{COSIGN_SIGN_V1, Statement, Subject};
use nebh_trust::{Rejection, RejectionKind, Verified};
use nebh_trust::{signing, verify};

/// Who there is. Made once: the tests change what is signed, never who signs.
pub(crate) struct People {
    pub(crate) builder: PrivateKey,
    pub(crate) second_builder: PrivateKey,
    pub(crate) alice: PrivateKey,
    pub(crate) bob: PrivateKey,
    pub(crate) node: PrivateKey,
    pub(crate) stranger: PrivateKey,
}

pub(crate) static PEOPLE: LazyLock<People> = LazyLock::new(|| {
    let key = || PrivateKey::generate().unwrap();
    People { builder: key(), second_builder: key(), alice: key(), bob: key(), node: key(), stranger: key() }
});

pub(crate) const POLICY: &str = r"
roles:
  builder:  { keys: [builder, second-builder] }
  releaser: { keys: [alice, bob], threshold: 2 }
  node:     { keys: [node] }
rules:
  - { match: shop/*, image: builder, release: releaser }
";

pub(crate) fn policy(text: &str) -> TrustPolicy {
    let keys = BTreeMap::from([
        ("builder", &PEOPLE.builder),
        ("second-builder", &PEOPLE.second_builder),
        ("alice", &PEOPLE.alice),
        ("bob", &PEOPLE.bob),
        ("node", &PEOPLE.node),
    ]);
    TrustPolicy::parse("trust.yaml", text, &mut |name| Ok(keys[name].public().to_pem().unwrap())).unwrap()
}

pub(crate) fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

pub(crate) fn repository() -> Repository {
    "shop/api".parse().unwrap()
}

pub(crate) fn address() -> RepositoryAddress {
    "127.0.0.1:5000/shop/api".parse().unwrap()
}

pub(crate) fn tags() -> Vec<Tag> {
    vec!["v1".parse().unwrap()]
}

/// An image whose bytes depend on `seed` alone.
pub(crate) fn image(seed: &str) -> RawManifest {
    let config = Descriptor::of(OCI_CONFIG, EMPTY_BLOB);
    let layer = Descriptor::of(OCI_LAYER, seed.as_bytes());
    RawManifest::from_image(&ImageManifest::image(config, vec![layer])).unwrap()
}

pub(crate) fn attach(artifacts: &[Artifact]) -> Vec<Attached> {
    artifacts.iter().map(Attached::from_artifact).collect()
}

/// Both forms, by one key.
pub(crate) fn signed(manifest: &RawManifest, key: &PrivateKey) -> Vec<Attached> {
    attach(&signing::sign_both(None, manifest, &address(), &tags(), key).unwrap())
}

/// Some document under the media type of simple signing, signed as it stands.
pub(crate) fn simple_layer(document: &[u8], key: &PrivateKey) -> (Descriptor, Vec<u8>) {
    use base64::Engine as _;
    let signature = base64::engine::general_purpose::STANDARD.encode(key.sign(document));
    let media_type = nebh_oci::media_type::COSIGN_SIMPLE_SIGNING;
    (Descriptor::of(media_type, document).with_annotation(SIGNATURE_ANNOTATION, signature), document.to_vec())
}

/// An attached manifest with these layers.
pub(crate) fn attached(layers: Vec<(Descriptor, Vec<u8>)>) -> Attached {
    let descriptors = layers.iter().map(|(descriptor, _)| descriptor.clone()).collect();
    let manifest = RawManifest::from_image(&ImageManifest::image(Descriptor::of(OCI_CONFIG, EMPTY_BLOB), descriptors));
    Attached { manifest: manifest.unwrap(), layers }
}

/// A bundle around an envelope, with its JSON changed before it is attached.
pub(crate) fn bundle_with(envelope: Envelope, change: impl FnOnce(&mut serde_json::Value)) -> Attached {
    let bundle = nebh_trust::bundle::Bundle::new(envelope, PEOPLE.builder.public());
    let mut value: serde_json::Value = serde_json::from_slice(&bundle.to_bytes().unwrap()).unwrap();
    change(&mut value);
    raw_bundle(&serde_json::to_vec(&value).unwrap())
}

/// Bytes under the media type of a bundle.
pub(crate) fn raw_bundle(bytes: &[u8]) -> Attached {
    attached(vec![(Descriptor::of(SIGSTORE_BUNDLE_V03, bytes), bytes.to_vec())])
}

/// The same attachment around other bytes, with a descriptor that fits them.
pub(crate) fn document_of(good: &Attached, bytes: Vec<u8>) -> Attached {
    let old = &good.layers[0].0;
    let mut descriptor = Descriptor::of(&old.media_type, &bytes);
    descriptor.annotations.clone_from(&old.annotations);
    attached(vec![(descriptor, bytes)])
}

pub(crate) fn sign_statement(digest: &Digest) -> Statement {
    Statement::new(Subject::new(digest), COSIGN_SIGN_V1, serde_json::json!({}))
}

pub(crate) fn envelope(statement: &Statement) -> Envelope {
    Envelope::sign(dsse::IN_TOTO, statement.to_bytes().unwrap(), &[&PEOPLE.builder])
}

/// One document of simple signing by the builder, as the only thing attached.
pub(crate) fn document(text: &str) -> Vec<Attached> {
    vec![attached(vec![simple_layer(text.as_bytes(), &PEOPLE.builder)])]
}

pub(crate) fn good_document(manifest: &RawManifest) -> String {
    simple_document(manifest.digest(), "127.0.0.1:5000/shop/api:v1")
}

/// A document of simple signing as JSON text.
pub(crate) fn simple_document(digest: &Digest, reference: &str) -> String {
    format!(
        r#"{{"critical":{{"identity":{{"docker-reference":"{reference}"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
    )
}

pub(crate) fn check(manifest: &RawManifest, attached: &[Attached]) -> Result<Verified<RawManifest>, Rejection> {
    verify::verify_image(&policy(POLICY), &repository(), manifest, attached, now())
}

/// Refused, and for this reason; the text is returned.
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Rejection>, kind: RejectionKind) -> String {
    let rejection = result.expect_err("it has to be refused");
    assert_eq!(rejection.kind, kind, "{rejection}");
    rejection.to_string()
}
