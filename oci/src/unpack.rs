//! Unpacking layers of an image into a directory: the one place where foreign archives meet our file system.
//!
//! ```text
//!   blob ─► gunzip/zstd ─► hash + count ─► reader (strict tar) ─► Member ─► tree (openat2 below the root)
//!                              └─► DiffId, compared at the end
//! ```
//!
//! Owns: everything below the root directory, and nothing outside of it: every path is resolved by the kernel with
//! `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`, so that a link inside the image means what it will mean in the container.
//! What is doubtful is refused by name, not repaired: `..`, absolute names, names with NUL, a member twice, sizes that
//! two readers read differently, devices, whiteouts that leave their directory.
//!
//! Documented choices:
//! * as root, owners, set-id bits and `security.capability` are kept, as a container needs them; otherwise the files are
//!   ours, and set-id bits are dropped: they would be ours too;
//! * extended attributes other than `security.capability` and `user.*` are passed over, and so are `user.overlay.*`;
//! * the bytes are verified against the `DiffId` while they are unpacked, so a wrong layer is noticed at its end: on
//!   any error the directory is rubbish, and the caller removes it.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::digest::{Algorithm, DiffId, Digest, Hasher};
use crate::image_config::{CONFIG_SIZE_MAX, ImageConfig};
use crate::json::JsonError;
use crate::layout::{Layout, LayoutError};
use crate::manifest::RawManifest;
use crate::media_type;

mod apply;
mod path;
mod reader;
mod tree;

/// The largest window of a zstd frame: 128 MiB, what the zstd tool itself takes without being asked. A frame may demand
/// two GiB of memory in its first bytes.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// What is accepted of an image. Each limit stops an archive that would fill something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Uncompressed bytes of all layers together: a disk.
    pub bytes: u64,
    /// Members of all layers together: a table of inodes.
    pub entries: u64,
    /// Components of one path: a stack, and every tool that walks the tree later.
    pub path_depth: usize,
    /// Bytes of all names of one layer: they are kept in memory until its end.
    pub names: u64,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        // Half a million files have some forty MiB of names.
        Self { bytes: 64 << 30, entries: 2_000_000, path_depth: 128, names: 256 << 20 }
    }
}

/// How members are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnpackSettings {
    /// What is accepted.
    pub limits: UnpackLimits,
    /// Whether owners and set-id bits are kept: only root can, so by default only root does.
    pub keep_owners: bool,
    /// Whether device nodes and FIFOs are made instead of refused.
    pub allow_devices: bool,
}

impl Default for UnpackSettings {
    fn default() -> Self {
        let keep_owners = rustix::process::geteuid().is_root();
        Self { limits: UnpackLimits::default(), keep_owners, allow_devices: false }
    }
}

/// Why a layer was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive is not a tar, or is one that two readers read differently.
    #[error("layer is malformed: {0}")]
    Malformed(String),
    /// A member that an image has no business with.
    #[error("layer member `{member}` is refused: {why}")]
    Refused {
        /// Its name, escaped.
        member: String,
        /// Why.
        why: &'static str,
    },
    /// Beyond a limit.
    #[error("layer is too large: {what} is limited to {limit}")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The bytes are not those that the config names.
    #[error("layer has diff id {actual}, but the image config says {expected}")]
    WrongDiffId {
        /// From the config.
        expected: DiffId,
        /// What the bytes hash to.
        actual: DiffId,
    },
    /// A media type that is no layer.
    #[error("`{0}` is not the media type of a layer that we unpack")]
    MediaType(String),
    /// Not an image, or layers and diff ids that do not match in number.
    #[error("manifest {digest} is no image that can be unpacked: {why}")]
    NotAnImage {
        /// Which manifest.
        digest: Digest,
        /// Why.
        why: &'static str,
    },
    /// The image config cannot be read.
    #[error("image config {digest} cannot be read")]
    Config {
        /// Which config.
        digest: Digest,
        /// Why.
        #[source]
        source: JsonError,
    },
    /// The layout does not give the bytes.
    #[error("image cannot be read from the layout")]
    Layout(#[from] LayoutError),
    /// Decompression or the file that is read failed.
    #[error("layer cannot be read")]
    Read(#[source] io::Error),
    /// The file system that is written to said no.
    #[error("cannot {action} `{member}` below `{root}`")]
    Write {
        /// What was tried.
        action: &'static str,
        /// With which member.
        member: String,
        /// Where.
        root: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Members seen, whiteouts included.
    pub entries: u64,
    /// Uncompressed bytes read.
    pub bytes: u64,
}

/// Unpacks the layers of one image, lowest first, into one directory.
#[derive(Debug)]
pub struct Unpacker {
    tree: tree::Tree,
    settings: UnpackSettings,
    total: Unpacked,
}

impl Unpacker {
    /// Begins in `root`, which must exist.
    pub fn new(root: &Path, settings: UnpackSettings) -> Result<Self, UnpackError> {
        Ok(Self { tree: tree::Tree::open(root)?, settings, total: Unpacked::default() })
    }

    /// Applies one layer on top of what is there. `compressed` is the blob, `media_type` says how it is compressed.
    pub fn apply(
        &mut self,
        media_type: &str,
        compressed: impl Read,
        expected: &DiffId,
    ) -> Result<Unpacked, UnpackError> {
        match compression(media_type)? {
            Compression::None => self.apply_tar(compressed, expected),
            Compression::Gzip => self.apply_tar(flate2::read::MultiGzDecoder::new(compressed), expected),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(compressed).map_err(UnpackError::Read)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(UnpackError::Read)?;
                self.apply_tar(decoder, expected)
            }
        }
    }

    fn apply_tar(&mut self, tar: impl Read, expected: &DiffId) -> Result<Unpacked, UnpackError> {
        let limits = self.settings.limits;
        let counted = Counted::new(tar, limits.bytes.saturating_sub(self.total.bytes), expected.0.algorithm());
        let entries_left = limits.entries.saturating_sub(self.total.entries);
        let mut members = reader::TarReader::new(counted, limits.path_depth);
        let entries = apply::layer(&mut self.tree, &mut members, &self.settings, entries_left)?;
        let (bytes, digest) = members.finish()?;
        let actual = DiffId(digest);
        if actual != *expected {
            return Err(UnpackError::WrongDiffId { expected: *expected, actual });
        }
        self.total.entries += entries;
        self.total.bytes += bytes;
        Ok(Unpacked { entries, bytes })
    }

    /// Makes everything that was unpacked survive a power failure.
    pub fn sync(&self) -> Result<Unpacked, UnpackError> {
        self.tree.sync()?;
        Ok(self.total)
    }
}

/// Unpacks an image from a layout into `root` (which must exist and should be empty) and gives its config. Config and
/// layers are verified; the result is durable.
pub fn unpack_image(layout: &Layout, manifest: &RawManifest, root: &Path) -> Result<ImageConfig, UnpackError> {
    unpack_image_with(layout, manifest, root, UnpackSettings::default())
}

/// The same with other settings.
pub fn unpack_image_with(
    layout: &Layout,
    manifest: &RawManifest,
    root: &Path,
    settings: UnpackSettings,
) -> Result<ImageConfig, UnpackError> {
    let not_an_image = |why| UnpackError::NotAnImage { digest: *manifest.digest(), why };
    let image = manifest.image().ok_or_else(|| not_an_image("it is an index; choose one of its children"))?;
    let digest = image.config.digest;
    let config = layout.read(&digest, CONFIG_SIZE_MAX)?;
    let config = ImageConfig::parse(&config).map_err(|source| UnpackError::Config { digest, source })?;
    if config.rootfs.diff_ids.len() != image.layers.len() {
        return Err(not_an_image("manifest and config name different numbers of layers"));
    }
    let mut unpacker = Unpacker::new(root, settings)?;
    for (layer, diff_id) in image.layers.iter().zip(&config.rootfs.diff_ids) {
        let blob = layout.open_blob(&layer.digest)?;
        unpacker.apply(&layer.media_type, io::BufReader::with_capacity(1 << 17, blob), diff_id)?;
    }
    unpacker.sync()?;
    Ok(config)
}

enum Compression {
    None,
    Gzip,
    Zstd,
}

fn compression(media_type: &str) -> Result<Compression, UnpackError> {
    match media_type {
        media_type::OCI_LAYER | "application/vnd.docker.image.rootfs.diff.tar" => Ok(Compression::None),
        media_type::OCI_LAYER_GZIP | media_type::DOCKER_LAYER_GZIP => Ok(Compression::Gzip),
        media_type::OCI_LAYER_ZSTD | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Ok(Compression::Zstd),
        other => Err(UnpackError::MediaType(other.to_owned())),
    }
}

/// Hashes and counts what passes, and stops where the limit is.
struct Counted<R> {
    inner: R,
    hasher: Hasher,
    bytes: u64,
    limit: u64,
}

impl<R: Read> Counted<R> {
    fn new(inner: R, limit: u64, algorithm: Algorithm) -> Self {
        Self { inner, hasher: Hasher::new(algorithm), bytes: 0, limit }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, UnpackError> {
        let count = loop {
            match self.inner.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome.map_err(UnpackError::Read)?,
            }
        };
        self.bytes += count as u64;
        if self.bytes > self.limit {
            return Err(UnpackError::TooLarge { what: "the number of uncompressed bytes", limit: self.limit });
        }
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
