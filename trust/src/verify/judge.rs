//! Judges one attached thing: who signed it, and does it say *this* digest in *this* repository? Pure.
//!
//! The order is always the same: signature first, reading second, comparing third. A thing that no key of the role
//! signed is read only to find the right word for the refusal.

use nebh_oci::digest::Digest;

use crate::dsse::{self, Envelope};
use crate::evidence::{Candidate, Evidence};
use crate::key::{KeyId, PublicKey};
use crate::rejection::{RejectionKind as Kind, quote};
use crate::simple::{self, Payload};
use crate::statement::{COSIGN_SIGN_V1, Statement};

use super::Question;

/// What one candidate turned out to be.
#[derive(Debug)]
pub(super) enum Finding {
    /// A good signature by this key.
    Signed(KeyId),
    /// Something that had to be right and is not.
    Wrong {
        kind: Kind,
        /// The key of the role, where one signed.
        key: Option<KeyId>,
        text: String,
    },
    /// An attestation or a document of another kind; it neither helps nor hurts.
    NotASignature(String),
}

/// A question, ready to be put to each candidate.
pub(super) struct Judge<'a> {
    question: &'a Question<'a>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(question: &'a Question<'a>) -> Self {
        Self { question }
    }

    /// Is this a signature of what was asked about?
    pub(super) fn signature(&self, candidate: &Candidate) -> Finding {
        match candidate {
            Candidate::Simple { document, signature } => self.simple(document, signature),
            Candidate::Statement(envelope) => self.statement(envelope),
        }
    }

    fn simple(&self, document: &[u8], signature: &[u8]) -> Finding {
        let signed = |key: &PublicKey| key.verify(document, signature).is_ok();
        let Some(key) = self.question.role.keys().iter().find(|key| signed(key)) else {
            return self.stranger("a simple signing document", &signed);
        };
        let key = key.id();
        if let Some(revoked) = self.revoked(key) {
            return revoked;
        }
        let payload = match Payload::parse(document) {
            Ok(payload) => payload,
            Err(error) => return malformed(key, &error),
        };
        if payload.digest != *self.question.digest {
            return wrong_digest(key, &payload.digest);
        }
        self.in_this_repository(key, &payload.docker_reference)
    }

    fn statement(&self, envelope: &Envelope) -> Finding {
        if envelope.payload_type() != dsse::IN_TOTO {
            return Finding::NotASignature(format!(
                "an envelope of type `{}` is no signature",
                quote(envelope.payload_type())
            ));
        }
        let signers = envelope.signers(self.question.role.keys());
        let Some(key) = signers.iter().copied().find(|key| !self.question.policy.is_key_revoked(*key)) else {
            if let Some(revoked) = signers.first().and_then(|key| self.revoked(*key)) {
                return revoked;
            }
            if let Ok(statement) = Statement::parse(envelope.payload())
                && statement.predicate_type() != COSIGN_SIGN_V1
            {
                return not_a_signature(&statement, "a stranger");
            }
            return self.stranger("a statement", &|key: &PublicKey| !envelope.signers([key]).is_empty());
        };
        let statement = match Statement::parse(envelope.payload()) {
            Ok(statement) => statement,
            Err(error) => return malformed(key, &error),
        };
        if statement.predicate_type() != COSIGN_SIGN_V1 {
            return not_a_signature(&statement, &format!("key {}", key.short()));
        }
        match statement.subject(self.question.digest) {
            None => wrong_subjects(key, &statement),
            Some(subject) => match subject.name.as_deref() {
                // cosign names no repository; what names one has to name this one.
                None | Some("") => Finding::Signed(key),
                Some(name) => self.in_this_repository(key, name),
            },
        }
    }

    /// The statements with this predicate that the role made about the digest, and remarks on those it did not.
    pub(super) fn attestations(
        &self,
        evidence: &Evidence,
        predicate_type: &str,
    ) -> (Vec<(KeyId, Statement)>, Vec<String>) {
        let mut found = Vec::new();
        let mut remarks: Vec<String> = evidence.faults.iter().map(|fault| fault.text.clone()).collect();
        for candidate in &evidence.candidates {
            let Candidate::Statement(envelope) = candidate else { continue };
            if envelope.payload_type() != dsse::IN_TOTO {
                continue;
            }
            let statement = Statement::parse(envelope.payload());
            // What is not even claimed to be of the kind asked for deserves no remark.
            if statement.as_ref().is_ok_and(|statement| statement.predicate_type() != predicate_type) {
                continue;
            }
            let signers = envelope.signers(self.question.role.keys());
            let Some(key) = signers.iter().copied().find(|key| !self.question.policy.is_key_revoked(*key)) else {
                remarks.push(match signers.first() {
                    Some(key) => format!("a statement by key {}, which is revoked", key.short()),
                    None => format!("a statement that no key of role `{}` signed", self.question.role.name()),
                });
                continue;
            };
            match statement {
                Err(error) => remarks.push(format!("by key {}: {error}", key.short())),
                Ok(statement) if statement.subject(self.question.digest).is_none() => {
                    remarks.push(format!("by key {}: a statement about something else", key.short()));
                }
                Ok(statement) => found.push((key, statement)),
            }
        }
        (found, remarks)
    }

    fn revoked(&self, key: KeyId) -> Option<Finding> {
        self.question.policy.is_key_revoked(key).then(|| Finding::Wrong {
            kind: Kind::Revoked,
            key: Some(key),
            text: format!("signed by key {}, which is revoked", key.short()),
        })
    }

    fn in_this_repository(&self, key: KeyId, reference: &str) -> Finding {
        if simple::repository_of(reference) == self.question.repository.as_str() {
            return Finding::Signed(key);
        }
        Finding::Wrong {
            kind: Kind::WrongSubject,
            key: Some(key),
            text: format!("key {} signed it for `{}`, another repository", key.short(), quote(reference)),
        }
    }

    /// Nobody of the role signed. If somebody of another role did, that is worth saying.
    fn stranger(&self, what: &str, signed: &dyn Fn(&PublicKey) -> bool) -> Finding {
        let role = self.question.role.name();
        let text = match self.question.policy.find_key(signed) {
            Some((other, key)) => format!("{what} by key {} of role `{other}`, which does not speak here", key.short()),
            None => format!("{what} that no key of role `{role}` signed"),
        };
        Finding::Wrong { kind: Kind::Untrusted, key: None, text }
    }
}

fn not_a_signature(statement: &Statement, by: &str) -> Finding {
    Finding::NotASignature(format!("an attestation `{}` by {by} is no signature", quote(statement.predicate_type())))
}

fn malformed(key: KeyId, error: &dyn std::error::Error) -> Finding {
    Finding::Wrong {
        kind: Kind::Malformed,
        key: Some(key),
        text: format!("signed by key {}, but {}", key.short(), quote(&error.to_string())),
    }
}

fn wrong_digest(key: KeyId, digest: &Digest) -> Finding {
    Finding::Wrong {
        kind: Kind::WrongSubject,
        key: Some(key),
        text: format!("key {} signed {digest}, not this", key.short()),
    }
}

fn wrong_subjects(key: KeyId, statement: &Statement) -> Finding {
    let named: Vec<String> =
        statement.subjects().iter().flat_map(|subject| subject.digest.values()).take(2).map(|hex| quote(hex)).collect();
    Finding::Wrong {
        kind: Kind::WrongSubject,
        key: Some(key),
        text: format!("key {} signed {}, not this", key.short(), named.join(", ")),
    }
}
