//! The tree under `state:`; the only file with path strings. Pure.
//!
//! ```text
//!   gateway.db  gateway.lock
//!   blobs/sha256/ab/abcd…        immutable bytes
//!   uploads/<uuid>.<repository>  begun, not finished; the second part binds it to its repository
//!   quarantine/sha256-abcd….<n>  bytes that did not match their name, kept for a person to look at
//! ```

use std::path::{Path, PathBuf};

use nebh_oci::digest::{Algorithm, Digest};
use nebh_oci::names::Repository;

use super::upload_id::UploadId;

/// The state folder of one gateway.
#[derive(Clone, Debug)]
pub struct Tree(PathBuf);

impl Tree {
    /// The tree under `root`.
    pub fn new(root: &Path) -> Self {
        Self(root.to_owned())
    }

    /// The state folder itself.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// The database file.
    pub fn database(&self) -> PathBuf {
        self.0.join("gateway.db")
    }

    /// Held while a gateway works on this tree.
    pub fn lock(&self) -> PathBuf {
        self.0.join("gateway.lock")
    }

    /// Unfinished uploads.
    pub fn uploads(&self) -> PathBuf {
        self.0.join("uploads")
    }

    /// Bytes that did not match their name.
    pub fn quarantine(&self) -> PathBuf {
        self.0.join("quarantine")
    }

    /// One upload. A session opened under another repository's name finds nothing here.
    pub fn upload(&self, repository: &Repository, id: UploadId) -> PathBuf {
        let bound = Digest::sha256(repository.as_str().as_bytes());
        self.uploads().join(format!("{id}.{}", bound.short()))
    }

    /// One blob.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.blob_folder(digest).join(hex)
    }

    /// The folder of one blob.
    pub fn blob_folder(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.0.join("blobs").join(digest.algorithm().name()).join(&hex[..2])
    }

    /// All folders that must be there before the first push, each after the one that holds it.
    pub fn folders(&self) -> Vec<PathBuf> {
        let blobs = self.0.join("blobs");
        let algorithms = [Algorithm::Sha256, Algorithm::Sha512].map(|algorithm| blobs.join(algorithm.name()));
        [self.0.clone(), self.uploads(), self.quarantine(), blobs].into_iter().chain(algorithms).collect()
    }

    /// The folders in which blobs of one algorithm lie, by that algorithm.
    pub fn blob_roots(&self) -> [(Algorithm, PathBuf); 2] {
        [Algorithm::Sha256, Algorithm::Sha512].map(|algorithm| (algorithm, self.0.join("blobs").join(algorithm.name())))
    }

    /// The blob that a file of this name holds; none for a name that is no blob's.
    pub fn named(algorithm: Algorithm, name: &std::ffi::OsStr) -> Option<Digest> {
        format!("{algorithm}:{}", name.to_str()?).parse().ok()
    }

    /// Where the `nth` damaged copy of a digest is put.
    pub fn quarantined(&self, digest: &Digest, nth: u32) -> PathBuf {
        self.quarantine().join(format!("{}-{}.{nth}", digest.algorithm(), digest.hex()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upload_path_differs_between_repositories() {
        let tree = Tree::new(Path::new("/s"));
        let id: UploadId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let of = |name: &str| tree.upload(&name.parse().unwrap(), id);
        assert_ne!(of("a"), of("b"));
        assert_eq!(of("a"), of("a"));
    }

    #[test]
    fn every_blob_folder_lies_in_a_folder_that_is_made_at_start() {
        let tree = Tree::new(Path::new("/s"));
        let folders = tree.folders();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let folder = tree.blob_folder(&Digest::of(algorithm, b"x"));
            assert!(folders.iter().any(|made| Some(made.as_path()) == folder.parent()), "{}", folder.display());
        }
    }
}
