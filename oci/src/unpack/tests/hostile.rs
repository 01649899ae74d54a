//! Hostile layers by the names under which they became known, here and in other people's unpackers.
//!
//! | attack | test |
//! |---|---|
//! | CVE-2001-1267, CVE-2007-4131, CVE-2014-9357: `..` and absolute names | `attack_path_traversal`, `attack_absolute_path` |
//! | CVE-2014-6407, CVE-2014-9356, CVE-2018-15664: a link, then writing through it | `attack_symlink_escape_then_write_through_it`; no moment lies between check and use: the kernel resolves below the root |
//! | CVE-2025-45582: the link comes with one archive, the file with the next | `cve_2025_45582_link_of_a_lower_layer` |
//! | CVE-2021-32803, -37701, -37712: a known directory becomes a link | `cve_2021_37712_directory_that_becomes_a_link_under_another_name` |
//! | CVE-2021-29136: the root itself is a link | `cve_2021_29136_root_that_is_a_link` |
//! | CVE-2018-20990: writing over a hard link changes its other name | `cve_2018_20990_file_over_a_hard_link` |
//! | CVE-2014-6407, CVE-2024-1753: hard links to outside | `attack_hard_link_outside` |
//! | CVE-2021-32760: modes set through links | `cve_2021_32760_mode_through_a_link`, `attack_symlink_as_last_component` |
//! | CVE-2025-62518 (two sizes) | `attack_pax_and_ustar_sizes_disagree`, `cve_2025_62518_header_inside_of_a_member` |
//! | CVE-2019-9923, CVE-2023-39804: broken PAX records | `cve_2019_9923_broken_pax_records` |
//! | CVE-2022-48303: numbers in base 256 | `cve_2022_48303_numbers_in_base_256` |
//! | CVE-2022-2879, CVE-2021-20193: extension headers without end | `cve_2022_2879_extension_headers_without_end` |
//! | CVE-2018-20482, CVE-2025-58183: sparse files | `cve_2025_58183_sparse_files` |
//! | CVE-2017-14992: decompression bombs | `attack_size_bomb`, `cve_2017_14992_gzip_bomb` |
//! | zstd windows, gzip headers | `zstd_window_that_demands_gigabytes`, `gzip_header_without_end` |
//! | CVE-2024-28863: depth; CVE-2023-25153: a config without end | `attack_depth`; `Layout::read` is capped, `layout/tests.rs` |
//! | floods of names, of members, of attributes | `flood_of_long_names`, `attack_too_many_entries`, `attributes_of_directories_are_not_kept` |
//! | CVE-2019-5736, device nodes, FIFOs | `attack_device_node` |
//! | CVE-2023-0386: orders to an overlay in attributes | `cve_2023_0386_attributes_for_an_overlay` |
//! | CVE-2021-41091: set-id bits where others can reach them | `set_id_bits_stay_only_where_owners_stay`; the folder of roots is the caller's, and closed |
//! | whiteouts that leave their directory, or hide what the layer itself has | `attack_whiteout_escape`, `whiteout_looks_at_whole_names` |
//! | CVE-2022-23648: paths in the image config | not here: volumes of a config are not followed by anything |

use std::io::Write;

use super::*;

fn untouched(place: &Place) {
    assert_eq!(fs::read_to_string(place.outside.path().join("secret")).unwrap(), "untouched");
    assert_eq!(fs::read_dir(place.outside.path()).unwrap().count(), 2);
}

fn apply_as(place: &Place, media_type: &str, blob: &[u8]) -> Result<Unpacked, UnpackError> {
    let mut unpacker = Unpacker::new(&place.root(), place.settings)?;
    unpacker.apply(media_type, blob, &DiffId(Digest::sha256(b"")))
}

#[test]
fn cve_2025_45582_link_of_a_lower_layer() {
    let place = Place::new();
    for target in ["..", "../..", &place.outside.path().display().to_string()] {
        drop(place.apply(&[tar().symlink("x", target), tar().file("x/secret", "evil").directory("x/made")]));
        untouched(&place);
    }
    assert!(!place.outside.path().join("made").exists());
}

#[test]
fn cve_2021_37712_directory_that_becomes_a_link_under_another_name() {
    let place = Place::new();
    let outside = place.outside.path().display().to_string();
    // `y` is another name of `x`: through it the directory that was just written to becomes a link.
    let layer = tar().directory("x/l").symlink("y", "x").file("x/l/f", "1").symlink("y/l", &outside);
    drop(place.apply(&[layer.file("x/l/secret", "evil")]));
    untouched(&place);
    assert!(place.refuses(tar().directory("d").symlink("./d", "..").file("d/secret", "evil")).contains("twice"));
}

#[test]
fn cve_2021_29136_root_that_is_a_link() {
    let place = Place::new();
    for name in [".", "./", "./."] {
        let error = place.refuses(tar().symlink(name, "../..").file("secret", "evil"));
        assert!(error.contains("the root is a directory"), "{error}");
    }
    assert!(place.root().symlink_metadata().unwrap().is_dir());
}

#[test]
fn cve_2018_20990_file_over_a_hard_link() {
    let place = Place::new();
    place.apply(&[tar().file("b", "kept").hard_link("a", "b"), tar().file("a", "other")]).unwrap();
    assert_eq!((place.read("a"), place.read("b")), ("other".into(), "kept".into()));
}

#[test]
fn cve_2021_32760_mode_through_a_link() {
    let place = Place::new();
    let secret = place.outside.path().join("secret");
    let before = fs::metadata(&secret).unwrap().permissions().mode();
    let path = secret.display().to_string();
    let layer = tar().raw(b'2', b"s", path.as_bytes(), 0o777, b"", 0).raw(b'1', b"t", b"s", 0o777, b"", 0);
    place.apply(&[layer, tar().raw(b'5', b"t", b"", 0o777, b"", 0)]).unwrap();
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode(), before);
    assert!(place.root().join("t").symlink_metadata().unwrap().is_dir());
}

#[test]
fn cve_2025_62518_header_inside_of_a_member() {
    let place = Place::new();
    let inner = tar().file("hidden", "evil").0;
    // The size in the PAX header skips what the ustar header would show, and the other way round.
    let error = place.refuses(tar().pax(&[("size", "0")]).raw(b'0', b"a", b"", 0o644, &inner, inner.len() as u64));
    assert!(error.contains("different sizes"), "{error}");
    let pax = tar().pax(&[("size", &inner.len().to_string())]);
    let error = place.refuses(Tar([pax.raw(b'0', b"a", b"", 0o644, b"", 0).0, inner.clone()].concat()));
    assert!(error.contains("different sizes"), "{error}");
    assert!(!place.exists("hidden"));
    place.apply(&[tar().raw(b'0', b"a", b"", 0o644, &inner, inner.len() as u64)]).unwrap();
    assert!(place.exists("a") && !place.exists("hidden"));
}

#[test]
fn cve_2019_9923_broken_pax_records() {
    let place = Place::new();
    for record in [
        "",
        "\n",
        "5",
        "5 ",
        "5 a=b",
        "6 a=b\nx",
        "+7 a=b\n",
        "-6 a=b\n",
        "0 a=b\n",
        "1 a=b\n",
        "99 a=b\n",
        "5 ab\n",
        "18446744073709551616 a=b\n",
        "18446744073709551615 a=b\n",
        " 6 a=b\n",
        "0x6 a=b\n",
        "6 a=b\0",
        "\0\0\0\0",
    ] {
        let layer = tar().raw(b'x', b"pax", b"", 0o644, record.as_bytes(), record.len() as u64);
        let outcome = place.apply(&[layer.file("f", "1")]);
        // An empty header says nothing, and that is all that is let through.
        assert_eq!(outcome.is_ok(), record.is_empty(), "{record:?}");
    }
    untouched(&place);
    for (key, value) in [("uid", "4294967296"), ("uid", "+0"), ("mtime", "+1"), ("mtime", "1e9"), ("size", "")] {
        assert!(place.apply(&[tar().pax(&[(key, value)]).file("f", "1")]).is_err(), "{key}={value}");
    }
}

#[test]
fn cve_2022_48303_numbers_in_base_256() {
    let place = Place::new();
    for (at, length) in [(124, 12), (136, 12), (108, 8), (116, 8), (100, 8)] {
        for first in [0x80_u8, 0xff] {
            let mut layer = tar().file("f", "1");
            layer.0[at..at + length].fill(0xff);
            layer.0[at] = first;
            let sum: u32 = (0..512).map(|n| if (148..156).contains(&n) { 32 } else { u32::from(layer.0[n]) }).sum();
            layer.0[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            // A number of 88 bits, or a negative one: refused, never a panic, never more than there is.
            drop(place.apply(&[layer]));
            untouched(&place);
        }
    }
    assert!(!place.exists("f") || place.read("f").len() <= 1);
}

#[test]
fn cve_2022_2879_extension_headers_without_end() {
    let place = Place::new();
    let value = "v".repeat(300 << 10);
    let keys: Vec<String> = (0..8).map(|n| format!("comment{n}")).collect();
    let pax = keys.iter().fold(tar(), |tar, key| tar.records(b'x', &[(key, &value)]));
    let global = (0..8).fold(tar(), |tar, _| tar.records(b'g', &[("comment", &value)]));
    for flood in [pax, global] {
        let error = place.refuses(flood.file("f", "1"));
        assert!(error.contains("the extension headers of one member"), "{error}");
    }
    // Empty ones count too.
    let empty = (0..3000).fold(tar(), |tar, _| tar.raw(b'x', b"pax", b"", 0, b"", 0));
    assert!(place.refuses(empty.file("f", "1")).contains("the extension headers of one member"));
    // And two members may each have some.
    let large = "v".repeat(600 << 10);
    let one = |name: &str| tar().pax(&[("comment", &large)]).file(name, "1").0;
    place.apply(&[Tar([one("f"), one("g")].concat())]).unwrap();
}

#[test]
fn cve_2025_58183_sparse_files() {
    let place = Place::new();
    assert!(place.refuses(tar().raw(b'S', b"s", b"", 0o644, b"", 0)).contains("sparse"));
    for key in ["GNU.sparse.major", "GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.realsize", "GNU.sparse.name"] {
        assert!(place.refuses(tar().pax(&[(key, "1")]).file("s", "1")).contains("sparse"), "{key}");
    }
}

#[test]
fn cve_2017_14992_gzip_bomb() {
    let mut place = Place::new();
    place.settings.limits.bytes = 1 << 20;
    let zeros = vec![0; 16 << 20];
    let bomb = tar().raw(b'0', b"bomb", b"", 0o644, &zeros, zeros.len() as u64).end();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&bomb).unwrap();
    let blob = encoder.finish().unwrap();
    assert!(blob.len() < 64 << 10);
    let error = apply_as(&place, media_type::OCI_LAYER_GZIP, &blob).unwrap_err();
    assert!(matches!(error, UnpackError::TooLarge { limit: 0x10_0000, .. }), "{error}");
    // The limit is of all layers together.
    let half = tar().raw(b'0', b"half", b"", 0o644, &zeros[..600 << 10], 600 << 10);
    let other = tar().raw(b'0', b"other", b"", 0o644, &zeros[..600 << 10], 600 << 10);
    assert!(matches!(place.apply(&[half, other]), Err(UnpackError::TooLarge { .. })));
}

#[test]
fn gzip_of_empty_members_without_end_is_read_and_says_nothing() {
    let place = Place::new();
    let member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()).finish().unwrap();
    let blob = member.repeat(50_000);
    assert_eq!(apply_as(&place, media_type::OCI_LAYER_GZIP, &blob).unwrap(), Unpacked::default());
}

#[test]
fn gzip_header_without_end() {
    let place = Place::new();
    // The name in a gzip header ends with NUL; this one does not end. A reader that collects it takes all memory.
    let mut blob = vec![0x1f, 0x8b, 8, 0x08, 0, 0, 0, 0, 0, 0xff];
    blob.resize(8 << 20, b'n');
    let mut source = Watched { inner: blob.as_slice(), taken: 0 };
    let mut unpacker = Unpacker::new(&place.root(), place.settings).unwrap();
    let outcome = unpacker.apply(media_type::OCI_LAYER_GZIP, &mut source, &DiffId(Digest::sha256(b"")));
    assert!(matches!(outcome, Err(UnpackError::Read(_))));
    assert!(source.taken < 1 << 20, "{} bytes of a header were collected", source.taken);
}

struct Watched<'a> {
    inner: &'a [u8],
    taken: usize,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.taken += count;
        Ok(count)
    }
}

#[test]
fn zstd_window_that_demands_gigabytes() {
    let place = Place::new();
    // Magic; a descriptor without single segment; a window of 2^31, 2^28 and 2^27 bytes; one raw, last, empty block.
    let frame = |window: u8| [0x28, 0xb5, 0x2f, 0xfd, 0x00, window, 0x01, 0x00, 0x00];
    for window in [21 << 3, 18 << 3] {
        let error = apply_as(&place, media_type::OCI_LAYER_ZSTD, &frame(window)).unwrap_err();
        assert!(matches!(&error, UnpackError::Read(_)), "{error}");
    }
    assert_eq!(apply_as(&place, media_type::OCI_LAYER_ZSTD, &frame(17 << 3)).unwrap(), Unpacked::default());
}

#[test]
fn flood_of_long_names() {
    let mut place = Place::new();
    place.settings.limits.names = 10_000;
    let long = |n: usize| format!("{n}{}", "/deep".repeat(100));
    let layer = |count: usize| (0..count).fold(tar(), |tar, n| tar.pax(&[("path", &long(n))]).directory("d"));
    assert!(place.refuses(layer(20)).contains("the length of all names of a layer is limited to 10000"));
    place.apply(&[layer(19), layer(19)]).unwrap();
}

#[test]
fn attributes_of_directories_are_not_kept() {
    let value = "v".repeat(60 << 10);
    let bytes = tar().pax(&[("SCHILY.xattr.user.x", &value)]).directory("d").end();
    let counted = Counted::new(bytes.as_slice(), 1 << 30, Algorithm::Sha256);
    let member = reader::TarReader::new(counted, 128).next().unwrap().unwrap();
    assert_eq!((member.xattrs.len(), member.metadata().xattrs.len()), (1, 0));
    assert_eq!((&member.path, member.mode), (&member.metadata().path, member.metadata().mode));
}

#[test]
fn cve_2023_0386_attributes_for_an_overlay() {
    let place = Place::new();
    let names =
        ["user.overlay.redirect", "user.overlay.opaque", "trusted.overlay.opaque", "security.selinux", "user.mine"];
    let keys = names.map(|name| format!("SCHILY.xattr.{name}"));
    let records: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "/etc")).collect();
    place.apply(&[tar().pax(&records).file("f", "1")]).unwrap();
    let found: Vec<String> =
        xattr::list(place.root().join("f")).unwrap().map(|name| name.to_string_lossy().into_owned()).collect();
    assert!(found.iter().all(|name| name == "user.mine"), "{found:?}");
}

#[test]
fn whiteout_looks_at_whole_names() {
    let place = Place::new();
    let lower = tar().file("a", "1").file("d/old", "1").file("d-x", "1");
    // `a-b`, `ab` and `d-x/…` stand around `a` and `d` in the order of bytes, and are something else.
    let upper = tar().file("a-b", "2").file("ab", "2").file(".wh.a", "").file("d/.wh..wh..opq", "").file("d-y/f", "2");
    place.apply(&[lower, upper]).unwrap();
    assert!(!place.exists("a") && !place.exists("d/old") && place.exists("d-x") && place.exists("a-b"));
    assert!(place.refuses(tar().file("d-/f", "1").file("d/f", "1").file(".wh.d", "")).contains("both the file"));
    // Opaque twice is opaque once: what the layer itself made stays.
    place.apply(&[tar().file("d/.wh..wh..opq", "").file("d/new", "3").file("d/.wh..wh..opq", "")]).unwrap();
    assert_eq!(place.read("d/new"), "3");
}
