//! Archives that become files on a host: layers of an image, and config snapshots.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use nebh_oci::digest::{DiffId, Digest};
use nebh_oci::manifest::{Attached, Descriptor, ImageManifest, RawManifest};
use nebh_oci::media_type::{NEBH_CONFIG_SNAPSHOT, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD};
use nebh_oci::unpack::{UnpackLimits, UnpackSettings, Unpacker};
use nebh_trust::release::ConfigSnapshot;

/// Small enough that a bomb ends at once.
fn limits() -> UnpackLimits {
    UnpackLimits { bytes: 1 << 20, entries: 128, path_depth: 16, ..UnpackLimits::default() }
}

/// The first byte says how it is packed. Beside the root lies a file that a layer must not reach.
pub(crate) fn layer(bytes: &[u8]) {
    let Some((packing, layer)) = bytes.split_first() else { return };
    let folder = tempfile::Builder::new().prefix("nebh-fuzz-").tempdir().expect("a folder");
    let (root, beside) = (folder.path().join("root"), folder.path().join("beside"));
    fs::create_dir(&root).expect("the root");
    fs::write(&beside, b"untouched").expect("a file beside it");
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o640)).expect("its mode");
    let before = facts(&beside);
    let media_type = [OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD][usize::from(*packing) % 3];
    let settings = UnpackSettings { limits: limits(), ..UnpackSettings::default() };
    let mut unpacker = Unpacker::new(&root, settings).expect("the root is there");
    let expected = DiffId(Digest::sha256(layer));
    if let Ok(unpacked) = unpacker.apply(media_type, layer, &expected) {
        assert!(media_type == OCI_LAYER, "its packed bytes hash to the digest of its unpacked ones");
        assert!(unpacked.entries <= limits().entries && unpacked.bytes <= limits().bytes);
        // Twice the same layer: whiteouts and links of the first meet the second.
        drop(unpacker.apply(media_type, layer, &expected));
    }
    assert_eq!(facts(&beside), before, "a layer reached out of its root");
    assert_eq!(fs::read(&beside).expect("still there"), b"untouched");
    let names = fs::read_dir(folder.path()).expect("the folder").count();
    assert_eq!(names, 2, "a layer made something beside its root");
    free(&root);
}

fn facts(path: &Path) -> (u32, u32, u32, u64, u64) {
    let facts = fs::symlink_metadata(path).expect("still there");
    (facts.mode(), facts.uid(), facts.gid(), facts.nlink(), facts.size())
}

/// A layer may say that its folders cannot be entered; who is not root has to undo that to clean up.
fn free(folder: &Path) {
    drop(fs::set_permissions(folder, fs::Permissions::from_mode(0o700)));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            free(&entry.path());
        }
    }
}

/// A snapshot that is read is written, and read again as the same; its paths stay below the mount.
pub(crate) fn config_snapshot(bytes: &[u8]) {
    let layer = Descriptor::of(OCI_LAYER, bytes);
    let manifest = ImageManifest::artifact(NEBH_CONFIG_SNAPSHOT, vec![layer.clone()]);
    let manifest = RawManifest::from_image(&manifest).expect("a manifest");
    let Ok(snapshot) = ConfigSnapshot::read(&Attached { manifest, layers: vec![(layer, bytes.to_vec())] }) else {
        return;
    };
    for file in snapshot.layers.iter().flat_map(|layer| &layer.files) {
        let path = file.path.as_str();
        assert!(!path.starts_with('/') && path.split('/').all(|part| !matches!(part, "" | "." | "..")));
    }
    // A path that fits no plain header is refused by the writer.
    let Ok(artifact) = snapshot.to_artifact() else { return };
    let again = ConfigSnapshot::read(&Attached::from_artifact(&artifact)).expect("ours is read");
    assert_eq!(again, snapshot);
}
