//! Everything that a signature check needs, kept on this disk: the manifests as bytes with what was attached to them.
//! Every start asks today's trust policy again, without a network. Pure.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use nebh_oci::manifest::{Attached, Descriptor, RawManifest};
use nebh_oci::names::Repository;
use nebh_trust::policy::TrustPolicy;
use nebh_trust::rejection::Rejection;
use nebh_trust::verify::{verify_image, verify_release};
use serde::{Deserialize, Serialize};

/// Version of the file.
const VERSION: u32 = 1;

/// A manifest and what vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Witnessed {
    pub(crate) manifest: RawManifest,
    pub(crate) attached: Vec<Attached>,
}

/// A release and the image of it that runs here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Evidence {
    pub(crate) repository: Repository,
    pub(crate) release: Witnessed,
    pub(crate) image: Witnessed,
}

impl Evidence {
    /// Asks a policy. Who signed, in words.
    pub(crate) fn verify(&self, policy: &TrustPolicy, now: Timestamp) -> Result<String, Rejection> {
        let release = verify_release(policy, &self.repository, &self.release.manifest, &self.release.attached, now)?;
        let image = verify_image(policy, &self.repository, &self.image.manifest, &self.image.attached, now)?;
        Ok(format!("{}; image by {}", release.signed_by(), image.signed_by()))
    }

    /// The file's bytes.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&File {
            version: VERSION,
            repository: self.repository.clone(),
            release: wire(&self.release),
            image: wire(&self.image),
        })
    }

    /// Reads the file. Digests are computed again, so a changed byte is another manifest, which nobody signed.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if file.version != VERSION {
            return Err(format!("version {} is not known here", file.version));
        }
        Ok(Self { repository: file.repository, release: read(&file.release)?, image: read(&file.image)? })
    }
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    repository: Repository,
    release: WireWitnessed,
    image: WireWitnessed,
}

#[derive(Serialize, Deserialize)]
struct WireWitnessed {
    manifest: WireManifest,
    attached: Vec<WireAttached>,
}

#[derive(Serialize, Deserialize)]
struct WireManifest {
    media_type: String,
    bytes: String,
}

#[derive(Serialize, Deserialize)]
struct WireAttached {
    manifest: WireManifest,
    layers: Vec<(Descriptor, String)>,
}

fn wire(witnessed: &Witnessed) -> WireWitnessed {
    let manifest = |manifest: &RawManifest| WireManifest {
        media_type: manifest.media_type().to_owned(),
        bytes: BASE64_STANDARD.encode(manifest.bytes()),
    };
    let attached = |attached: &Attached| WireAttached {
        manifest: manifest(&attached.manifest),
        layers: attached
            .layers
            .iter()
            .map(|(descriptor, bytes)| (descriptor.clone(), BASE64_STANDARD.encode(bytes)))
            .collect(),
    };
    WireWitnessed {
        manifest: manifest(&witnessed.manifest),
        attached: witnessed.attached.iter().map(attached).collect(),
    }
}

fn read(wire: &WireWitnessed) -> Result<Witnessed, String> {
    let bytes = |text: &str| BASE64_STANDARD.decode(text).map_err(|error| error.to_string());
    let manifest = |wire: &WireManifest| {
        RawManifest::parse(bytes(&wire.bytes)?, Some(&wire.media_type)).map_err(|error| error.to_string())
    };
    let attached = |wire: &WireAttached| -> Result<Attached, String> {
        let layers = wire.layers.iter().map(|(descriptor, text)| Ok((descriptor.clone(), bytes(text)?)));
        Ok(Attached { manifest: manifest(&wire.manifest)?, layers: layers.collect::<Result<_, String>>()? })
    };
    let attached = wire.attached.iter().map(attached).collect::<Result<_, _>>()?;
    Ok(Witnessed { manifest: manifest(&wire.manifest)?, attached })
}
