//! Signed documents of our own: a DSSE envelope as the one layer of an artifact. Heads and data snapshots are. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use nebh_oci::digest::Digest;
use nebh_oci::json::JsonError;
use nebh_oci::manifest::{Attached, ManifestError};
use nebh_oci::media_type::DSSE_ENVELOPE;

use crate::dsse::{Envelope, EnvelopeError};
use crate::key::{KeyId, PublicKey};
use crate::rejection::{Rejection, RejectionKind as Kind, quote};
use crate::verify::Question;

/// Bytes of one signed document.
const DOCUMENT_BYTES_MAX: usize = 1 << 20;

/// Why a signed document could not be written, or holds none.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum DocumentError {
    #[error("`{0}` cannot be part of a tag")]
    Name(String),
    #[error("the artifact holds no signed document")]
    NoEnvelope,
    #[error("the artifact holds {0} parts, and a signed document is one")]
    Parts(usize),
    #[error("the bytes of the signed document are not those of its descriptor")]
    Bytes,
    #[error("the signed document has {0} bytes, more than {DOCUMENT_BYTES_MAX}")]
    TooLarge(usize),
    #[error("cannot write JSON: {0}")]
    Json(String),
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    #[error("cannot write the manifest")]
    Manifest(#[from] ManifestError),
}

impl From<JsonError> for DocumentError {
    fn from(error: JsonError) -> Self {
        Self::Json(error.to_string())
    }
}

/// The one envelope of an artifact, unverified.
pub(crate) fn only_envelope(artifact: &Attached) -> Result<Envelope, DocumentError> {
    let image = artifact.manifest.image().ok_or(DocumentError::NoEnvelope)?;
    let [layer] = image.layers.as_slice() else { return Err(DocumentError::Parts(image.layers.len())) };
    if layer.media_type != DSSE_ENVELOPE {
        return Err(DocumentError::NoEnvelope);
    }
    let held = artifact.layers.iter().find(|(descriptor, _)| descriptor.digest == layer.digest);
    let (_, bytes) = held.ok_or(DocumentError::NoEnvelope)?;
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(DocumentError::TooLarge(bytes.len()));
    }
    if Digest::of(layer.digest.algorithm(), bytes) != layer.digest {
        return Err(DocumentError::Bytes);
    }
    Ok(Envelope::parse(bytes)?)
}

/// The payload of such an artifact, if enough keys of the role signed it as `payload_type`.
pub(crate) fn signed_payload(
    question: &Question<'_>,
    artifact: &Attached,
    payload_type: &str,
    now: Timestamp,
) -> Result<(Vec<u8>, BTreeSet<KeyId>), Rejection> {
    let envelope = only_envelope(artifact).map_err(|error| {
        let kind = if matches!(error, DocumentError::TooLarge(_)) { Kind::TooLarge } else { Kind::Malformed };
        question.rejection(kind).note(error.to_string())
    })?;
    if envelope.payload_type() != payload_type {
        return Err(question
            .rejection(Kind::Malformed)
            .note(format!("its payload type is `{}`, not `{payload_type}`", quote(envelope.payload_type()))));
    }
    let signers: BTreeSet<KeyId> = envelope.signers(question.role.keys()).into_iter().collect();
    let (revoked, good): (BTreeSet<KeyId>, BTreeSet<KeyId>) =
        signers.into_iter().partition(|key| question.policy.is_key_revoked(*key));
    if good.len() >= question.role.threshold() {
        question.role_is_valid(now)?;
        return Ok((envelope.payload().to_vec(), good));
    }
    Err(if !good.is_empty() {
        question.rejection(Kind::BelowThreshold).note(format!("{} of {} signed", good.len(), question.role.threshold()))
    } else if let Some(key) = revoked.first() {
        question.rejection(Kind::Revoked).key(*key).note(format!("signed by key {}, which is revoked", key.short()))
    } else {
        let signed = |key: &PublicKey| !envelope.signers([key]).is_empty();
        let note = match question.policy.find_key(&signed) {
            Some((role, key)) => format!("signed by key {} of role `{role}`, which does not speak here", key.short()),
            None => format!("no key of role `{}` signed it", question.role.name()),
        };
        question.rejection(Kind::Untrusted).note(note)
    })
}
