//! Puts a release together: config snapshot, statement, and the index over them and the images. Pure.

use nebh_oci::manifest::{Artifact, Descriptor, EMPTY_BLOB, ImageIndex, ImageManifest, Platform, RawManifest};
use nebh_oci::media_type::{NEBH_CONFIG_SNAPSHOT, NEBH_RELEASE, NEBH_RELEASE_STATEMENT};
use nebh_oci::names::Tag;

use super::index::{
    COMMIT_ANNOTATION, COUNTER_ANNOTATION, ReleaseError, VERSION_ANNOTATION, check_images, read_release,
};
use super::names::CommitId;
use super::snapshot::ConfigSnapshot;
use super::spec::ReleaseSpec;
use super::statement::{DEPLOYER, ReleaseIdentity, ReleaseStatement, StatementConfig, StatementImage, VERSION};

/// A release that was put together, not pushed yet.
#[derive(Clone, Debug)]
pub struct ReleaseParts {
    config: Artifact,
    statement: Artifact,
    index: RawManifest,
    tag: Tag,
}

impl ReleaseParts {
    /// The index: what is signed.
    pub fn index(&self) -> &RawManifest {
        &self.index
    }

    /// The release tag. It is put last, when the signatures are up: admission asks for them.
    pub fn tag(&self) -> &Tag {
        &self.tag
    }

    /// All that has to be pushed beside the images, in order, by digest.
    pub fn artifacts(&self) -> Vec<Artifact> {
        let index = Artifact { manifest: self.index.clone(), blobs: Vec::new(), tag: None };
        vec![self.config.clone(), self.statement.clone(), index]
    }
}

/// Puts a release together. Deterministic: the same arguments give the same digest.
pub fn assemble(
    spec: &ReleaseSpec,
    version: &Tag,
    commit: &CommitId,
    counter: u64,
    images: &[Descriptor],
    config: &ConfigSnapshot,
) -> Result<ReleaseParts, ReleaseError> {
    check_images(images)?;
    spec.coherent().map_err(ReleaseError::Statement)?;
    let config = config.to_artifact()?;
    let statement = ReleaseStatement {
        version: VERSION,
        deployer: DEPLOYER,
        name: spec.name.clone(),
        release: ReleaseIdentity { version: version.clone(), commit: commit.clone(), counter },
        images: images
            .iter()
            .filter_map(|image| Some(StatementImage { digest: image.digest, platform: image.platform.clone()? }))
            .collect(),
        config: StatementConfig {
            snapshot: *config.manifest.digest(),
            mount: spec.config.as_ref().map(|config| config.mount.clone()),
            check: spec.config.as_ref().map(|config| config.check.clone()).unwrap_or_default(),
        },
        data: spec.data.clone(),
        run: spec.run.clone(),
    };
    let bytes = statement.to_bytes()?;
    let layer = Descriptor::of(NEBH_RELEASE_STATEMENT, &bytes);
    let statement = Artifact {
        manifest: RawManifest::from_image(&ImageManifest::artifact(NEBH_RELEASE_STATEMENT, vec![layer.clone()]))?,
        blobs: vec![(Descriptor::empty(), EMPTY_BLOB.to_vec()), (layer, bytes)],
        tag: None,
    };
    let mut index = ImageIndex { artifact_type: Some(NEBH_RELEASE.to_owned()), ..ImageIndex::default() };
    index.manifests = images
        .iter()
        .map(|image| Descriptor {
            platform: image.platform.clone(),
            ..Descriptor::new(&image.media_type, image.digest, image.size)
        })
        .collect();
    for (part, artifact_type) in [(&config, NEBH_CONFIG_SNAPSHOT), (&statement, NEBH_RELEASE_STATEMENT)] {
        let child = part.manifest.descriptor().with_artifact_type(artifact_type).with_platform(Platform::unknown());
        index.manifests.push(child);
    }
    index.annotations.insert(VERSION_ANNOTATION.to_owned(), version.to_string());
    index.annotations.insert(COMMIT_ANNOTATION.to_owned(), commit.to_string());
    index.annotations.insert(COUNTER_ANNOTATION.to_owned(), counter.to_string());
    let index = RawManifest::from_index(&index)?;
    // What is written has to be what will be read.
    read_release(&index)?;
    Ok(ReleaseParts { config, statement, index, tag: version.clone() })
}
