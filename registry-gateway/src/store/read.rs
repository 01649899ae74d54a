//! Reading a blob for a response: in pieces, hashed on the way, the last piece only after the comparison.
//!
//! A reader of the whole blob never gets its last byte unless every byte matched the digest. A reader of a part gets
//! it only from a file that was read whole and matched since it was last changed; the caller asks [`BlobReader::check`].

use std::fs::{File, Metadata};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use nebh_oci::digest::{Digest, Hasher};

/// Bytes per read. Larger pieces gain nothing measurable, smaller ones cost a task switch each; two of them are held
/// per open response.
pub const PIECE_BYTES: usize = 256 << 10;

/// Why a blob cannot be handed out.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes are not those that the name promises.
    #[error("blob {expected} holds other bytes ({actual})")]
    Corrupt {
        /// The name.
        expected: Digest,
        /// What the bytes hash to.
        actual: Digest,
    },
    /// The file ends early.
    #[error("blob {0} is cut short")]
    Short(Digest),
    /// The file system said no.
    #[error("cannot read blob {digest}")]
    Io {
        /// Which blob.
        digest: Digest,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    /// From what the system says.
    pub fn of(found: &Metadata) -> Self {
        Self {
            inode: found.ino(),
            size: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }

    /// Whether the last change lies so long before `now` that the next one must get another time.
    pub fn is_settled(&self, now: SystemTime, after: Duration) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(seconds), u32::try_from(nanoseconds)) else {
            return false;
        };
        let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        now.duration_since(changed).is_ok_and(|age| age > after)
    }
}

/// A blob that is being read.
#[derive(Debug)]
pub struct BlobReader {
    file: File,
    digest: Digest,
    left: u64,
    /// Present when the whole blob is read.
    hasher: Option<Hasher>,
}

impl BlobReader {
    /// Reads all of it, hashing.
    pub fn whole(file: File, digest: Digest, size: u64) -> Self {
        Self { file, digest, left: size, hasher: Some(Hasher::new(digest.algorithm())) }
    }

    /// Reads `length` bytes from `start`. Blocking.
    pub fn part(mut file: File, digest: Digest, start: u64, length: u64) -> Result<Self, ReadError> {
        file.seek(SeekFrom::Start(start)).map_err(|source| ReadError::Io { digest, source })?;
        Ok(Self { file, digest, left: length, hasher: None })
    }

    /// How many bytes are still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next piece; the last one only if everything matched. Blocking. Must not be called with nothing left.
    pub fn piece(&mut self) -> Result<Bytes, ReadError> {
        let digest = self.digest;
        let wanted = self.left.min(PIECE_BYTES as u64);
        let mut buffer = Vec::with_capacity(usize::try_from(wanted).unwrap_or(PIECE_BYTES));
        (&mut self.file).take(wanted).read_to_end(&mut buffer).map_err(|source| ReadError::Io { digest, source })?;
        if (buffer.len() as u64) < wanted {
            return Err(ReadError::Short(digest));
        }
        self.left -= wanted;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer);
        }
        if self.left == 0
            && let Some(hasher) = self.hasher.take()
        {
            let actual = hasher.finish();
            if actual != digest {
                return Err(ReadError::Corrupt { expected: digest, actual });
            }
        }
        Ok(buffer.into())
    }

    /// Reads a whole file to compare it with its name. Blocking.
    pub fn check(file: File, digest: Digest, size: u64) -> Result<(), ReadError> {
        let mut reader = Self::whole(file, digest, size);
        while reader.left() > 0 {
            reader.piece()?;
        }
        Ok(())
    }
}

/// The state of an open file, to know later whether it is still the one that was compared.
pub fn state(file: &File) -> std::io::Result<FileState> {
    file.metadata().map(|found| FileState::of(&found))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn blob_with_one_flipped_bit_never_yields_its_last_piece() {
        let mut bytes = vec![7_u8; PIECE_BYTES + 10];
        let digest = Digest::sha256(&bytes);
        bytes[3] ^= 1;
        let mut reader = BlobReader::whole(file(&bytes), digest, bytes.len() as u64);
        assert_eq!(reader.piece().unwrap().len(), PIECE_BYTES);
        assert!(matches!(reader.piece(), Err(ReadError::Corrupt { .. })));
    }

    #[test]
    fn blob_cut_short_is_an_error() {
        let digest = Digest::sha256(b"hello");
        assert!(matches!(BlobReader::check(file(b"hell"), digest, 5), Err(ReadError::Short(_))));
        BlobReader::check(file(b"hello"), digest, 5).unwrap();
    }

    #[test]
    fn part_of_a_blob_is_the_asked_bytes() {
        let digest = Digest::sha256(b"hello");
        let mut reader = BlobReader::part(file(b"hello"), digest, 1, 3).unwrap();
        assert_eq!(reader.piece().unwrap().as_ref(), b"ell");
        assert_eq!(reader.left(), 0);
    }
}
