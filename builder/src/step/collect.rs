//! Takes one file that a step made. The program that made it is gone, but it was foreign: links are not followed, and
//! nothing but a plain file is taken.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

use crate::assembly::{Content, ContentError, Spill};

/// Bytes of one output. A sparse file says any size and costs its maker nothing; taken, it would fill the disk.
pub(super) const OUTPUT_BYTES_MAX: u64 = 4 << 30;

/// Why an output is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum CollectError {
    /// It is not there, or a link stands in the way.
    #[error("the step did not make `{}`", path.display())]
    Missing {
        /// The path below the output folder.
        path: PathBuf,
        /// Cause.
        #[source]
        cause: io::Error,
    },
    /// It is a folder, a device, a pipe.
    #[error("`{}`, which the step made, is no plain file", path.display())]
    NotAFile {
        /// The path below the output folder.
        path: PathBuf,
    },
    /// It is larger than anything that is meant.
    #[error("`{}`, which the step made, has {size} bytes, more than {OUTPUT_BYTES_MAX}", path.display())]
    TooLarge {
        /// The path below the output folder.
        path: PathBuf,
        /// How many it has.
        size: u64,
    },
    /// Its bytes cannot be kept.
    #[error(transparent)]
    Content(#[from] ContentError),
}

/// The content of `path` below `folder`.
pub(super) fn collect(folder: &Path, path: &Path, spill: &Spill) -> Result<Content, CollectError> {
    let missing = |cause: rustix::io::Errno| CollectError::Missing { path: path.to_owned(), cause: cause.into() };
    let top =
        openat(CWD, folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(missing)?;
    // Non-blocking: opening a pipe must not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let careful = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mut file = File::from(openat2(&top, path, flags, Mode::empty(), careful).map_err(missing)?);
    let there = file.metadata().map_err(|cause| CollectError::Missing { path: path.to_owned(), cause })?;
    if !there.is_file() {
        return Err(CollectError::NotAFile { path: path.to_owned() });
    }
    if there.len() > OUTPUT_BYTES_MAX {
        return Err(CollectError::TooLarge { path: path.to_owned(), size: there.len() });
    }
    Ok(spill.take(&mut file, there.len())?)
}
