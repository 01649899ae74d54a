//! The Sigstore bundle, version 0.3, as far as a plain key needs it: one DSSE envelope and a hint at the key. Pure.
//!
//! Certificates, transparency-log entries and timestamps may stand in a bundle; they are neither needed nor believed
//! here, because trust comes from the keys of the policy alone.

use nebh_oci::json;
use nebh_oci::media_type::SIGSTORE_BUNDLE_V03;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dsse::{self, Envelope, EnvelopeError, EnvelopeJson};
use crate::key::{KeyId, PublicKey};

/// The other spelling of the same media type, permitted by the bundle's specification.
pub const SIGSTORE_BUNDLE_V03_OLD: &str = "application/vnd.dev.sigstore.bundle+json;version=0.3";

/// Why a bundle could not be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum BundleError {
    #[error("the bundle is not strict JSON: {0}")]
    Json(String),
    #[error("`{0}` is no bundle version known here")]
    MediaType(String),
    #[error("the bundle holds both an envelope and a message signature")]
    TwoContents,
    #[error("the bundle holds no DSSE envelope, and only an envelope can name what it signs")]
    NoEnvelope,
    #[error("the bundle's envelope has {0} signatures; a bundle has exactly one")]
    SignatureCount(usize),
    #[error("the bundle's payload type is `{0}`, not an in-toto statement")]
    PayloadType(String),
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

#[derive(Serialize, Deserialize)]
struct BundleJson {
    #[serde(rename = "mediaType")]
    media_type: String,
    #[serde(rename = "verificationMaterial")]
    verification_material: MaterialJson,
    #[serde(rename = "dsseEnvelope", skip_serializing_if = "Option::is_none")]
    dsse_envelope: Option<EnvelopeJson>,
    #[serde(rename = "messageSignature", skip_serializing_if = "Option::is_none")]
    message_signature: Option<Value>,
}

#[derive(Serialize, Deserialize)]
struct MaterialJson {
    #[serde(rename = "publicKey", skip_serializing_if = "Option::is_none")]
    public_key: Option<HintJson>,
}

#[derive(Serialize, Deserialize)]
struct HintJson {
    #[serde(default)]
    hint: String,
}

/// A bundle whose form is right; nothing in it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    envelope: Envelope,
    hint: Option<String>,
}

impl Bundle {
    /// Reads a bundle strictly: one envelope, one signature, an in-toto payload.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let raw: BundleJson = json::parse_strict(bytes).map_err(|error| BundleError::Json(error.to_string()))?;
        if raw.media_type != SIGSTORE_BUNDLE_V03 && raw.media_type != SIGSTORE_BUNDLE_V03_OLD {
            return Err(BundleError::MediaType(raw.media_type));
        }
        let envelope = match (raw.dsse_envelope, raw.message_signature) {
            (Some(_), Some(_)) => return Err(BundleError::TwoContents),
            (None, _) => return Err(BundleError::NoEnvelope),
            (Some(envelope), None) => Envelope::from_json(envelope)?,
        };
        if envelope.signature_count() != 1 {
            return Err(BundleError::SignatureCount(envelope.signature_count()));
        }
        if envelope.payload_type() != dsse::IN_TOTO {
            return Err(BundleError::PayloadType(envelope.payload_type().to_owned()));
        }
        Ok(Self { envelope, hint: raw.verification_material.public_key.map(|key| key.hint) })
    }

    /// Wraps an envelope that `key` signed.
    pub fn new(envelope: Envelope, key: &PublicKey) -> Self {
        Self { envelope, hint: Some(hint(key.id())) }
    }

    /// Canonical JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BundleError> {
        let raw = BundleJson {
            media_type: SIGSTORE_BUNDLE_V03.to_owned(),
            verification_material: MaterialJson { public_key: self.hint.clone().map(|hint| HintJson { hint }) },
            dsse_envelope: Some(self.envelope.to_json()),
            message_signature: None,
        };
        json::canonical(&raw).map_err(|error| BundleError::Json(error.to_string()))
    }

    /// What it carries.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// What it carries, by value.
    pub(crate) fn into_envelope(self) -> Envelope {
        self.envelope
    }
}

/// cosign's spelling of a key in a bundle. It is a hint: verifiers do not rely on it.
fn hint(id: KeyId) -> String {
    crate::base64::encode(id.as_bytes())
}
