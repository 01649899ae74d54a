//! The manifest of a data snapshot: which state of which dataset belongs to which release. Signed by the node that
//! took it, pushed as a referrer of the release: that is the pairing, visible to everybody. Pure.

use jiff::Timestamp;
use nebh_oci::digest::Digest;
use nebh_oci::json;
use nebh_oci::manifest::{Artifact, Attached, Descriptor, EMPTY_BLOB, ImageManifest, RawManifest};
use nebh_oci::media_type::{DSSE_ENVELOPE, NEBH_DATA_SNAPSHOT};
use nebh_oci::names::Repository;
use serde::{Deserialize, Serialize};

use crate::channel::timestamp;
use crate::document::{self, DocumentError};
use crate::dsse::Envelope;
use crate::key::PrivateKey;
use crate::policy::{Purpose, TrustPolicy};
use crate::rejection::{Rejection, RejectionKind as Kind, quote};
use crate::verify::{Question, Verified};

/// Version of the format.
pub const VERSION: u32 = 1;

/// One snapshot of one dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSnapshotManifest {
    /// Version of the format, 1.
    pub version: u32,
    /// Name of the application.
    pub app: String,
    /// Name of the dataset in the release.
    pub dataset: String,
    /// Driver that took it: `btrfs`, `copy`.
    pub driver: String,
    /// The driver's name for it.
    pub snapshot: String,
    /// Timeline it is on: `tl1`.
    pub timeline: String,
    /// Schema that the data has, where the release declares one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<u32>,
    /// Digest of the release index that the data was written by.
    pub release: Digest,
    /// Operation that took it.
    pub operation: String,
    /// Why: `pre`, `abandoned`.
    pub purpose: String,
    /// Node that it lies on.
    pub node: String,
    /// When it was taken.
    #[serde(with = "timestamp")]
    pub time: Timestamp,
}

/// Signs the manifest as a referrer of its release.
pub fn sign_data_snapshot(
    snapshot: &DataSnapshotManifest,
    release: &RawManifest,
    key: &PrivateKey,
) -> Result<Artifact, DocumentError> {
    let payload = json::canonical(snapshot)?;
    let bytes = Envelope::sign(NEBH_DATA_SNAPSHOT, payload, &[key]).to_bytes()?;
    let layer = Descriptor::of(DSSE_ENVELOPE, &bytes);
    let manifest = ImageManifest::artifact(NEBH_DATA_SNAPSHOT, vec![layer.clone()])
        .with_subject(release.descriptor())
        .with_annotation("nebh.dataset", &snapshot.dataset)
        .with_annotation("nebh.timeline", &snapshot.timeline)
        .with_annotation("nebh.node", &snapshot.node);
    Ok(Artifact {
        manifest: RawManifest::from_image(&manifest)?,
        blobs: vec![(Descriptor::empty(), EMPTY_BLOB.to_vec()), (layer, bytes)],
        tag: None,
    })
}

/// Verifies one such referrer of `release`: signed by the rule's data role, and about this release.
pub fn verify_data_snapshot(
    policy: &TrustPolicy,
    repository: &Repository,
    release: &Digest,
    attached: &Attached,
    now: Timestamp,
) -> Result<Verified<DataSnapshotManifest>, Rejection> {
    let question = Question::new(policy, repository, attached.manifest.digest(), Purpose::Data)?;
    let (payload, signers) = document::signed_payload(&question, attached, NEBH_DATA_SNAPSHOT, now)?;
    let snapshot: DataSnapshotManifest = json::parse_strict(&payload)
        .map_err(|error| question.rejection(Kind::Malformed).note(quote(&error.to_string())))?;
    if snapshot.version != VERSION {
        let text = format!("data snapshot manifest of version {}; only {VERSION} is read", snapshot.version);
        return Err(question.rejection(Kind::Malformed).note(text));
    }
    if snapshot.release != *release {
        let text = format!("it belongs to release {}, and {release} was asked for", snapshot.release);
        return Err(question.rejection(Kind::WrongSubject).note(text));
    }
    Ok(Verified::new(snapshot, signers, question.role))
}
