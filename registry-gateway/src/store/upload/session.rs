//! One upload session: appending to it, and comparing what it holds with the digest it should have.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use nebh_oci::digest::{Algorithm, Digest, Hasher};

use super::UploadError;
use super::sink::{Sink, copy};
use crate::store::{StoreError, UploadId, blocking};

/// Bytes per read when a session is hashed again after a restart.
const REHASH_BYTES: usize = 1 << 20;

/// One session, held by one request.
#[derive(Debug)]
pub struct Session {
    pub(super) id: UploadId,
    pub(super) path: PathBuf,
    pub(super) file: Arc<File>,
    /// Missing after a restart or a failed write: then the file is read again.
    pub(super) hasher: Option<Hasher>,
    pub(super) algorithm: Algorithm,
    pub(super) size: u64,
}

impl Session {
    /// Its name.
    pub fn id(&self) -> UploadId {
        self.id
    }

    /// How many bytes it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where its bytes are.
    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Its file, for publishing.
    pub(crate) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Appends a body. What arrived before the body broke off is kept.
    pub async fn append<S, E>(&mut self, body: S, stall_max: Duration, bytes_max: u64) -> Result<u64, UploadError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
    {
        let hasher = self.take_hasher(self.algorithm).await?;
        let mut sink = Sink::new(Arc::clone(&self.file), self.size, hasher);
        let outcome = copy(body, &mut sink, stall_max, bytes_max).await;
        let written = match sink.settle().await {
            Ok(written) => written,
            Err(error) => {
                // What was not written whole is of no use, and a full disk needs the room.
                self.file.set_len(self.size).map_err(StoreError::io("cut", &self.path))?;
                // The first failure tells why; the sink only knows that it ended.
                return Err(outcome.err().unwrap_or(UploadError::Store(error)));
            }
        };
        let received = written.at - self.size;
        self.size = written.at;
        self.hasher = Some(written.hasher);
        outcome.map_err(|error| match error {
            UploadError::Broken { .. } => UploadError::Broken { received },
            other => other,
        })?;
        Ok(received)
    }

    /// Appends a body that must have exactly `promised` bytes: with more or fewer, nothing of it is kept. (One that broke
    /// off or stalled is continued from where it was, as without a promise.)
    pub async fn append_exact<S, E>(
        &mut self,
        body: S,
        promised: u64,
        stall_max: Duration,
        bytes_max: u64,
    ) -> Result<(), UploadError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
    {
        let (size, hasher) = (self.size, self.hasher.clone());
        let end = size.saturating_add(promised);
        let error = match self.append(body, stall_max, bytes_max.min(end)).await {
            Ok(received) if received == promised => return Ok(()),
            Ok(received) => UploadError::Short { promised, received },
            Err(UploadError::TooLarge(limit)) if limit == end => UploadError::Long(promised),
            Err(error) => return Err(error),
        };
        self.file.set_len(size).map_err(StoreError::io("cut", &self.path))?;
        (self.size, self.hasher) = (size, hasher);
        Err(error)
    }

    /// Compares what arrived with the digest it should have.
    pub async fn compare(&mut self, expected: Digest) -> Result<(), UploadError> {
        let hasher = self.take_hasher(expected.algorithm()).await?;
        self.hasher = (expected.algorithm() == self.algorithm).then(|| hasher.clone());
        let actual = hasher.finish();
        if actual == expected { Ok(()) } else { Err(UploadError::WrongDigest { expected, actual }) }
    }

    /// The running hash, or a new one over what is on disk.
    async fn take_hasher(&mut self, algorithm: Algorithm) -> Result<Hasher, StoreError> {
        if algorithm == self.algorithm
            && let Some(hasher) = self.hasher.take()
        {
            return Ok(hasher);
        }
        let (file, size) = (Arc::clone(&self.file), self.size);
        blocking(move || rehash(&file, size, algorithm)).await?.map_err(StoreError::io("read", &self.path))
    }
}

fn rehash(file: &File, size: u64, algorithm: Algorithm) -> std::io::Result<Hasher> {
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0_u8; REHASH_BYTES];
    let mut at = 0;
    while at < size {
        let wanted = usize::try_from(size - at).unwrap_or(REHASH_BYTES).min(REHASH_BYTES);
        file.read_exact_at(&mut buffer[..wanted], at)?;
        hasher.update(&buffer[..wanted]);
        at += wanted as u64;
    }
    Ok(hasher)
}
