//! Somebody who pushes signed images, one after another, and keeps a list of what the gateway said it has.

use std::sync::atomic::{AtomicBool, Ordering};

use nebh_oci::client::{Client, ClientError};
use nebh_oci::digest::{DiffId, Digest};
use nebh_oci::image_config::ImageConfig;
use nebh_oci::manifest::{Descriptor, ImageManifest, RawManifest};
use nebh_oci::media_type::{OCI_CONFIG, OCI_LAYER};
use nebh_oci::names::{RepositoryAddress, Tag};
use nebh_trust::key::PrivateKey;
use nebh_trust::signing::sign_both;

use super::choice::Choice;
use crate::support::client;

/// Bytes of one layer: several writes of the gateway, and milliseconds of time to be killed in.
const LAYER_BYTES: (u64, u64) = (1 << 10, 600 << 10);

/// What the gateway acknowledged.
#[derive(Debug, Default)]
pub(super) struct Pushed {
    pub(super) blobs: Vec<Descriptor>,
    pub(super) manifests: Vec<Digest>,
    pub(super) tags: Vec<(Tag, Digest)>,
    pub(super) failed: u32,
}

/// Works until it is told to stop.
pub(super) fn work(address: &RepositoryAddress, pem: &str, mut choice: Choice, stop: &AtomicBool) -> Pushed {
    let key = PrivateKey::from_cosign_pem(pem, "test").expect("the builder's key");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (mut told, client, mut number) = (Pushed::default(), client(), 0);
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let tag: Tag = format!("p{number}").parse().expect("a tag");
        if runtime.block_on(one(&client, address, &key, &tag, &mut choice, &mut told)).is_err() {
            told.failed += 1;
        }
    }
    told
}

/// One image from its blobs to its tag; what was acknowledged before an error counts.
async fn one(
    client: &Client,
    address: &RepositoryAddress,
    key: &PrivateKey,
    tag: &Tag,
    choice: &mut Choice,
    told: &mut Pushed,
) -> Result<(), ClientError> {
    let length = choice.between(LAYER_BYTES.0, LAYER_BYTES.1);
    let layer: Vec<u8> = (0..length / 8).flat_map(|_| choice.next().to_le_bytes()).collect();
    let config = ImageConfig::new("amd64", "linux", vec![DiffId(Digest::sha256(&layer))]).to_bytes().expect("a config");
    let blobs = [(Descriptor::of(OCI_CONFIG, &config), config), (Descriptor::of(OCI_LAYER, &layer), layer)];
    for (descriptor, bytes) in &blobs {
        client.push_blob_bytes(address, descriptor, bytes).await?;
        told.blobs.push(descriptor.clone());
    }
    let [(config, _), (layer, _)] = blobs;
    let image = RawManifest::from_image(&ImageManifest::image(config, vec![layer])).expect("a manifest");
    client.push_manifest(address, &image, None).await?;
    told.manifests.push(*image.digest());
    for signature in sign_both(None, &image, address, std::slice::from_ref(tag), key).expect("signatures") {
        client.push_artifact(address, &signature).await?;
        told.manifests.push(*signature.manifest.digest());
    }
    client.push_manifest(address, &image, Some(tag)).await?;
    told.tags.push((tag.clone(), *image.digest()));
    Ok(())
}
