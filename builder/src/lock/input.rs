//! The inputs of a lock in one list: what fetch brings, and what an error names. Pure.

use std::collections::BTreeMap;
use std::fmt;

use nebh_oci::digest::Digest;

use super::{DebianArchive, Lock, LockedCrate, LockedLanguage, LockedPackage};

/// An input as an error or a progress line names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InputName {
    /// A Debian package.
    Package {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
    },
    /// A crate.
    Crate {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
    },
}

impl fmt::Display for InputName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package { name, version } => write!(f, "package {name} {version}"),
            Self::Crate { name, version } => write!(f, "crate {name} {version}"),
        }
    }
}

/// Where an input lies upstream, without naming a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A path under the address of a Debian archive.
    Pool {
        /// The archive.
        archive: DebianArchive,
        /// The path.
        path: String,
    },
    /// A crate of the default registry.
    Crate {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
    },
}

/// One input: its name, what its bytes must be, and where they lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// What a person calls it.
    pub name: InputName,
    /// What its bytes must be.
    pub digest: Digest,
    /// How many there must be, where the lock knows.
    pub size: Option<u64>,
    /// Where they lie.
    pub place: Place,
}

impl Lock {
    /// Every input, each digest once, in a stable order.
    pub fn inputs(&self) -> Vec<Input> {
        let mut inputs = BTreeMap::new();
        for package in self.image_packages.iter().chain(&self.toolchain) {
            inputs.entry(package.sha256).or_insert_with(|| self.package_input(package));
        }
        for one in self.crates() {
            inputs.entry(one.sha256).or_insert_with(|| crate_input(one));
        }
        let mut inputs: Vec<Input> = inputs.into_values().collect();
        inputs.sort_by(|a, b| (&a.name, a.digest).cmp(&(&b.name, b.digest)));
        inputs
    }

    /// The crates, if the step is a Rust step.
    pub fn crates(&self) -> &[LockedCrate] {
        match &self.language {
            Some(LockedLanguage::Rust { crates, .. }) => crates,
            None => &[],
        }
    }

    fn package_input(&self, package: &LockedPackage) -> Input {
        let suite = self.suites.iter().find(|suite| suite.suite == package.suite);
        Input {
            name: InputName::Package { name: package.name.clone(), version: package.version.clone() },
            digest: package.sha256,
            size: Some(package.size),
            place: Place::Pool {
                // A parsed lock names the suite of each package; see `text`.
                archive: suite.map_or(DebianArchive::Debian, |suite| suite.archive),
                path: package.path.clone(),
            },
        }
    }
}

fn crate_input(one: &LockedCrate) -> Input {
    Input {
        name: InputName::Crate { name: one.name.clone(), version: one.version.clone() },
        digest: one.sha256,
        size: None,
        place: Place::Crate { name: one.name.clone(), version: one.version.clone() },
    }
}
