//! Data drivers: how a dataset on this node is snapshotted, branched and exchanged.
//!
//! ```text
//!   /srv/ledger                     the live data, a constant path: what programs mount
//!   /srv/ledger.nebh/snap/<name>    read-only snapshots
//!   /srv/ledger.nebh/tl/<name>      branches that wait, and timelines that were left
//! ```
//!
//! A driver has five verbs and none of them destroys: there is no "revert" and no "delete". Going back is
//! `branch` from a snapshot and then `exchange` with the live path; what was live is kept beside it.
//! Every verb may be repeated: it finds out by identity, never by a note of its own, what is already done.
//!
//! Invariants:
//! * nothing here removes a snapshot, a branch or live data; only a half-made copy of the driver's own is cleared;
//! * the layout is flat: nothing is ever nested in the live data;
//! * a name is taken once: a second snapshot under the same name is the first one.

mod btrfs;
mod copy;
mod memory;
mod place;
#[cfg(test)]
pub(crate) mod suite;
mod tree;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use btrfs::Btrfs;
pub use copy::Copy;
pub use memory::Memory;

/// The drivers that a node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriverKind {
    /// Subvolumes of btrfs: instant, whatever the size.
    Btrfs,
    /// A copied tree; shares blocks where the file system has reflinks.
    Copy,
}

impl DriverKind {
    /// The driver itself.
    pub fn driver(self) -> Box<dyn DataDriver> {
        match self {
            Self::Btrfs => Box::new(Btrfs::new()),
            Self::Copy => Box::new(Copy::new()),
        }
    }
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Btrfs => "btrfs",
            Self::Copy => "copy",
        })
    }
}

/// One dataset on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// Its name in the release.
    pub name: String,
    /// The live path, absolute.
    pub path: PathBuf,
    /// Who owns the live data if it has to be made: user and group of the program.
    pub owner: Option<(u32, u32)>,
}

/// Longest name of a snapshot or timeline: it is one path component.
const NAME_LENGTH_MAX: usize = 128;

/// Name of a snapshot or of a timeline: lower-case letters, digits, `.`, `_`, `-`; never starts with a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DataName(String);

impl DataName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DataName {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if starts_well && text.len() <= NAME_LENGTH_MAX && text.chars().all(legal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(DataError::BadName { name: text.to_owned() })
        }
    }
}

impl TryFrom<String> for DataName {
    type Error = DataError;

    fn try_from(text: String) -> Result<Self, DataError> {
        text.parse()
    }
}

impl From<DataName> for String {
    fn from(name: DataName) -> Self {
        name.0
    }
}

impl fmt::Display for DataName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a piece of data *is*, whatever path it stands at: file system and number of a subvolume, or inode and
/// birth of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identity(String);

impl Identity {
    /// An identity as a driver wrote it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a driver can do at a place, found out by looking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// True if a snapshot costs the same whatever the size of the data.
    pub instant: bool,
    /// Free bytes for new data.
    pub free_bytes: u64,
    /// Bytes that one snapshot takes at once: nothing where blocks are shared, else the size of the data.
    pub snapshot_bytes: u64,
    /// True if the live data did not exist and was made, empty.
    pub made: bool,
}

/// Result of a verb: what is there now, and whether this call made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Identity of the snapshot, of the branch, or of what is live after an exchange.
    pub identity: Identity,
    /// False if it was so already.
    pub changed: bool,
}

/// A snapshot or timeline that lies beside the live data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub name: DataName,
    /// Its identity.
    pub identity: Identity,
    /// Where it can be read.
    pub path: PathBuf,
}

/// Everything that belongs to one dataset on this node, sorted by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// Identity of the live data.
    pub live: Identity,
    /// Read-only snapshots.
    pub snapshots: Vec<Held>,
    /// Branches and left timelines.
    pub timelines: Vec<Held>,
}

/// Which branch goes live, and under which name the one that was live is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The timeline that goes live.
    pub incoming: DataName,
    /// Its identity, as `branch` or `list` told: makes a repeated exchange harmless.
    pub identity: Identity,
    /// The name under which the data that was live is kept.
    pub left_as: DataName,
}

/// How data is snapshotted and switched. Every verb may be repeated.
pub trait DataDriver: Send + Sync {
    /// Looks whether this driver can work at the dataset's place; makes the live data if there is none.
    fn probe(&self, dataset: &Dataset) -> Result<Probed, DataError>;

    /// A read-only snapshot of the live data, durable when this returns.
    fn snapshot(&self, dataset: &Dataset, name: &DataName) -> Result<Done, DataError>;

    /// A writable timeline from a snapshot, durable when this returns; not yet live.
    fn branch(&self, dataset: &Dataset, from: &DataName, name: &DataName) -> Result<Done, DataError>;

    /// Puts a timeline at the live path in one step; what was live is kept as a timeline.
    fn exchange(&self, dataset: &Dataset, exchange: &Exchange) -> Result<Done, DataError>;

    /// Everything that is held.
    fn list(&self, dataset: &Dataset) -> Result<Holdings, DataError>;
}

/// Why a driver cannot do it. Nothing was changed unless the text says so.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Not a legal name.
    #[error(
        "`{name}` cannot name a snapshot or timeline: lower-case letters, digits, `.`, `_`, `-`, at most {NAME_LENGTH_MAX}"
    )]
    BadName {
        /// The text.
        name: String,
    },
    /// The driver cannot work at this place.
    #[error("the {driver} driver cannot hold dataset `{dataset}` at {}: {why}", path.display())]
    Unfit {
        /// The driver.
        driver: &'static str,
        /// The dataset.
        dataset: String,
        /// The live path.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// No snapshot or timeline of this name.
    #[error("dataset `{dataset}` has no {kind} `{name}`")]
    Missing {
        /// The dataset.
        dataset: String,
        /// `snapshot` or `timeline`.
        kind: &'static str,
        /// The name.
        name: DataName,
    },
    /// Something else stands under this name.
    #[error(
        "dataset `{dataset}`: timeline `{name}` is not the one that was asked for (is {found}, expected {expected})"
    )]
    OtherIdentity {
        /// The dataset.
        dataset: String,
        /// The name.
        name: DataName,
        /// What is there.
        found: Identity,
        /// What was asked for.
        expected: Identity,
    },
    /// The name is taken.
    #[error("dataset `{dataset}`: the name `{name}` is taken by another timeline")]
    Taken {
        /// The dataset.
        dataset: String,
        /// The name.
        name: DataName,
    },
    /// A tool of the system failed.
    #[error("`{command}` failed: {stderr}")]
    Tool {
        /// The command line.
        command: String,
        /// What it said.
        stderr: String,
    },
    /// A file operation failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// The verb.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        #[source]
        cause: std::io::Error,
    },
}

impl DataError {
    /// True if the file system is full: the one cause that deserves its own advice.
    pub fn is_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        match self {
            Self::Io { cause, .. } => matches!(cause.kind(), StorageFull | QuotaExceeded),
            Self::Tool { stderr, .. } => stderr.contains("No space left") || stderr.contains("quota exceeded"),
            Self::BadName { .. }
            | Self::Unfit { .. }
            | Self::Missing { .. }
            | Self::OtherIdentity { .. }
            | Self::Taken { .. } => false,
        }
    }
}
