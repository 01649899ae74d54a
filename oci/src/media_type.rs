//! Media types: the words by which registries and tools know what some bytes are. Pure.
//!
//! Descriptors keep media types as text, because the world invents new ones daily; the words that Nebh-X acts
//! upon stand here, once.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI image configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// A layer as a plain tar.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// A layer as a tar under gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// A layer as a tar under zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// The two bytes `{}`, where a manifest needs a blob and there is nothing to say.
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Docker's image manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's list of manifests per platform.
pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's image configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker's layer under gzip.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// A Sigstore bundle: one signed DSSE envelope with what is needed to verify it.
pub const SIGSTORE_BUNDLE_V03: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The payload of cosign's older signature form.
pub const COSIGN_SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// A DSSE envelope by itself.
pub const DSSE_ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
/// An in-toto statement.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// A CycloneDX bill of materials.
pub const CYCLONEDX: &str = "application/vnd.cyclonedx+json";
/// An SPDX bill of materials.
pub const SPDX: &str = "application/spdx+json";

/// Artifact type of a release index.
pub const NEBH_RELEASE: &str = "application/vnd.nebh.release.v1";
/// Artifact type of a config snapshot.
pub const NEBH_CONFIG_SNAPSHOT: &str = "application/vnd.nebh.config.v1";
/// The release statement: datasets, probes, run parameters.
pub const NEBH_RELEASE_STATEMENT: &str = "application/vnd.nebh.release.statement.v1+json";
/// Artifact type of a signed channel head.
pub const NEBH_CHANNEL_HEAD: &str = "application/vnd.nebh.channel.head.v1";
/// The manifest of one data snapshot.
pub const NEBH_DATA_SNAPSHOT: &str = "application/vnd.nebh.data-snapshot.v1+json";

/// What a client of a registry says it can read, best first.
pub const MANIFESTS: [&str; 4] = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_MANIFEST_LIST];

/// Longer than any media type of RFC 6838 (127 + 1 + 127).
const LENGTH_MAX: usize = 255;

/// A media type without parameters, `type/subtype` in the characters of RFC 6838.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaType(String);

/// Why a text is not a media type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a media type: write `type/subtype`, without parameters")]
pub struct MediaTypeError(String);

impl MediaType {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is one of the manifest lists.
    pub fn is_index(&self) -> bool {
        is_index(&self.0)
    }

    /// Whether this is a manifest of one image or artifact.
    pub fn is_image(&self) -> bool {
        is_image(&self.0)
    }
}

/// Whether `media_type` names one of the two manifest lists.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_MANIFEST_LIST)
}

/// Whether `media_type` names one of the two image manifests.
pub fn is_image(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}

/// Whether `media_type` names any manifest that we read.
pub fn is_manifest(media_type: &str) -> bool {
    is_index(media_type) || is_image(media_type)
}

impl FromStr for MediaType {
    type Err = MediaTypeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_name = |part: &str| {
            part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
        };
        match text.split_once('/') {
            Some((kind, subtype)) if is_name(kind) && is_name(subtype) && text.len() <= LENGTH_MAX => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(MediaTypeError(text.to_owned())),
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::text::from_text(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_of_this_file_are_media_types() {
        for text in MANIFESTS.into_iter().chain([
            OCI_CONFIG,
            OCI_LAYER_GZIP,
            SIGSTORE_BUNDLE_V03,
            NEBH_RELEASE,
            NEBH_CHANNEL_HEAD,
            NEBH_DATA_SNAPSHOT,
            SPDX,
        ]) {
            assert_eq!(text.parse::<MediaType>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn media_type_with_parameters_or_without_subtype_is_refused() {
        for text in ["", "text", "text/", "/plain", "text/plain; charset=utf-8", "a/b/c", "a b/c", "text/pl\nain"] {
            assert!(text.parse::<MediaType>().is_err(), "{text}");
        }
    }
}
