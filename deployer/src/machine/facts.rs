//! What Prepare establishes about a generation, as far as decisions need it: the release's own words.
//! Pure.

use std::collections::BTreeMap;

use nebh_oci::digest::Digest;
use serde::{Deserialize, Serialize};

use super::ids::{DatasetName, ReleaseRef};

/// What Prepare established, as far as decisions need it. The host keeps the rest under the generation's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Facts {
    /// The release whose signature verified on this host.
    pub release: ReleaseRef,
    /// Manifest digest of the image that will run.
    pub image: Digest,
    /// Digest over the rendered config tree.
    pub config: Digest,
    /// Datasets of the release that this host has a driver for, in the release's words.
    pub datasets: BTreeMap<DatasetName, DatasetFacts>,
    /// How long the generation is on probation after it was opened.
    pub probation_ms: u64,
}

/// One dataset as a release uses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DatasetFacts {
    /// What kind of data it is.
    pub class: DatasetClass,
    /// The schema that the program writes and those that it can read, if it declares any.
    pub schema: Option<SchemaWindow>,
}

/// What kind of data a dataset holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatasetClass {
    /// Forward only: what was acknowledged is never taken back automatically.
    Ledger,
    /// Goes with the program.
    Paired,
    /// Can be made again from other data.
    Derived,
    /// Of no value after the program ends; not snapshotted.
    Scratch,
    /// Lives elsewhere; not snapshotted.
    External,
}

impl DatasetClass {
    /// True if the node's driver cuts and exchanges it.
    pub const fn is_snapshotted(self) -> bool {
        matches!(self, Self::Ledger | Self::Paired | Self::Derived)
    }
}

/// Declared schema numbers of one dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SchemaWindow {
    /// What the program makes of the data.
    pub writes: u32,
    /// What it can work on.
    pub reads: Vec<u32>,
}
