//! Writing one file so that it appears whole or not at all.
//!
//! Owns: one locked temp file at a time, removed on drop unless finished.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::{NamedTempFile, TempPath};

use super::{Layout, LayoutError};
use crate::digest::{Algorithm, Hasher};
use crate::manifest::Descriptor;

/// Large enough that the system calls do not count.
const BUFFER: usize = 1 << 17;

/// A blob in the making: hashed while it is written. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    layout: Layout,
    file: BufWriter<File>,
    path: TempPath,
    hasher: Hasher,
    algorithm: Algorithm,
    size: u64,
}

impl BlobWriter {
    pub(super) fn begin(layout: Layout, algorithm: Algorithm) -> Result<Self, LayoutError> {
        let (file, path) = locked_temporary(&layout.temporary())?.into_parts();
        let file = BufWriter::with_capacity(BUFFER, file);
        Ok(Self { layout, file, path, hasher: Hasher::new(algorithm), algorithm, size: 0 })
    }

    /// Names the bytes by their digest and puts them into the layout.
    pub fn finish(mut self, media_type: impl Into<String>) -> Result<Descriptor, LayoutError> {
        let hasher = std::mem::replace(&mut self.hasher, Hasher::new(self.algorithm));
        let descriptor = Descriptor::new(media_type, hasher.finish(), self.size);
        self.publish(&descriptor)?;
        Ok(descriptor)
    }

    /// Puts the bytes into the layout if they are what `expected` says.
    pub fn finish_as(mut self, expected: &Descriptor) -> Result<(), LayoutError> {
        let (digest, expected_size, actual_size) = (expected.digest, expected.size, self.size);
        if actual_size != expected_size {
            return Err(LayoutError::WrongSize { digest, expected: expected_size, actual: actual_size });
        }
        let hasher = std::mem::replace(&mut self.hasher, Hasher::new(self.algorithm));
        let actual = hasher.finish();
        if actual != digest {
            return Err(LayoutError::WrongDigest { expected: digest, actual });
        }
        self.publish(expected)
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), LayoutError> {
        self.write_all(bytes).map_err(LayoutError::io("write", &self.path))
    }

    /// Copies `source` up to one byte beyond what is expected: enough to see that there is too much.
    pub(super) fn take_from(&mut self, source: impl Read, expected: &Descriptor) -> Result<(), LayoutError> {
        let mut source = source.take(expected.size.saturating_add(1));
        io::copy(&mut source, self).map_err(LayoutError::io("write", &self.path))?;
        Ok(())
    }

    fn publish(self, descriptor: &Descriptor) -> Result<(), LayoutError> {
        let Self { layout, file, path, .. } = self;
        let file = file.into_inner().map_err(|error| LayoutError::io("write", &path)(error.into_error()))?;
        publish(&file, &path, &layout.blob_path(&descriptor.digest))?;
        // The name is gone from the temp directory; there is nothing left to remove on drop.
        drop(path.keep());
        Ok(())
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Syncs the written file, gives it its name, and syncs the directory that now names it.
pub(super) fn publish(file: &File, from: &Path, to: &Path) -> Result<(), LayoutError> {
    // Blobs are public bytes; the temp file was private only while it was half a file.
    file.set_permissions(Permissions::from_mode(0o644)).map_err(LayoutError::io("set the mode of", from))?;
    file.sync_all().map_err(LayoutError::io("sync", from))?;
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory).map_err(LayoutError::io("create", directory))?;
    }
    fs::rename(from, to).map_err(LayoutError::io("rename to", to))?;
    sync_directory(to)
}

/// Makes the name of `path` survive a power failure.
fn sync_directory(path: &Path) -> Result<(), LayoutError> {
    let directory = path.parent().unwrap_or(path);
    let handle = File::open(directory).map_err(LayoutError::io("open", directory))?;
    handle.sync_all().map_err(LayoutError::io("sync", directory))
}

/// Replaces the whole file at `path`, atomically and durably.
pub(super) fn replace(temporary: &Path, path: &Path, bytes: &[u8]) -> Result<(), LayoutError> {
    let (mut file, from) = locked_temporary(temporary)?.into_parts();
    file.write_all(bytes).map_err(LayoutError::io("write", &from))?;
    publish(&file, &from, path)?;
    drop(from.keep());
    Ok(())
}

fn locked_temporary(directory: &Path) -> Result<NamedTempFile, LayoutError> {
    // Layouts of other tools come without it.
    fs::create_dir_all(directory).map_err(LayoutError::io("create", directory))?;
    let gate = File::open(directory).map_err(LayoutError::io("open", directory))?;
    gate.lock_shared().map_err(LayoutError::io("lock", directory))?;
    let file = NamedTempFile::new_in(directory).map_err(LayoutError::io("create a file in", directory))?;
    file.as_file().lock().map_err(LayoutError::io("lock", file.path()))?;
    Ok(file)
}
