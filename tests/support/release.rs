//! Images with one program in them, and releases of them, signed as they should be. The benchmarks include this file, too.

use anyhow::Result;
use nebh_oci::client::Client;
use nebh_oci::digest::{DiffId, Digest};
use nebh_oci::image_config::ImageConfig;
use nebh_oci::manifest::{Artifact, Descriptor, ImageManifest, Platform, RawManifest};
use nebh_oci::media_type::{OCI_CONFIG, OCI_LAYER};
use nebh_oci::names::{RepositoryAddress, Tag};
use nebh_trust::key::PrivateKey;
use nebh_trust::release::{ConfigSnapshot, ReleaseSpec, assemble};
use nebh_trust::signing::sign_both;

/// The user that programs run as; the data are its own.
pub(crate) const USER: u32 = 65532;

/// A layer with one program in it, as it is before it is packed.
pub(crate) fn layer(name: &str, program: &[u8]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    archive.append_data(&mut header, name, program)?;
    Ok(archive.into_inner()?)
}

/// An image of one layer.
pub(crate) fn image(config: &ImageConfig, media_type: &str, layer: Vec<u8>) -> Result<Artifact> {
    let config = config.to_bytes()?;
    let blobs = vec![(Descriptor::of(OCI_CONFIG, &config), config), (Descriptor::of(media_type, &layer), layer)];
    let image = ImageManifest::image(blobs[0].0.clone(), vec![blobs[1].0.clone()]);
    Ok(Artifact { manifest: RawManifest::from_image(&image)?, blobs, tag: None })
}

/// An image that runs a program and tells it its version.
pub(crate) fn program(name: &str, program: &[u8], version: &str) -> Result<Artifact> {
    let layer = layer(name, program)?;
    let mut config = ImageConfig::new("amd64", "linux", vec![DiffId(Digest::sha256(&layer))]);
    config.config.entrypoint = vec![format!("/{name}")];
    config.config.env = vec![format!("VERSION={version}")];
    config.config.user = Some(USER.to_string());
    image(&config, OCI_LAYER, layer)
}

/// Signs `manifest` in both forms for `tags` and pushes the signatures.
pub(crate) async fn sign(
    client: &Client,
    address: &RepositoryAddress,
    manifest: &RawManifest,
    tags: &[Tag],
    key: &PrivateKey,
) -> Result<()> {
    for artifact in sign_both(None, manifest, address, tags, key)? {
        client.push_artifact(address, &artifact).await?;
    }
    Ok(())
}

/// A release to be made.
pub(crate) struct Release<'a> {
    /// Text of `release.yaml`.
    pub(crate) spec: &'a str,
    pub(crate) version: &'a str,
    pub(crate) counter: u64,
    pub(crate) config: &'a ConfigSnapshot,
}

impl Release<'_> {
    /// Makes it of an image that is there, signs it, and gives it its tag.
    pub(crate) async fn publish(
        &self,
        client: &Client,
        address: &RepositoryAddress,
        image: &RawManifest,
        key: &PrivateKey,
    ) -> Result<()> {
        let tag: Tag = self.version.parse()?;
        let spec = ReleaseSpec::parse("release.yaml", self.spec).map_err(|failure| anyhow::anyhow!("{failure}"))?;
        let platform = image.descriptor().with_platform(Platform::new("linux", "amd64"));
        let commit = "0123456789abcdef0123456789abcdef01234567".parse()?;
        let parts = assemble(&spec, &tag, &commit, self.counter, &[platform], self.config)?;
        for artifact in parts.artifacts() {
            client.push_artifact(address, &artifact).await?;
        }
        sign(client, address, parts.index(), std::slice::from_ref(&tag), key).await?;
        client.push_manifest(address, parts.index(), Some(parts.tag())).await?;
        Ok(())
    }
}
