//! The release statement: what a host needs to know to run a release, as JSON inside the release index. Pure.

use std::collections::BTreeMap;

use nebh_oci::digest::Digest;
use nebh_oci::json;
use nebh_oci::manifest::Platform;
use nebh_oci::names::{Repository, Tag};
use serde::{Deserialize, Serialize};

use super::index::{ReleaseError, ReleaseIndex};
use super::names::{AbsolutePath, CommitId, DatasetName};
use super::spec::{DatasetSpec, RunSpec, mounts_apart};

/// Version of the format.
pub(super) const VERSION: u32 = 1;
/// What a deployer has to understand to run releases of today. Raised when a release may ask for something new.
pub(super) const DEPLOYER: u32 = 1;
/// Bytes of one statement.
const STATEMENT_BYTES_MAX: usize = 256 * 1024;

/// The statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseStatement {
    /// Version of the format, 1.
    pub version: u32,
    /// What a deployer has to understand.
    pub deployer: u32,
    /// Name of the application.
    pub name: Repository,
    /// Which release this is.
    pub release: ReleaseIdentity,
    /// Its images, one for each platform.
    pub images: Vec<StatementImage>,
    /// Its config.
    pub config: StatementConfig,
    /// Its datasets.
    pub data: BTreeMap<DatasetName, DatasetSpec>,
    /// How it runs.
    pub run: RunSpec,
}

/// Which release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseIdentity {
    /// Version, which is the release tag.
    pub version: Tag,
    /// Commit of the source.
    pub commit: CommitId,
    /// Grows with every release of the application.
    pub counter: u64,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatementImage {
    /// Digest of its manifest.
    pub digest: Digest,
    /// Where it runs.
    pub platform: Platform,
}

/// The config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatementConfig {
    /// Digest of the snapshot's manifest.
    pub snapshot: Digest,
    /// Where the rendered files are seen; absent when the release has no config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<AbsolutePath>,
    /// Program of the image that checks them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub check: Vec<String>,
}

impl ReleaseStatement {
    /// Reads the statement of `index`, and refuses one that speaks of another release.
    pub fn parse(bytes: &[u8], index: &ReleaseIndex) -> Result<Self, ReleaseError> {
        if bytes.len() > STATEMENT_BYTES_MAX {
            return Err(ReleaseError::Statement(format!(
                "it has {} bytes, more than {STATEMENT_BYTES_MAX}",
                bytes.len()
            )));
        }
        let statement: Self = json::parse_strict(bytes)
            .map_err(|error| ReleaseError::Statement(crate::rejection::quote(&error.to_string())))?;
        if statement.version != VERSION || statement.deployer > DEPLOYER {
            return Err(ReleaseError::TooNew { version: statement.version, deployer: statement.deployer });
        }
        statement.run.coherent().map_err(ReleaseError::Statement)?;
        mounts_apart(statement.config.mount.as_ref(), &statement.data).map_err(ReleaseError::Statement)?;
        statement.agrees_with(index)?;
        Ok(statement)
    }

    /// The index is what was signed and what the registry serves; the statement has to say the same.
    fn agrees_with(&self, index: &ReleaseIndex) -> Result<(), ReleaseError> {
        let images: Vec<(Digest, Option<&Platform>)> =
            index.images.iter().map(|image| (image.digest, image.platform.as_ref())).collect();
        let stated: Vec<(Digest, Option<&Platform>)> =
            self.images.iter().map(|image| (image.digest, Some(&image.platform))).collect();
        let differs = if self.release.version != index.version {
            "version"
        } else if self.release.commit != index.commit {
            "commit"
        } else if self.release.counter != index.counter {
            "counter"
        } else if self.config.snapshot != index.config.digest {
            "config snapshot"
        } else if images != stated {
            "images"
        } else {
            return Ok(());
        };
        Err(ReleaseError::Disagree(differs))
    }

    /// Canonical JSON.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, ReleaseError> {
        json::canonical(self).map_err(|error| ReleaseError::Statement(error.to_string()))
    }
}
