//! The inputs that a `Cargo.lock` names. Pure.

use cargo_lock::{Checksum, Lockfile};
use nebh_oci::digest::Digest;

use super::LockedCrate;

/// Bytes of a `Cargo.lock`; one with 3,000 crates has a megabyte.
const CARGO_LOCK_BYTES_MAX: usize = 32 << 20;

/// Why a `Cargo.lock` cannot be built from.
#[derive(Debug, thiserror::Error)]
pub enum CargoLockError {
    /// Not a `Cargo.lock`.
    #[error("Cargo.lock is malformed")]
    Malformed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Bytes from git have no digest in `Cargo.lock`.
    #[error("crate `{0}` comes from git, which has no digest in Cargo.lock")]
    Git(String),
    /// Another registry than the default one.
    #[error("crate `{name}` comes from another registry ({registry})")]
    OtherRegistry {
        /// The crate.
        name: String,
        /// The registry.
        registry: String,
    },
    /// A crate without a digest.
    #[error("crate `{0}` has no SHA-256 in Cargo.lock")]
    NoDigest(String),
}

/// Every crate that has to be fetched, by name and version. Crates of the project itself are not among them.
pub fn crates(cargo_lock: &[u8]) -> Result<Vec<LockedCrate>, CargoLockError> {
    let malformed = |error: Box<dyn std::error::Error + Send + Sync>| CargoLockError::Malformed(error);
    if cargo_lock.len() > CARGO_LOCK_BYTES_MAX {
        return Err(malformed(format!("more than {CARGO_LOCK_BYTES_MAX} bytes").into()));
    }
    let text = std::str::from_utf8(cargo_lock).map_err(|error| malformed(error.into()))?;
    let document: toml::Table = toml::from_str(text).map_err(|error| malformed(error.into()))?;
    if let Some(strange) = strange_checksum(&document) {
        return Err(malformed(format!("`{strange}` is no checksum").into()));
    }
    let lockfile: Lockfile = text.parse().map_err(|error: cargo_lock::Error| malformed(error.into()))?;
    let mut crates = Vec::new();
    for package in &lockfile.packages {
        let Some(source) = &package.source else { continue };
        let name = format!("{} {}", package.name, package.version);
        if source.is_git() {
            return Err(CargoLockError::Git(name));
        }
        if !source.is_default_registry() {
            return Err(CargoLockError::OtherRegistry { name, registry: source.to_string() });
        }
        let Some(Checksum::Sha256(sha256)) = &package.checksum else { return Err(CargoLockError::NoDigest(name)) };
        crates.push(LockedCrate {
            name: package.name.to_string(),
            version: package.version.to_string(),
            sha256: Digest::from_sha256_bytes(*sha256),
        });
    }
    crates.sort();
    Ok(crates)
}

/// A checksum that is not plain ASCII, in either form of the file. The parser (cargo-lock 11.1) cuts checksums at byte
/// offsets and panics inside of a longer letter.
fn strange_checksum(document: &toml::Table) -> Option<&str> {
    let packages = document.get("package").and_then(toml::Value::as_array).into_iter().flatten();
    let of_packages = packages.filter_map(|package| package.get("checksum"));
    let of_metadata =
        document.get("metadata").and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::values);
    of_packages.chain(of_metadata).filter_map(toml::Value::as_str).find(|checksum| !checksum.is_ascii())
}
