//! Layers that are made to reach out of their root, or to cost too much; each attack for itself.

use super::*;

#[test]
fn attack_path_traversal() {
    let place = Place::new();
    for name in ["../secret", "a/../../secret", "a/..", "./../secret"] {
        let error = place.refuses(tar().file(name, "evil"));
        assert!(error.ends_with("is refused: its name leaves the root by `..`"), "{error}");
    }
}

#[test]
fn attack_absolute_path() {
    let place = Place::new();
    let target = place.outside.path().join("secret").display().to_string();
    assert!(place.refuses(tar().file(&target, "evil")).contains("its name is absolute"));
    assert!(place.refuses(tar().pax(&[("path", &target)]).file("innocent", "evil")).contains("its name is absolute"));
}

#[test]
fn attack_symlink_escape_then_write_through_it() {
    let place = Place::new();
    let outside = place.outside.path().display().to_string();
    // The link is legal, as in a container; what is written through it stays below the root, or fails.
    for target in ["..", "../..", outside.as_str(), "/proc/self/root"] {
        let error = place.refuses(tar().symlink("out", target).file("out/dir/../secret", "evil"));
        assert!(error.contains("`..`"), "{error}");
        drop(place.apply(&[tar().symlink("out", target).file("out/secret", "evil")]));
        assert_eq!(fs::read_to_string(place.outside.path().join("secret")).unwrap(), "untouched");
    }
    place.apply(&[tar().symlink("up", "../../..").file("up/kept", "inside")]).unwrap();
    assert_eq!(place.read("kept"), "inside");
}

#[test]
fn attack_symlink_as_last_component() {
    let place = Place::new();
    let secret = place.outside.path().join("secret");
    symlink(&secret, place.root().join("link")).unwrap();
    place.apply(&[tar().file("link", "replaced")]).unwrap();
    assert_eq!(place.read("link"), "replaced");
    assert!(place.root().join("link").symlink_metadata().unwrap().is_file());
    // A directory's mode is not set through a link that took its place.
    symlink(place.outside.path(), place.root().join("d")).unwrap();
    place.apply(&[tar().raw(b'5', b"d", b"", 0o700, b"", 0)]).unwrap();
    assert_eq!(fs::read_to_string(secret).unwrap(), "untouched");
}

#[test]
fn attack_hard_link_outside() {
    let place = Place::new();
    let secret = place.outside.path().join("secret").display().to_string();
    assert!(place.refuses(tar().hard_link("a", "../secret")).contains("leaves the root"));
    assert!(place.refuses(tar().hard_link("a", &secret)).contains("absolute"));
    assert!(place.refuses(tar().hard_link("a", "none")).contains("hard link target is not in the image"));
    assert!(place.refuses(tar().directory("d").hard_link("a", "d")).contains("hard link to a directory"));
    let error =
        place.refuses(tar().symlink("out", &place.outside.path().display().to_string()).hard_link("b", "out/secret"));
    assert!(error.contains("hard link target is not in the image"), "{error}");
    // A link to a link is that link, not what it points to.
    place.apply(&[tar().symlink("s", &secret).hard_link("t", "s")]).unwrap();
    assert!(place.root().join("t").is_symlink());
}

#[test]
fn attack_device_node() {
    let place = Place::new();
    for kind in [b'3', b'4', b'6'] {
        let error = place.refuses(tar().raw(kind, b"dev/sda", b"", 0o666, b"", 0));
        assert!(error.contains("devices and FIFOs are not unpacked"), "{error}");
    }
    let mut place = Place::new();
    place.settings.allow_devices = true;
    place.apply(&[tar().raw(b'6', b"fifo", b"", 0o622, b"", 0)]).unwrap();
    assert_eq!(fs::symlink_metadata(place.root().join("fifo")).unwrap().mode() & 0o777, 0o622);
}

#[test]
fn attack_whiteout_escape() {
    let place = Place::new();
    for name in [".wh...", "a/.wh...", ".wh..", ".wh."] {
        assert!(place.refuses(tar().file(name, "")).contains("whiteout must name a file"), "{name}");
    }
    let outside = place.outside.path().display().to_string();
    place
        .apply(&[tar().symlink("out", &outside), tar().file("out/.wh.secret", ""), tar().file("out/.wh..wh..opq", "")])
        .unwrap();
    assert_eq!(fs::read_to_string(place.outside.path().join("secret")).unwrap(), "untouched");
    assert!(place.refuses(tar().file("x", "1").file(".wh.x", "")).contains("both the file and its whiteout"));
    assert!(place.refuses(tar().file("y/x", "1").file(".wh.y", "")).contains("both the file and its whiteout"));
}

#[test]
fn attack_pax_and_ustar_sizes_disagree() {
    let place = Place::new();
    let error = place.refuses(tar().pax(&[("size", "1024")]).file("a", "short"));
    assert!(error.contains("its PAX and ustar headers give different sizes"), "{error}");
    place.apply(&[tar().pax(&[("size", "5")]).file("a", "short")]).unwrap();
    assert!(place.refuses(tar().pax(&[("size", "5"), ("size", "5")]).file("a", "short")).contains("stands twice"));
    assert!(place.refuses(tar().pax(&[("size", "-5")]).file("a", "short")).contains("is no number"));
}

#[test]
fn attack_too_many_entries() {
    let mut place = Place::new();
    place.settings.limits.entries = 3;
    let layer = |name: &str| tar().file(&format!("{name}1"), "").file(&format!("{name}2"), "");
    assert!(place.apply(&[layer("a")]).is_ok());
    let error = place.apply(&[layer("a"), layer("b")]).unwrap_err();
    assert!(error.to_string().contains("the number of members is limited to 3"), "{error}");
}

#[test]
fn attack_size_bomb() {
    let mut place = Place::new();
    place.settings.limits.bytes = 1 << 20;
    let zeros = vec![0; 8 << 20];
    let bytes = tar().raw(b'0', b"bomb", b"", 0o644, &zeros, zeros.len() as u64).end();
    let blob = zstd::encode_all(bytes.as_slice(), 1).unwrap();
    assert!(blob.len() < 4096);
    let mut unpacker = Unpacker::new(&place.root(), place.settings).unwrap();
    let error =
        unpacker.apply(media_type::OCI_LAYER_ZSTD, blob.as_slice(), &DiffId(Digest::sha256(&bytes))).unwrap_err();
    assert!(matches!(error, UnpackError::TooLarge { limit: 0x10_0000, .. }), "{error}");
    assert!(fs::metadata(place.root().join("bomb")).unwrap().len() <= 1 << 20);
    // A header that promises an endless name is refused before anything is allocated.
    let error = place.refuses(tar().raw(b'x', b"pax", b"", 0, b"", 1 << 32));
    assert!(error.contains("the extension headers of one member is limited to"), "{error}");
}

#[test]
fn attack_depth() {
    let place = Place::new();
    let error = place.refuses(tar().pax(&[("path", &"d/".repeat(129))]).file("x", ""));
    assert!(error.contains("deeper than the limit"), "{error}");
    let error = place.refuses(tar().pax(&[("path", &"n".repeat(256))]).file("x", ""));
    assert!(error.contains("longer than a name may be"), "{error}");
}

#[test]
fn attack_name_with_nul() {
    let place = Place::new();
    assert!(place.refuses(tar().pax(&[("path", "a\0/../b")]).file("x", "")).contains("its name contains NUL"));
    let error = place.refuses(tar().pax(&[("linkpath", "a\0b")]).symlink("x", "y"));
    assert!(error.contains("contains NUL"), "{error}");
}

#[test]
fn attack_duplicate_entries() {
    let place = Place::new();
    assert!(place.refuses(tar().file("a", "shown to the scanner").file("a", "run")).contains("the layer has it twice"));
    assert!(place.refuses(tar().file("a", "1").symlink("./a", "/etc")).contains("the layer has it twice"));
    assert!(place.apply(&[tar().directory("d").file("d/f", "1").directory("d/")]).is_ok());
}

#[test]
fn attack_something_behind_the_end() {
    let place = Place::new();
    let mut bytes = tar().file("a", "1").end();
    bytes.extend_from_slice(&tar().file("hidden", "2").end());
    let mut unpacker = Unpacker::new(&place.root(), place.settings).unwrap();
    let error = unpacker.apply(media_type::OCI_LAYER, bytes.as_slice(), &DiffId(Digest::sha256(&bytes))).unwrap_err();
    assert!(error.to_string().contains("something behind its end"), "{error}");
}
