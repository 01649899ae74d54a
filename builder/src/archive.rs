//! The input archive: every byte that a build ever needed, under its SHA-256, so that a rebuild in five years needs
//! no upstream. The one room that writes it; side effects: files under its folder.
//!
//! ```text
//!   <root>/sha256/ab/ab12…     an input, read-only, complete and verified
//!   <root>/partial/ab12…       an input on its way, kept after a failure so that the next try goes on from there
//! ```
//!
//! An input appears under its name by a rename, after its bytes were hashed, compared and made durable; so a file that
//! is there is right, whenever the power went. Crash windows: before the rename a partial file is left, which the next
//! fetch of the same input continues or, if it was spoilt, starts over; after the rename nothing is left to do.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nebh_oci::digest::{Algorithm, Digest, Hasher};
use nebh_oci::locked_file::LockedFile;

/// Bytes hashed at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Why the archive could not do something.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file of the archive could not be read or written.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
    /// The bytes are not those of the digest.
    #[error("bytes have digest {actual}, but {expected} is expected")]
    WrongDigest {
        /// What they should be.
        expected: Digest,
        /// What they are.
        actual: Digest,
    },
    /// More or fewer bytes than there must be.
    #[error("{actual} bytes, but {expected} are expected")]
    WrongSize {
        /// How many there must be.
        expected: u64,
        /// How many there are.
        actual: u64,
    },
    /// The archive keeps inputs by SHA-256 only.
    #[error("{0} is not a SHA-256 digest")]
    NotSha256(Digest),
    /// Not in the archive.
    #[error("{0} is not in the input archive")]
    Missing(Digest),
}

fn io_at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArchiveError {
    let path = path.to_owned();
    move |cause| ArchiveError::Io { action, path, cause }
}

/// A folder of inputs by digest. Cheap to clone; any number of processes may share one.
#[derive(Clone, Debug)]
pub struct InputArchive {
    root: PathBuf,
}

impl InputArchive {
    /// Opens the archive in `root`, making its folders.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, ArchiveError> {
        let archive = Self { root: root.into() };
        for folder in ["sha256", "partial"] {
            let folder = archive.root.join(folder);
            fs::create_dir_all(&folder).map_err(io_at("create", &folder))?;
        }
        Ok(archive)
    }

    /// Where an input lies, or would lie.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.root.join("sha256").join(&hex[..2]).join(hex)
    }

    /// Whether an input is there. What is there was verified when it came in.
    pub fn has(&self, digest: &Digest) -> bool {
        digest.algorithm() == Algorithm::Sha256 && self.path(digest).is_file()
    }

    /// Takes an input whose bytes are at hand.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Digest, ArchiveError> {
        let digest = Digest::sha256(bytes);
        self.put_stream(&mut &*bytes, &digest, Some(bytes.len() as u64))?;
        Ok(digest)
    }

    /// Takes an input from a stream, refusing other bytes than those of `expected`.
    pub fn put_stream(
        &self,
        from: &mut dyn Read,
        expected: &Digest,
        size: Option<u64>,
    ) -> Result<PathBuf, ArchiveError> {
        if self.has(expected) {
            return Ok(self.path(expected));
        }
        let mut incoming = self.begin(expected, size)?;
        incoming.restart()?;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = from.read(&mut chunk).map_err(io_at("read the source of", &self.path(expected)))?;
            if read == 0 {
                return incoming.finish();
            }
            incoming.write(&chunk[..read])?;
        }
    }

    /// Reads a whole input and verifies it once more: for inputs that decide something, such as signed indexes.
    pub fn read(&self, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>, ArchiveError> {
        if !self.has(digest) {
            return Err(ArchiveError::Missing(*digest));
        }
        let path = self.path(digest);
        let file = File::open(&path).map_err(io_at("open", &path))?;
        let mut bytes = Vec::new();
        file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(io_at("read", &path))?;
        if bytes.len() as u64 > bytes_max {
            return Err(ArchiveError::WrongSize { expected: bytes_max, actual: bytes.len() as u64 });
        }
        let actual = Digest::sha256(&bytes);
        if actual != *digest {
            return Err(ArchiveError::WrongDigest { expected: *digest, actual });
        }
        Ok(bytes)
    }

    /// Begins, or goes on with, an input that comes in pieces.
    pub fn begin(&self, expected: &Digest, size: Option<u64>) -> Result<Incoming, ArchiveError> {
        if expected.algorithm() != Algorithm::Sha256 {
            return Err(ArchiveError::NotSha256(*expected));
        }
        let shared = self.root.join("partial").join(expected.hex());
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options.open(path).map_err(io_at("open", path))
        };
        // Whoever holds the lock may append to what is there; anybody else writes a file of their own.
        let claim = |file, path: &Path| LockedFile::claim(file).map_err(io_at("lock", path));
        let (file, path) = match claim(open(&shared)?, &shared)? {
            Some(file) if is_same_file(&file, &shared) => (file, shared),
            _ => {
                let own = self.root.join("partial").join(format!("{}.{}", expected.hex(), uuid::Uuid::now_v7()));
                let file = claim(open(&own)?, &own)?
                    .ok_or_else(|| io_at("lock", &own)(io::ErrorKind::AlreadyExists.into()))?;
                (file, own)
            }
        };
        let mut incoming = Incoming {
            path,
            target: self.path(expected),
            file,
            expected: *expected,
            size,
            written: 0,
            hasher: Hasher::new(Algorithm::Sha256),
        };
        incoming.take_up()?;
        Ok(incoming)
    }
}

/// Another process may have renamed the file away between our opening and our locking.
fn is_same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => ours.ino() == there.ino() && ours.dev() == there.dev(),
        _ => false,
    }
}

/// An input on its way into the archive.
#[derive(Debug)]
pub struct Incoming {
    path: PathBuf,
    target: PathBuf,
    file: LockedFile,
    expected: Digest,
    size: Option<u64>,
    written: u64,
    hasher: Hasher,
}

impl Incoming {
    /// How many bytes are already there: where to go on.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Appends bytes; refuses more than there may be.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let written = self.written + bytes.len() as u64;
        if let Some(expected) = self.size
            && written > expected
        {
            self.restart()?;
            return Err(ArchiveError::WrongSize { expected, actual: written });
        }
        self.file.write_all(bytes).map_err(io_at("write", &self.path))?;
        self.hasher.update(bytes);
        self.written = written;
        Ok(())
    }

    /// Throws away what is there, because the source cannot go on from it.
    pub fn restart(&mut self) -> Result<(), ArchiveError> {
        self.file.set_len(0).map_err(io_at("truncate", &self.path))?;
        self.file.seek(SeekFrom::Start(0)).map_err(io_at("seek in", &self.path))?;
        self.hasher = Hasher::new(Algorithm::Sha256);
        self.written = 0;
        Ok(())
    }

    /// Verifies, makes durable and names the input. Wrong bytes are thrown away.
    pub fn finish(mut self) -> Result<PathBuf, ArchiveError> {
        if let Some(expected) = self.size
            && self.written != expected
        {
            // Too few bytes may be the first part of the right ones: they stay for the next try.
            return Err(ArchiveError::WrongSize { expected, actual: self.written });
        }
        let actual = std::mem::replace(&mut self.hasher, Hasher::new(Algorithm::Sha256)).finish();
        if actual != self.expected {
            fs::remove_file(&self.path).map_err(io_at("remove", &self.path))?;
            return Err(ArchiveError::WrongDigest { expected: self.expected, actual });
        }
        self.file.set_permissions(fs::Permissions::from_mode(0o444)).map_err(io_at("protect", &self.path))?;
        self.file.sync_all().map_err(io_at("sync", &self.path))?;
        let folder = self.target.parent().unwrap_or(Path::new("/")).to_owned();
        fs::create_dir_all(&folder).map_err(io_at("create", &folder))?;
        fs::rename(&self.path, &self.target).map_err(io_at("name", &self.target))?;
        for folder in [Some(folder.as_path()), folder.parent()].into_iter().flatten() {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_at("sync", folder))?;
        }
        Ok(self.target)
    }

    fn take_up(&mut self) -> Result<(), ArchiveError> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = self.file.read(&mut chunk).map_err(io_at("read", &self.path))?;
            if read == 0 {
                break;
            }
            self.hasher.update(&chunk[..read]);
            self.written += read as u64;
        }
        if self.size.is_some_and(|size| self.written > size) {
            self.restart()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> (tempfile::TempDir, InputArchive) {
        let dir = tempfile::tempdir().unwrap();
        let archive = InputArchive::open(dir.path()).unwrap();
        (dir, archive)
    }

    #[test]
    fn input_is_found_by_its_digest_and_is_read_only() {
        let (_dir, archive) = archive();
        let digest = archive.put_bytes(b"hello").unwrap();
        assert!(archive.has(&digest));
        assert_eq!(archive.read(&digest, 5).unwrap(), b"hello");
        let mode = fs::metadata(archive.path(&digest)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o444);
        assert_eq!(fs::read_dir(archive.root.join("partial")).unwrap().count(), 0);
    }

    #[test]
    fn wrong_bytes_are_refused_and_thrown_away() {
        let (_dir, archive) = archive();
        let expected = Digest::sha256(b"right");
        let error = archive.put_stream(&mut &b"wrong"[..], &expected, Some(5)).unwrap_err();
        assert!(matches!(error, ArchiveError::WrongDigest { actual, .. } if actual == Digest::sha256(b"wrong")));
        assert!(!archive.has(&expected));
        assert_eq!(archive.begin(&expected, None).unwrap().written(), 0);
    }

    #[test]
    fn too_many_bytes_are_refused_while_they_come() {
        let (_dir, archive) = archive();
        let mut incoming = archive.begin(&Digest::sha256(b"12345"), Some(5)).unwrap();
        incoming.write(b"123").unwrap();
        assert!(matches!(incoming.write(b"456"), Err(ArchiveError::WrongSize { expected: 5, actual: 6 })));
    }

    #[test]
    fn interrupted_input_goes_on_where_it_stopped() {
        let (_dir, archive) = archive();
        let digest = Digest::sha256(b"first second");
        let mut incoming = archive.begin(&digest, Some(12)).unwrap();
        incoming.write(b"first ").unwrap();
        drop(incoming);
        let mut incoming = archive.begin(&digest, Some(12)).unwrap();
        assert_eq!(incoming.written(), 6);
        incoming.write(b"second").unwrap();
        incoming.finish().unwrap();
        assert!(archive.has(&digest));
    }

    #[test]
    fn two_at_once_do_not_disturb_each_other() {
        let (_dir, archive) = archive();
        let digest = Digest::sha256(b"same");
        let mut one = archive.begin(&digest, None).unwrap();
        let mut other = archive.begin(&digest, None).unwrap();
        one.write(b"sa").unwrap();
        other.write(b"same").unwrap();
        other.finish().unwrap();
        one.write(b"me").unwrap();
        one.finish().unwrap();
        assert_eq!(archive.read(&digest, 4).unwrap(), b"same");
    }

    #[test]
    fn changed_file_is_found_by_a_verifying_read() {
        let (_dir, archive) = archive();
        let digest = archive.put_bytes(b"hello").unwrap();
        fs::set_permissions(archive.path(&digest), fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(archive.path(&digest), b"jello").unwrap();
        assert!(matches!(archive.read(&digest, 5), Err(ArchiveError::WrongDigest { .. })));
    }
}
