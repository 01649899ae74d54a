//! The lock as text: TOML, one line an input, sorted, so that a change of one package is one changed line. Pure.
//!
//! The text is read strictly: what a lock leaves open or says twice would be an input without a digest.

use std::collections::BTreeSet;

use nebh_oci::digest::{Algorithm, Digest};
use serde::{Deserialize, Serialize};

use super::{LOCK_VERSION, Lock, LockedCrate, LockedLanguage, LockedPackage, LockedSuite, Request};
use crate::spec::{PackageName, PackageRequest, Suite};

/// Bytes of a lock: one with every package of a large desktop has half a megabyte.
const LOCK_BYTES_MAX: usize = 16 << 20;
/// Bytes of a path in a pool, a version, a crate name.
const FIELD_BYTES_MAX: usize = 512;

/// Why a text is not a lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Not the TOML of a lock.
    #[error("{file}: not a lock")]
    Syntax {
        /// The file.
        file: String,
        /// What the parser says, with the line.
        #[source]
        cause: toml::de::Error,
    },
    /// A version that this program does not know.
    #[error("{file}: version {version} of the lock format; this program reads version {LOCK_VERSION}")]
    Version {
        /// The file.
        file: String,
        /// The version that it has.
        version: u32,
    },
    /// A value that no lock of ours has.
    #[error("{file}: {what}")]
    Value {
        /// The file.
        file: String,
        /// What is wrong.
        what: String,
    },
}

/// Read before all else: a newer version may have fields that this one does not know.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Wire {
    version: u32,
    architecture: String,
    request: WireRequest,
    #[serde(default)]
    suites: Vec<LockedSuite>,
    image: WirePackages,
    toolchain: Option<WirePackages>,
    rust: Option<WireRust>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WireRequest {
    base: String,
    #[serde(default)]
    packages: Vec<PackageRequest>,
    toolchain: Option<String>,
    #[serde(default)]
    toolchain_packages: Vec<PackageRequest>,
    #[serde(default)]
    accept_expired: Vec<Suite>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePackages {
    packages: Vec<LockedPackage>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WireRust {
    cargo_lock: Digest,
    crates: Vec<LockedCrate>,
}

impl Lock {
    /// Parses a lock. `file` is named in errors.
    pub fn parse(file: &str, text: &str) -> Result<Self, LockError> {
        let value = |what: String| LockError::Value { file: file.to_owned(), what };
        if text.len() > LOCK_BYTES_MAX {
            return Err(value(format!("{} bytes, more than {LOCK_BYTES_MAX}", text.len())));
        }
        let syntax = |cause| LockError::Syntax { file: file.to_owned(), cause };
        let Version { version } = toml::from_str(text).map_err(syntax)?;
        if version != LOCK_VERSION {
            return Err(LockError::Version { file: file.to_owned(), version });
        }
        let wire: Wire = toml::from_str(text).map_err(syntax)?;
        let lock = Self {
            request: Request {
                base: wire.request.base.parse().map_err(|error| value(format!("{error}")))?,
                packages: wire.request.packages,
                toolchain: wire
                    .request
                    .toolchain
                    .map(|text| text.parse().map_err(|error| value(format!("{error}"))))
                    .transpose()?,
                toolchain_packages: wire.request.toolchain_packages,
                accept_expired: wire.request.accept_expired,
            },
            architecture: wire.architecture,
            suites: wire.suites,
            image_packages: wire.image.packages,
            toolchain: wire.toolchain.map(|toolchain| toolchain.packages).unwrap_or_default(),
            language: wire.rust.map(|rust| LockedLanguage::Rust { cargo_lock: rust.cargo_lock, crates: rust.crates }),
        };
        lock.check().map_err(value)?;
        Ok(lock)
    }

    /// The text of this lock, the same for the same lock.
    pub fn to_text(&self) -> String {
        let mut text = String::from("# Written by `nebh lock`, not by hand. Commit it beside buildspec.yaml.\n");
        line(&mut text, &format!("version = {LOCK_VERSION}"));
        line(&mut text, &format!("architecture = {}", quoted(&self.architecture)));
        line(&mut text, "\n[request]");
        line(&mut text, &format!("base = {}", quoted(&self.request.base.to_string())));
        list(&mut text, "packages", &self.request.packages);
        if let Some(toolchain) = &self.request.toolchain {
            line(&mut text, &format!("toolchain = {}", quoted(&toolchain.to_string())));
            list(&mut text, "toolchain-packages", &self.request.toolchain_packages);
        }
        list(&mut text, "accept-expired", &self.request.accept_expired);
        for suite in &self.suites {
            line(&mut text, "\n[[suites]]");
            line(&mut text, &format!("suite = {}", quoted(suite.suite.as_str())));
            line(&mut text, &format!("archive = {}", inline(&suite.archive)));
            line(&mut text, &format!("release = {}", quoted(&suite.release.to_string())));
            line(&mut text, &format!("date = {}", quoted(&suite.date.to_string())));
            list(&mut text, "signed-by", &suite.signed_by);
            if suite.expired {
                line(&mut text, "expired = true");
            }
        }
        line(&mut text, "\n[image]");
        rows(&mut text, "packages", &self.image_packages);
        if self.request.toolchain.is_some() {
            line(&mut text, "\n[toolchain]");
            rows(&mut text, "packages", &self.toolchain);
        }
        if let Some(LockedLanguage::Rust { cargo_lock, crates }) = &self.language {
            line(&mut text, "\n[rust]");
            line(&mut text, &format!("cargo-lock = {}", quoted(&cargo_lock.to_string())));
            rows(&mut text, "crates", crates);
        }
        text
    }

    /// The digest of this lock's text: part of the identity of a plan.
    pub fn digest(&self) -> Digest {
        Digest::sha256(self.to_text().as_bytes())
    }

    fn check(&self) -> Result<(), String> {
        unique("suite", self.suites.iter().map(|suite| suite.suite.to_string()))?;
        for packages in [&self.image_packages, &self.toolchain] {
            unique("package", packages.iter().map(|package| package.name.clone()))?;
            packages.iter().try_for_each(|package| self.check_package(package))?;
        }
        unique("crate", self.crates().iter().map(|one| format!("{} {}", one.name, one.version)))?;
        for one in self.crates() {
            let legal = |text: &str| {
                !text.is_empty()
                    && text.len() <= FIELD_BYTES_MAX
                    && !text.starts_with('.')
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b))
            };
            if !legal(&one.name) || !legal(&one.version) || one.sha256.algorithm() != Algorithm::Sha256 {
                return Err(format!("crate `{} {}` is malformed", one.name, one.version));
            }
        }
        Ok(())
    }

    fn check_package(&self, package: &LockedPackage) -> Result<(), String> {
        let name = &package.name;
        name.parse::<PackageName>().map_err(|error| error.to_string())?;
        let version = |b: u8| b.is_ascii_alphanumeric() || b".+-~:".contains(&b);
        if package.version.is_empty()
            || package.version.len() > FIELD_BYTES_MAX
            || !package.version.bytes().all(version)
        {
            return Err(format!("package `{name}` has a malformed version"));
        }
        if package.architecture != "all" && package.architecture != self.architecture {
            return Err(format!(
                "package `{name}` is for `{}`, but the lock is for `{}`",
                package.architecture, self.architecture
            ));
        }
        if !self.suites.iter().any(|suite| suite.suite == package.suite) {
            return Err(format!("package `{name}` is from suite `{}`, which the lock does not have", package.suite));
        }
        // The pool path becomes part of an address: nothing in it may leave the archive or mean something else there.
        let legal = |b: u8| b.is_ascii_alphanumeric() || b".+-~:/_%".contains(&b);
        // An address knows dots in this spelling too.
        let plain = package.path.replace("%2e", ".").replace("%2E", ".");
        let parts = plain.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        if package.path.len() > FIELD_BYTES_MAX || !package.path.bytes().all(legal) || !parts {
            return Err(format!("package `{name}` has a malformed path"));
        }
        if package.sha256.algorithm() != Algorithm::Sha256 {
            return Err(format!("package `{name}` has a digest that is not SHA-256"));
        }
        Ok(())
    }
}

fn unique(what: &str, names: impl Iterator<Item = String>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for name in names {
        if seen.contains(&name) {
            return Err(format!("{what} `{name}` is locked twice"));
        }
        seen.insert(name);
    }
    Ok(())
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn inline<T: Serialize>(value: &T) -> String {
    toml::Value::try_from(value).map(|value| value.to_string()).unwrap_or_default()
}

fn list<T: ToString>(text: &mut String, name: &str, items: &[T]) {
    let items: Vec<String> = items.iter().map(|item| quoted(&item.to_string())).collect();
    line(text, &format!("{name} = [{}]", items.join(", ")));
}

/// One line a row: this is what makes the diff of a lock readable.
fn rows<T: Serialize>(text: &mut String, name: &str, rows: &[T]) {
    line(text, &format!("{name} = ["));
    for row in rows {
        let table = toml::Table::try_from(row).unwrap_or_default();
        let cell = |key: &&str| Some(format!("{key} = {}", table.get(*key)?));
        let cells = FIELD_ORDER.iter().filter_map(cell).collect::<Vec<_>>().join(", ");
        line(text, &format!("  {{ {cells} }},"));
    }
    line(text, "]");
}

/// Fields of a row in the order that a reader wants; a test holds that none is missing.
const FIELD_ORDER: [&str; 7] = ["name", "version", "architecture", "suite", "size", "sha256", "path"];
