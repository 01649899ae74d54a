//! The bytes of `assembly: 1`, held by golden digests, and what other programs read in them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;

use nebh_oci::digest::Digest;
use nebh_oci::layout::Layout;

use super::*;

/// Never changes. If the test that uses it fails, the contract's number has to change, not this text.
const GOLDEN_DIFF_ID: &str = "sha256:7e358e165b763211145e0e8bdf7d8a845768f5639a453c6e0c8bafd902cad421";
const GOLDEN_BLOB: &str = "sha256:af37e44c5ff3f9a1c73b7a204ef4530dc23e52f8b7b62ad02478bed223ae808b";

fn path(text: &str) -> EntryPath {
    EntryPath::parse(text).unwrap()
}

/// A tree with everything that the format has a rule for.
fn tree() -> FileTree {
    let meta = |mode, mtime| Meta::root(mode, mtime);
    let shared = Entry::file(meta(0o755, 1_000_000_000), b"#!/bin/true\n".to_vec());
    let mut entries = vec![
        ("usr/bin/one", shared.clone()),
        ("usr/bin/two", shared),
        ("usr/bin/link", Entry::link("one", 5)),
        ("etc", Entry::folder(meta(0o700, 99))),
        ("etc/late", Entry::file(meta(0o640, 4_000_000_000), b"late\n".to_vec())),
        ("tmp/x", Entry::file(meta(0o600, 7), Vec::new())),
        ("srv/öffentlich", Entry::file(meta(0o644, 8), "grüß\n".into())),
        (
            "big",
            Entry::file(
                meta(0o644, 9),
                (0..3_000_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect(),
            ),
        ),
    ];
    let mut marked = Entry::file(Meta { uid: 3_000_000, gid: 5, ..meta(0o4755, 10) }, b"x".to_vec());
    marked.xattrs.insert("user.note".into(), b"a=b\nc".to_vec());
    entries.push(("usr/bin/marked", marked));
    let mut tree = FileTree::default();
    for (name, entry) in entries {
        tree.insert(path(name), entry).unwrap();
    }
    let long = format!("long/{}/{}", "d".repeat(90), "f".repeat(90));
    tree.insert(path(&long), Entry::link("t".repeat(150), 11)).unwrap();
    tree
}

fn layout() -> (tempfile::TempDir, Layout) {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(dir.path().join("layout")).unwrap();
    (dir, layout)
}

#[test]
fn layer_bytes_are_those_of_assembly_1() {
    let (_dir, layout) = layout();
    let layer = write_layer(&layout, "golden", &tree(), 2_000_000_000).unwrap();
    assert_eq!(
        (layer.diff_id.to_string().as_str(), layer.descriptor.digest.to_string().as_str()),
        (GOLDEN_DIFF_ID, GOLDEN_BLOB)
    );
}

#[test]
fn layer_bytes_do_not_depend_on_how_they_were_written() {
    let mut tar = Vec::new();
    write_tarball(&tree(), 2_000_000_000, &mut tar).unwrap();
    let mut results = std::collections::BTreeSet::new();
    for size in [1, 1000, 65_536, 1 << 20, 20 << 20] {
        let mut sink = LayerSink::new(Vec::new());
        if size > 1 {
            tar.chunks(size).for_each(|chunk| sink.write_all(chunk).unwrap());
        } else {
            tar[..5000].iter().for_each(|byte| sink.write_all(&[*byte]).unwrap());
            sink.write_all(&tar[5000..]).unwrap();
        }
        let (bytes, diff_id, written) = sink.finish().unwrap();
        assert_eq!((diff_id.0, written), (Digest::sha256(&tar), tar.len() as u64));
        results.insert(bytes);
    }
    assert_eq!(results.len(), 1);
    let mut read = Vec::new();
    flate2::read::MultiGzDecoder::new(results.first().unwrap().as_slice()).read_to_end(&mut read).unwrap();
    assert_eq!(read, tar);
}

#[test]
fn empty_layer_is_a_readable_gzip_stream() {
    let (_dir, layout) = layout();
    let layer = write_layer(&layout, "empty", &FileTree::default(), 0).unwrap();
    assert_eq!(layer.size, 1024);
    let bytes = layout.read(&layer.descriptor.digest, 1 << 20).unwrap();
    let mut read = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut read).unwrap();
    assert_eq!(Digest::sha256(&read), layer.diff_id.0);
}

#[test]
fn another_reader_sees_every_entry_as_declared() {
    let mut bytes = Vec::new();
    write_tarball(&tree(), 2_000_000_000, &mut bytes).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut seen = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        let link = entry.link_name().unwrap().map(|name| name.to_string_lossy().into_owned());
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        seen.insert(name, (header.mode().unwrap(), header.mtime().unwrap(), link, content.len()));
    }
    assert_eq!(seen["usr/bin/two"], (0o755, 1_000_000_000, Some("usr/bin/one".into()), 0));
    assert_eq!(seen["etc/"], (0o700, 0, None, 0));
    assert_eq!(seen["etc/late"], (0o640, 2_000_000_000, None, 5));
    assert_eq!(seen["tmp/"], (0o1777, 0, None, 0));
    assert_eq!(seen["usr/"], (0o755, 0, None, 0));
    assert_eq!(seen["srv/öffentlich"].3, 7);
    // Read as bytes: that reader ends a value at its first line end.
    let record = b"32 SCHILY.xattr.user.note=a=b\nc\n";
    assert!(bytes.windows(record.len()).any(|window| window == record));
    let long = format!("long/{}/{}", "d".repeat(90), "f".repeat(90));
    assert_eq!(seen[&long].2, Some("t".repeat(150)));
}

#[test]
fn gnu_tar_extracts_what_was_declared() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("layer.tar");
    write_tarball(&tree(), 2_000_000_000, &mut std::fs::File::create(&file).unwrap()).unwrap();
    let output = std::process::Command::new("tar").args(["-tvf"]).arg(&file).env("LC_ALL", "C.UTF-8").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("-rwsr-xr-x 3000000/5"), "{text}");
    assert!(text.contains("usr/bin/two link to usr/bin/one"), "{text}");
}

#[test]
fn paths_that_an_extractor_would_trip_over_are_refused() {
    let deep = vec!["a"; 65].join("/");
    for bad in ["", "/", "..", "a/../b", "a//b", "./../x", "a/.wh.b", ".wh..wh..opq", "a\0b", &"x".repeat(256), &deep] {
        assert!(EntryPath::parse(bad).is_err(), "{bad:?}");
    }
    for (given, parsed) in [("./usr/", "usr"), ("/a/b", "a/b"), ("a.b", "a.b")] {
        assert_eq!(path(given).as_str(), parsed);
    }
}

#[test]
fn links_among_folders_are_followed_inside_the_tree() {
    let mut tree = FileTree::default();
    let file = || Entry::file(Meta::root(0o644, 0), Vec::new());
    tree.insert(path("lib"), Entry::link("usr/lib", 0)).unwrap();
    tree.insert(path("out"), Entry::link("/../../etc", 0)).unwrap();
    tree.insert(path("round"), Entry::link("round", 0)).unwrap();
    assert_eq!(tree.resolve(&path("lib/x/y")).unwrap(), path("usr/lib/x/y"));
    assert_eq!(tree.resolve(&path("out/passwd")).unwrap(), path("etc/passwd"));
    assert_eq!(tree.resolve(&path("lib")).unwrap(), path("lib"));
    assert!(matches!(tree.resolve(&path("round/x")), Err(TreeError::Links { .. })));
    tree.insert(path("lib/x"), file()).unwrap();
    tree.remove(&path("round"));
    let resolved = tree.resolved().unwrap();
    assert!(resolved.get(&path("usr/lib/x")).is_some() && resolved.get(&path("lib/x")).is_none());
}

#[test]
fn file_where_a_folder_is_declared_is_a_conflict() {
    let mut tree = FileTree::default();
    tree.insert(path("a"), Entry::folder(Meta::root(0o750, 0))).unwrap();
    tree.insert(path("a"), Entry::folder(Meta::root(0o755, 0))).unwrap();
    assert_eq!(tree.get(&path("a")).unwrap().meta.mode, 0o750);
    assert!(matches!(tree.insert(path("a"), Entry::link("b", 0)), Err(TreeError::Conflict { .. })));
}

#[test]
fn spilled_content_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let spill = Spill::new(dir.path()).unwrap();
    let (small, large) = (vec![7u8; 100], (0..200_000u32).map(|n| n.to_le_bytes()[0]).collect::<Vec<_>>());
    let first = spill.take(&mut small.as_slice(), 100).unwrap();
    let second = spill.take(&mut large.as_slice(), 200_000).unwrap();
    let third = spill.take(&mut large.as_slice(), 200_000).unwrap();
    assert!(matches!((&first, &second), (Content::Bytes(_), Content::Spilled { .. })));
    assert_eq!(
        (first.to_vec().unwrap(), second.to_vec().unwrap(), third.to_vec().unwrap()),
        (small, large.clone(), large)
    );
    assert!(spill.take(&mut [1u8; 10].as_slice(), 50_000).is_err());
    let shared = Arc::new(first);
    assert_eq!(Arc::strong_count(&shared), 1);
}
