//! Writes a bundle: the directory with `config.json` that a runtime program is pointed at. Owns that one file.

use std::path::{Path, PathBuf};

use super::document::{SpecError, runtime_document};
use super::spec::BundleSpec;

/// A bundle on disk.
#[derive(Clone, Debug)]
pub struct Bundle {
    dir: PathBuf,
    id: String,
}

/// Why a bundle was not written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The id cannot be a file name and a cgroup name.
    #[error("container id `{id}` may hold only letters, digits, `-`, `_` and `.`, at most 96")]
    BadId {
        /// The id.
        id: String,
    },
    /// The spec makes no document.
    #[error("container `{id}` cannot be described")]
    Spec {
        /// The id.
        id: String,
        /// Cause.
        #[source]
        cause: SpecError,
    },
    /// A file could not be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        cause: std::io::Error,
    },
}

/// Longer ids break the abstract names that runtimes derive from them.
const ID_LENGTH_MAX: usize = 96;

impl Bundle {
    /// Writes the bundle of container `id` into `dir`, which is made if need be.
    pub fn write(dir: &Path, id: &str, spec: &BundleSpec) -> Result<Self, BundleError> {
        check_id(id)?;
        let document = runtime_document(id, spec).map_err(|cause| BundleError::Spec { id: id.to_owned(), cause })?;
        let path = dir.join("config.json");
        let failed = |cause| BundleError::Write { path: path.clone(), cause };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let text = serde_json::to_vec_pretty(&document).map_err(|cause| failed(cause.into()))?;
        std::fs::write(&path, text).map_err(failed)?;
        Ok(Self { dir: dir.to_owned(), id: id.to_owned() })
    }

    /// A bundle that an earlier process wrote.
    pub fn existing(dir: &Path, id: &str) -> Result<Self, BundleError> {
        check_id(id)?;
        let path = dir.join("config.json");
        std::fs::metadata(&path).map_err(|cause| BundleError::Write { path, cause })?;
        Ok(Self { dir: dir.to_owned(), id: id.to_owned() })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The container id whose cgroup the document names.
    pub fn id(&self) -> &str {
        &self.id
    }
}

fn check_id(id: &str) -> Result<(), BundleError> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if id.is_empty() || id.len() > ID_LENGTH_MAX || id.starts_with('.') || !id.bytes().all(fine) {
        return Err(BundleError::BadId { id: id.to_owned() });
    }
    Ok(())
}
