//! A blob half fetched: a file that survives a broken connection, a dropped future and a restart.
//!
//! Owns: `<directory>/.<algorithm>-<hex>.partial`, locked while somebody writes to it. What an earlier process left is
//! hashed again before it is continued; who finds it locked writes to a file of their own.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::digest::{Digest, Hasher};
use crate::locked_file::LockedFile;

#[derive(Debug)]
pub(super) struct Partial {
    file: LockedFile,
    path: PathBuf,
    hasher: Hasher,
    digest: Digest,
    length: u64,
    /// Whether some of the bytes came from an earlier process.
    inherited: bool,
    /// Whether the file is of no use to anybody else.
    private: bool,
}

impl Partial {
    /// Opens what is there for `digest`, or begins. More than `size_max` inherited bytes are thrown away.
    pub(super) fn open(directory: &Path, digest: Digest, size_max: u64) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let shared = directory.join(format!(".{}-{}.partial", digest.algorithm(), digest.hex()));
        let (file, path, private) = if let Some(file) = open_locked(&shared)? {
            (file, shared, false)
        } else {
            let own = directory.join(format!(".{}-{}.partial", digest.hex(), uuid::Uuid::now_v7()));
            let file = open_locked(&own)?.ok_or(io::ErrorKind::AlreadyExists)?;
            (file, own, true)
        };
        let hasher = Hasher::new(digest.algorithm());
        let mut partial = Self { file, path, hasher, digest, length: 0, inherited: false, private };
        if partial.file.metadata()?.len() > size_max {
            partial.restart()?;
        } else {
            partial.inherit()?;
        }
        Ok(partial)
    }

    fn inherit(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 17];
        loop {
            let count = self.file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            self.hasher.update(&buffer[..count]);
            self.length += count as u64;
        }
        self.inherited = self.length > 0;
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn inherited(&self) -> bool {
        self.inherited
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Forgets everything that is there.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hasher = Hasher::new(self.digest.algorithm());
        (self.length, self.inherited) = (0, false);
        Ok(())
    }

    /// The digest of what is there so far.
    pub(super) fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Gives the finished file its name, durably.
    pub(super) fn publish(mut self, to: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, to)?;
        self.private = false;
        let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    }

    /// Removes bytes that are good for nothing.
    pub(super) fn discard(mut self) {
        self.private = true;
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.private && fs::remove_file(&self.path).is_err() {
            tracing::debug!(path = %self.path.display(), "partial file was already gone");
        }
    }
}

/// The file at `path`, created if need be and locked; `None` when somebody else has it.
fn open_locked(path: &Path) -> io::Result<Option<LockedFile>> {
    loop {
        let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o644).open(path)?;
        let Some(file) = LockedFile::claim(file)? else { return Ok(None) };
        // Between opening and locking, its writer may have published it under its final name: never write to that.
        let is_same = fs::symlink_metadata(path).is_ok_and(|named| {
            file.metadata().is_ok_and(|opened| (opened.dev(), opened.ino()) == (named.dev(), named.ino()))
        });
        if is_same {
            return Ok(Some(file));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_is_continued_after_its_writer_died() {
        let directory = tempfile::tempdir().unwrap();
        let digest = Digest::sha256(b"hello");
        let mut first = Partial::open(directory.path(), digest, 5).unwrap();
        first.append(b"hel").unwrap();
        drop(first);
        let mut second = Partial::open(directory.path(), digest, 5).unwrap();
        assert_eq!((second.length(), second.inherited()), (3, true));
        second.append(b"lo").unwrap();
        assert_eq!(second.digest(), digest);
        second.publish(&directory.path().join("blob")).unwrap();
        assert_eq!(fs::read(directory.path().join("blob")).unwrap(), b"hello");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn partial_of_a_living_writer_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let digest = Digest::sha256(b"hello");
        let mut first = Partial::open(directory.path(), digest, 5).unwrap();
        first.append(b"hel").unwrap();
        let second = Partial::open(directory.path(), digest, 5).unwrap();
        assert_eq!(second.length(), 0);
        assert_ne!(second.path(), first.path());
        drop(second);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        first.discard();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn partial_longer_than_the_blob_is_thrown_away() {
        let directory = tempfile::tempdir().unwrap();
        let digest = Digest::sha256(b"hello");
        let mut first = Partial::open(directory.path(), digest, 9).unwrap();
        first.append(b"too long").unwrap();
        drop(first);
        assert_eq!(Partial::open(directory.path(), digest, 5).unwrap().length(), 0);
    }
}
