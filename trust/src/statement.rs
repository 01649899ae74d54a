//! In-toto statements: which artifact, by digest, and what is said about it. Pure.

use std::collections::BTreeMap;

use nebh_oci::digest::Digest;
use nebh_oci::json;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Statement type that we write.
pub const STATEMENT_V1: &str = "https://in-toto.io/Statement/v1";
/// Statement type that `cosign attest` still writes; the members we read are the same.
pub const STATEMENT_V01: &str = "https://in-toto.io/Statement/v0.1";
/// The predicate that makes a statement a *signature* of an image, and nothing else does.
pub const COSIGN_SIGN_V1: &str = "https://sigstore.dev/cosign/sign/v1";
/// SLSA provenance.
pub const SLSA_PROVENANCE_V1: &str = "https://slsa.dev/provenance/v1";
/// CycloneDX as a predicate.
pub const CYCLONEDX_BOM: &str = "https://cyclonedx.org/bom";
/// SPDX as a predicate, with the name that cosign's `spdxjson` stands for.
pub const SPDX_DOCUMENT: &str = "https://spdx.dev/Document";

/// Subjects of one statement. Ours have one.
const SUBJECTS_MAX: usize = 1024;

/// Why a statement could not be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum StatementError {
    #[error("the statement is not strict JSON: {0}")]
    Json(String),
    #[error("`{0}` is no statement type known here")]
    Type(String),
    #[error("the statement has no subject")]
    NoSubject,
    #[error("the statement has {0} subjects, more than {SUBJECTS_MAX}")]
    TooManySubjects(usize),
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    /// Which version of the statement's own format.
    #[serde(rename = "_type")]
    kind: String,
    /// What it is about.
    subject: Vec<Subject>,
    /// What kind of claim it makes.
    #[serde(rename = "predicateType")]
    predicate_type: String,
    /// The claim. cosign writes none at all for some.
    #[serde(default)]
    predicate: Value,
}

/// What a statement is about: always a digest, sometimes a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Where it lives, `host/repository`. cosign leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Algorithm to hexadecimal digits.
    pub digest: BTreeMap<String, String>,
    /// Further claims; cosign compares them with its `-a`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, Value>>,
}

impl Subject {
    /// A subject by its digest alone.
    pub fn new(digest: &Digest) -> Self {
        Self {
            name: None,
            digest: BTreeMap::from([(digest.algorithm().name().to_owned(), digest.hex())]),
            annotations: None,
        }
    }

    /// Whether this subject is the artifact with `digest`: the same algorithm and the same digits.
    pub fn is(&self, digest: &Digest) -> bool {
        self.digest.get(digest.algorithm().name()).is_some_and(|digits| *digits == digest.hex())
    }
}

impl Statement {
    /// A statement about one subject.
    pub fn new(subject: Subject, predicate_type: &str, predicate: Value) -> Self {
        Self {
            kind: STATEMENT_V1.to_owned(),
            subject: vec![subject],
            predicate_type: predicate_type.to_owned(),
            predicate,
        }
    }

    /// Reads the signed bytes strictly.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        let statement: Self = json::parse_strict(bytes).map_err(|error| StatementError::Json(error.to_string()))?;
        if statement.kind != STATEMENT_V1 && statement.kind != STATEMENT_V01 {
            return Err(StatementError::Type(statement.kind));
        }
        match statement.subject.len() {
            0 => Err(StatementError::NoSubject),
            1..=SUBJECTS_MAX => Ok(statement),
            many => Err(StatementError::TooManySubjects(many)),
        }
    }

    /// Canonical JSON: the bytes to sign.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StatementError> {
        json::canonical(self).map_err(|error| StatementError::Json(error.to_string()))
    }

    /// The subject with this digest, if the statement has one.
    pub fn subject(&self, digest: &Digest) -> Option<&Subject> {
        self.subject.iter().find(|subject| subject.is(digest))
    }

    /// All digests it speaks of, for messages.
    pub fn subjects(&self) -> &[Subject] {
        &self.subject
    }

    /// What kind of claim it makes.
    pub fn predicate_type(&self) -> &str {
        &self.predicate_type
    }

    /// The claim.
    pub fn predicate(&self) -> &Value {
        &self.predicate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: &str, subject: &str) -> String {
        format!(r#"{{"_type":"{kind}","subject":{subject},"predicateType":"p","predicate":{{}}}}"#)
    }

    #[test]
    fn subject_is_matched_by_algorithm_and_digits() {
        let digest = Digest::sha256(b"a");
        let other = Digest::sha256(b"b");
        let statement = Statement::new(Subject::new(&digest), "p", Value::Null);
        assert!(statement.subject(&digest).is_some());
        assert!(statement.subject(&other).is_none());
    }

    #[test]
    fn subject_with_sha512_only_is_not_a_sha256_subject() {
        let digest = Digest::sha256(b"a");
        let subject =
            Subject { name: None, digest: BTreeMap::from([("sha512".to_owned(), digest.hex())]), annotations: None };
        assert!(!subject.is(&digest));
    }

    #[test]
    fn unknown_type_and_empty_subject_are_refused() {
        assert!(matches!(Statement::parse(text("x", "[]").as_bytes()), Err(StatementError::Type(_))));
        assert!(matches!(Statement::parse(text(STATEMENT_V1, "[]").as_bytes()), Err(StatementError::NoSubject)));
    }

    #[test]
    fn duplicate_key_is_refused() {
        let twice = text(STATEMENT_V1, r#"[{"digest":{"sha256":"a","sha256":"b"}}]"#);
        assert!(matches!(Statement::parse(twice.as_bytes()), Err(StatementError::Json(_))));
    }
}
