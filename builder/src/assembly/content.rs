//! The bytes of one file of a tree: in memory when small, else in an unnamed temporary file. Owns that file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Files up to this size stay in memory: most files of a package, little of its bytes.
const MEMORY_BYTES_MAX: u64 = 16 * 1024;
/// Bytes of all small files together that stay in memory: a package can hold hundreds of thousands.
const MEMORY_TOTAL_MAX: u64 = 64 << 20;
/// Bytes copied at once.
const CHUNK: usize = 256 * 1024;

/// The bytes of one file. They never change.
#[derive(Clone, Debug)]
pub enum Content {
    /// In memory.
    Bytes(Vec<u8>),
    /// A range of a spill file.
    Spilled {
        /// The file.
        file: Arc<File>,
        /// Where it begins.
        offset: u64,
        /// How long it is.
        size: u64,
    },
}

/// Why content could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The source ended early or failed, or there is no room.
    #[error("cannot take {size} bytes of file content")]
    Io {
        /// Announced size.
        size: u64,
        /// Cause.
        #[source]
        cause: io::Error,
    },
}

impl Content {
    /// How many bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Spilled { size, .. } => *size,
        }
    }

    /// Writes all bytes to `to`.
    pub fn copy_to(&self, to: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => to.write_all(bytes),
            Self::Spilled { file, offset, size } => {
                let mut buffer = vec![0; CHUNK.min(usize::try_from(*size).unwrap_or(CHUNK))];
                let (mut at, mut left) = (*offset, *size);
                while left > 0 {
                    let want = buffer.len().min(usize::try_from(left).unwrap_or(CHUNK));
                    file.read_exact_at(&mut buffer[..want], at)?;
                    to.write_all(&buffer[..want])?;
                    at += want as u64;
                    left -= want as u64;
                }
                Ok(())
            }
        }
    }

    /// All bytes in memory; the caller has looked at the size.
    pub fn to_vec(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.size()).unwrap_or(0));
        self.copy_to(&mut bytes)?;
        Ok(bytes)
    }
}

/// Where large content of a tree goes: one unnamed file, gone with its last reader.
#[derive(Clone, Debug)]
pub struct Spill(Arc<SpillFile>);

#[derive(Debug)]
struct SpillFile {
    file: Arc<File>,
    end: Mutex<u64>,
    in_memory: AtomicU64,
}

impl Spill {
    /// A spill file in `folder`, which should be on a disk and not in memory.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let file = tempfile::tempfile_in(folder)?;
        Ok(Self(Arc::new(SpillFile { file: Arc::new(file), end: Mutex::new(0), in_memory: AtomicU64::new(0) })))
    }

    /// Takes exactly `size` bytes from `from`.
    pub fn take(&self, from: &mut dyn Read, size: u64) -> Result<Content, ContentError> {
        let failed = |cause| ContentError::Io { size, cause };
        if size <= MEMORY_BYTES_MAX
            && self.0.in_memory.fetch_add(size, Ordering::Relaxed).saturating_add(size) <= MEMORY_TOTAL_MAX
        {
            let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
            from.read_exact(&mut bytes).map_err(failed)?;
            return Ok(Content::Bytes(bytes));
        }
        let mut end = self.0.end.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let offset = *end;
        let mut buffer = vec![0; CHUNK.min(usize::try_from(size).unwrap_or(CHUNK))];
        let mut left = size;
        while left > 0 {
            let want = buffer.len().min(usize::try_from(left).unwrap_or(CHUNK));
            from.read_exact(&mut buffer[..want]).map_err(failed)?;
            self.0.file.write_all_at(&buffer[..want], offset + (size - left)).map_err(failed)?;
            left -= want as u64;
        }
        *end = offset + size;
        Ok(Content::Spilled { file: Arc::clone(&self.0.file), offset, size })
    }
}
