//! Bytes on disk: immutable, named by their digest, written durably or not at all. What exists is decided by the
//! database, never by a listing of these folders.
//!
//! ```text
//!   body ─► upload (hash while writing) ─► compare ─► fdatasync ─► link, no replace ─► fsync folder ─► (row, by the caller)
//!   blob ─► reader (hash while reading, if not compared lately; the last piece waits) ─► response | quarantine
//! ```
//!
//! A crash before the link leaves an upload that ages away; a crash after it leaves bytes without a row, which the
//! next push of the same digest adopts. Neither loses what was acknowledged.

pub mod keys;
mod locks;
mod pool;
pub mod read;
pub mod upload;
mod upload_id;
pub mod write;

use std::path::PathBuf;

pub use locks::DigestLocks;
pub use pool::blocking;
pub use read::{BlobReader, ReadError};
pub use upload::{Session, Uploads};
pub use upload_id::{UploadId, UploadIdError};
pub use write::Store;

/// A file operation that failed, with its path.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system said no.
    #[error("cannot {what} `{}`", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Another gateway works on the same state.
    #[error("`{}` is in use by another gateway", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A blocking task was ended from outside.
    #[error("a disk task was ended before it was done")]
    Ended,
}

impl StoreError {
    /// Names the operation and the path of an I/O error.
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }

    /// Whether the file system is full.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            Self::Locked { .. } | Self::Ended => false,
        }
    }
}
