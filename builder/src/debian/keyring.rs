//! The OpenPGP keys that may sign an archive's index, and the check of one signed text. Pure.
//!
//! The `pgp` crate does the mathematics of one signature; whether a key may sign at all is decided here, as gpgv does
//! for apt: bound to its certificate by signatures of SHA-256 or better, not revoked, not expired, meant for signing.

use jiff::Timestamp;
use pgp::composed::{CleartextSignedMessage, PublicOrSecret, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{KeyDetails, Tag};

/// Seconds that a signer's clock may be ahead of ours.
const CLOCK_SKEW_MAX: i64 = 600;
/// Certificates of one keyring; Debian's has about ten.
const CERTIFICATES_MAX: usize = 500;
/// Signatures of one text; Debian has up to four.
const SIGNATURES_MAX: usize = 32;

/// Why a text is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The keyring file holds no keys that we read.
    #[error("keyring `{file}` is malformed")]
    Keyring {
        /// The file.
        file: String,
        /// What the parser says.
        #[source]
        cause: Box<pgp::errors::Error>,
    },
    /// Not a text with a signature around it.
    #[error("not a clear-signed text")]
    NotSigned(#[source] Box<pgp::errors::Error>),
    /// A key that we hold is named by a signature that is not over these bytes.
    #[error("the signature of key {key} does not match: the text was changed")]
    Tampered {
        /// Fingerprint of the key.
        key: String,
    },
    /// No signature by a key that we hold.
    #[error("signed by {}, and the keyring has none of them", .signers.join(", "))]
    UnknownKey {
        /// What the signatures name.
        signers: Vec<String>,
    },
    /// Signed by keys that we hold, but none of them may sign any more.
    #[error("no usable signature: {}", .reasons.join("; "))]
    Unusable {
        /// For each key, why not.
        reasons: Vec<String>,
    },
}

/// A text and the keys that signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Exactly what was signed, with plain line ends.
    pub text: String,
    /// Fingerprints of the keys, in upper-case hexadecimal digits, sorted.
    pub signers: Vec<String>,
}

/// Certificates that an index may be signed by.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    certificates: Vec<SignedPublicKey>,
}

impl Keyring {
    /// Adds the certificates of one file, binary or armoured.
    pub fn add(&mut self, file: &str, bytes: &[u8]) -> Result<(), SignatureError> {
        let malformed = |cause| SignatureError::Keyring { file: file.to_owned(), cause: Box::new(cause) };
        let (keys, _) = PublicOrSecret::from_reader_many(bytes).map_err(malformed)?;
        for key in keys.take(CERTIFICATES_MAX) {
            // A key of a kind that this build does not read cannot sign for us; the others still can.
            if let Ok(PublicOrSecret::Public(key)) = key
                && !self.certificates.contains(&key)
            {
                self.certificates.push(key);
            }
        }
        Ok(())
    }

    /// True without any certificate.
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    /// Checks a clear-signed text: at least one signature by a key that may sign `now`, and none that is wrong.
    pub fn verify(&self, signed: &[u8], now: Timestamp) -> Result<Signed, SignatureError> {
        let parsed = CleartextSignedMessage::from_armor(signed);
        let (message, _) = parsed.map_err(|cause| SignatureError::NotSigned(Box::new(cause)))?;
        let text = message.signed_text();
        let mut signers = Vec::new();
        let mut reasons = Vec::new();
        let mut unknown = Vec::new();
        for signature in message.signatures().iter().take(SIGNATURES_MAX) {
            let Some(key) = self.signing_key(signature) else {
                unknown.extend(names(signature));
                continue;
            };
            match key.check(signature, &text, now) {
                Ok(()) => signers.push(key.fingerprint()),
                Err(Unfit::Tampered) => return Err(SignatureError::Tampered { key: key.fingerprint() }),
                Err(Unfit::Because(why)) => reasons.push(format!("key {} {why}", key.fingerprint())),
            }
        }
        if signers.is_empty() {
            return Err(if reasons.is_empty() {
                SignatureError::UnknownKey { signers: unknown }
            } else {
                SignatureError::Unusable { reasons }
            });
        }
        signers.sort();
        signers.dedup();
        Ok(Signed { text: text.replace("\r\n", "\n"), signers })
    }

    fn signing_key(&self, signature: &Signature) -> Option<SigningKey<'_>> {
        let made_by = |key: &dyn KeyDetails| {
            let fingerprints = signature.issuer_fingerprint();
            if fingerprints.is_empty() {
                signature.issuer_key_id().iter().any(|one| **one == key.legacy_key_id())
            } else {
                fingerprints.iter().any(|one| **one == key.fingerprint())
            }
        };
        self.certificates.iter().find_map(|certificate| {
            if made_by(&certificate.primary_key) {
                return Some(SigningKey { certificate, subkey: None });
            }
            let subkey = certificate.public_subkeys.iter().find(|subkey| made_by(&subkey.key))?;
            Some(SigningKey { certificate, subkey: Some(subkey) })
        })
    }
}

fn names(signature: &Signature) -> Vec<String> {
    let fingerprints: Vec<String> = signature.issuer_fingerprint().iter().map(|one| format!("{one:X}")).collect();
    if fingerprints.is_empty() {
        return signature.issuer_key_id().iter().map(|one| one.to_string().to_uppercase()).collect();
    }
    fingerprints
}

enum Unfit {
    Tampered,
    Because(&'static str),
}

struct SigningKey<'a> {
    certificate: &'a SignedPublicKey,
    subkey: Option<&'a SignedPublicSubKey>,
}

impl SigningKey<'_> {
    fn fingerprint(&self) -> String {
        match self.subkey {
            Some(subkey) => format!("{:X}", subkey.key.fingerprint()),
            None => format!("{:X}", self.certificate.primary_key.fingerprint()),
        }
    }

    fn check(&self, signature: &Signature, text: &str, now: Timestamp) -> Result<(), Unfit> {
        if !is_strong(signature) {
            return Err(Unfit::Because("signed with a hash that is weaker than SHA-256"));
        }
        // Then the mathematics: a changed text is said to be changed, whatever else is wrong.
        let bytes = text.as_bytes();
        let verified = match self.subkey {
            Some(subkey) => signature.verify(&subkey.key, bytes),
            None => signature.verify(&self.certificate.primary_key, bytes),
        };
        verified.map_err(|_| Unfit::Tampered)?;
        if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
            return Err(Unfit::Because("signed something that is not a document"));
        }
        let made = created(signature).ok_or(Unfit::Because("signed without a time"))?;
        if made > now.as_second() + CLOCK_SKEW_MAX {
            return Err(Unfit::Because("signed in the future"));
        }
        if is_over(made, signature.signature_expiration_time().map(pgp::types::Duration::as_secs), now) {
            return Err(Unfit::Because("signed for a time that is over"));
        }
        self.check_primary(now)?;
        match self.subkey {
            Some(subkey) => self.check_subkey(subkey, now),
            None => Ok(()),
        }
    }

    fn check_primary(&self, now: Timestamp) -> Result<(), Unfit> {
        let primary = &self.certificate.primary_key;
        let details = &self.certificate.details;
        if details.revocation_signatures.iter().any(|revocation| revocation.verify_key(primary).is_ok()) {
            return Err(Unfit::Because("is revoked"));
        }
        let direct = details.direct_signatures.iter().filter(|one| one.verify_key(primary).is_ok());
        let named = details.users.iter().flat_map(|user| {
            user.signatures
                .iter()
                .filter(|one| one.typ() != Some(SignatureType::CertRevocation))
                .filter(|one| one.verify_certification(primary, Tag::UserId, &user.id).is_ok())
        });
        let own = newest(direct.chain(named), now).ok_or(Unfit::Because("has no valid signature on itself"))?;
        let made = i64::from(primary.created_at().as_secs());
        if is_over(made, own.key_expiration_time().map(pgp::types::Duration::as_secs), now) {
            return Err(Unfit::Because("is expired"));
        }
        if self.subkey.is_none() && !own.key_flags().sign() {
            return Err(Unfit::Because("is not a signing key"));
        }
        Ok(())
    }

    fn check_subkey(&self, subkey: &SignedPublicSubKey, now: Timestamp) -> Result<(), Unfit> {
        let primary = &self.certificate.primary_key;
        let valid = |kind: SignatureType| {
            let of_kind = subkey.signatures.iter().filter(move |one| one.typ() == Some(kind));
            of_kind.filter(|one| one.verify_subkey_binding(primary, &subkey.key).is_ok())
        };
        if valid(SignatureType::SubkeyRevocation).next().is_some() {
            return Err(Unfit::Because("is revoked"));
        }
        let binding = newest(valid(SignatureType::SubkeyBinding), now);
        let binding = binding.ok_or(Unfit::Because("is not bound to its certificate"))?;
        let back = binding.embedded_signature();
        if !binding.key_flags().sign()
            || !back
                .is_some_and(|back| is_strong(back) && back.verify_primary_key_binding(&subkey.key, primary).is_ok())
        {
            return Err(Unfit::Because("is not a signing key"));
        }
        let made = i64::from(subkey.key.created_at().as_secs());
        if is_over(made, binding.key_expiration_time().map(pgp::types::Duration::as_secs), now) {
            return Err(Unfit::Because("is expired"));
        }
        Ok(())
    }
}

/// The newest signature of SHA-256 or better that was made by now: it is the one that says how long a key lives.
fn newest<'a>(signatures: impl Iterator<Item = &'a Signature>, now: Timestamp) -> Option<&'a Signature> {
    signatures
        .filter(|one| is_strong(one) && created(one).is_some_and(|made| made <= now.as_second() + CLOCK_SKEW_MAX))
        .max_by_key(|one| created(one))
}

fn created(signature: &Signature) -> Option<i64> {
    signature.created().map(|made| i64::from(made.as_secs()))
}

/// Zero seconds, as no seconds, means for ever (RFC 9580, 5.2.3.13).
fn is_over(made: i64, lasts: Option<u32>, now: Timestamp) -> bool {
    lasts.is_some_and(|seconds| seconds != 0 && made + i64::from(seconds) <= now.as_second())
}

fn is_strong(signature: &Signature) -> bool {
    matches!(
        signature.hash_alg(),
        Some(
            HashAlgorithm::Sha256
                | HashAlgorithm::Sha384
                | HashAlgorithm::Sha512
                | HashAlgorithm::Sha3_256
                | HashAlgorithm::Sha3_512
        )
    )
}
