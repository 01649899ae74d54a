//! cosign's older signature, "simple signing": a small JSON document that names repository and digest. Pure.
//!
//! The document's bytes are what is signed; they are read only after a trusted key has signed them, and then
//! strictly, as containers/image reads them: no unknown member, no duplicate, nothing behind the end.

use nebh_oci::digest::Digest;
use nebh_oci::json;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The one type of document.
pub const TYPE: &str = "cosign container image signature";
/// Annotation of the layer that holds the base64 of the DER signature.
pub const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";

/// Why a document could not be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum PayloadError {
    #[error("the signed document is not strict JSON: {0}")]
    Json(String),
    #[error("the signed document is of type `{0}`")]
    Type(String),
    #[error("the signed document names the digest `{0}`, which is none")]
    Digest(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PayloadJson {
    critical: CriticalJson,
    #[serde(default)]
    optional: Option<serde_json::Map<String, Value>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CriticalJson {
    identity: IdentityJson,
    image: ImageJson,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityJson {
    #[serde(rename = "docker-reference")]
    docker_reference: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageJson {
    #[serde(rename = "docker-manifest-digest")]
    docker_manifest_digest: String,
}

/// What one signature says: this digest, under this reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The manifest that was signed.
    pub digest: Digest,
    /// `host/repository[:tag]`, as the signer wrote it.
    pub docker_reference: String,
}

impl Payload {
    /// Reads the signed bytes strictly.
    pub fn parse(bytes: &[u8]) -> Result<Self, PayloadError> {
        let raw: PayloadJson = json::parse_strict(bytes).map_err(|error| PayloadError::Json(error.to_string()))?;
        if raw.critical.kind != TYPE {
            return Err(PayloadError::Type(raw.critical.kind));
        }
        let digest = raw.critical.image.docker_manifest_digest;
        let digest = digest.parse().map_err(|_| PayloadError::Digest(digest))?;
        Ok(Self { digest, docker_reference: raw.critical.identity.docker_reference })
    }

    /// Canonical JSON: the bytes to sign.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PayloadError> {
        let raw = PayloadJson {
            critical: CriticalJson {
                identity: IdentityJson { docker_reference: self.docker_reference.clone() },
                image: ImageJson { docker_manifest_digest: self.digest.to_string() },
                kind: TYPE.to_owned(),
            },
            optional: None,
        };
        json::canonical(&raw).map_err(|error| PayloadError::Json(error.to_string()))
    }
}

/// The repository in a reference that a signer wrote: without host, tag and digest.
///
/// The host is left out of the comparison on purpose. One registry has several addresses (loopback, a service
/// name, a mirror), and whoever controls an address controls no key; the repository's name is what a policy's rule
/// and the signer both mean.
pub fn repository_of(reference: &str) -> &str {
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    let path = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => rest,
        _ => name,
    };
    match path.rfind(':') {
        Some(colon) if !path[colon..].contains('/') => &path[..colon],
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(critical_extra: &str, after: &str) -> String {
        format!(
            r#"{{"critical":{{{critical_extra}"identity":{{"docker-reference":"h:1/a/b:v1"}},"image":{{"docker-manifest-digest":"{}"}},"type":"{TYPE}"}},"optional":null}}{after}"#,
            Digest::sha256(b"x")
        )
    }

    #[test]
    fn repository_is_found_in_every_spelling() {
        for reference in ["h:5000/a/b", "h:5000/a/b:v1", "h.x/a/b:v1@sha256:00", "localhost/a/b", "a/b", "a/b:v1"] {
            assert_eq!(repository_of(reference), "a/b", "{reference}");
        }
        assert_eq!(repository_of("app"), "app");
        assert_eq!(repository_of("app:v1"), "app");
    }

    #[test]
    fn good_document_is_read() {
        let payload = Payload::parse(document("", "").as_bytes()).unwrap();
        assert_eq!(payload.docker_reference, "h:1/a/b:v1");
        assert_eq!(Payload::parse(&payload.to_bytes().unwrap()).unwrap(), payload);
    }

    #[test]
    fn unknown_critical_key_duplicate_trailing_and_bom_are_refused() {
        let bom = format!("\u{feff}{}", document("", ""));
        for text in
            [document(r#""more":1,"#, ""), document(r#""type":"x","#, ""), document("", " {}"), document("", "x"), bom]
        {
            assert!(matches!(Payload::parse(text.as_bytes()), Err(PayloadError::Json(_))), "{text}");
        }
    }

    #[test]
    fn claims_in_optional_are_permitted() {
        let text = document("", "").replace(r#""optional":null"#, r#""optional":{"a":"b","timestamp":1}"#);
        assert!(Payload::parse(text.as_bytes()).is_ok());
    }

    #[test]
    fn other_type_is_refused() {
        let text = document("", "").replace(TYPE, "atomic container signature");
        assert!(matches!(Payload::parse(text.as_bytes()), Err(PayloadError::Type(_))));
    }
}
