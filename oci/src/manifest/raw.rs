//! A manifest with the bytes that were hashed: the only form in which one travels. Pure.
//!
//! Reading is strict about everything that could make two readers see two documents (CVE-2021-41190 and its kin):
//! the declared media type, the one in the body and the shape must agree, no key stands twice, and a document that is
//! both a list and an image is neither.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Descriptor, ImageIndex, ImageManifest};
use crate::digest::Digest;
use crate::json::{self, JsonError};
use crate::media_type;

/// Registries accept manifests up to 4 MiB; whoever sends more wants to fill our memory.
pub const MANIFEST_SIZE_MAX: usize = 4 << 20;
/// Runtimes stop at about 127 layers, cosign at 1000 signatures in one manifest.
pub const LAYERS_MAX: usize = 1024;
/// A fallback list of referrers may be long; 4 MiB hold about this many.
pub const CHILDREN_MAX: usize = 16_384;

/// What a manifest says.
#[expect(clippy::large_enum_variant, reason = "one for each manifest, never in bulk")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// One image or artifact.
    Image(ImageManifest),
    /// A list.
    Index(ImageIndex),
}

/// A manifest: its bytes, their digest, and what they say. The digest is always computed here, never believed.
#[derive(Clone, PartialEq, Eq)]
pub struct RawManifest {
    bytes: Vec<u8>,
    digest: Digest,
    media_type: String,
    document: Document,
}

/// Why some bytes are not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// More than [`MANIFEST_SIZE_MAX`].
    #[error("manifest has {0} bytes, more than {MANIFEST_SIZE_MAX}")]
    TooLarge(usize),
    /// Not JSON, or not its members.
    #[error("manifest is malformed")]
    Json(#[from] JsonError),
    /// `schemaVersion` other than 2.
    #[error("manifest has schemaVersion {0}; only 2 is read")]
    SchemaVersion(u64),
    /// A media type that is no manifest.
    #[error("`{0}` is not the media type of a manifest that we read")]
    MediaType(String),
    /// Header or descriptor says one thing, the body another.
    #[error("manifest was announced as `{announced}` but says of itself `{body}`")]
    MediaTypeMismatch {
        /// From the header or the descriptor.
        announced: String,
        /// From the body.
        body: String,
    },
    /// A list and an image at once.
    #[error("manifest has both `manifests` and `layers` or `config`: it could be read as two things")]
    Ambiguous,
    /// A member that some readers take for another one.
    #[error("manifest has a member `{0}`, which some readers take for the one in the usual case")]
    Case(String),
    /// An index without children list, or an image without layers.
    #[error("manifest of type `{0}` lacks what that type must have")]
    Shape(String),
    /// Too many layers or children.
    #[error("manifest lists {0} parts, more than {1}")]
    TooManyParts(usize, usize),
}

/// The members that decide what a manifest is, as every reader of JSON by structs spells them.
const MEMBERS: [&str; 8] =
    ["schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations"];

/// Go reads `Layers` as `layers`, and the last of the two counts; everybody else passes it over.
#[expect(clippy::zero_sized_map_values, reason = "only the keys are looked at, and JSON gives no set of them")]
fn member_in_another_case(bytes: &[u8]) -> Result<Option<String>, JsonError> {
    let members: BTreeMap<String, serde::de::IgnoredAny> = json::parse_strict(bytes)?;
    let is_other =
        |name: &String| MEMBERS.iter().any(|known| *known != name.as_str() && known.eq_ignore_ascii_case(name));
    Ok(members.into_keys().find(is_other))
}

/// Only what decides how the rest is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    schema_version: u64,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
}

/// What we write: the members every manifest begins with, then its own.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a, T> {
    schema_version: u8,
    media_type: &'a str,
    #[serde(flatten)]
    body: &'a T,
}

impl RawManifest {
    /// Reads a manifest. `content_type` is what the header or the descriptor announced, if there was one.
    pub fn parse(bytes: Vec<u8>, content_type: Option<&str>) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_SIZE_MAX {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        let probe: Probe = json::parse_strict(&bytes)?;
        if let Some(member) = member_in_another_case(&bytes)? {
            return Err(ManifestError::Case(member));
        }
        if probe.schema_version != 2 {
            return Err(ManifestError::SchemaVersion(probe.schema_version));
        }
        let is_list = probe.manifests.is_some();
        if is_list && (probe.layers.is_some() || probe.config.is_some()) {
            return Err(ManifestError::Ambiguous);
        }
        let media_type = agreed_media_type(content_type, probe.media_type, is_list)?;
        if media_type::is_index(&media_type) != is_list {
            return Err(ManifestError::Shape(media_type));
        }
        let document = if is_list {
            Document::Index(json::parse_strict(&bytes)?)
        } else if probe.config.is_some() {
            Document::Image(json::parse_strict(&bytes)?)
        } else {
            return Err(ManifestError::Shape(media_type));
        };
        Self::checked(bytes, media_type, document)
    }

    /// Makes a new image manifest, in canonical JSON.
    pub fn from_image(image: &ImageManifest) -> Result<Self, ManifestError> {
        let bytes = written(media_type::OCI_MANIFEST, image)?;
        Self::checked(bytes, media_type::OCI_MANIFEST.to_owned(), Document::Image(image.clone()))
    }

    /// Makes a new index, in canonical JSON.
    pub fn from_index(index: &ImageIndex) -> Result<Self, ManifestError> {
        let bytes = written(media_type::OCI_INDEX, index)?;
        Self::checked(bytes, media_type::OCI_INDEX.to_owned(), Document::Index(index.clone()))
    }

    fn checked(bytes: Vec<u8>, media_type: String, document: Document) -> Result<Self, ManifestError> {
        let (parts, limit) = match &document {
            Document::Image(image) => (image.layers.len(), LAYERS_MAX),
            Document::Index(index) => (index.manifests.len(), CHILDREN_MAX),
        };
        if parts > limit {
            return Err(ManifestError::TooManyParts(parts, limit));
        }
        if bytes.len() > MANIFEST_SIZE_MAX {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        Ok(Self { digest: Digest::sha256(&bytes), bytes, media_type, document })
    }

    /// The same manifest under the name that somebody asked for, when the bytes bear it out.
    ///
    /// Manifests are named by SHA-256 unless their reader asked by SHA-512.
    pub fn named(mut self, digest: &Digest) -> Result<Self, Digest> {
        let actual = Digest::of(digest.algorithm(), &self.bytes);
        if actual != *digest {
            return Err(actual);
        }
        self.digest = actual;
        Ok(self)
    }

    /// The bytes, as they were received or written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The digest of the bytes.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The agreed media type.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// The number of bytes.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// What the bytes say.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// The image manifest, when this is one.
    pub fn image(&self) -> Option<&ImageManifest> {
        match &self.document {
            Document::Image(image) => Some(image),
            Document::Index(_) => None,
        }
    }

    /// The index, when this is one.
    pub fn index(&self) -> Option<&ImageIndex> {
        match &self.document {
            Document::Image(_) => None,
            Document::Index(index) => Some(index),
        }
    }

    /// What it lists: the layers of an image, the children of an index.
    pub fn parts(&self) -> &[Descriptor] {
        match &self.document {
            Document::Image(image) => &image.layers,
            Document::Index(index) => &index.manifests,
        }
    }

    /// The descriptor that points here: media type, digest, size.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest, self.size())
    }

    /// The descriptor under which a list of referrers shows this manifest: with artifact type and annotations.
    pub fn referrer_descriptor(&self) -> Descriptor {
        let mut descriptor = self.descriptor();
        descriptor.artifact_type = match &self.document {
            // The specification: the artifact type, else the media type of the config.
            Document::Image(image) => {
                Some(image.artifact_type.clone().unwrap_or_else(|| image.config.media_type.clone()))
            }
            Document::Index(index) => index.artifact_type.clone(),
        };
        descriptor.annotations = self.annotations().clone();
        descriptor
    }

    /// The manifest that this one is about.
    pub fn subject(&self) -> Option<&Descriptor> {
        match &self.document {
            Document::Image(image) => image.subject.as_ref(),
            Document::Index(index) => index.subject.as_ref(),
        }
    }

    /// What this is, when it is no plain image.
    pub fn artifact_type(&self) -> Option<&str> {
        match &self.document {
            Document::Image(image) => image.artifact_type.as_deref(),
            Document::Index(index) => index.artifact_type.as_deref(),
        }
    }

    /// Its annotations.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        match &self.document {
            Document::Image(image) => &image.annotations,
            Document::Index(index) => &index.annotations,
        }
    }
}

impl std::fmt::Debug for RawManifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RawManifest({}, {} bytes, {})", self.digest, self.bytes.len(), self.media_type)
    }
}

fn written<T: Serialize>(media_type: &str, body: &T) -> Result<Vec<u8>, JsonError> {
    json::canonical(&Written { schema_version: 2, media_type, body })
}

fn agreed_media_type(announced: Option<&str>, body: Option<String>, is_list: bool) -> Result<String, ManifestError> {
    let announced = announced.map(|text| text.split(';').next().unwrap_or(text).trim()).filter(|text| {
        // What servers send when they do not know: no announcement.
        !matches!(*text, "" | "application/json" | "application/octet-stream" | "text/plain")
    });
    let media_type = match (announced, body) {
        (Some(announced), Some(body)) if announced != body => {
            return Err(ManifestError::MediaTypeMismatch { announced: announced.to_owned(), body });
        }
        (_, Some(body)) => body,
        (Some(announced), None) => announced.to_owned(),
        // The first OCI images named no type anywhere.
        (None, None) if is_list => media_type::OCI_INDEX.to_owned(),
        (None, None) => media_type::OCI_MANIFEST.to_owned(),
    };
    if media_type::is_manifest(&media_type) { Ok(media_type) } else { Err(ManifestError::MediaType(media_type)) }
}
