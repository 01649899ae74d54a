//! Unpacking: what a layer means, and each attack by its name.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::manifest::{Descriptor, ImageManifest};

mod attacks;
mod hostile;

/// A tar of raw headers: whatever the name, however wrong.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn raw(mut self, kind: u8, name: &[u8], link: &[u8], mode: u32, content: &[u8], size: u64) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(size);
        header.set_mode(mode);
        header.set_mtime(1_000_000_000);
        header.set_uid(u64::from(rustix::process::geteuid().as_raw()));
        header.set_gid(u64::from(rustix::process::getegid().as_raw()));
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.raw(b'0', name.as_bytes(), b"", 0o644, content.as_bytes(), content.len() as u64)
    }

    fn directory(self, name: &str) -> Self {
        self.raw(b'5', name.as_bytes(), b"", 0o755, b"", 0)
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(b'2', name.as_bytes(), target.as_bytes(), 0o777, b"", 0)
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.raw(b'1', name.as_bytes(), target.as_bytes(), 0o644, b"", 0)
    }

    fn pax(self, records: &[(&str, &str)]) -> Self {
        self.records(b'x', records)
    }

    /// An extension header with these records, each with the length that it has.
    fn records(self, kind: u8, records: &[(&str, &str)]) -> Self {
        let mut content = String::new();
        for (key, value) in records {
            let rest = format!(" {key}={value}\n");
            let length =
                (rest.len()..rest.len() + 9).find(|length| length.to_string().len() + rest.len() == *length).unwrap();
            content.extend([length.to_string(), rest]);
        }
        self.raw(kind, b"pax", b"", 0o644, content.as_bytes(), content.len() as u64)
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// A root with a secret beside it that no layer may reach.
struct Place {
    outside: tempfile::TempDir,
    settings: UnpackSettings,
}

impl Place {
    fn new() -> Self {
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(outside.path().join("root")).unwrap();
        fs::write(outside.path().join("secret"), "untouched").unwrap();
        Self { outside, settings: UnpackSettings::default() }
    }

    fn root(&self) -> PathBuf {
        self.outside.path().join("root")
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap()
    }

    fn exists(&self, path: &str) -> bool {
        fs::symlink_metadata(self.root().join(path)).is_ok()
    }

    fn apply(&self, layers: &[Tar]) -> Result<Unpacked, UnpackError> {
        let mut unpacker = Unpacker::new(&self.root(), self.settings)?;
        for layer in layers {
            let bytes = Tar(layer.0.clone()).end();
            unpacker.apply(media_type::OCI_LAYER, bytes.as_slice(), &DiffId(Digest::sha256(&bytes)))?;
        }
        unpacker.sync()
    }

    /// The error of one layer, after which nothing outside has changed.
    fn refuses(&self, layer: Tar) -> String {
        let error = self.apply(&[layer]).unwrap_err().to_string();
        assert_eq!(fs::read_to_string(self.outside.path().join("secret")).unwrap(), "untouched");
        assert_eq!(fs::read_dir(self.outside.path()).unwrap().count(), 2);
        error
    }
}

fn tar() -> Tar {
    Tar::default()
}

#[test]
fn layers_stack_up() {
    let place = Place::new();
    let lower =
        tar().directory("./etc/").file("etc/a", "1").file("etc/b", "1").symlink("lib", "usr/lib").directory("usr/lib");
    let upper =
        tar().file("etc/a", "2").file("lib/x.so", "so").hard_link("etc/c", "etc/b").file("implied/parent/f", "f");
    let unpacked = place.apply(&[lower, upper]).unwrap();
    assert_eq!(unpacked.entries, 9);
    assert_eq!((place.read("etc/a"), place.read("etc/c")), ("2".into(), "1".into()));
    assert_eq!(place.read("usr/lib/x.so"), "so");
    assert_eq!(fs::read_link(place.root().join("lib")).unwrap(), Path::new("usr/lib"));
    assert_eq!(fs::metadata(place.root().join("etc/b")).unwrap().nlink(), 2);
    assert_eq!(place.read("implied/parent/f"), "f");
    let time = |path: &str| fs::metadata(place.root().join(path)).unwrap().mtime();
    assert_eq!([time("etc/a"), time("etc/c")], [1_000_000_000; 2]);
    place.apply(&[tar().directory("etc").file("etc/d", "1")]).unwrap();
    assert_eq!(time("etc"), 1_000_000_000);
}

#[test]
fn whiteouts_take_away_what_lower_layers_have() {
    let place = Place::new();
    let lower = tar().file("a/x", "1").file("a/y", "1").file("b/deep/z", "1").file("c", "1");
    let upper = tar()
        .file("a/.wh.x", "")
        .file("b/new", "2")
        .file("b/.wh..wh..opq", "")
        .file(".wh.c", "")
        .file("a/.wh.none", "");
    place.apply(&[lower, upper]).unwrap();
    assert_eq!([place.exists("a/x"), place.exists("b/deep"), place.exists("c")], [false; 3]);
    assert_eq!((place.read("a/y"), place.read("b/new")), ("1".into(), "2".into()));
    assert!(!place.exists("a/.wh.x") && !place.exists("b/.wh..wh..opq"));
}

#[test]
fn opaque_directory_keeps_what_its_own_layer_made_before() {
    let place = Place::new();
    let lower = tar().file("d/sub/old", "1").file("d/old", "1");
    let upper = tar().file("d/sub/new", "2").file("d/.wh..wh..opq", "");
    place.apply(&[lower, upper]).unwrap();
    assert_eq!(place.read("d/sub/new"), "2");
    assert!(!place.exists("d/sub/old") && !place.exists("d/old"));
}

#[test]
fn file_takes_the_place_of_a_directory_and_back() {
    let place = Place::new();
    place.apply(&[tar().file("a/b/c", "1").file("f", "1"), tar().file("a", "2").directory("f")]).unwrap();
    assert_eq!(place.read("a"), "2");
    assert!(place.root().join("f").is_dir());
}

#[test]
fn directory_takes_the_place_of_a_link() {
    let place = Place::new();
    place
        .apply(&[tar().directory("real").symlink("link", "real"), tar().directory("link").file("link/f", "1")])
        .unwrap();
    assert!(!place.exists("real/f"));
    assert_eq!(place.read("link/f"), "1");
}

#[test]
fn compressed_layers_are_read_by_their_media_type() {
    use std::io::Write;
    let place = Place::new();
    let bytes = tar().file("a", "1").end();
    let id = DiffId(Digest::sha256(&bytes));
    let mut gzip = Vec::new();
    for half in [&bytes[..700], &bytes[700..]] {
        // Two members, as parallel compressors write them.
        let mut encoder = flate2::write::GzEncoder::new(gzip, flate2::Compression::fast());
        encoder.write_all(half).unwrap();
        gzip = encoder.finish().unwrap();
    }
    let zstd = zstd::encode_all(bytes.as_slice(), 1).unwrap();
    let mut unpacker = Unpacker::new(&place.root(), place.settings).unwrap();
    for (media_type, blob) in [
        (media_type::OCI_LAYER_GZIP, &gzip),
        (media_type::DOCKER_LAYER_GZIP, &gzip),
        (media_type::OCI_LAYER_ZSTD, &zstd),
        (media_type::OCI_LAYER, &bytes),
    ] {
        assert_eq!(unpacker.apply(media_type, blob.as_slice(), &id).unwrap().entries, 1);
    }
    let wrong = unpacker.apply("text/plain", bytes.as_slice(), &id);
    assert!(matches!(wrong, Err(UnpackError::MediaType(_))));
    assert!(matches!(unpacker.apply(media_type::OCI_LAYER_GZIP, bytes.as_slice(), &id), Err(UnpackError::Read(_))));
    let garbage = [gzip.as_slice(), b"behind"].concat();
    assert!(unpacker.apply(media_type::OCI_LAYER_GZIP, garbage.as_slice(), &id).is_err());
}

#[test]
fn image_is_unpacked_whole_and_its_config_given() {
    let place = Place::new();
    let layout = Layout::create(place.outside.path().join("layout")).unwrap();
    let layer = tar().file("a", "1").end();
    let config = ImageConfig::new("amd64", "linux", vec![DiffId(Digest::sha256(&layer))]);
    let config_bytes = config.to_bytes().unwrap();
    layout.put_bytes(&layer).unwrap();
    layout.put_bytes(&config_bytes).unwrap();
    let descriptors = vec![Descriptor::of(media_type::OCI_LAYER, &layer)];
    let image = ImageManifest::image(Descriptor::of(media_type::OCI_CONFIG, &config_bytes), descriptors);
    let manifest = RawManifest::from_image(&image).unwrap();
    assert_eq!(unpack_image(&layout, &manifest, &place.root()).unwrap(), config);
    assert_eq!(place.read("a"), "1");

    let mut doubled = image;
    doubled.layers.push(doubled.layers[0].clone());
    let error = unpack_image(&layout, &RawManifest::from_image(&doubled).unwrap(), &place.root()).unwrap_err();
    assert!(error.to_string().contains("different numbers of layers"), "{error}");
}

#[test]
fn layer_with_another_diff_id_is_an_error() {
    let place = Place::new();
    let mut unpacker = Unpacker::new(&place.root(), place.settings).unwrap();
    let bytes = tar().file("a", "1").end();
    let error = unpacker.apply(media_type::OCI_LAYER, bytes.as_slice(), &DiffId(Digest::sha256(b"other"))).unwrap_err();
    assert!(matches!(error, UnpackError::WrongDiffId { .. }), "{error}");
}

#[test]
fn set_id_bits_stay_only_where_owners_stay() {
    let mut place = Place::new();
    let layer = || tar().raw(b'0', b"su", b"", 0o6755, b"", 0).raw(b'5', b"tmp", b"", 0o1777, b"", 0);
    let mode = |place: &Place, path: &str| fs::metadata(place.root().join(path)).unwrap().permissions().mode() & 0o7777;
    place.settings.keep_owners = false;
    place.apply(&[layer()]).unwrap();
    assert_eq!((mode(&place, "su"), mode(&place, "tmp")), (0o755, 0o1777));
    // Kept owners need no root here: the members are owned by whoever runs the test.
    place.settings.keep_owners = true;
    place.apply(&[layer()]).unwrap();
    assert_eq!((mode(&place, "su"), mode(&place, "tmp")), (0o6755, 0o1777));
}

#[test]
fn broken_archives_are_malformed() {
    let place = Place::new();
    let whole = tar().file("a", "content").end();
    let mut unpacker = Unpacker::new(&place.root(), place.settings).unwrap();
    for (cut, why) in [(100, "middle of a header"), (515, "middle of a member")] {
        let bytes = &whole[..cut];
        let error = unpacker.apply(media_type::OCI_LAYER, bytes, &DiffId(Digest::sha256(bytes))).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    let mut flipped = whole.clone();
    flipped[0] ^= 1;
    let error =
        unpacker.apply(media_type::OCI_LAYER, flipped.as_slice(), &DiffId(Digest::sha256(&flipped))).unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
    assert!(place.refuses(tar().raw(b'S', b"s", b"", 0, b"", 0)).contains("sparse"));
    assert!(place.refuses(tar().raw(b'Z', b"z", b"", 0, b"", 0)).contains("type is unknown"));
    assert!(place.refuses(tar().raw(b'5', b"d", b"", 0, b"x", 1)).contains("no file and yet has content"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_make_the_reader_panic_or_leave_the_root(noise: Vec<u8>, at in 0..1536_usize) {
        let place = Place::new();
        let mut bytes = tar().file("a", "1").symlink("b", "..").end();
        for (offset, byte) in noise.iter().enumerate() {
            if let Some(slot) = bytes.get_mut(at + offset) {
                *slot = *byte;
            }
        }
        let mut unpacker = Unpacker::new(&place.root(), place.settings).unwrap();
        drop(unpacker.apply(media_type::OCI_LAYER, bytes.as_slice(), &DiffId(Digest::sha256(&bytes))));
        assert_eq!(fs::read_dir(place.outside.path()).unwrap().count(), 2);
    }
}
