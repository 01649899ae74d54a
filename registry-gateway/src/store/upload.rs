//! Upload sessions: bytes that arrive in one or many requests, hashed while they are written.
//!
//! A session is bound to its repository by its file's name, so it survives a restart of the gateway and cannot be
//! used under another repository. One request works on it at a time; the work runs in a task of its own, so that a
//! client that goes away leaves a session that can be continued where it broke off.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use nebh_oci::digest::{Algorithm, Digest, Hasher};
use nebh_oci::names::Repository;
use tokio::sync::OwnedMutexGuard;

use super::{Store, StoreError, UploadId, blocking};
use crate::crash;

mod session;
mod sink;

pub use session::Session;

/// When all places are taken, a session that nobody touched for so long gives up its own: sessions that are begun and
/// left must not keep everybody else from pushing until they age away.
const IDLE_MAX: Duration = Duration::from_mins(10);

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
    /// The client sent nothing, or next to nothing, for too long.
    #[error("too little arrived for {} seconds", .0.as_secs())]
    Stalled(Duration),
    /// More than a blob may have.
    #[error("the blob is larger than {0} bytes")]
    TooLarge(u64),
    /// Fewer bytes than the request said.
    #[error("the request promised {promised} bytes and carried {received}")]
    Short {
        /// By its range.
        promised: u64,
        /// In its body.
        received: u64,
    },
    /// More bytes than the request said.
    #[error("the request promised {0} bytes and carried more")]
    Long(u64),
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
    idle_max: Duration,
}

impl Uploads {
    /// No sessions yet; those on disk from before are taken up when somebody asks for them.
    pub fn new(store: Arc<Store>, max: usize) -> Self {
        Self { store, sessions: Mutex::new(HashMap::new()), max, idle_max: IDLE_MAX }
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
        self.make_room().await?;
        let id = UploadId::of(random_bytes()?);
        let path = self.store.tree().upload(repository, id);
        let opened = path.clone();
        let file =
            blocking(move || OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&opened))
                .await?
                .map_err(StoreError::io("make", &path))?;
        crash::point("upload-made");
        let hasher = Some(Hasher::new(algorithm));
        let held =
            self.hold(repository, Session { id, path: path.clone(), file: Arc::new(file), hasher, algorithm, size: 0 });
        if held.is_err() {
            blocking(move || remove(path)).await??;
        }
        held
    }

    /// Refuses when every place is taken and none was idle for long; otherwise there is one.
    async fn make_room(&self) -> Result<(), UploadError> {
        let idle = {
            let mut sessions = self.sessions();
            if sessions.len() < self.max {
                return Ok(());
            }
            let idle = sessions
                .iter()
                .filter(|(_, entry)| entry.touched.elapsed() >= self.idle_max && entry.session.try_lock().is_ok())
                .min_by_key(|(_, entry)| entry.touched)
                .map(|(id, _)| *id);
            idle.and_then(|id| sessions.remove(&id).map(|entry| (id, entry)))
        };
        let Some((id, entry)) = idle else {
            return Err(UploadError::TooMany(self.max));
        };
        tracing::info!(%id, repository = %entry.repository, "an idle upload gave up its place");
        let path = self.store.tree().upload(&entry.repository, id);
        blocking(move || remove(path)).await??;
        Ok(())
    }

    /// Enters a session, if it still is the only one of its name and there still is room: both are looked at in the
    /// moment of entering, since others begin and resume at the same time.
    fn hold(&self, repository: &Repository, session: Session) -> Result<OwnedMutexGuard<Session>, UploadError> {
        let id = session.id;
        let mut sessions = self.sessions();
        let full = sessions.len() >= self.max;
        match sessions.entry(id) {
            Slot::Occupied(_) => Err(UploadError::Busy(id)),
            Slot::Vacant(_) if full => Err(UploadError::TooMany(self.max)),
            Slot::Vacant(slot) => {
                let session = Arc::new(tokio::sync::Mutex::new(session));
                let guard = Arc::clone(&session).try_lock_owned().map_err(|_| UploadError::Busy(id))?;
                slot.insert(Entry { repository: repository.clone(), session, touched: Instant::now() });
                Ok(guard)
            }
        }
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
        self.make_room().await?;
        let session = Session { id, path, file: Arc::new(file), hasher: None, algorithm: Algorithm::Sha256, size };
        self.hold(repository, session)
    }

    /// Forgets a session and removes what is left of its file. The file first: whoever asks in between finds the session
    /// busy, and nobody takes up a file that is about to go.
    pub async fn close(&self, session: OwnedMutexGuard<Session>) -> Result<(), UploadError> {
        let path = session.path.clone();
        blocking(move || remove(path)).await??;
        self.sessions().remove(&session.id);
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

#[cfg(test)]
mod tests;
