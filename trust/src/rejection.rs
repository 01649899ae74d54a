//! Why something was not believed: kinds that are never mixed up, and a text that names key, rule and digest. Pure.
//!
//! *Unreachable* is not among the kinds: this crate asks nobody. Whoever fetches the signatures reports a registry
//! that does not answer as just that, and never as "no signatures".

use std::fmt;

use nebh_face::{Exit, Failure};
use nebh_oci::digest::Digest;
use nebh_oci::names::Repository;

use crate::key::KeyId;

/// Characters of text from a registry that a message repeats.
const QUOTE_LENGTH_MAX: usize = 120;
/// Remarks that one message carries.
const NOTES_MAX: usize = 4;

/// What is wrong, by name. Scripts, logs and tests tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectionKind {
    /// No signature is attached at all (attestations are none).
    Unsigned,
    /// Signatures are there, none by a key of the role.
    Untrusted,
    /// Some keys of the role signed, but fewer than the threshold.
    BelowThreshold,
    /// A trusted key signed something that cannot be read, or all that is attached cannot be read.
    Malformed,
    /// The role, or the signed statement, is past its end.
    Expired,
    /// The key or the digest is revoked.
    Revoked,
    /// A channel head older than one that was seen.
    Regressed,
    /// A channel head that says other things than one with the same counter that was seen.
    Equivocal,
    /// A good signature, for another digest, repository or channel.
    WrongSubject,
    /// No rule of the policy speaks for it.
    NoRule,
    /// The rule demands provenance, and none by the role is attached.
    MissingProvenance,
    /// Provenance is there, and says what the rule refuses.
    UnacceptableProvenance,
    /// More, or larger, than is looked at.
    TooLarge,
}

impl RejectionKind {
    /// The word for scripts and the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::Untrusted => "untrusted",
            Self::BelowThreshold => "below-threshold",
            Self::Malformed => "malformed",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Regressed => "regressed",
            Self::Equivocal => "equivocal",
            Self::WrongSubject => "wrong-subject",
            Self::NoRule => "no-rule",
            Self::MissingProvenance => "missing-provenance",
            Self::UnacceptableProvenance => "unacceptable-provenance",
            Self::TooLarge => "too-large",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::Unsigned => "is unsigned",
            Self::Untrusted => "is signed, but not by a trusted key",
            Self::BelowThreshold => "is signed by too few keys",
            Self::Malformed => "carries a malformed signature",
            Self::Expired => "is trusted no longer: expired",
            Self::Revoked => "is revoked",
            Self::Regressed => "is older than what was seen before",
            Self::Equivocal => "contradicts what was seen before",
            Self::WrongSubject => "carries a signature for something else",
            Self::NoRule => "is covered by no rule of the trust policy",
            Self::MissingProvenance => "has no provenance",
            Self::UnacceptableProvenance => "has a provenance that is refused",
            Self::TooLarge => "carries more than is looked at",
        }
    }
}

impl fmt::Display for RejectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// What is wrong, by name.
    pub kind: RejectionKind,
    /// Where it lives.
    pub repository: Repository,
    /// What was asked about.
    pub digest: Digest,
    /// Behind a pointer, so that a `Result` with a rejection stays small.
    details: Box<Details>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Details {
    demanded: Option<String>,
    keys: Vec<KeyId>,
    notes: Vec<String>,
}

impl Rejection {
    pub(crate) fn new(kind: RejectionKind, repository: &Repository, digest: &Digest) -> Self {
        Self { kind, repository: repository.clone(), digest: *digest, details: Box::default() }
    }

    pub(crate) fn demand(mut self, demanded: impl Into<String>) -> Self {
        self.details.demanded = Some(demanded.into());
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.details.notes.push(note.into());
        self
    }

    pub(crate) fn key(mut self, key: KeyId) -> Self {
        if !self.details.keys.contains(&key) {
            self.details.keys.push(key);
        }
        self
    }

    /// What the policy demanded: the rule, the role, its keys.
    pub fn demanded(&self) -> Option<&str> {
        self.details.demanded.as_deref()
    }

    /// Keys that played a part.
    pub fn keys(&self) -> &[KeyId] {
        &self.details.keys
    }

    /// What was found, remark by remark.
    pub fn notes(&self) -> &[String] {
        &self.details.notes
    }

    /// First part: the nouns and what is wrong with them.
    fn what(&self) -> String {
        format!("{}@{} {}", self.repository, self.digest, self.kind.sentence())
    }

    /// Second part: what was found and what was demanded.
    fn why(&self) -> Option<String> {
        let shown = self.notes().iter().take(NOTES_MAX).cloned();
        let more = self.notes().len().saturating_sub(NOTES_MAX);
        let mut parts: Vec<String> = shown.collect();
        if more > 0 {
            parts.push(format!("and {more} more remarks"));
        }
        parts.extend(self.details.demanded.clone());
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    fn next(&self) -> &'static str {
        match self.kind {
            RejectionKind::Unsigned => {
                "sign it:  nebh sign REFERENCE --sign-with KEY; a copy made without its signatures has to be copied whole"
            }
            RejectionKind::Untrusted => {
                "find out who signed it; if that key is to be trusted, add it to the role in trust.yaml"
            }
            RejectionKind::BelowThreshold => {
                "have another holder of the role sign it:  nebh sign REFERENCE --sign-with KEY"
            }
            RejectionKind::Malformed => "treat it as tampered with: ask whoever pushed it, then sign it again",
            RejectionKind::Expired => {
                "have it signed anew by a role that is valid today, and look at this machine's clock"
            }
            RejectionKind::Revoked => "use a build that is not revoked",
            RejectionKind::Regressed => {
                "a deliberate return to an old release is a new head:  nebh channel set NAME --to RELEASE"
            }
            RejectionKind::Equivocal => {
                "two heads with one counter are signed: keep both, find out who signs behind your back, then set a new head:  nebh channel set NAME --to RELEASE"
            }
            RejectionKind::WrongSubject => "the signature was moved here from another image: ask whoever pushed it",
            RejectionKind::NoRule => "add a rule for this repository to trust.yaml",
            RejectionKind::MissingProvenance => "build it with `nebh build`, which attests what it made",
            RejectionKind::UnacceptableProvenance => "build it from a source and with steps that the rule accepts",
            RejectionKind::TooLarge => "remove what does not belong there from the registry",
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what())?;
        match self.why() {
            Some(why) => write!(f, ": {why}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Rejection {}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        // The name stands in every refusal, so that a script need not know the sentence.
        let failure =
            Self::new(Exit::Refused, format!("{} [{}]", rejection.what(), rejection.kind)).next(rejection.next());
        match rejection.why() {
            Some(why) => failure.why(why),
            None => failure,
        }
    }
}

/// Text from outside, made fit for a terminal: control characters are escaped, length is bounded.
pub(crate) fn quote(text: &str) -> String {
    let mut shown: String = text.chars().take(QUOTE_LENGTH_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTE_LENGTH_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_speak_to_the_terminal() {
        assert_eq!(quote("a\u{1b}[31mb\n"), "a\\u{1b}[31mb\\n");
        assert!(quote(&"x".repeat(5_000)).chars().count() <= QUOTE_LENGTH_MAX + 1);
    }

    #[test]
    fn failure_has_three_parts_and_exit_three() {
        let rejection = Rejection::new(RejectionKind::Unsigned, &"shop/api".parse().unwrap(), &Digest::sha256(b"x"))
            .demand("rule 1 (`shop/*`) demands role `builder`");
        let failure = Failure::from(rejection);
        assert_eq!(failure.exit, Exit::Refused);
        assert!(failure.what.ends_with("is unsigned [unsigned]"), "{failure}");
        assert!(failure.why.unwrap().contains("rule 1") && failure.next.unwrap().contains("nebh sign"));
    }
}
