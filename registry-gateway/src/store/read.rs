//! Reading a blob for a response: in pieces, the last piece only when it is known that every byte matches the digest.
//!
//! Known by one of two proofs. A blob that was not compared lately is hashed on the way, and the last piece waits for the
//! comparison. A blob that was compared in the state in which its file still is goes out as it is; before the last piece
//! the file is looked at once more. A part of a blob is always of the second kind; the caller asks [`BlobReader::check`].
//!
//! What the kernel holds in memory is read at once; only what has to come from the disk goes to the blocking pool. A
//! reader has one buffer, used again as soon as the piece before was sent: hundreds of slow clients stay small.

use std::fs::{File, Metadata};
use std::io::IoSliceMut;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use nebh_oci::digest::{Digest, Hasher};
use rustix::io::{Errno, ReadWriteFlags};

/// Bytes per read: small enough to stay in the processor's cache between the read, the hash and the socket.
pub const PIECE_BYTES: usize = 64 << 10;

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
    /// Somebody wrote to the file meanwhile. Whether its bytes are still good, the next reader finds out.
    #[error("blob {0} was changed while it was read")]
    Changed(Digest),
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

    /// Whether the bytes are the same; a name more or less is no change.
    fn same_bytes(&self, other: &Self) -> bool {
        (self.inode, self.size, self.modified) == (other.inode, other.size, other.modified)
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
    at: u64,
    left: u64,
    /// As it was before the first byte was read.
    state: FileState,
    /// Present when the blob is hashed on the way.
    hasher: Option<Hasher>,
    buffer: Arc<Vec<u8>>,
}

/// A piece in the reader's buffer, which is free again once the piece is dropped.
struct Piece {
    buffer: Arc<Vec<u8>>,
    length: usize,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or_default()
    }
}

impl BlobReader {
    /// Reads all of it, hashing. `state` is the file's before anything was read.
    pub fn whole(file: File, digest: Digest, size: u64, state: FileState) -> Self {
        let hasher = Some(Hasher::new(digest.algorithm()));
        Self { file, digest, at: 0, left: size, state, hasher, buffer: Arc::default() }
    }

    /// Reads `length` bytes from `start` of a file that was compared when it was in this state.
    pub fn compared(file: File, digest: Digest, start: u64, length: u64, state: FileState) -> Self {
        Self { file, digest, at: start, left: length, state, hasher: None, buffer: Arc::default() }
    }

    /// How many bytes are still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The file, to be read by somebody else too.
    pub fn file(&self) -> Result<File, ReadError> {
        self.file.try_clone().map_err(|source| ReadError::Io { digest: self.digest, source })
    }

    /// The state of the file, if this reader hashes it.
    pub fn compares(&self) -> Option<FileState> {
        self.hasher.is_some().then_some(self.state)
    }

    /// The next piece, the last one only with its proof. Blocking. Must not be called with nothing left.
    pub fn piece(&mut self) -> Result<Bytes, ReadError> {
        let (at, digest) = (self.at, self.digest);
        let (file, buffer) = self.room();
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], at + filled as u64) {
                Ok(0) => return Err(ReadError::Short(digest)),
                Ok(read) => filled += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ReadError::Io { digest, source }),
            }
        }
        self.take(filled)
    }

    /// The next piece if it can be had without waiting for the disk.
    pub fn piece_at_hand(&mut self) -> Option<Result<Bytes, ReadError>> {
        let (at, digest) = (self.at, self.digest);
        let (file, buffer) = self.room();
        match rustix::io::preadv2(file, &mut [IoSliceMut::new(buffer)], at, ReadWriteFlags::NOWAIT) {
            Ok(0) => Some(Err(ReadError::Short(digest))),
            Ok(read) => Some(self.take(read)),
            // Not in memory, or the file system cannot tell.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::INTR) => None,
            Err(errno) => Some(Err(ReadError::Io { digest, source: errno.into() })),
        }
    }

    /// The file, and a buffer for the next piece: the one of before if that was sent.
    fn room(&mut self) -> (&File, &mut [u8]) {
        let wanted = usize::try_from(self.left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        if self.buffer.len() < wanted || Arc::get_mut(&mut self.buffer).is_none() {
            self.buffer = Arc::new(vec![0; wanted]);
        }
        let buffer = Arc::get_mut(&mut self.buffer).map(Vec::as_mut_slice).unwrap_or_default();
        let end = wanted.min(buffer.len());
        (&self.file, &mut buffer[..end])
    }

    /// Hands out what is in the buffer.
    fn take(&mut self, length: usize) -> Result<Bytes, ReadError> {
        let piece = Piece { buffer: Arc::clone(&self.buffer), length };
        self.at += length as u64;
        self.left -= length as u64;
        let digest = self.digest;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(piece.as_ref());
        }
        if self.left == 0 {
            match self.hasher.take().map(Hasher::finish) {
                Some(actual) if actual != digest => return Err(ReadError::Corrupt { expected: digest, actual }),
                Some(_) => {}
                None => {
                    let now = state(&self.file).map_err(|source| ReadError::Io { digest, source })?;
                    if !now.same_bytes(&self.state) {
                        return Err(ReadError::Changed(digest));
                    }
                }
            }
        }
        Ok(Bytes::from_owner(piece))
    }

    /// Reads a whole file to compare it with its name. Blocking.
    pub fn check(file: File, digest: Digest, size: u64) -> Result<(), ReadError> {
        let state = state(&file).map_err(|source| ReadError::Io { digest, source })?;
        let mut reader = Self::whole(file, digest, size, state);
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
    use std::io::{Seek, Write};

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    fn whole(file: File, digest: Digest, size: u64) -> BlobReader {
        let state = state(&file).unwrap();
        BlobReader::whole(file, digest, size, state)
    }

    fn compared(file: File, digest: Digest, start: u64, length: u64) -> BlobReader {
        let state = state(&file).unwrap();
        BlobReader::compared(file, digest, start, length, state)
    }

    /// Everything, by whichever way is there.
    fn read(mut reader: BlobReader) -> Result<Vec<u8>, ReadError> {
        let mut all = Vec::new();
        while reader.left() > 0 {
            let piece = reader.piece_at_hand().unwrap_or_else(|| reader.piece())?;
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    #[test]
    fn blob_with_one_flipped_bit_never_yields_its_last_piece() {
        let mut bytes = vec![7_u8; PIECE_BYTES + 10];
        let digest = Digest::sha256(&bytes);
        bytes[3] ^= 1;
        let size = bytes.len() as u64;
        let mut reader = whole(file(&bytes), digest, size);
        assert_eq!(reader.piece().unwrap().len(), PIECE_BYTES);
        assert!(matches!(reader.piece(), Err(ReadError::Corrupt { .. })));
        assert!(matches!(read(whole(file(&bytes), digest, size)), Err(ReadError::Corrupt { .. })));
    }

    #[test]
    fn blob_cut_short_is_an_error() {
        let digest = Digest::sha256(b"hello");
        assert!(matches!(BlobReader::check(file(b"hell"), digest, 5), Err(ReadError::Short(_))));
        assert!(matches!(read(compared(file(b"hell"), digest, 0, 5)), Err(ReadError::Short(_))));
        BlobReader::check(file(b"hello"), digest, 5).unwrap();
    }

    #[test]
    fn part_of_a_blob_is_the_asked_bytes() {
        let digest = Digest::sha256(b"hello");
        let mut reader = compared(file(b"hello"), digest, 1, 3);
        assert_eq!(reader.piece().unwrap().as_ref(), b"ell");
        assert_eq!(reader.left(), 0);
    }

    #[test]
    fn pieces_that_are_kept_are_not_written_over() {
        let bytes: Vec<u8> = (0..=250).cycle().take(PIECE_BYTES * 3 + 5).collect();
        let size = bytes.len() as u64;
        let digest = Digest::sha256(&bytes);
        let mut reader = whole(file(&bytes), digest, size);
        let mut kept = Vec::new();
        while reader.left() > 0 {
            kept.push(reader.piece().unwrap());
        }
        assert_eq!(kept.concat(), bytes);
        assert_eq!(read(compared(file(&bytes), digest, 0, size)).unwrap(), bytes);
    }

    #[test]
    fn compared_blob_that_is_written_to_meanwhile_never_yields_its_last_piece() {
        let bytes = vec![7_u8; PIECE_BYTES + 10];
        let file = file(&bytes);
        let mut reader = compared(file.try_clone().unwrap(), Digest::sha256(&bytes), 0, bytes.len() as u64);
        assert_eq!(reader.piece().unwrap().len(), PIECE_BYTES);
        // The time of the last change has the clock's own steps.
        std::thread::sleep(std::time::Duration::from_millis(20));
        file.write_at(b"x", 0).unwrap();
        assert!(matches!(reader.piece(), Err(ReadError::Changed(_))));
    }
}
