//! Brings a built image into a registry so that nobody ever sees it unsigned.
//!
//! ```text
//!   layout ─► blobs ─► signatures + attestations (referrers, before their subject exists) ─► manifest ─► tags
//! ```
//!
//! Names are granted by admission at the tag, so all that admission asks for is up before. Whatever breaks off in
//! between leaves nothing under a name, and doing it again finishes it: every step finds what is there already.
//! Side effects: the registry.

use nebh_face::{Exit, Failure};
use nebh_oci::client::Client;
use nebh_oci::layout::Layout;
use nebh_oci::manifest::{Artifact, Attached, RawManifest};
use nebh_oci::names::{RepositoryAddress, Tag};
use nebh_trust::key::PrivateKey;
use nebh_trust::provenance::Provenance;
use nebh_trust::sbom::{self, Component, Described};
use nebh_trust::signing::{self, SigningError};
use nebh_trust::statement::{CYCLONEDX_BOM, SLSA_PROVENANCE_V1, SPDX_DOCUMENT};

use crate::{crash, registry};

pub mod built;
pub mod provenance;
#[cfg(test)]
pub(crate) mod twin;

/// One image to publish.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// Where its bytes are.
    pub layout: &'a Layout,
    /// Its manifest.
    pub image: &'a RawManifest,
    /// Where it goes.
    pub to: &'a RepositoryAddress,
    /// Tags that shall point to it.
    pub tags: &'a [Tag],
    /// Tags that it is signed for and that something else will put: the release's.
    pub names: &'a [Tag],
    /// How it was made.
    pub provenance: &'a Provenance,
    /// What went into it.
    pub components: &'a [Component],
    /// Time of the commit; the SBOM bears it.
    pub committed: jiff::Timestamp,
    /// Who signs. Without a key nothing is signed or attested.
    pub keys: &'a [PrivateKey],
}

/// Publishes it.
pub async fn publish(client: &Client, publication: &Publication<'_>) -> Result<(), Failure> {
    let Publication { layout, image, to, tags, names, keys, .. } = *publication;
    push_blobs(client, publication).await?;
    let all: Vec<Tag> = tags.iter().chain(names).cloned().collect();
    sign(client, to, image, &all, keys).await?;
    attest(client, publication).await?;
    tracing::debug!(layout = %layout.root().display(), digest = %image.digest(), "signed, now the manifest");
    put(client, to, image, tags).await
}

/// The manifest by its digest, then each tag.
pub async fn put(client: &Client, to: &RepositoryAddress, manifest: &RawManifest, tags: &[Tag]) -> Result<(), Failure> {
    let failed = |error| registry::failure(&error);
    client.push_manifest(to, manifest, None).await.map_err(failed)?;
    crash::point("manifest-pushed");
    for tag in tags {
        client.push_manifest(to, manifest, Some(tag)).await.map_err(failed)?;
        crash::point("tag-pushed");
    }
    Ok(())
}

async fn push_blobs(client: &Client, publication: &Publication<'_>) -> Result<(), Failure> {
    let image = publication
        .image
        .image()
        .ok_or_else(|| Failure::new(Exit::Failed, format!("{} is no image manifest", publication.image.digest())))?;
    for blob in image.layers.iter().chain([&image.config]) {
        let file = publication.layout.blob_path(&blob.digest);
        client.push_blob_file(publication.to, blob, &file).await.map_err(|error| registry::failure(&error))?;
        crash::point("blob-pushed");
    }
    Ok(())
}

/// Signs `manifest` in both forms with each key, and pushes the signatures.
pub async fn sign(
    client: &Client,
    to: &RepositoryAddress,
    manifest: &RawManifest,
    tags: &[Tag],
    keys: &[PrivateKey],
) -> Result<(), Failure> {
    let failed = |error| registry::failure(&error);
    let Some(tag) = Tag::signatures_of(manifest.digest()) else {
        return Err(unsigned(manifest, &SigningError::NotSha256));
    };
    if keys.is_empty() {
        return Ok(());
    }
    // The `.sig` manifest holds the signatures of everybody: read, add, write.
    let mut existing = registry::attached_at(client, to, &tag).await.map_err(failed)?;
    let mut artifacts: Vec<Artifact> = Vec::new();
    for key in keys {
        let mut both = signing::sign_both(existing.as_ref(), manifest, to, tags, key)
            .map_err(|error| unsigned(manifest, &error))?;
        existing = both.first().map(Attached::from_artifact);
        // Only the last `.sig` manifest is pushed: it holds those before it.
        artifacts.retain(|artifact| artifact.tag.is_none());
        artifacts.append(&mut both);
    }
    for artifact in &artifacts {
        client.push_artifact(to, artifact).await.map_err(failed)?;
        crash::point("signature-pushed");
    }
    Ok(())
}

fn unsigned(manifest: &RawManifest, error: &SigningError) -> Failure {
    Failure::new(Exit::Failed, format!("cannot sign {}", manifest.digest())).because(error)
}

/// Attests provenance and bills of materials, unless the same were attested before.
async fn attest(client: &Client, publication: &Publication<'_>) -> Result<(), Failure> {
    let Publication { image, to, keys, .. } = *publication;
    let [key, ..] = keys else { return Ok(()) };
    let failed = |error: &dyn std::error::Error| {
        Failure::new(Exit::Failed, format!("cannot attest {}", image.digest())).because(error)
    };
    let described = Described { name: to.repository().to_string(), digest: *image.digest() };
    let bills = [
        (CYCLONEDX_BOM, sbom::cyclonedx(&described, publication.components)),
        (SPDX_DOCUMENT, sbom::spdx(&described, publication.components, publication.committed)),
    ];
    let known = client.attached(to, image.digest()).await.map_err(|error| registry::failure(&error))?;
    let mut artifacts = Vec::new();
    if !provenance::is_known(publication.provenance, image.digest(), &known, key.public()) {
        let predicate = publication.provenance.to_predicate().map_err(|error| failed(&error))?;
        artifacts.push(signing::attest(image, SLSA_PROVENANCE_V1, &predicate, key).map_err(|error| failed(&error))?);
    }
    for (predicate_type, bill) in bills {
        artifacts.push(signing::attest(image, predicate_type, &bill, key).map_err(|error| failed(&error))?);
    }
    // Bills are deterministic: one that was attested before is the same manifest.
    artifacts.retain(|artifact| known.iter().all(|one| one.manifest.digest() != artifact.manifest.digest()));
    for artifact in &artifacts {
        client.push_artifact(to, artifact).await.map_err(|error| registry::failure(&error))?;
        crash::point("attestation-pushed");
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
