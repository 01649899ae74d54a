//! The config snapshot: files and templates, layer over layer, as a content-addressed artifact. Pure.
//!
//! Each layer is one deterministic tar (ustar, entries sorted, owner root, mtime 0, mode 644 or 755, no folders), so
//! that the same files have the same digest wherever they were read. It records where and at which revision that was.

use std::io::Read as _;

use nebh_oci::manifest::{Artifact, Attached, Descriptor, EMPTY_BLOB, ImageManifest, ManifestError, RawManifest};
use nebh_oci::media_type::{NEBH_CONFIG_SNAPSHOT, OCI_LAYER};

use super::names::{NounError, RelativePath};

/// Files of one layer.
const FILES_MAX: usize = 4096;
/// Layers of one snapshot: defaults, cluster, group and node, with room.
const LAYERS_MAX: usize = 16;
/// Bytes of one layer. Config that is larger is data.
pub(super) const LAYER_BYTES_MAX: usize = 4 << 20;
/// Annotation with a layer's name.
const NAME: &str = "org.opencontainers.image.title";
/// Annotation with the place and revision that a layer was read at.
const ORIGIN: &str = "nebh.config.origin";

/// Why files are no snapshot, or bytes hold none.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum SnapshotError {
    #[error("config file `{0}` stands twice in one layer")]
    Twice(String),
    #[error("config file `{0}` has a path that does not fit into an archive")]
    PathTooLong(String),
    #[error("config layer `{0}` has more than {FILES_MAX} files")]
    TooManyFiles(String),
    #[error("config layer `{0}` has more than {LAYER_BYTES_MAX} bytes")]
    TooLarge(String),
    #[error("{0} config layers, more than {LAYERS_MAX}")]
    TooManyLayers(usize),
    #[error("cannot write the archive")]
    Write(#[source] std::io::Error),
    #[error("config layer is no archive of ours")]
    Read(#[source] std::io::Error),
    #[error("config layer holds `{0}`, which is no plain file")]
    NotAFile(String),
    #[error("config layer holds a file with a bad name")]
    Name(#[from] NounError),
    #[error("not a config snapshot")]
    NotASnapshot,
    #[error("the bytes of config layer {0} are missing or not those of its descriptor")]
    Bytes(String),
    #[error("cannot write the manifest")]
    Manifest(#[from] ManifestError),
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// Path below the mount.
    pub path: RelativePath,
    /// Content: text, or a template.
    pub bytes: Vec<u8>,
    /// Whether it may be run.
    pub executable: bool,
}

/// One layer: a name, where it was read, its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigLayer {
    /// `defaults`, `cluster`, …
    pub name: String,
    /// Where and at which revision it was read, e.g. `git+https://…@<commit>#config`.
    pub origin: String,
    /// Its files, in any order.
    pub files: Vec<ConfigFile>,
}

/// Layers, the weakest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigSnapshot {
    /// The layers.
    pub layers: Vec<ConfigLayer>,
}

impl ConfigSnapshot {
    /// The artifact that holds the snapshot. A release without config has one without files.
    pub fn to_artifact(&self) -> Result<Artifact, SnapshotError> {
        if self.layers.len() > LAYERS_MAX {
            return Err(SnapshotError::TooManyLayers(self.layers.len()));
        }
        let mut descriptors = Vec::new();
        let mut blobs = vec![(Descriptor::empty(), EMPTY_BLOB.to_vec())];
        for layer in &self.layers {
            let bytes = layer.to_tar()?;
            let descriptor = Descriptor::of(OCI_LAYER, &bytes)
                .with_annotation(NAME, &layer.name)
                .with_annotation(ORIGIN, &layer.origin);
            descriptors.push(descriptor.clone());
            blobs.push((descriptor, bytes));
        }
        if descriptors.is_empty() {
            // The specification wants at least one layer; the empty blob says "nothing".
            descriptors.push(Descriptor::empty());
        }
        let manifest = RawManifest::from_image(&ImageManifest::artifact(NEBH_CONFIG_SNAPSHOT, descriptors))?;
        Ok(Artifact { manifest, blobs, tag: None })
    }

    /// Reads a snapshot from its manifest and the bytes of its layers.
    pub fn read(snapshot: &Attached) -> Result<Self, SnapshotError> {
        let image = snapshot.manifest.image().ok_or(SnapshotError::NotASnapshot)?;
        if image.artifact_type.as_deref() != Some(NEBH_CONFIG_SNAPSHOT) {
            return Err(SnapshotError::NotASnapshot);
        }
        if image.layers.len() > LAYERS_MAX {
            return Err(SnapshotError::TooManyLayers(image.layers.len()));
        }
        let mut layers = Vec::new();
        for descriptor in image.layers.iter().filter(|layer| **layer != Descriptor::empty()) {
            if descriptor.media_type != OCI_LAYER {
                return Err(SnapshotError::NotASnapshot);
            }
            let wrong = || SnapshotError::Bytes(descriptor.digest.short());
            let held = snapshot.layers.iter().find(|(held, _)| held.digest == descriptor.digest);
            let (_, bytes) = held.ok_or_else(wrong)?;
            let annotation = |key: &str| descriptor.annotations.get(key).cloned().unwrap_or_default();
            if bytes.len() > LAYER_BYTES_MAX {
                return Err(SnapshotError::TooLarge(annotation(NAME)));
            }
            if Descriptor::of(OCI_LAYER, bytes).digest != descriptor.digest {
                return Err(wrong());
            }
            layers.push(ConfigLayer { name: annotation(NAME), origin: annotation(ORIGIN), files: read_tar(bytes)? });
        }
        Ok(Self { layers })
    }
}

impl ConfigLayer {
    fn to_tar(&self) -> Result<Vec<u8>, SnapshotError> {
        if self.files.len() > FILES_MAX {
            return Err(SnapshotError::TooManyFiles(self.name.clone()));
        }
        let mut files: Vec<&ConfigFile> = self.files.iter().collect();
        files.sort_by(|one, other| one.path.cmp(&other.path));
        if let Some(pair) = files.windows(2).find(|pair| pair[0].path == pair[1].path) {
            return Err(SnapshotError::Twice(pair[0].path.to_string()));
        }
        let mut archive = tar::Builder::new(Vec::new());
        for file in files {
            let mut header = tar::Header::new_ustar();
            header.set_path(file.path.as_str()).map_err(|_| SnapshotError::PathTooLong(file.path.to_string()))?;
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(file.bytes.len() as u64);
            header.set_mode(if file.executable { 0o755 } else { 0o644 });
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_cksum();
            archive.append(&header, file.bytes.as_slice()).map_err(SnapshotError::Write)?;
        }
        let bytes = archive.into_inner().map_err(SnapshotError::Write)?;
        if bytes.len() > LAYER_BYTES_MAX { Err(SnapshotError::TooLarge(self.name.clone())) } else { Ok(bytes) }
    }
}

/// Reads only what [`ConfigLayer::to_tar`] writes: plain files with plain names.
fn read_tar(bytes: &[u8]) -> Result<Vec<ConfigFile>, SnapshotError> {
    let mut archive = tar::Archive::new(bytes);
    let mut files: Vec<ConfigFile> = Vec::new();
    for entry in archive.entries().map_err(SnapshotError::Read)? {
        let mut entry = entry.map_err(SnapshotError::Read)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(SnapshotError::NotAFile(crate::rejection::quote(&name)));
        }
        let path: RelativePath = name.parse()?;
        if files.last().is_some_and(|last| last.path >= path) {
            return Err(SnapshotError::Twice(path.to_string()));
        }
        if files.len() == FILES_MAX {
            return Err(SnapshotError::TooManyFiles(path.to_string()));
        }
        let executable = entry.header().mode().map_err(SnapshotError::Read)? & 0o100 != 0;
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(SnapshotError::Read)?;
        files.push(ConfigFile { path, bytes: content, executable });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> ConfigFile {
        ConfigFile { path: path.parse().unwrap(), bytes: text.as_bytes().to_vec(), executable: false }
    }

    fn snapshot(files: Vec<ConfigFile>) -> ConfigSnapshot {
        ConfigSnapshot {
            layers: vec![ConfigLayer { name: "defaults".to_owned(), origin: "git+x@1".to_owned(), files }],
        }
    }

    #[test]
    fn order_of_reading_does_not_matter() {
        let one = snapshot(vec![file("a", "1"), file("b/c", "2")]).to_artifact().unwrap();
        let other = snapshot(vec![file("b/c", "2"), file("a", "1")]).to_artifact().unwrap();
        assert_eq!(one, other);
        let read = ConfigSnapshot::read(&Attached::from_artifact(&one)).unwrap();
        assert_eq!(read, snapshot(vec![file("a", "1"), file("b/c", "2")]));
    }

    #[test]
    fn bytes_of_the_snapshot_stay_as_they_are() {
        let artifact = snapshot(vec![file("a", "1")]).to_artifact().unwrap();
        assert_eq!(artifact.manifest.digest().to_string(), GOLDEN);
    }

    /// Version 1 of the format. A change here is a new version of the format.
    const GOLDEN: &str = "sha256:6e4043be32a97d38d394a4e9632902e88f28c5ad74767c13e130a79fd6439169";

    #[test]
    fn empty_snapshot_is_one_too() {
        let artifact = ConfigSnapshot::default().to_artifact().unwrap();
        assert_eq!(ConfigSnapshot::read(&Attached::from_artifact(&artifact)).unwrap(), ConfigSnapshot::default());
    }

    #[test]
    fn same_path_twice_is_refused() {
        let twice = snapshot(vec![file("a", "1"), file("a", "2")]).to_artifact();
        assert!(matches!(twice, Err(SnapshotError::Twice(_))));
    }

    #[test]
    fn link_in_a_layer_is_refused() {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_path("a").unwrap();
        header.set_link_name("/etc/shadow").unwrap();
        header.set_cksum();
        archive.append(&header, &b""[..]).unwrap();
        let bytes = archive.into_inner().unwrap();
        assert!(matches!(read_tar(&bytes), Err(SnapshotError::NotAFile(_))));
    }

    #[test]
    fn changed_bytes_are_refused() {
        let mut attached = Attached::from_artifact(&snapshot(vec![file("a", "1")]).to_artifact().unwrap());
        attached.layers.last_mut().unwrap().1[600] ^= 1;
        assert!(matches!(ConfigSnapshot::read(&attached), Err(SnapshotError::Bytes(_))));
    }
}
