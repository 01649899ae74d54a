//! Makes signatures and attestations, as artifacts ready to push. Pure and deterministic: the same manifest, names
//! and key give the same bytes.
//!
//! ```text
//!   sign_both ─► simple_signing   tag `sha256-<hex>.sig`, one layer per tag and key    podman, skopeo, cosign 2
//!            └─► bundle           referrer, DSSE statement `cosign/sign/v1`            cosign 3, others to come
//!   attest   ─► bundle            referrer, DSSE statement with another predicate
//! ```
//!
//! No single form is accepted by all verifiers, so both are always made, with one key, in one run. No key id and no
//! time is written: cosign skips a signature whose key id it would spell differently, and a time would make two
//! runs differ.

use std::collections::BTreeMap;

use nebh_oci::manifest::{
    Artifact, Attached, Descriptor, Document, EMPTY_BLOB, ImageManifest, ManifestError, RawManifest,
};
use nebh_oci::media_type::{COSIGN_SIMPLE_SIGNING, OCI_CONFIG, SIGSTORE_BUNDLE_V03};
use nebh_oci::names::{RepositoryAddress, Tag};
use serde_json::{Value, json};

use crate::bundle::{Bundle, BundleError};
use crate::dsse::{self, Envelope};
use crate::key::PrivateKey;
use crate::simple::{Payload, PayloadError, SIGNATURE_ANNOTATION};
use crate::statement::{COSIGN_SIGN_V1, Statement, StatementError, Subject};

/// Signatures under one `.sig` tag. skopeo needs ten seconds for 3000 and cosign stops at 1000.
const SIGNATURES_MAX: usize = 128;

/// Why a signature could not be made.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum SigningError {
    #[error("cosign's `.sig` tag exists for SHA-256 digests only")]
    NotSha256,
    #[error("what stands under the `.sig` tag is not a list of signatures")]
    NotSignatures,
    #[error("the bytes of signature {0} that stands under the `.sig` tag are missing")]
    Incomplete(String),
    #[error("{0} signatures would stand under one `.sig` tag, more than {SIGNATURES_MAX}")]
    TooMany(usize),
    #[error("cannot write the manifest")]
    Manifest(#[from] ManifestError),
    #[error("cannot write the bundle")]
    Bundle(#[from] BundleError),
    #[error("cannot write the statement")]
    Statement(#[from] StatementError),
    #[error("cannot write the document to sign")]
    Payload(#[from] PayloadError),
    #[error("cannot write JSON")]
    Json(#[from] nebh_oci::json::JsonError),
}

/// Both forms, in the order to push them. `existing` is what stands under the `.sig` tag now.
pub fn sign_both(
    existing: Option<&Attached>,
    manifest: &RawManifest,
    address: &RepositoryAddress,
    tags: &[Tag],
    key: &PrivateKey,
) -> Result<Vec<Artifact>, SigningError> {
    Ok(vec![simple_signing(existing, manifest, address, tags, key)?, bundle(manifest, address, tags, key)?])
}

/// cosign's older form: one document for each tag (or one without, when there are none), added to those that stand
/// under the `.sig` tag already. Signing again with the same key adds nothing.
pub fn simple_signing(
    existing: Option<&Attached>,
    manifest: &RawManifest,
    address: &RepositoryAddress,
    tags: &[Tag],
    key: &PrivateKey,
) -> Result<Artifact, SigningError> {
    let tag = Tag::signatures_of(manifest.digest()).ok_or(SigningError::NotSha256)?;
    let mut layers = match existing {
        Some(attached) => kept(attached)?,
        None => Vec::new(),
    };
    let references = match tags {
        [] => vec![address.to_string()],
        tags => tags.iter().map(|tag| format!("{address}:{tag}")).collect(),
    };
    for docker_reference in references {
        let document = Payload { digest: *manifest.digest(), docker_reference }.to_bytes()?;
        let signature = crate::base64::encode(&key.sign(&document));
        let layer = Descriptor::of(COSIGN_SIMPLE_SIGNING, &document).with_annotation(SIGNATURE_ANNOTATION, signature);
        if !layers.iter().any(|(known, _)| *known == layer) {
            layers.push((layer, document));
        }
    }
    if layers.len() > SIGNATURES_MAX {
        return Err(SigningError::TooMany(layers.len()));
    }
    let config = image_config(&layers)?;
    let config_descriptor = Descriptor::of(OCI_CONFIG, &config);
    let descriptors = layers.iter().map(|(descriptor, _)| descriptor.clone()).collect();
    let manifest = RawManifest::from_image(&ImageManifest::image(config_descriptor.clone(), descriptors))?;
    let mut blobs = vec![(config_descriptor, config)];
    blobs.extend(layers);
    Ok(Artifact { manifest, blobs, tag: Some(tag) })
}

/// What stands under the `.sig` tag, to be kept as it is.
fn kept(attached: &Attached) -> Result<Vec<(Descriptor, Vec<u8>)>, SigningError> {
    let Document::Image(image) = attached.manifest.document() else { return Err(SigningError::NotSignatures) };
    image
        .layers
        .iter()
        .map(|layer| {
            let held = attached.layers.iter().find(|(descriptor, _)| descriptor.digest == layer.digest);
            let (_, bytes) = held.ok_or_else(|| SigningError::Incomplete(layer.digest.short()))?;
            Ok((layer.clone(), bytes.clone()))
        })
        .collect()
}

/// The config that cosign writes beside its signatures: some registries accept nothing less.
fn image_config(layers: &[(Descriptor, Vec<u8>)]) -> Result<Vec<u8>, SigningError> {
    let created = "0001-01-01T00:00:00Z";
    let diff_ids: Vec<String> = layers.iter().map(|(layer, _)| layer.digest.to_string()).collect();
    let history: Vec<Value> = layers.iter().map(|_| json!({ "created": created })).collect();
    Ok(nebh_oci::json::canonical(&json!({
        "architecture": "",
        "config": {},
        "created": created,
        "history": history,
        "os": "",
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    }))?)
}

/// The newer form: a bundle with a statement that names digest, repository and tags.
pub fn bundle(
    manifest: &RawManifest,
    address: &RepositoryAddress,
    tags: &[Tag],
    key: &PrivateKey,
) -> Result<Artifact, SigningError> {
    let mut subject = Subject::new(manifest.digest());
    subject.name = Some(address.to_string());
    if !tags.is_empty() {
        let names: Vec<&str> = tags.iter().map(Tag::as_str).collect();
        subject.annotations = Some(BTreeMap::from([("tag".to_owned(), Value::String(names.join(",")))]));
    }
    referrer(manifest, &Statement::new(subject, COSIGN_SIGN_V1, json!({})), key)
}

/// An attestation: a bundle with any other predicate.
pub fn attest(
    manifest: &RawManifest,
    predicate_type: &str,
    predicate: &Value,
    key: &PrivateKey,
) -> Result<Artifact, SigningError> {
    let statement = Statement::new(Subject::new(manifest.digest()), predicate_type, predicate.clone());
    referrer(manifest, &statement, key)
}

fn referrer(subject: &RawManifest, statement: &Statement, key: &PrivateKey) -> Result<Artifact, SigningError> {
    let envelope = Envelope::sign(dsse::IN_TOTO, statement.to_bytes()?, &[key]);
    let bytes = Bundle::new(envelope, key.public()).to_bytes()?;
    let layer = Descriptor::of(SIGSTORE_BUNDLE_V03, &bytes);
    let manifest = ImageManifest::artifact(SIGSTORE_BUNDLE_V03, vec![layer.clone()])
        .with_subject(subject.descriptor())
        .with_annotation("dev.sigstore.bundle.content", "dsse-envelope")
        .with_annotation("dev.sigstore.bundle.predicateType", statement.predicate_type());
    Ok(Artifact {
        manifest: RawManifest::from_image(&manifest)?,
        blobs: vec![(Descriptor::empty(), EMPTY_BLOB.to_vec()), (layer, bytes)],
        tag: None,
    })
}
