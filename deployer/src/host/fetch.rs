//! The part of Prepare that speaks to the registry: everything a release consists of, verified before anything in it
//! is looked at more deeply than its form.
//!
//! ```text
//!   index + what is attached ─► verify_release ─► its image for this platform + attached ─► verify_image
//!                                     └─► statement, config snapshot (by digests that the index names)
//! ```

use nebh_oci::client::{Client, ClientError};
use nebh_oci::digest::Digest;
use nebh_oci::manifest::{Attached, Descriptor, Platform, RawManifest};
use nebh_oci::names::RepositoryAddress;
use nebh_trust::policy::TrustPolicy;
use nebh_trust::release::{ConfigSnapshot, ReleaseStatement, read_release};
use nebh_trust::verify::verify_release;

use super::evidence::{Evidence, Witnessed};
use super::trouble;
use crate::machine::{ReleaseRef, Trouble, TroubleKind};

/// Bytes of one layer of a small artifact: a statement, a layer of config.
const SMALL_LAYER_MAX: u64 = 4 << 20;
/// Layers of a small artifact.
const SMALL_LAYERS_MAX: usize = 16;

/// A release whose signatures were verified on this host.
pub(super) struct Fetched {
    pub(super) evidence: Evidence,
    pub(super) image: Digest,
    pub(super) statement: ReleaseStatement,
    pub(super) snapshot: ConfigSnapshot,
    pub(super) signed_by: String,
}

/// The platform of this host, in the words of image indexes.
pub(super) fn platform() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Platform::new("linux", architecture)
}

/// Fetches and verifies.
pub(super) async fn fetch(
    client: &Client,
    address: &RepositoryAddress,
    release: &ReleaseRef,
    policy: &TrustPolicy,
) -> Result<Fetched, Trouble> {
    let repository = address.repository().clone();
    let index = witnessed(client, address, &release.digest).await?;
    let now = jiff::Timestamp::now();
    verify_release(policy, &repository, &index.manifest, &index.attached, now)
        .map_err(|rejection| trouble::refused(&rejection))?;
    let parts = read_release(&index.manifest).map_err(|error| trouble::failed(&error))?;
    if parts.version.to_string() != release.version.to_string() {
        let text = format!("release {} calls itself {}, not {}", release.digest, parts.version, release.version);
        return Err(Trouble::new(TroubleKind::Refused, text));
    }
    let here = platform();
    let image = parts.image_for(&here).ok_or_else(|| {
        trouble::wrong(format!("release {} has no image for {}/{}", parts.version, here.os, here.architecture))
    })?;
    let image = witnessed(client, address, &image.digest).await?;
    let evidence = Evidence { repository, release: index, image };
    let signed_by = evidence.verify(policy, now).map_err(|rejection| trouble::refused(&rejection))?;

    let statement = small(client, address, &parts.statement).await?;
    let bytes = statement.layers.first().map(|(_, bytes)| bytes.as_slice()).unwrap_or_default();
    let statement = ReleaseStatement::parse(bytes, &parts).map_err(|error| trouble::failed(&error))?;
    let snapshot = small(client, address, &parts.config).await?;
    let snapshot = ConfigSnapshot::read(&snapshot).map_err(|error| trouble::failed(&error))?;
    let image = *evidence.image.manifest.digest();
    Ok(Fetched { evidence, image, statement, snapshot, signed_by })
}

/// A manifest with what is attached to it.
pub(super) async fn witnessed(
    client: &Client,
    address: &RepositoryAddress,
    digest: &Digest,
) -> Result<Witnessed, Trouble> {
    let fetch = async {
        let manifest = client.manifest(address, digest).await?;
        let attached = client.attached(address, digest).await?;
        Ok::<_, ClientError>(Witnessed { manifest, attached })
    };
    fetch.await.map_err(|error| trouble::from_client(&error))
}

/// A small artifact with its layers.
async fn small(client: &Client, address: &RepositoryAddress, child: &Descriptor) -> Result<Attached, Trouble> {
    let manifest = client.manifest(address, &child.digest).await.map_err(|error| trouble::from_client(&error))?;
    with_layers(client, address, manifest).await
}

/// The layers of a small artifact.
pub(super) async fn with_layers(
    client: &Client,
    address: &RepositoryAddress,
    manifest: RawManifest,
) -> Result<Attached, Trouble> {
    let layers = manifest.image().map(|image| image.layers.clone()).unwrap_or_default();
    if layers.len() > SMALL_LAYERS_MAX {
        let text = format!("artifact {} has {} layers, more than {SMALL_LAYERS_MAX}", manifest.digest(), layers.len());
        return Err(Trouble::new(TroubleKind::Failed, text));
    }
    let mut fetched = Vec::with_capacity(layers.len());
    for layer in layers {
        let bytes = client.blob_bytes(address, &layer, SMALL_LAYER_MAX).await;
        fetched.push((layer, bytes.map_err(|error| trouble::from_client(&error))?));
    }
    Ok(Attached { manifest, layers: fetched })
}
