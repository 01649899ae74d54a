//! Publishing and removing blobs. Owns: every write, link, sync and unlink below `blobs/` and `quarantine/`.
//!
//! Crash windows of [`Store::publish`]: before the link, nothing is visible; after the link and before the folder's
//! sync, the name may vanish with the power, and the row was not written yet, so nobody was told; after the sync, the
//! bytes are there without a row, and the next push of the digest adopts them.
//!
//! Rejected: retrying a failed fsync (the kernel may have dropped the pages and call the second one a success);
//! rename over an existing blob (a damaged upload could replace a good file).

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use nebh_oci::digest::Digest;
use nebh_oci::locked_file::LockedFile;
use tokio::sync::MutexGuard;

use super::StoreError;
use super::keys::Tree;
use super::locks::DigestLocks;
use super::read::{BlobReader, FileState, ReadError};
use crate::crash;

/// Damaged copies kept of one digest.
const QUARANTINE_MAX: u32 = 16;

/// The state folder, opened by one process at a time.
#[derive(Debug)]
pub struct Store {
    tree: Tree,
    locks: DigestLocks,
    /// Holds the file lock for as long as the store lives.
    _lock: LockedFile,
}

impl Store {
    /// Opens or makes the state folder and takes its lock.
    pub fn open(root: &Path) -> Result<Arc<Self>, StoreError> {
        let tree = Tree::new(root);
        let mut made = false;
        for folder in tree.folders() {
            match std::fs::DirBuilder::new().recursive(folder == root).mode(0o700).create(&folder) {
                Ok(()) => made = true,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(StoreError::io("make folder", folder)(error)),
            }
        }
        let path = tree.lock();
        let Some(lock) = LockedFile::claim_service(&path).map_err(StoreError::io("lock", &path))? else {
            return Err(StoreError::Locked { path });
        };
        if made {
            for folder in tree.folders() {
                sync_folder(&folder)?;
            }
        }
        Ok(Arc::new(Self { tree, locks: DigestLocks::default(), _lock: lock }))
    }

    /// Paths.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Makes the names of the files in the state folder durable. Blocking.
    pub fn sync_root(&self) -> Result<(), StoreError> {
        sync_folder(self.tree.root())
    }

    /// Serialises publishing a digest with removing it. Held from the link to the row, and from the row's end to the
    /// unlink: so a file is never removed under a row that was just written.
    pub async fn lock(&self, digest: &Digest) -> MutexGuard<'_, ()> {
        self.locks.lock(digest).await
    }

    /// Makes complete, verified bytes visible under their digest, durably. The caller holds [`Store::lock`] and has
    /// compared the digest; afterwards it writes the row. Blocking.
    pub fn publish(&self, from: &Path, file: &File, size: u64, digest: &Digest) -> Result<(), StoreError> {
        crash::point("blob-complete");
        // Data before name: a name must never lead to bytes that a power cut can take.
        file.sync_data().map_err(StoreError::io("sync", from))?;
        crash::point("blob-synced");
        let to = self.tree.blob(digest);
        self.make_folder(digest)?;
        match std::fs::hard_link(from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // It may have rotted unseen: a 201 must not rest on bytes that nobody looked at.
                if !self.holds(digest, size)? {
                    self.set_aside(digest)?;
                    std::fs::hard_link(from, &to).map_err(StoreError::io("link", &to))?;
                }
            }
            Err(error) => return Err(StoreError::io("link", to)(error)),
        }
        crash::point("blob-linked");
        sync_folder(&self.tree.blob_folder(digest))?;
        crash::point("blob-folder-synced");
        std::fs::remove_file(from).map_err(StoreError::io("remove", from))?;
        crash::point("blob-unlinked");
        Ok(())
    }

    /// Whether the bytes that are there are those of the name. A failure to read them says nothing.
    fn holds(&self, digest: &Digest, size: u64) -> Result<bool, StoreError> {
        let file = self.open_blob(digest)?;
        let there = file.metadata().map_err(StoreError::io("look at", self.tree.blob(digest)))?.len();
        if there != size {
            return Ok(false);
        }
        match BlobReader::check(file, *digest, size) {
            Ok(()) => Ok(true),
            Err(ReadError::Corrupt { .. } | ReadError::Short(_) | ReadError::Changed(_)) => Ok(false),
            Err(ReadError::Io { source, .. }) => Err(StoreError::io("read", self.tree.blob(digest))(source)),
        }
    }

    /// The state of the file under a digest, if it is this one and not one that was there before. Blocking.
    pub fn published(&self, file: &File, digest: &Digest) -> Option<FileState> {
        let named = std::fs::metadata(self.tree.blob(digest)).ok()?;
        let ours = file.metadata().ok()?;
        (named.dev() == ours.dev() && named.ino() == ours.ino()).then(|| FileState::of(&ours))
    }

    /// Each folder is made once, and is durable before anything is put into it.
    fn make_folder(&self, digest: &Digest) -> Result<(), StoreError> {
        let folder = self.tree.blob_folder(digest);
        match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => {
                crash::point("blob-folder-made");
                folder.parent().map_or(Ok(()), sync_folder)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(StoreError::io("make folder", folder)(error)),
        }
    }

    /// Moves a blob whose bytes do not match its name out of the way, where a person can look at it. Blocking.
    pub fn set_aside(&self, digest: &Digest) -> Result<(), StoreError> {
        let from = self.tree.blob(digest);
        for nth in 0..QUARANTINE_MAX {
            let to = self.tree.quarantined(digest, nth);
            match std::fs::hard_link(&from, &to) {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(StoreError::io("link", to)(error)),
            }
        }
        crash::point("damage-kept");
        std::fs::remove_file(&from).map_err(StoreError::io("remove", &from))?;
        crash::point("damage-unlinked");
        sync_folder(&self.tree.blob_folder(digest))
    }

    /// Removes the bytes of a blob that has no row any more. The caller holds [`Store::lock`]. Blocking.
    pub fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.tree.blob(digest);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StoreError::io("remove", path)(error)),
        }
    }

    /// Opens a blob for reading. Blocking.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, StoreError> {
        let path = self.tree.blob(digest);
        File::open(&path).map_err(StoreError::io("open", path))
    }
}

fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(StoreError::io("sync folder", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(store: &Store, name: &str, bytes: &[u8]) -> (std::path::PathBuf, File) {
        let path = store.tree().uploads().join(name);
        std::fs::write(&path, bytes).unwrap();
        (path.clone(), File::open(path).unwrap())
    }

    #[test]
    fn state_folder_takes_one_gateway_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = Store::open(folder.path()).unwrap();
        assert!(matches!(Store::open(folder.path()), Err(StoreError::Locked { .. })));
        drop(first);
        Store::open(folder.path()).unwrap();
    }

    #[test]
    fn blob_published_twice_keeps_the_first_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let digest = Digest::sha256(b"good");
        for name in ["a", "b"] {
            let (path, file) = staged(&store, name, b"good");
            store.publish(&path, &file, 4, &digest).unwrap();
            assert!(!path.exists());
        }
        assert_eq!(std::fs::read(store.tree().blob(&digest)).unwrap(), b"good");
    }

    #[test]
    fn blob_that_rotted_on_disk_is_replaced_and_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let digest = Digest::sha256(b"good");
        std::fs::create_dir(store.tree().blob_folder(&digest)).unwrap();
        std::fs::write(store.tree().blob(&digest), b"go").unwrap();
        let (path, file) = staged(&store, "a", b"good");
        store.publish(&path, &file, 4, &digest).unwrap();
        assert_eq!(std::fs::read(store.tree().blob(&digest)).unwrap(), b"good");
        assert_eq!(std::fs::read(store.tree().quarantined(&digest, 0)).unwrap(), b"go");
        // As long, and other bytes.
        std::fs::write(store.tree().blob(&digest), b"goof").unwrap();
        let (path, file) = staged(&store, "b", b"good");
        store.publish(&path, &file, 4, &digest).unwrap();
        assert_eq!(std::fs::read(store.tree().blob(&digest)).unwrap(), b"good");
        assert_eq!(std::fs::read(store.tree().quarantined(&digest, 1)).unwrap(), b"goof");
    }
}
