//! Upload sessions: bytes that arrive in one or many requests, hashed while they are written.
//!
//! A session is bound to its repository by its file's name, so it survives a restart of the gateway and cannot be
//! used under another repository. One request works on it at a time; the work runs in a task of its own, so that a
//! client that goes away leaves a session that can be continued where it broke off.

use std::collections::HashMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::Stream;
use nebh_oci::digest::{Algorithm, Digest, Hasher};
use nebh_oci::names::Repository;
use tokio::sync::OwnedMutexGuard;

use super::write::blocking;
use super::{Store, StoreError};
use crate::crash;

mod sink;

use sink::{Sink, copy};

/// Bytes per read when a session is hashed again after a restart.
const REHASH_BYTES: usize = 1 << 20;

/// The name of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UploadId(uuid::Uuid);

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// A text that names no session.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not the name of an upload")]
pub struct UploadIdError(String);

impl FromStr for UploadId {
    type Err = UploadIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // One spelling only: the id becomes a file name.
        match uuid::Uuid::try_parse(text) {
            Ok(id) if id.hyphenated().to_string() == text => Ok(Self(id)),
            _ => Err(UploadIdError(text.to_owned())),
        }
    }
}

/// Why a session could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// Never begun, finished, cancelled, aged away, or of another repository.
    #[error("no upload `{0}` in this repository")]
    Unknown(UploadId),
    /// Another request works on it.
    #[error("another request works on upload `{0}`")]
    Busy(UploadId),
    /// Too many unfinished sessions.
    #[error("{0} uploads are unfinished already, no more are begun")]
    TooMany(usize),
    /// The client went away, or sent what is no body.
    #[error("the request's body broke off after {received} bytes")]
    Broken {
        /// What did arrive and is kept.
        received: u64,
    },
    /// The client sent nothing for too long.
    #[error("no byte arrived for {} seconds", .0.as_secs())]
    Stalled(Duration),
    /// More than a blob may have.
    #[error("the blob is larger than {0} bytes")]
    TooLarge(u64),
    /// Fewer or more bytes than the request said.
    #[error("the request promised {promised} bytes and carried {received}")]
    Length {
        /// By its range.
        promised: u64,
        /// In its body.
        received: u64,
    },
    /// The finished bytes have another digest.
    #[error("the uploaded bytes have digest {actual}, not {expected}")]
    WrongDigest {
        /// As asked.
        expected: Digest,
        /// As found.
        actual: Digest,
    },
    /// The disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One session, held by one request.
#[derive(Debug)]
pub struct Session {
    id: UploadId,
    path: PathBuf,
    file: Arc<File>,
    /// Missing after a restart or a failed write: then the file is read again.
    hasher: Option<Hasher>,
    algorithm: Algorithm,
    size: u64,
}

#[derive(Debug)]
struct Entry {
    repository: Repository,
    session: Arc<tokio::sync::Mutex<Session>>,
    touched: Instant,
}

/// All sessions.
#[derive(Debug)]
pub struct Uploads {
    store: Arc<Store>,
    sessions: Mutex<HashMap<UploadId, Entry>>,
    max: usize,
}

impl Uploads {
    /// No sessions yet; those on disk from before are taken up when somebody asks for them.
    pub fn new(store: Arc<Store>, max: usize) -> Self {
        Self { store, sessions: Mutex::new(HashMap::new()), max }
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, HashMap<UploadId, Entry>> {
        self.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How many are unfinished in memory.
    pub fn count(&self) -> usize {
        self.sessions().len()
    }

    /// Begins a session.
    pub async fn begin(
        &self,
        repository: &Repository,
        algorithm: Algorithm,
    ) -> Result<OwnedMutexGuard<Session>, UploadError> {
        if self.count() >= self.max {
            return Err(UploadError::TooMany(self.max));
        }
        // Random, not v7: an upload's address must not be guessed from another's.
        let id = UploadId(uuid::Builder::from_random_bytes(random_bytes()?).into_uuid());
        let path = self.store.tree().upload(repository, id);
        let opened = path.clone();
        let file =
            blocking(move || OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&opened))
                .await?
                .map_err(StoreError::io("make", &path))?;
        crash::point("upload-made");
        let hasher = Some(Hasher::new(algorithm));
        Ok(self.hold(repository, Session { id, path, file: Arc::new(file), hasher, algorithm, size: 0 }))
    }

    fn hold(&self, repository: &Repository, session: Session) -> OwnedMutexGuard<Session> {
        let id = session.id;
        let session = Arc::new(tokio::sync::Mutex::new(session));
        let guard = Arc::clone(&session).try_lock_owned();
        let entry = Entry { repository: repository.clone(), session, touched: Instant::now() };
        self.sessions().insert(id, entry);
        guard.unwrap_or_else(|_| unreachable!("a lock that was just made is free"))
    }

    /// Takes up a session of this repository.
    pub async fn resume(&self, repository: &Repository, id: UploadId) -> Result<OwnedMutexGuard<Session>, UploadError> {
        {
            let mut sessions = self.sessions();
            if let Some(entry) = sessions.get_mut(&id) {
                if entry.repository != *repository {
                    return Err(UploadError::Unknown(id));
                }
                entry.touched = Instant::now();
                return Arc::clone(&entry.session).try_lock_owned().map_err(|_| UploadError::Busy(id));
            }
        }
        let path = self.store.tree().upload(repository, id);
        let opened = path.clone();
        let found = blocking(move || -> std::io::Result<(File, u64)> {
            let file = OpenOptions::new().read(true).write(true).open(&opened)?;
            let size = file.metadata()?.len();
            Ok((file, size))
        })
        .await?;
        let (file, size) = match found {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(UploadError::Unknown(id)),
            Err(error) => return Err(StoreError::io("open", path)(error).into()),
        };
        if self.count() >= self.max {
            return Err(UploadError::TooMany(self.max));
        }
        let session = Session { id, path, file: Arc::new(file), hasher: None, algorithm: Algorithm::Sha256, size };
        // Another request may have taken it up meanwhile; then that one has it.
        if self.sessions().contains_key(&id) {
            return Err(UploadError::Busy(id));
        }
        Ok(self.hold(repository, session))
    }

    /// Forgets a session and removes what is left of its file.
    pub async fn close(&self, session: OwnedMutexGuard<Session>) -> Result<(), UploadError> {
        self.sessions().remove(&session.id);
        let path = session.path.clone();
        drop(session);
        blocking(move || remove(path)).await??;
        Ok(())
    }

    /// Throws away sessions without activity, in memory and on disk. `now` is the wall clock, for files of before.
    pub async fn expire(&self, age_max: Duration, now: SystemTime) -> Result<usize, StoreError> {
        let mut paths = Vec::new();
        self.sessions().retain(|_, entry| {
            let old = entry.touched.elapsed() >= age_max;
            // A session that a request works on is not old, whatever the clock says.
            match entry.session.try_lock() {
                Ok(session) if old => {
                    paths.push(session.path.clone());
                    false
                }
                _ => true,
            }
        });
        let held: Vec<PathBuf> =
            self.sessions().iter().map(|(id, entry)| self.store.tree().upload(&entry.repository, *id)).collect();
        let folder = self.store.tree().uploads();
        blocking(move || {
            for entry in std::fs::read_dir(&folder).map_err(StoreError::io("list", &folder))? {
                let entry = entry.map_err(StoreError::io("list", &folder))?;
                let modified = entry.metadata().and_then(|found| found.modified());
                // A time in the future, or none: keep.
                let old = modified.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age >= age_max));
                if old && !held.contains(&entry.path()) && !paths.contains(&entry.path()) {
                    paths.push(entry.path());
                }
            }
            let count = paths.len();
            paths.into_iter().try_for_each(remove)?;
            Ok(count)
        })
        .await?
    }
}

fn remove(path: PathBuf) -> Result<(), StoreError> {
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

fn random_bytes() -> Result<[u8; 16], StoreError> {
    use std::io::Read;
    let mut bytes = [0; 16];
    let path = "/dev/urandom";
    File::open(path).and_then(|mut file| file.read_exact(&mut bytes)).map_err(StoreError::io("read", path))?;
    Ok(bytes)
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
        let written = sink.settle().await?;
        let received = written.at - self.size;
        self.size = written.at;
        self.hasher = Some(written.hasher);
        outcome.map_err(|error| match error {
            UploadError::Broken { .. } => UploadError::Broken { received },
            other => other,
        })?;
        Ok(received)
    }

    /// Appends a body that must have exactly `promised` bytes; otherwise nothing of it is kept.
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
        let received = self.append(body, stall_max, bytes_max).await?;
        if received == promised {
            return Ok(());
        }
        self.file.set_len(size).map_err(StoreError::io("cut", &self.path))?;
        (self.size, self.hasher) = (size, hasher);
        Err(UploadError::Length { promised, received })
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

#[cfg(test)]
mod tests;
