//! Key pairs: ECDSA P-256 with SHA-256, in the key files of cosign.
//!
//! One algorithm on purpose: it is the one that every verifier of container signatures agrees on. The only side
//! effect in this file is the system's random source, asked for a new key and for the salt of a key file.
//! cosign's key file (scrypt, then nacl secretbox, around PKCS#8) is opened and sealed by the code of the crate
//! `sigstore`; what it would report badly (a wrong passphrase) or trip over (a nonce of the wrong length) is
//! looked at here first.

use std::fmt;
use std::str::FromStr;

use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use p256::elliptic_curve::rand_core::OsRng;
use p256::pkcs8::der::pem;
use p256::pkcs8::{
    DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sigstore::crypto::signing_key::kdf;
use zeroize::Zeroizing;

/// Bytes of one key file. cosign's are below 700.
const KEY_FILE_BYTES_MAX: usize = 16 * 1024;
/// What cosign and go-securesystemslib have ever written. A larger cost would let a key file stop the reader.
const SCRYPT_N_ALLOWED: [u64; 2] = [32_768, 65_536];
/// Label of key files that cosign writes since 2.0.
const LABEL_SIGSTORE: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";
/// Label of older ones.
const LABEL_COSIGN: &str = "ENCRYPTED COSIGN PRIVATE KEY";
const LABEL_PUBLIC: &str = "PUBLIC KEY";
/// Length of the salt, and of the nonce, of a key file.
const SALT_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// Why a key could not be read, or a signature did not verify.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum KeyError {
    #[error("the passphrase does not open this key")]
    WrongPassphrase,
    #[error("a private key was given where a public key is expected")]
    PrivateWherePublic,
    #[error("a public key was given where a private key is expected")]
    PublicWherePrivate,
    #[error("the private key is not encrypted; import it with `cosign import-key-pair`")]
    NotEncrypted,
    #[error("not a PEM key file: {0}")]
    NotPem(String),
    #[error("the PEM block `{label}` is not a key of cosign's format")]
    Label { label: String },
    #[error("more follows after the first PEM block; one file holds one key")]
    TrailingBlock,
    #[error("the key file has {bytes} bytes, more than {KEY_FILE_BYTES_MAX}")]
    TooLarge { bytes: usize },
    #[error("the key file is damaged: {0}")]
    Damaged(String),
    #[error("the key file asks for scrypt N={n}, r={r}, p={p}; only N=32768 or 65536 with r=8, p=1 are opened")]
    Scrypt { n: u64, r: u64, p: u64 },
    #[error("not an ECDSA P-256 public key: {0}")]
    NotP256(String),
    #[error("the key file holds no ECDSA P-256 private key")]
    PrivateNotP256,
    #[error("cannot seal the key file: {0}")]
    Seal(String),
    #[error("the signature is not DER")]
    SignatureNotDer,
    #[error("the signature does not verify")]
    SignatureWrong,
    #[error("`{0}` is not a key id (64 lower-case hexadecimal digits)")]
    KeyId(String),
}

/// SHA-256 of the DER form of a public key. It names a key in policies, messages and logs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId([u8; 32]);

impl KeyId {
    /// The first twelve digits, as people read it.
    pub fn short(&self) -> String {
        let mut text = hex::encode(self.0);
        text.truncate(12);
        text
    }

    /// The raw hash. A bundle's hint is its base64.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({})", self.short())
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let wrong = || KeyError::KeyId(text.to_owned());
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| wrong())?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for KeyId {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

/// A public key that signatures are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    key: VerifyingKey,
    id: KeyId,
}

impl PublicKey {
    /// Reads a `PUBLIC KEY` file. A point that is not on the curve is refused.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let (label, der) = decode_pem(text)?;
        if label.ends_with("PRIVATE KEY") {
            return Err(KeyError::PrivateWherePublic);
        }
        if label != LABEL_PUBLIC {
            return Err(KeyError::Label { label });
        }
        let key = VerifyingKey::from_public_key_der(&der).map_err(|error| KeyError::NotP256(error.to_string()))?;
        Self::from_key(key)
    }

    fn from_key(key: VerifyingKey) -> Result<Self, KeyError> {
        let der = key.to_public_key_der().map_err(|error| KeyError::NotP256(error.to_string()))?;
        Ok(Self { key, id: KeyId(Sha256::digest(der.as_bytes()).into()) })
    }

    /// The file form, as cosign writes it.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        self.key.to_public_key_pem(LineEnding::LF).map_err(|error| KeyError::NotP256(error.to_string()))
    }

    /// The name of this key.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Checks a signature in strict DER over `message`. High-S signatures pass: Go's programs write them.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), KeyError> {
        let signature = Signature::from_der(signature).map_err(|_| KeyError::SignatureNotDer)?;
        self.key.verify(message, &signature).map_err(|_| KeyError::SignatureWrong)
    }
}

/// A private key that signs. It is wiped from memory when dropped and never printed.
pub struct PrivateKey {
    key: SigningKey,
    public: PublicKey,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.public.id.short())
    }
}

impl PrivateKey {
    /// A new key from the system's random source.
    pub fn generate() -> Result<Self, KeyError> {
        Self::from_key(SigningKey::random(&mut OsRng))
    }

    fn from_key(key: SigningKey) -> Result<Self, KeyError> {
        let public = PublicKey::from_key(*key.verifying_key())?;
        Ok(Self { key, public })
    }

    /// Opens a key file of cosign, new or old label. An empty passphrase is one too.
    pub fn from_cosign_pem(text: &str, passphrase: &str) -> Result<Self, KeyError> {
        let (label, sealed) = decode_pem(text)?;
        match label.as_str() {
            LABEL_SIGSTORE | LABEL_COSIGN => {}
            LABEL_PUBLIC => return Err(KeyError::PublicWherePrivate),
            "PRIVATE KEY" | "EC PRIVATE KEY" => return Err(KeyError::NotEncrypted),
            _ => return Err(KeyError::Label { label }),
        }
        look_before_opening(&sealed)?;
        // Everything but the passphrase was looked at above, so what fails now is the box.
        let der = kdf::decrypt(&sealed, passphrase.as_bytes()).map_err(|_| KeyError::WrongPassphrase)?;
        let der = Zeroizing::new(der);
        Self::from_key(SigningKey::from_pkcs8_der(&der).map_err(|_| KeyError::PrivateNotP256)?)
    }

    /// Seals the key in a file that cosign opens.
    pub fn to_cosign_pem(&self, passphrase: &str) -> Result<Zeroizing<String>, KeyError> {
        let seal = |error: &dyn fmt::Display| KeyError::Seal(error.to_string());
        let der = self.key.to_pkcs8_der().map_err(|error| seal(&error))?;
        let sealed = kdf::encrypt(der.as_bytes(), passphrase.as_bytes()).map_err(|error| seal(&error))?;
        let text = pem::encode_string(LABEL_SIGSTORE, LineEnding::LF, &sealed).map_err(|error| seal(&error))?;
        Ok(Zeroizing::new(text))
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The name of this key.
    pub fn id(&self) -> KeyId {
        self.public.id
    }

    /// Signs `message`; DER. Deterministic (RFC 6979): the same key and message give the same bytes, so that
    /// signing twice adds nothing, and no bad random source can leak the key.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: Signature = self.key.sign(message);
        signature.to_der().as_bytes().to_vec()
    }
}

/// Decodes the one PEM block of a key file. A second block is refused, because cosign and skopeo read the first and
/// a person may mean the other.
fn decode_pem(text: &str) -> Result<(String, Vec<u8>), KeyError> {
    if text.len() > KEY_FILE_BYTES_MAX {
        return Err(KeyError::TooLarge { bytes: text.len() });
    }
    if text.matches("-----BEGIN ").count() > 1 {
        return Err(KeyError::TrailingBlock);
    }
    let text = text.trim();
    let (label, bytes) = pem::decode_vec(text.as_bytes()).map_err(|error| KeyError::NotPem(error.to_string()))?;
    Ok((label.to_owned(), bytes))
}

#[derive(Deserialize)]
struct KeyFile {
    kdf: Kdf,
    cipher: Cipher,
}

#[derive(Deserialize)]
struct Kdf {
    name: String,
    params: KdfParams,
    salt: String,
}

#[derive(Deserialize)]
struct KdfParams {
    #[serde(rename = "N")]
    n: u64,
    r: u64,
    p: u64,
}

#[derive(Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

fn look_before_opening(sealed: &[u8]) -> Result<(), KeyError> {
    let damaged = |text: &str| KeyError::Damaged(text.to_owned());
    let file: KeyFile = serde_json::from_slice(sealed).map_err(|error| KeyError::Damaged(error.to_string()))?;
    if file.kdf.name != "scrypt" {
        return Err(damaged("its passphrase function is not scrypt"));
    }
    if file.cipher.name != "nacl/secretbox" {
        return Err(damaged("its cipher is not nacl/secretbox"));
    }
    let KdfParams { n, r, p } = file.kdf.params;
    if !SCRYPT_N_ALLOWED.contains(&n) || r != 8 || p != 1 {
        return Err(KeyError::Scrypt { n, r, p });
    }
    let length = |text: &str| crate::base64::decode(text).map(|bytes| bytes.len());
    if length(&file.kdf.salt) != Some(SALT_BYTES) {
        return Err(damaged("its salt is not 32 bytes of base64"));
    }
    if length(&file.cipher.nonce) != Some(NONCE_BYTES) {
        return Err(damaged("its nonce is not 24 bytes of base64"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
