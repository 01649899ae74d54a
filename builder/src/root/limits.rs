//! What a foreign archive may be, and why one is not taken.
//! Pure.

use std::io;

use crate::assembly::{ContentError, PathError, TreeError};

/// What one package may be: far above the largest of a distribution, far below what hurts.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Entries.
    pub entries: usize,
    /// Bytes of control files together.
    pub control_bytes: u64,
    /// Memory of the xz decoder.
    pub decoder_memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 8 << 30, entries: 400_000, control_bytes: 32 << 20, decoder_memory: 512 << 20 }
    }
}

/// Why a tar stream is not taken.
#[derive(Debug, thiserror::Error)]
pub enum TarTreeError {
    /// An inner archive is broken or cut short.
    #[error("its `{member}` cannot be read")]
    Inner {
        /// The member.
        member: String,
        /// Cause.
        #[source]
        cause: io::Error,
    },
    /// More than allowed.
    #[error("its `{member}` has more {what} than the limit of {limit}")]
    Limit {
        /// The member.
        member: String,
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A path that no package should have.
    #[error(transparent)]
    Path(#[from] PathError),
    /// An entry that is no file, folder or link.
    #[error("its entry `{path}` is a {kind}, which packages may not bring")]
    Special {
        /// The path.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// A file that stands in the archive two times.
    #[error("its entry `{path}` stands there twice")]
    Twice {
        /// The path.
        path: String,
    },
    /// A hard link whose target is not an earlier file.
    #[error("its entry `{path}` is a hard link to `{target}`, which is no file before it")]
    HardLink {
        /// The path.
        path: String,
        /// The target.
        target: String,
    },
    /// Content could not be kept.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// Entries contradict each other.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

pub(super) fn broken(member: &str) -> impl Fn(io::Error) -> TarTreeError {
    move |cause| TarTreeError::Inner { member: member.to_owned(), cause }
}
