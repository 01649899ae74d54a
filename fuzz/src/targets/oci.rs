//! JSON, manifests, image configs and names.

use nebh_oci::digest::Digest;
use nebh_oci::image_config::ImageConfig;
use nebh_oci::json;
use nebh_oci::manifest::{Document, RawManifest};
use nebh_oci::media_type::{OCI_INDEX, OCI_MANIFEST};
use nebh_oci::names::{Reference, RegistryHost, Repository, RepositoryAddress, Tag};
use serde_json::Value;

/// What the strict door lets in, the ordinary reader reads alike; its canonical form is read and written alike.
pub(crate) fn json(bytes: &[u8]) {
    let Ok(value) = json::parse_strict::<Value>(bytes) else { return };
    assert_eq!(serde_json::from_slice::<Value>(bytes).expect("the ordinary reader reads it too"), value);
    let Ok(canonical) = json::canonical(&value) else { return };
    let again: Value = json::parse_strict(&canonical).expect("canonical JSON is strict JSON");
    assert!(says_the_same(&again, &value), "the canonical form says something else");
    assert_eq!(json::canonical(&again).expect("and canonical once more"), canonical);
}

/// Equal, but for how a number is written.
fn says_the_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| says_the_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, one)| other.get(name).is_some_and(|other| says_the_same(one, other)))
        }
        _ => one == other,
    }
}

/// Bytes and digest are kept as they are; nothing is an image and an index; what we write says the same.
pub(crate) fn manifest(bytes: &[u8]) {
    let Ok(manifest) = RawManifest::parse(bytes.to_vec(), None) else {
        // What is no manifest without an announcement may become one by it, and then only as announced.
        for announced in [OCI_MANIFEST, OCI_INDEX] {
            if let Ok(manifest) = RawManifest::parse(bytes.to_vec(), Some(announced)) {
                assert_eq!(manifest.media_type(), announced);
            }
        }
        return;
    };
    assert_eq!(manifest.bytes(), bytes);
    assert_eq!(*manifest.digest(), Digest::sha256(bytes));
    let as_other = if manifest.index().is_some() { OCI_MANIFEST } else { OCI_INDEX };
    assert!(RawManifest::parse(bytes.to_vec(), Some(as_other)).is_err(), "read as two things");
    let written = match manifest.document() {
        Document::Image(image) => RawManifest::from_image(image),
        Document::Index(index) => RawManifest::from_index(index),
    };
    let Ok(written) = written else { return };
    assert_eq!(written.document(), manifest.document());
    let again = RawManifest::parse(written.bytes().to_vec(), Some(written.media_type())).expect("ours is read");
    assert_eq!(again.document(), manifest.document());
    assert_eq!(again.digest(), written.digest());
    let _: (Option<&str>, Option<&str>) =
        (manifest.artifact_type(), manifest.referrer_descriptor().artifact_type.as_deref());
}

/// What was read leniently is written canonically, and read back as the same.
pub(crate) fn image_config(bytes: &[u8]) {
    let Ok(config) = ImageConfig::parse(bytes) else { return };
    let Ok(written) = config.to_bytes() else { return };
    let again = ImageConfig::parse(&written).expect("what we write is read");
    assert_eq!(again, config);
    assert_eq!(again.to_bytes().expect("and written again"), written);
}

/// A name has one spelling, and none that means something to a file system.
pub(crate) fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(repository) = text.parse::<Repository>() {
        assert_eq!(repository.to_string(), text);
        assert!(text.split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\%?#:@".contains(&byte)));
    }
    if let Ok(tag) = text.parse::<Tag>() {
        assert_eq!(tag.to_string(), text);
        assert!(!text.starts_with(['.', '-']) && !text.contains(['/', ':', '@']));
    }
    if let Ok(host) = text.parse::<RegistryHost>() {
        assert_eq!(host.to_string().parse::<RegistryHost>().expect("its own text"), host);
        assert!(!host.host().contains(['/', '@', ' ']));
    }
    if let Ok(address) = text.parse::<RepositoryAddress>() {
        assert_eq!(address.to_string().parse::<RepositoryAddress>().expect("its own text"), address);
    }
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string().parse::<Reference>().expect("its own text"), reference);
    }
}
