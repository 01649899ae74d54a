//! Releases of the shop: an image with the program in it, config, statement, and everything signed as it should be.

use nebh_oci::digest::{DiffId, Digest};
use nebh_oci::image_config::ImageConfig;
use nebh_oci::manifest::{Descriptor, ImageManifest, Platform, RawManifest};
use nebh_oci::media_type::{OCI_CONFIG, OCI_LAYER};
use nebh_oci::names::{RepositoryAddress, Tag};
use nebh_trust::key::PrivateKey;
use nebh_trust::release::{ConfigFile, ConfigLayer, ConfigSnapshot, ReleaseSpec, assemble};
use nebh_trust::signing::sign_both;

use super::{Site, client};

/// An image with the program in it, signed by the builder.
async fn image(site: &Site, program: &[u8], version: &str) -> RawManifest {
    let (client, address) = (client(), &site.address("shop/api"));
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    archive.append_data(&mut header, "shop", program).expect("an entry");
    let layer = archive.into_inner().expect("a tar");
    let mut config = ImageConfig::new("amd64", "linux", vec![DiffId(Digest::sha256(&layer))]);
    config.config.entrypoint = vec!["/shop".to_owned()];
    config.config.env = vec![format!("VERSION={version}")];
    config.config.user = Some("65532".to_owned());
    let config = config.to_bytes().expect("a config");
    let blobs = [(Descriptor::of(OCI_CONFIG, &config), config), (Descriptor::of(OCI_LAYER, &layer), layer)];
    let image = ImageManifest::image(blobs[0].0.clone(), vec![blobs[1].0.clone()]);
    let image = RawManifest::from_image(&image).expect("a manifest");
    for (descriptor, bytes) in &blobs {
        client.push_blob_bytes(address, descriptor, bytes).await.expect("a blob is stored");
    }
    client.push_manifest(address, &image, None).await.expect("the manifest is stored");
    sign(address, &image, &[], &site.builder).await;
    image
}

/// Makes a signed release and gives it its tag.
pub(super) async fn publish(
    site: &Site,
    program: &[u8],
    version: &str,
    counter: u64,
    spec: &str,
    config: &[(&str, &str)],
) {
    let image = self::image(site, program, version).await;
    let (client, tag, address): (_, Tag, _) = (client(), version.parse().expect("a tag"), &site.address("shop/api"));
    let spec = ReleaseSpec::parse("release.yaml", spec).expect("a release");
    let file = |(path, text): &(&str, &str)| ConfigFile {
        path: path.parse().expect("a path"),
        bytes: text.as_bytes().to_vec(),
        executable: false,
    };
    let files: Vec<ConfigFile> = config.iter().map(file).collect();
    let layer = ConfigLayer { name: "defaults".to_owned(), origin: "test".to_owned(), files };
    let config = ConfigSnapshot { layers: if config.is_empty() { Vec::new() } else { vec![layer] } };
    let platform = image.descriptor().with_platform(Platform::new("linux", "amd64"));
    let commit = "0123456789abcdef0123456789abcdef01234567".parse().expect("a commit");
    let parts = assemble(&spec, &tag, &commit, counter, &[platform], &config).expect("a release");
    for artifact in parts.artifacts() {
        client.push_artifact(address, &artifact).await.expect("a part of the release is stored");
    }
    sign(address, parts.index(), std::slice::from_ref(&tag), &site.releaser).await;
    client.push_manifest(address, parts.index(), Some(parts.tag())).await.expect("the release tag is granted");
}

async fn sign(address: &RepositoryAddress, manifest: &RawManifest, tags: &[Tag], key: &PrivateKey) {
    for artifact in sign_both(None, manifest, address, tags, key).expect("signatures") {
        client().push_artifact(address, &artifact).await.expect("a signature is stored");
    }
}
