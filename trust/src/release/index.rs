//! A release index: what is in it and nothing else, and how it is read. Pure.

use std::collections::BTreeSet;

use nebh_oci::digest::Digest;
use nebh_oci::manifest::{Descriptor, ManifestError, Platform, RawManifest};
use nebh_oci::media_type::{self, NEBH_CONFIG_SNAPSHOT, NEBH_RELEASE, NEBH_RELEASE_STATEMENT};
use nebh_oci::names::Tag;

use super::names::CommitId;
use super::snapshot::SnapshotError;

/// Annotation with the version.
pub(super) const VERSION_ANNOTATION: &str = "org.opencontainers.image.version";
/// Annotation with the commit.
pub(super) const COMMIT_ANNOTATION: &str = "org.opencontainers.image.revision";
/// Annotation with the counter.
pub const COUNTER_ANNOTATION: &str = "nebh.release.counter";
/// Images of one release: one for each platform.
const IMAGES_MAX: usize = 32;

/// Why a release cannot be made or read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum ReleaseError {
    #[error("not a release: {0}")]
    NotARelease(String),
    #[error("a release needs an image")]
    NoImage,
    #[error("{0} images, more than {IMAGES_MAX}")]
    TooManyImages(usize),
    #[error("image {0} says no platform, or the unknown one")]
    NoPlatform(String),
    #[error("two images for the platform {0}")]
    PlatformTwice(String),
    #[error("image {0} is not an image manifest: a release lists the image of each platform itself")]
    NotAnImage(String),
    #[error("the release statement cannot be read: {0}")]
    Statement(String),
    #[error("the release needs a newer deployer (format {version}, deployer {deployer})")]
    TooNew { version: u32, deployer: u32 },
    #[error("the release statement and the release index disagree about the {0}")]
    Disagree(&'static str),
    #[error("cannot make the config snapshot")]
    Snapshot(#[from] SnapshotError),
    #[error("cannot write the manifest")]
    Manifest(#[from] ManifestError),
}

pub(super) fn check_images(images: &[Descriptor]) -> Result<(), ReleaseError> {
    if images.is_empty() {
        return Err(ReleaseError::NoImage);
    }
    if images.len() > IMAGES_MAX {
        return Err(ReleaseError::TooManyImages(images.len()));
    }
    let mut platforms = BTreeSet::new();
    for image in images {
        let platform = image.platform.as_ref().filter(|platform| **platform != Platform::unknown());
        let platform = platform.ok_or_else(|| ReleaseError::NoPlatform(image.digest.short()))?;
        if !media_type::is_image(&image.media_type) {
            return Err(ReleaseError::NotAnImage(image.digest.short()));
        }
        if !platforms.insert(platform) {
            return Err(ReleaseError::PlatformTwice(format!("{}/{}", platform.os, platform.architecture)));
        }
    }
    Ok(())
}

/// A release index that was read: form only, whether it is to be believed is [`crate::verify::verify_release`]'s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseIndex {
    /// Digest of the index: the release's identity.
    pub digest: Digest,
    /// Its images, each with its platform.
    pub images: Vec<Descriptor>,
    /// Its config snapshot.
    pub config: Descriptor,
    /// Its statement.
    pub statement: Descriptor,
    /// Its version.
    pub version: Tag,
    /// Its commit.
    pub commit: CommitId,
    /// Its counter.
    pub counter: u64,
}

impl ReleaseIndex {
    /// The image for a platform; the variant counts only where the release names one.
    pub fn image_for(&self, platform: &Platform) -> Option<&Descriptor> {
        self.images.iter().find(|image| {
            image.platform.as_ref().is_some_and(|offered| {
                offered.os == platform.os
                    && offered.architecture == platform.architecture
                    && (offered.variant.is_none() || offered.variant == platform.variant)
            })
        })
    }
}

/// Whether a manifest says of itself that it is a release.
pub(crate) fn is_release(manifest: &RawManifest) -> bool {
    manifest.index().is_some() && manifest.artifact_type() == Some(NEBH_RELEASE)
}

/// Reads a release index. Nothing may be in it that a release does not have.
pub fn read_release(manifest: &RawManifest) -> Result<ReleaseIndex, ReleaseError> {
    let not = |text: &str| ReleaseError::NotARelease(text.to_owned());
    let index = manifest.index().ok_or_else(|| not("it is no index"))?;
    if !is_release(manifest) {
        return Err(not("its artifact type is another"));
    }
    let (mut images, mut config, mut statement) = (Vec::new(), None, None);
    for child in &index.manifests {
        match child.artifact_type.as_deref() {
            None if config.is_none() && statement.is_none() => images.push(child.clone()),
            None => return Err(not("an image stands behind the other children")),
            Some(NEBH_CONFIG_SNAPSHOT) if config.is_none() => config = Some(other_child(child)?),
            Some(NEBH_RELEASE_STATEMENT) if statement.is_none() => statement = Some(other_child(child)?),
            Some(other) => {
                return Err(ReleaseError::NotARelease(format!(
                    "it has a child `{}` too many",
                    crate::rejection::quote(other)
                )));
            }
        }
    }
    check_images(&images)?;
    let annotation = |key: &str| {
        let value = index.annotations.get(key).map(String::as_str);
        value.ok_or_else(|| ReleaseError::NotARelease(format!("the annotation `{key}` is missing")))
    };
    let counter = annotation(COUNTER_ANNOTATION)?;
    Ok(ReleaseIndex {
        digest: *manifest.digest(),
        images,
        config: config.ok_or_else(|| not("it has no config snapshot"))?,
        statement: statement.ok_or_else(|| not("it has no release statement"))?,
        version: annotation(VERSION_ANNOTATION)?.parse().map_err(|_| not("its version is no tag"))?,
        commit: annotation(COMMIT_ANNOTATION)?.parse().map_err(|_| not("its commit is none"))?,
        counter: counter
            .parse()
            .ok()
            .filter(|number: &u64| number.to_string() == counter)
            .ok_or_else(|| not("its counter is no number"))?,
    })
}

/// A child that is no image: an artifact manifest, hidden from runtimes by its platform.
fn other_child(child: &Descriptor) -> Result<Descriptor, ReleaseError> {
    if child.media_type != media_type::OCI_MANIFEST || child.platform.as_ref() != Some(&Platform::unknown()) {
        return Err(ReleaseError::NotARelease(
            "a child that is no image does not have the platform unknown/unknown".to_owned(),
        ));
    }
    Ok(child.clone())
}
