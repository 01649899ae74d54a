//! DSSE envelopes: a payload, its type, and signatures over both. Pure.
//!
//! The signature covers the pre-authentication encoding, so a payload signed under one type never verifies under
//! another. The payload is kept as the bytes that were signed.

use nebh_oci::json;
use serde::{Deserialize, Serialize};

use crate::key::{KeyId, PrivateKey, PublicKey};

/// Payload type of an in-toto statement.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";
/// Signatures in one envelope. A threshold never asks for more.
pub const SIGNATURES_MAX: usize = 32;
/// Bytes of one payload: an SBOM of a large image has about 4 MiB.
pub const PAYLOAD_BYTES_MAX: usize = 8 << 20;

/// Why an envelope could not be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum EnvelopeError {
    #[error("the envelope is not strict JSON: {0}")]
    Json(String),
    #[error("the envelope's payload is not base64")]
    Payload,
    #[error("a signature of the envelope is not base64")]
    Signature,
    #[error("the envelope has no signature")]
    NoSignature,
    #[error("the envelope has {0} signatures, more than {SIGNATURES_MAX}")]
    TooManySignatures(usize),
    #[error("the envelope's payload has {0} bytes, more than {PAYLOAD_BYTES_MAX}")]
    TooLarge(usize),
}

/// A payload with its type and its signatures, not verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    payload_type: String,
    payload: Vec<u8>,
    signatures: Vec<Vec<u8>>,
}

/// The JSON form. Unknown members are ignored: none of them is covered by the signature.
#[derive(Serialize, Deserialize)]
pub(crate) struct EnvelopeJson {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<SignatureJson>,
}

/// A `keyid` is never written and never read: cosign skips a signature whose key id is not its own spelling.
#[derive(Serialize, Deserialize)]
struct SignatureJson {
    sig: String,
}

impl Envelope {
    /// Signs a payload with every key given.
    pub fn sign(payload_type: &str, payload: Vec<u8>, keys: &[&PrivateKey]) -> Self {
        let message = pae(payload_type, &payload);
        let signatures = keys.iter().map(|key| key.sign(&message)).collect();
        Self { payload_type: payload_type.to_owned(), payload, signatures }
    }

    /// Adds a signature, unless this key has signed already.
    pub fn add_signature(&mut self, key: &PrivateKey) {
        let signature = key.sign(&pae(&self.payload_type, &self.payload));
        if !self.signatures.contains(&signature) {
            self.signatures.push(signature);
        }
    }

    /// Reads the JSON form strictly.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let raw: EnvelopeJson = json::parse_strict(bytes).map_err(|error| EnvelopeError::Json(error.to_string()))?;
        Self::from_json(raw)
    }

    pub(crate) fn from_json(raw: EnvelopeJson) -> Result<Self, EnvelopeError> {
        if raw.signatures.is_empty() {
            return Err(EnvelopeError::NoSignature);
        }
        if raw.signatures.len() > SIGNATURES_MAX {
            return Err(EnvelopeError::TooManySignatures(raw.signatures.len()));
        }
        let payload = crate::base64::decode_protobuf(&raw.payload).ok_or(EnvelopeError::Payload)?;
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(EnvelopeError::TooLarge(payload.len()));
        }
        let signatures = raw
            .signatures
            .iter()
            .map(|signature| crate::base64::decode_protobuf(&signature.sig).ok_or(EnvelopeError::Signature))
            .collect::<Result<_, _>>()?;
        Ok(Self { payload_type: raw.payload_type, payload, signatures })
    }

    /// The JSON form, for canonical writing.
    pub(crate) fn to_json(&self) -> EnvelopeJson {
        EnvelopeJson {
            payload: crate::base64::encode(&self.payload),
            payload_type: self.payload_type.clone(),
            signatures: self
                .signatures
                .iter()
                .map(|signature| SignatureJson { sig: crate::base64::encode(signature) })
                .collect(),
        }
    }

    /// Canonical JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EnvelopeError> {
        json::canonical(&self.to_json()).map_err(|error| EnvelopeError::Json(error.to_string()))
    }

    /// What the payload claims to be.
    pub fn payload_type(&self) -> &str {
        &self.payload_type
    }

    /// The bytes that were signed. Nothing in them is to be believed before [`Envelope::signers`] says who signed.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// How many signatures it carries.
    pub fn signature_count(&self) -> usize {
        self.signatures.len()
    }

    /// Which of `keys` signed this envelope; each key once, however often it signed.
    pub fn signers<'a>(&self, keys: impl IntoIterator<Item = &'a PublicKey>) -> Vec<KeyId> {
        let message = pae(&self.payload_type, &self.payload);
        keys.into_iter()
            .filter(|key| self.signatures.iter().any(|signature| key.verify(&message, signature).is_ok()))
            .map(PublicKey::id)
            .collect()
    }
}

/// The pre-authentication encoding of DSSE version 1.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pae_matches_the_example_of_the_specification() {
        let expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world";
        assert_eq!(pae("http://example.com/HelloWorld", b"hello world"), expected);
    }

    #[test]
    fn signature_under_one_payload_type_is_none_under_another() {
        let key = PrivateKey::generate().unwrap();
        let mut envelope = Envelope::sign("a", b"x".to_vec(), &[&key]);
        assert_eq!(envelope.signers([key.public()]), [key.id()]);
        envelope.payload_type = "b".to_owned();
        assert!(envelope.signers([key.public()]).is_empty());
    }

    #[test]
    fn key_that_signed_twice_counts_once() {
        let key = PrivateKey::generate().unwrap();
        let envelope = Envelope::sign("a", b"x".to_vec(), &[&key, &key]);
        assert_eq!(envelope.signature_count(), 2);
        assert_eq!(envelope.signers([key.public()]).len(), 1);
    }

    #[test]
    fn envelope_survives_its_json() {
        let key = PrivateKey::generate().unwrap();
        let envelope = Envelope::sign(IN_TOTO, b"{}".to_vec(), &[&key]);
        assert_eq!(Envelope::parse(&envelope.to_bytes().unwrap()).unwrap(), envelope);
    }
}
