//! Manifests and indexes: what they say, and (in [`RawManifest`]) the bytes that were hashed. Pure.
//!
//! ```text
//!   bytes ─► RawManifest { bytes, digest, media type, document } ─► ImageManifest { config, layers, subject }
//!                     ▲ from_image / from_index: canonical JSON  └► ImageIndex { manifests, subject }
//! ```
//!
//! The structs are for reading and for making new manifests. A manifest that came from elsewhere is passed on as its
//! `RawManifest`, never written again from the struct: unknown members and the writer's spelling would be lost, and
//! with them the digest.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;
use crate::names::Tag;

mod raw;

pub use raw::{CHILDREN_MAX, Document, LAYERS_MAX, MANIFEST_SIZE_MAX, ManifestError, RawManifest};

/// A pointer to some bytes: what they are, how they hash, how many there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the bytes are.
    pub media_type: String,
    /// Their digest.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// What the manifest behind this descriptor is, when it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Where the image behind this descriptor runs; in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free words about it.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The bytes themselves in base64, where somebody inlined them. Never trusted without hashing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Other places that may hold the bytes. Kept for fidelity; nothing in Nebh-X follows them.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}

impl Descriptor {
    /// A descriptor with the three words it must have.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            artifact_type: None,
            platform: None,
            annotations: BTreeMap::new(),
            data: None,
            urls: Vec::new(),
        }
    }

    /// The descriptor of these bytes.
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::sha256(bytes), bytes.len() as u64)
    }

    /// The descriptor of the two bytes `{}` ([`EMPTY_BLOB`]).
    pub fn empty() -> Self {
        Self::of(crate::media_type::OCI_EMPTY, EMPTY_BLOB)
    }

    /// The same with the platform that it runs on.
    #[must_use]
    pub fn with_platform(mut self, platform: Platform) -> Self {
        self.platform = Some(platform);
        self
    }

    /// The same with the type of the artifact behind it.
    #[must_use]
    pub fn with_artifact_type(mut self, artifact_type: impl Into<String>) -> Self {
        self.artifact_type = Some(artifact_type.into());
        self
    }

    /// The same with one annotation more.
    #[must_use]
    pub fn with_annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }
}

/// The blob of [`Descriptor::empty`].
pub const EMPTY_BLOB: &[u8] = b"{}";

/// Where an image runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`, as Go spells it.
    pub os: String,
    /// `amd64`, `arm64`, as Go spells it.
    pub architecture: String,
    /// `v8`, where the architecture has variants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// A platform without variant.
    pub fn new(os: impl Into<String>, architecture: impl Into<String>) -> Self {
        Self { os: os.into(), architecture: architecture.into(), variant: None }
    }

    /// What a child of an index carries that is no image, so that docker, containerd and podman pass it by.
    pub fn unknown() -> Self {
        Self::new("unknown", "unknown")
    }
}

/// One image, or one artifact: a config and layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// What this is, when it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image configuration, or [`Descriptor::empty`].
    pub config: Descriptor,
    /// The layers, lowest first; of an artifact, its parts.
    #[serde(deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about: a referrer has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free words about it.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl ImageManifest {
    /// A manifest of an image.
    pub fn image(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self { artifact_type: None, config, layers, subject: None, annotations: BTreeMap::new() }
    }

    /// A manifest of an artifact: no config, `layers` as its parts. Its [`Artifact`] needs [`EMPTY_BLOB`] too.
    pub fn artifact(artifact_type: impl Into<String>, layers: Vec<Descriptor>) -> Self {
        Self { artifact_type: Some(artifact_type.into()), ..Self::image(Descriptor::empty(), layers) }
    }

    /// The same as a referrer of `subject`.
    #[must_use]
    pub fn with_subject(mut self, subject: Descriptor) -> Self {
        self.subject = Some(subject);
        self
    }

    /// The same with one annotation more.
    #[must_use]
    pub fn with_annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }
}

/// A list of manifests: one image per platform, or a release with its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// What this is, when it is more than one image per platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The children.
    #[serde(deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free words about it.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Something small to push whole: a signature, an attestation, a config snapshot, a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The manifest, pushed last.
    pub manifest: RawManifest,
    /// The blobs that the manifest names and that may be absent from the registry.
    pub blobs: Vec<(Descriptor, Vec<u8>)>,
    /// The tag to put on it, if any.
    pub tag: Option<Tag>,
}

/// Something that was found attached to a manifest: a referrer, or what stands under its `.sig` tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The attached manifest, its bytes hashed.
    pub manifest: RawManifest,
    /// Its layers, their bytes hashed.
    pub layers: Vec<(Descriptor, Vec<u8>)>,
}

impl Attached {
    /// What an artifact looks like to whom it was attached, without a registry between.
    pub fn from_artifact(artifact: &Artifact) -> Self {
        let named = |descriptor: &Descriptor| match artifact.manifest.document() {
            Document::Image(image) => image.layers.iter().any(|layer| layer.digest == descriptor.digest),
            Document::Index(_) => false,
        };
        let layers = artifact.blobs.iter().filter(|(descriptor, _)| named(descriptor)).cloned().collect();
        Self { manifest: artifact.manifest.clone(), layers }
    }
}

/// Go writes `null` for an empty list or map; so did most images in the field.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
