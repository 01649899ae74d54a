//! The image config and manifest from layers and a buildspec: canonical JSON, nothing of the machine in it.
//! Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use nebh_oci::digest::DiffId;
use nebh_oci::image_config::{ContainerConfig, History, ImageConfig};
use nebh_oci::json::JsonError;
use nebh_oci::manifest::{Descriptor, ImageManifest, ManifestError, RawManifest};
use nebh_oci::media_type;

use crate::plan::Plan;

/// The search path of an image that sets none; Debian's own.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The annotation that names the commit of an image.
pub const REVISION: &str = "org.opencontainers.image.revision";

/// A layer with the words of its history entry.
#[derive(Clone, Debug)]
pub struct NamedLayer {
    /// What it holds.
    pub name: String,
    /// Its blob.
    pub descriptor: Descriptor,
    /// Its uncompressed digest.
    pub diff_id: DiffId,
}

/// An image whose config has yet to be stored.
#[derive(Clone, Debug)]
pub struct Image {
    /// Bytes of the config.
    pub config: Vec<u8>,
    /// The manifest.
    pub manifest: RawManifest,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The config cannot be written.
    #[error("the image config cannot be written")]
    Config(#[source] JsonError),
    /// The manifest cannot be written.
    #[error("the image manifest cannot be written")]
    Manifest(#[source] ManifestError),
}

/// Makes the image of a plan.
pub fn image(plan: &Plan, created: Timestamp, layers: &[NamedLayer]) -> Result<Image, ImageError> {
    let mut config = ImageConfig::new(oci_architecture(&plan.architecture), "linux", Vec::new());
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    config.created = Some(created);
    config.config = container(plan);
    config.history = layers
        .iter()
        .map(|layer| History {
            created: Some(created),
            created_by: Some(format!("nebh: {}", layer.name)),
            ..History::default()
        })
        .collect();
    let config = config.to_bytes().map_err(ImageError::Config)?;
    let descriptor = Descriptor::of(media_type::OCI_CONFIG, &config);
    let mut manifest = ImageManifest::image(descriptor, layers.iter().map(|layer| layer.descriptor.clone()).collect());
    for (key, value) in annotations(plan, created) {
        manifest = manifest.with_annotation(key, value);
    }
    let manifest = RawManifest::from_image(&manifest).map_err(ImageError::Manifest)?;
    Ok(Image { config, manifest })
}

fn container(plan: &Plan) -> ContainerConfig {
    let spec = &plan.image;
    let mut env: BTreeMap<&str, &str> = BTreeMap::from([("PATH", PATH)]);
    env.extend(spec.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    ContainerConfig {
        user: spec.user.as_ref().map(|user| user.as_str().to_owned()),
        env: env.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
        entrypoint: spec.entrypoint.clone(),
        cmd: spec.cmd.clone(),
        working_dir: spec.workdir.as_ref().map(ToString::to_string),
        exposed_ports: spec.ports.iter().map(ToString::to_string).collect(),
        labels: spec.labels.clone(),
        stop_signal: spec.stop_signal.clone(),
    }
}

fn annotations(plan: &Plan, created: Timestamp) -> BTreeMap<&'static str, String> {
    let mut all = BTreeMap::from([
        ("org.opencontainers.image.created", created.to_string()),
        (REVISION, plan.commit.clone()),
        ("org.opencontainers.image.title", plan.name.clone()),
    ]);
    if plan.work_tree {
        all.insert("nebh.work-tree", "true".to_owned());
    }
    all
}

/// The OCI name of a Debian architecture.
pub fn oci_architecture(debian: &str) -> &str {
    match debian {
        "i386" => "386",
        "armhf" | "armel" => "arm",
        "mips64el" => "mips64le",
        "ppc64el" => "ppc64le",
        same => same,
    }
}
