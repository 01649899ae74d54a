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

#[cfg(test)]
mod tests {
    use rustix::fs::{FileType, mknodat};

    use super::*;

    fn error_of(folder: &Path, path: &str) -> String {
        let spill = Spill::new(&std::env::temp_dir()).unwrap();
        nebh_face::failure::chain(&collect(folder, Path::new(path), &spill).unwrap_err())
    }

    #[test]
    fn output_that_is_no_plain_file_of_the_step_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (out, host) = (dir.path().join("out"), dir.path().join("host"));
        for folder in [&out, &host] {
            std::fs::create_dir(folder).unwrap();
        }
        std::fs::write(host.join("secret"), "the host's").unwrap();
        std::os::unix::fs::symlink(host.join("secret"), out.join("link")).unwrap();
        std::os::unix::fs::symlink(&host, out.join("door")).unwrap();
        std::os::unix::fs::symlink("/proc/self/exe", out.join("magic")).unwrap();
        std::fs::create_dir(out.join("folder")).unwrap();
        // Nobody writes into it: opening it to read would wait for ever.
        mknodat(CWD, out.join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(out.join("socket")).unwrap();
        for (path, expected) in [
            ("link", "the step did not make `link`"),
            ("door/secret", "the step did not make `door/secret`"),
            ("magic", "the step did not make `magic`"),
            ("../host/secret", "the step did not make `../host/secret`"),
            ("absent", "the step did not make `absent`"),
            ("folder", "`folder`, which the step made, is no plain file"),
            ("pipe", "`pipe`, which the step made, is no plain file"),
            ("socket", "the step did not make `socket`"),
        ] {
            let error = error_of(&out, path);
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn sparse_output_of_any_size_fills_no_disk() {
        let dir = tempfile::tempdir().unwrap();
        File::create(dir.path().join("sparse")).unwrap().set_len(OUTPUT_BYTES_MAX + 1).unwrap();
        let error = error_of(dir.path(), "sparse");
        assert!(error.contains(&format!("has {} bytes, more than", OUTPUT_BYTES_MAX + 1)), "{error}");
    }
}
