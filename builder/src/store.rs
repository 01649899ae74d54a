//! What the builder keeps between builds, all of it below one state folder. The only room that knows its paths.
//!
//! ```text
//!   <state>/inputs/            the input archive, forever (see `archive`)
//!   <state>/images/            one image layout: layers and images
//!   <state>/kept/<kind>/<hex>  small records by the digest of all that they follow from: facts, layers, plans
//!   <state>/folders/<kind>/<hex>/  folders by the same rule: toolchain roots, vendored crates, compiled dependencies
//!   <state>/work/              what is being made; a name lives as long as its build
//! ```
//!
//! Everything but `inputs` may be deleted at any time: it is made again, the same. Records and folders appear by a
//! rename, so a crash leaves only something in `work`, which the next start of the same kind of work takes away.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nebh_oci::digest::Digest;
use nebh_oci::layout::{Layout, LayoutError};
use rustix::mount::{UnmountFlags, unmount};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Where, inside the folder of a build, something may be mounted.
pub(crate) const LAYERED: &str = "layered";

/// The state folder of a builder.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    inputs: PathBuf,
    images: Layout,
}

/// Why the state folder does not do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system said no.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Cause.
        #[source]
        cause: io::Error,
    },
    /// The layout did not open.
    #[error("cannot use the images of the state folder")]
    Images(#[source] LayoutError),
    /// A record cannot be written as JSON.
    #[error("cannot write a record")]
    Record(#[source] serde_json::Error),
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |cause| StoreError::Io { action, path, cause }
}

impl Store {
    /// Opens the state folder, making it if need be.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = root.into();
        for folder in ["", "kept", "folders", "work"] {
            let path = root.join(folder);
            make_open(&path)?;
        }
        let images = Layout::create(root.join("images")).map_err(StoreError::Images)?;
        let store = Self { inputs: root.join("inputs"), root, images };
        store.sweep_work()?;
        Ok(store)
    }

    /// The state folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the input archive is.
    pub fn inputs(&self) -> PathBuf {
        self.inputs.clone()
    }

    /// The same folder, with an input archive that lies somewhere else.
    #[must_use]
    pub fn with_inputs(self, inputs: PathBuf) -> Self {
        Self { inputs, ..self }
    }

    /// The layout of layers and images.
    pub fn images(&self) -> &Layout {
        &self.images
    }

    /// A record, if it is kept and can be read. One that cannot be read is made again, the same.
    pub fn record<T: DeserializeOwned>(&self, kind: &str, key: &Digest) -> Option<T> {
        serde_json::from_slice(&fs::read(self.record_path(kind, key)).ok()?).ok()
    }

    /// Keeps a record.
    pub fn keep<T: Serialize>(&self, kind: &str, key: &Digest, record: &T) -> Result<(), StoreError> {
        let path = self.record_path(kind, key);
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
        let bytes = serde_json::to_vec(record).map_err(StoreError::Record)?;
        let mut file = tempfile::NamedTempFile::new_in(self.root.join("work")).map_err(failed("write", &path))?;
        io::Write::write_all(&mut file, &bytes).map_err(failed("write", &path))?;
        file.persist(&path).map_err(|error| failed("write", &path)(error.error))?;
        Ok(())
    }

    /// A kept folder, if it is there.
    pub fn folder(&self, kind: &str, key: &Digest) -> Option<PathBuf> {
        let path = self.root.join("folders").join(kind).join(key.hex());
        path.is_dir().then_some(path)
    }

    /// Keeps a folder of [`Store::work`] under its key. If another build was quicker, its result stays: it is the same.
    pub fn keep_folder(&self, kind: &str, key: &Digest, made: &Path) -> Result<PathBuf, StoreError> {
        let path = self.root.join("folders").join(kind).join(key.hex());
        let parent = path.parent().unwrap_or(&self.root);
        make_open(parent)?;
        match fs::rename(made, &path) {
            Ok(()) => Ok(path),
            Err(_) if path.is_dir() => Ok(path),
            Err(cause) => Err(failed("keep", &path)(cause)),
        }
    }

    /// A fresh folder for one build; gone when it is dropped.
    pub fn work(&self) -> Result<Work, StoreError> {
        let parent = self.root.join("work");
        let folder = tempfile::Builder::new().prefix("w-").tempdir_in(&parent).map_err(failed("create", &parent))?;
        let path = folder.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(failed("open", path))?;
        let lock = File::create(path.join(".lock")).map_err(failed("lock", path))?;
        lock.lock().map_err(failed("lock", path))?;
        Ok(Work { folder, _lock: lock })
    }

    /// Takes away what builds left that did not end: each living one holds a lock in its folder.
    fn sweep_work(&self) -> Result<(), StoreError> {
        let parent = self.root.join("work");
        for entry in fs::read_dir(&parent).map_err(failed("list", &parent))? {
            let path = entry.map_err(failed("list", &parent))?.path();
            if is_abandoned(&path) {
                // A build that was killed leaves its overlay mounted.
                let _not_mounted = unmount(path.join(LAYERED), UnmountFlags::DETACH);
                // What cannot be removed now is removed another time.
                drop(remove_lock_last(&path));
            }
        }
        Ok(())
    }

    fn record_path(&self, kind: &str, key: &Digest) -> PathBuf {
        self.root.join("kept").join(kind).join(key.hex())
    }
}

/// Takes a build's folder away; if that fails halfway, its lock still says that it is nobody's.
fn remove_lock_last(work: &Path) -> io::Result<()> {
    for entry in fs::read_dir(work)? {
        let entry = entry?;
        match (entry.file_type()?.is_dir(), entry.file_name() == ".lock") {
            (true, _) => fs::remove_dir_all(entry.path())?,
            (false, false) => fs::remove_file(entry.path())?,
            (false, true) => {}
        }
    }
    fs::remove_dir_all(work)
}

/// True for a build's folder whose build ended without taking it away.
pub(crate) fn is_abandoned(work: &Path) -> bool {
    File::open(work.join(".lock")).is_ok_and(|lock| lock.try_lock().is_ok())
}

/// The folder of one build, below `work`.
#[derive(Debug)]
pub struct Work {
    folder: tempfile::TempDir,
    _lock: File,
}

impl Work {
    /// Its path.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A fresh folder in it.
    pub fn folder(&self, name: &str) -> Result<PathBuf, StoreError> {
        let path = self.folder.path().join(name);
        make_open(&path)?;
        Ok(path)
    }
}

/// The user of the sandbox has to reach what is kept for it, whatever the umask of whoever builds.
fn make_open(path: &Path) -> Result<(), StoreError> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(failed("create", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(failed("open", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_of_a_build_that_was_killed_is_taken_away_and_a_living_ones_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let living = store.work().unwrap();
        let killed = dir.path().join("work/w-killed");
        fs::create_dir_all(killed.join("deep/er")).unwrap();
        fs::write(killed.join(".lock"), "").unwrap();
        let again = Store::open(dir.path()).unwrap();
        assert!(living.path().exists() && !killed.exists());
        let path = living.path().to_owned();
        drop(living);
        assert!(!path.exists());
        assert!(again.record::<String>("plans", &Digest::sha256(b"")).is_none());
    }

    #[test]
    fn record_and_folder_come_back_under_their_key_and_rubbish_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let key = Digest::sha256(b"key");
        store.keep("facts", &key, &"value").unwrap();
        assert_eq!(store.record::<String>("facts", &key).as_deref(), Some("value"));
        fs::write(dir.path().join("kept/facts").join(key.hex()), "{").unwrap();
        assert!(store.record::<String>("facts", &key).is_none());
        let work = store.work().unwrap();
        for name in ["first", "second"] {
            let made = work.folder(name).unwrap();
            fs::write(made.join("file"), name).unwrap();
            let kept = store.keep_folder("roots", &key, &made).unwrap();
            assert_eq!(fs::read_to_string(kept.join("file")).unwrap(), "first");
        }
    }
}
