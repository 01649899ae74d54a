//! The OCI image layout on disk: blobs by digest, and `index.json` with what they are called.
//!
//! ```text
//!   root/oci-layout            {"imageLayoutVersion":"1.0.0"}
//!   root/index.json            one entry for each tag, and for each manifest put without one
//!   root/blobs/sha256/<hex>    bytes that hash to their name
//!   root/.tmp/                 what is being written; each file locked by its writer
//! ```
//!
//! Owns: files below `root`. A blob appears under its name only whole, hashed and synced: temp file → hash while
//! writing → compare → fsync → rename → fsync of the directory. `index.json` changes under a lock of `root` and by
//! rename, so that concurrent writers lose nothing and a reader sees the old list or the new one. After a crash only
//! `.tmp/` may hold rubbish; [`Layout::remove_abandoned`] takes what no living writer has locked.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::digest::{Algorithm, Digest, Hasher};
use crate::manifest::{Descriptor, ImageIndex, MANIFEST_SIZE_MAX, ManifestError, RawManifest};
use crate::names::Tag;

mod writer;

pub use writer::BlobWriter;

/// The annotation that gives an entry of `index.json` its tag.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

const VERSION: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// `index.json` is a manifest like others.
const INDEX_SIZE_MAX: u64 = MANIFEST_SIZE_MAX as u64;

/// An image layout directory.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

/// Why a layout did not give or take bytes.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The file system said no.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No `oci-layout` file of version 1.0.0.
    #[error("`{0}` is not an OCI image layout of version 1.0.0")]
    NotALayout(PathBuf),
    /// No such blob.
    #[error("blob {digest} is not in the layout `{root}`")]
    Missing {
        /// The blob.
        digest: Digest,
        /// The layout.
        root: PathBuf,
    },
    /// The bytes are not those of the name.
    #[error("bytes have digest {actual}, but {expected} was expected")]
    WrongDigest {
        /// The name.
        expected: Digest,
        /// What the bytes hash to.
        actual: Digest,
    },
    /// More or fewer bytes than announced.
    #[error("blob {digest} has {actual} bytes (or more), but {expected} were announced")]
    WrongSize {
        /// The blob.
        digest: Digest,
        /// From the descriptor.
        expected: u64,
        /// Counted.
        actual: u64,
    },
    /// More bytes than the caller is ready for.
    #[error("blob {digest} has {size} bytes, more than the limit of {limit}")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its bytes.
        size: u64,
        /// The caller's limit.
        limit: u64,
    },
    /// `index.json` or a manifest blob cannot be read.
    #[error("manifest `{path}` in the layout cannot be read")]
    Manifest {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: ManifestError,
    },
}

impl LayoutError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

impl Layout {
    /// Makes a layout at `path`, or opens the one that is there.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, LayoutError> {
        let layout = Self { root: path.into() };
        for directory in [layout.root.join("blobs/sha256"), layout.root.join("blobs/sha512"), layout.temporary()] {
            fs::create_dir_all(&directory).map_err(LayoutError::io("create", &directory))?;
        }
        let _lock = layout.lock()?;
        let index = layout.root.join("index.json");
        if !index.exists() {
            layout.write_index(&ImageIndex::default())?;
        }
        // Last: a directory with this file is a whole layout.
        let marker = layout.root.join("oci-layout");
        if !marker.exists() {
            writer::replace(&layout.temporary(), &marker, VERSION.as_bytes())?;
        }
        Self::open(layout.root)
    }

    /// Opens the layout at `path`.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, LayoutError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Marker {
            image_layout_version: String,
        }
        let root = path.into();
        let marker = fs::read(root.join("oci-layout")).ok();
        let version = marker.and_then(|bytes| crate::json::parse_strict::<Marker>(&bytes).ok());
        if version.is_none_or(|marker| marker.image_layout_version != "1.0.0") {
            return Err(LayoutError::NotALayout(root));
        }
        Ok(Self { root })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    /// The size of the blob, if it is here.
    pub fn has(&self, digest: &Digest) -> Option<u64> {
        let metadata = fs::symlink_metadata(self.blob_path(digest)).ok()?;
        metadata.is_file().then_some(metadata.len())
    }

    /// The whole blob, its bytes hashed, if it has at most `cap` bytes.
    pub fn read(&self, digest: &Digest, cap: u64) -> Result<Vec<u8>, LayoutError> {
        let path = self.blob_path(digest);
        let file = self.open_blob(digest)?;
        let size = file.metadata().map_err(LayoutError::io("read", &path))?.len();
        if size > cap {
            return Err(LayoutError::TooLarge { digest: *digest, size, limit: cap });
        }
        let mut bytes = Vec::new();
        file.take(cap).read_to_end(&mut bytes).map_err(LayoutError::io("read", &path))?;
        let actual = Digest::of(digest.algorithm(), &bytes);
        if actual != *digest {
            return Err(LayoutError::WrongDigest { expected: *digest, actual });
        }
        Ok(bytes)
    }

    /// The blob as a file, for whoever streams it; hashing is then up to them.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, LayoutError> {
        let path = self.blob_path(digest);
        File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => LayoutError::Missing { digest: *digest, root: self.root.clone() },
            _ => LayoutError::io("open", &path)(error),
        })
    }

    /// Reads the whole blob once and says whether its bytes still are what its name says.
    pub fn verify(&self, digest: &Digest) -> Result<u64, LayoutError> {
        let path = self.blob_path(digest);
        let mut file = self.open_blob(digest)?;
        let mut hasher = Hasher::new(digest.algorithm());
        let mut buffer = vec![0; 1 << 16];
        let mut size = 0;
        loop {
            let count = file.read(&mut buffer).map_err(LayoutError::io("read", &path))?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            size += count as u64;
        }
        let actual = hasher.finish();
        if actual == *digest { Ok(size) } else { Err(LayoutError::WrongDigest { expected: *digest, actual }) }
    }

    /// Stores these bytes under their SHA-256.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Digest, LayoutError> {
        let digest = Digest::sha256(bytes);
        if self.has(&digest) == Some(bytes.len() as u64) {
            return Ok(digest);
        }
        let mut writer = self.writer()?;
        writer.take(bytes)?;
        Ok(writer.finish("")?.digest)
    }

    /// Stores what `source` gives, if it is what `expected` announced: never a byte more is read than announced.
    pub fn put_stream(&self, source: impl Read, expected: &Descriptor) -> Result<(), LayoutError> {
        let mut writer = BlobWriter::begin(self.clone(), expected.digest.algorithm())?;
        writer.take_from(source, expected)?;
        writer.finish_as(expected)
    }

    /// A file in the making, named by its SHA-256 when it is finished.
    pub fn writer(&self) -> Result<BlobWriter, LayoutError> {
        BlobWriter::begin(self.clone(), Algorithm::Sha256)
    }

    /// Stores a manifest and enters it into `index.json`: under `tag`, taking the tag from whatever had it, or, without
    /// a tag, once. Children of an index need no entry: store them by [`Layout::put_bytes`].
    pub fn put_manifest(&self, manifest: &RawManifest, tag: Option<&Tag>) -> Result<(), LayoutError> {
        self.put_stream(manifest.bytes(), &manifest.descriptor())?;
        let mut entry = manifest.descriptor();
        entry.artifact_type = manifest.artifact_type().map(str::to_owned);
        let _lock = self.lock()?;
        let mut index = self.index()?;
        match tag {
            Some(tag) => {
                entry = entry.with_annotation(REF_NAME, tag.as_str());
                index.manifests.retain(|old| old.annotations.get(REF_NAME).is_none_or(|name| name != tag.as_str()));
            }
            None if index.manifests.iter().any(|old| old.digest == entry.digest) => return Ok(()),
            None => {}
        }
        index.manifests.push(entry);
        self.write_index(&index)
    }

    /// A manifest by digest, its bytes hashed.
    pub fn manifest(&self, digest: &Digest) -> Result<RawManifest, LayoutError> {
        let bytes = self.read(digest, MANIFEST_SIZE_MAX as u64)?;
        let failed = |source| LayoutError::Manifest { path: self.blob_path(digest), source };
        let manifest = RawManifest::parse(bytes, None).map_err(failed)?;
        manifest.named(digest).map_err(|actual| LayoutError::WrongDigest { expected: *digest, actual })
    }

    /// What `index.json` says.
    pub fn index(&self) -> Result<ImageIndex, LayoutError> {
        let path = self.root.join("index.json");
        let file = File::open(&path).map_err(LayoutError::io("open", &path))?;
        let mut bytes = Vec::new();
        file.take(INDEX_SIZE_MAX + 1).read_to_end(&mut bytes).map_err(LayoutError::io("read", &path))?;
        let failed = |source| LayoutError::Manifest { path: path.clone(), source };
        let raw = RawManifest::parse(bytes, Some(crate::media_type::OCI_INDEX)).map_err(failed)?;
        Ok(raw.index().cloned().unwrap_or_default())
    }

    /// What `tag` points to.
    pub fn resolve(&self, tag: &Tag) -> Result<Option<Descriptor>, LayoutError> {
        let named = |entry: &Descriptor| entry.annotations.get(REF_NAME).is_some_and(|name| name == tag.as_str());
        Ok(self.index()?.manifests.into_iter().find(named))
    }

    /// Deletes what broken-off writers left, and nothing that a living one is writing.
    pub fn remove_abandoned(&self) -> Result<usize, LayoutError> {
        let directory = self.temporary();
        // Against writers between the creation of their file and its lock.
        let gate = File::open(&directory).map_err(LayoutError::io("open", &directory))?;
        gate.lock().map_err(LayoutError::io("lock", &directory))?;
        let mut removed = 0;
        for entry in fs::read_dir(&directory).map_err(LayoutError::io("list", &directory))? {
            let path = entry.map_err(LayoutError::io("list", &directory))?.path();
            let Ok(file) = File::open(&path) else { continue };
            match file.try_lock() {
                Ok(()) => {
                    fs::remove_file(&path).map_err(LayoutError::io("remove", &path))?;
                    removed += 1;
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(LayoutError::io("lock", &path)(error)),
            }
        }
        Ok(removed)
    }

    /// Where files are written before they have their name.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.root.join(".tmp")
    }

    /// The lock under which `index.json` changes: on the directory itself, so that no extra file lies about.
    fn lock(&self) -> Result<File, LayoutError> {
        let directory = File::open(&self.root).map_err(LayoutError::io("open", &self.root))?;
        directory.lock().map_err(LayoutError::io("lock", &self.root))?;
        Ok(directory)
    }

    fn write_index(&self, index: &ImageIndex) -> Result<(), LayoutError> {
        let path = self.root.join("index.json");
        let raw =
            RawManifest::from_index(index).map_err(|source| LayoutError::Manifest { path: path.clone(), source })?;
        writer::replace(&self.temporary(), &path, raw.bytes())
    }
}

#[cfg(test)]
mod tests;
