//! From a request's body to the disk: one batch is written and hashed while the next one is being received.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use nebh_oci::digest::Hasher;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::UploadError;
use crate::store::StoreError;

/// Bytes collected before they are handed to the disk. Two such batches at most are held per running upload; larger
/// ones gain nothing measurable.
const BATCH_BYTES: usize = 512 << 10;

/// Bytes that must arrive in each span of the longest silence: a body that drips is no client, and holds a session.
const PACE_BYTES: usize = 4 << 10;
/// What uploads leave free on the disk, and at most so large a part of it: deleting and sweeping must write to the
/// database before they can free anything.
const RESERVE_BYTES: u64 = 64 << 20;
/// See [`RESERVE_BYTES`].
const RESERVE_PART: u64 = 20;

/// Writes and hashes one batch on the blocking pool while the next one is being received.
pub(super) struct Sink {
    file: Arc<File>,
    at: u64,
    idle: Option<Hasher>,
    busy: Option<JoinHandle<std::io::Result<Hasher>>>,
}

/// What a sink did.
pub(super) struct Written {
    pub(super) at: u64,
    pub(super) hasher: Hasher,
}

impl Sink {
    /// A sink that goes on at this place with this hash.
    pub(super) fn new(file: Arc<File>, at: u64, hasher: Hasher) -> Self {
        Self { file, at, idle: Some(hasher), busy: None }
    }

    async fn hasher(&mut self) -> Result<Hasher, StoreError> {
        match (self.idle.take(), self.busy.take()) {
            (Some(hasher), _) => Ok(hasher),
            (None, Some(task)) => {
                task.await.map_err(|_| StoreError::Ended)?.map_err(StoreError::io("write", "an upload"))
            }
            (None, None) => Err(StoreError::Ended),
        }
    }

    async fn put(&mut self, batch: Vec<Bytes>, bytes: u64) -> Result<(), StoreError> {
        let mut hasher = self.hasher().await?;
        let (file, mut at) = (Arc::clone(&self.file), self.at);
        self.at += bytes;
        self.busy = Some(tokio::task::spawn_blocking(move || {
            keep_reserve(&file)?;
            for piece in batch {
                file.write_all_at(&piece, at)?;
                at += piece.len() as u64;
                hasher.update(&piece);
            }
            Ok(hasher)
        }));
        Ok(())
    }

    /// Waits for the last batch.
    pub(super) async fn settle(mut self) -> Result<Written, StoreError> {
        let hasher = self.hasher().await?;
        Ok(Written { at: self.at, hasher })
    }
}

fn keep_reserve(file: &File) -> std::io::Result<()> {
    let disk = rustix::fs::fstatvfs(file)?;
    let reserve = RESERVE_BYTES.min(disk.f_blocks * disk.f_frsize / RESERVE_PART);
    if disk.f_bavail * disk.f_frsize < reserve {
        return Err(std::io::ErrorKind::StorageFull.into());
    }
    Ok(())
}

/// Copies a body into a sink until it ends, breaks off, stalls or is too large. What arrived is written in any case.
pub(super) async fn copy<S, E>(
    mut body: S,
    sink: &mut Sink,
    stall_max: Duration,
    bytes_max: u64,
) -> Result<(), UploadError>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    let mut batch = Vec::new();
    let mut held = 0_usize;
    let mut outcome = Ok(());
    let (mut pace, mut until) = (0_usize, Instant::now() + stall_max);
    loop {
        match tokio::time::timeout_at(until, body.next()).await {
            Ok(Some(Ok(piece))) => {
                pace += piece.len();
                if pace >= PACE_BYTES {
                    (pace, until) = (0, Instant::now() + stall_max);
                }
                if sink.at + (held + piece.len()) as u64 > bytes_max {
                    outcome = Err(UploadError::TooLarge(bytes_max));
                    break;
                }
                held += piece.len();
                batch.push(piece);
                if held >= BATCH_BYTES {
                    sink.put(std::mem::take(&mut batch), held as u64).await?;
                    held = 0;
                }
            }
            Ok(Some(Err(_))) => {
                outcome = Err(UploadError::Broken { received: 0 });
                break;
            }
            Ok(None) => break,
            Err(_) => {
                outcome = Err(UploadError::Stalled(stall_max));
                break;
            }
        }
    }
    if held > 0 {
        sink.put(batch, held as u64).await?;
    }
    outcome
}
