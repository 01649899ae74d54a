//! Layouts: nothing half, nothing wrong, nothing lost among writers.

use std::io::Write;

use super::*;
use crate::manifest::ImageManifest;

fn layout() -> (tempfile::TempDir, Layout) {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path().join("layout")).unwrap();
    (directory, layout)
}

fn manifest(note: &str) -> RawManifest {
    RawManifest::from_image(&ImageManifest::artifact("a/b", vec![]).with_annotation("note", note)).unwrap()
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn leftovers(layout: &Layout) -> usize {
    fs::read_dir(layout.temporary()).unwrap().count()
}

#[test]
fn created_layout_opens_and_is_empty() {
    let (_directory, layout) = layout();
    assert_eq!(Layout::open(layout.root()).unwrap().index().unwrap(), ImageIndex::default());
    let again = Layout::create(layout.root()).unwrap();
    again.put_manifest(&manifest("x"), None).unwrap();
    assert_eq!(Layout::create(layout.root()).unwrap().index().unwrap().manifests.len(), 1);
}

#[test]
fn directory_that_is_no_layout_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(Layout::open(directory.path()), Err(LayoutError::NotALayout(_))));
    fs::write(directory.path().join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert!(matches!(Layout::open(directory.path()), Err(LayoutError::NotALayout(_))));
}

#[test]
fn blob_is_named_by_its_bytes() {
    let (_directory, layout) = layout();
    let digest = layout.put_bytes(b"hello").unwrap();
    assert_eq!(digest, Digest::sha256(b"hello"));
    assert_eq!(layout.has(&digest), Some(5));
    assert_eq!(layout.read(&digest, 5).unwrap(), b"hello");
    assert_eq!(layout.verify(&digest).unwrap(), 5);
    assert_eq!(layout.put_bytes(b"hello").unwrap(), digest);
    assert!(matches!(layout.read(&digest, 4), Err(LayoutError::TooLarge { size: 5, limit: 4, .. })));
    assert!(matches!(layout.read(&Digest::sha256(b"?"), 4), Err(LayoutError::Missing { .. })));
    assert_eq!(leftovers(&layout), 0);
}

#[test]
fn writer_hashes_what_passes() {
    let (_directory, layout) = layout();
    let mut writer = layout.writer().unwrap();
    writer.write_all(b"hel").unwrap();
    writer.write_all(b"lo").unwrap();
    assert_eq!(leftovers(&layout), 1);
    assert_eq!(writer.finish("a/b").unwrap(), Descriptor::of("a/b", b"hello"));
    let mut dropped = layout.writer().unwrap();
    dropped.write_all(b"half").unwrap();
    drop(dropped);
    assert_eq!(leftovers(&layout), 0);
    assert_eq!(layout.has(&Digest::sha256(b"half")), None);
}

#[test]
fn stream_that_is_not_what_was_announced_leaves_nothing() {
    let (_directory, layout) = layout();
    let announced = Descriptor::of("a/b", b"hello");
    let wrong_digest = layout.put_stream(b"hellO".as_slice(), &announced).unwrap_err();
    assert!(matches!(wrong_digest, LayoutError::WrongDigest { .. }));
    let short = layout.put_stream(b"hell".as_slice(), &announced).unwrap_err();
    assert!(matches!(short, LayoutError::WrongSize { expected: 5, actual: 4, .. }));
    let endless = layout.put_stream(io::repeat(0), &announced).unwrap_err();
    assert!(matches!(endless, LayoutError::WrongSize { expected: 5, actual: 6, .. }));
    assert_eq!(layout.has(&announced.digest), None);
    assert_eq!(leftovers(&layout), 0);
    layout.put_stream(b"hello".as_slice(), &announced).unwrap();
    let wide = Descriptor::new("a/b", Digest::of(Algorithm::Sha512, b"hello"), 5);
    layout.put_stream(b"hello".as_slice(), &wide).unwrap();
    assert_eq!(layout.read(&wide.digest, 5).unwrap(), b"hello");
}

#[test]
fn rotten_blob_is_noticed_when_read() {
    let (_directory, layout) = layout();
    let digest = layout.put_bytes(b"hello").unwrap();
    fs::write(layout.blob_path(&digest), b"jello").unwrap();
    assert!(matches!(layout.read(&digest, 9), Err(LayoutError::WrongDigest { .. })));
    assert!(matches!(layout.verify(&digest), Err(LayoutError::WrongDigest { .. })));
    // Storing the right bytes once more heals it.
    layout.put_stream(b"hello".as_slice(), &Descriptor::of("", b"hello")).unwrap();
    assert_eq!(layout.verify(&digest).unwrap(), 5);
}

#[test]
fn tag_moves_and_other_entries_stay() {
    let (_directory, layout) = layout();
    let (one, two) = (manifest("1"), manifest("2"));
    layout.put_manifest(&one, Some(&tag("latest"))).unwrap();
    layout.put_manifest(&one, Some(&tag("v1"))).unwrap();
    layout.put_manifest(&two, Some(&tag("latest"))).unwrap();
    layout.put_manifest(&two, None).unwrap();
    assert_eq!(layout.resolve(&tag("latest")).unwrap().unwrap().digest, *two.digest());
    assert_eq!(layout.resolve(&tag("v1")).unwrap().unwrap().digest, *one.digest());
    assert_eq!(layout.resolve(&tag("v2")).unwrap(), None);
    assert_eq!(layout.index().unwrap().manifests.len(), 2);
    assert_eq!(layout.manifest(one.digest()).unwrap(), one);
}

#[test]
fn concurrent_writers_lose_no_entry() {
    let (_directory, layout) = layout();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let layout = &layout;
            scope.spawn(move || {
                for turn in 0..4 {
                    let manifest = manifest(&format!("{writer}.{turn}"));
                    layout.put_manifest(&manifest, Some(&tag(&format!("t{writer}.{turn}")))).unwrap();
                    layout.put_bytes(b"the same for all").unwrap();
                }
            });
        }
    });
    assert_eq!(layout.index().unwrap().manifests.len(), 32);
    assert_eq!(layout.verify(&Digest::sha256(b"the same for all")).unwrap(), 16);
    assert_eq!(leftovers(&layout), 0);
}

#[test]
fn leftovers_of_the_dead_go_and_those_of_the_living_stay() {
    let (_directory, layout) = layout();
    fs::write(layout.temporary().join("dead"), b"half").unwrap();
    let mut living = layout.writer().unwrap();
    living.write_all(b"whole").unwrap();
    assert_eq!(layout.remove_abandoned().unwrap(), 1);
    living.finish("a/b").unwrap();
    assert_eq!(layout.verify(&Digest::sha256(b"whole")).unwrap(), 5);
}
