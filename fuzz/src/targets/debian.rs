//! Debian: packages, their lists and the signed index.

use std::io::Read;
use std::sync::LazyLock;

use jiff::Timestamp;
use nebh_builder::assembly::{EntryPath, FileTree, Spill, write_tarball};
use nebh_builder::debian::keyring::Keyring;
use nebh_builder::debian::packages::parse_packages;
use nebh_builder::debian::relation::parse_relations;
use nebh_builder::debian::release::Release;
use nebh_builder::root::{ArReader, Limits, read_deb, read_tar_tree};

/// Small enough that a bomb ends at once.
const LIMITS: Limits = Limits { bytes: 1 << 20, entries: 256, control_bytes: 64 << 10, decoder_memory: 64 << 20 };

fn spill() -> Spill {
    Spill::new(&std::env::temp_dir()).expect("a temporary file")
}

/// Nothing leaves the tree, and all of it together is within the limits.
fn sound(tree: &FileTree) {
    assert!(tree.len() <= LIMITS.entries);
    for (path, _) in tree.iter() {
        assert_eq!(EntryPath::parse(path.as_str()).as_ref(), Ok(path));
    }
}

/// A whole package.
pub(crate) fn deb(bytes: &[u8]) {
    let Ok(deb) = read_deb(bytes, &spill(), &LIMITS) else { return };
    assert!(!deb.facts.name.is_empty());
    sound(&deb.tree);
}

/// Members are cut out of the archive, one behind the other, never more bytes than it has.
pub(crate) fn ar(bytes: &[u8]) {
    let Ok(mut archive) = ArReader::new(bytes) else { return };
    let mut sum = 0;
    while let Ok(Some((name, size))) = archive.next_member() {
        assert!(!name.contains('\0') || name.len() <= 16);
        let mut content = Vec::new();
        archive.read_to_end(&mut content).expect("a slice is read without fault");
        assert!(content.len() as u64 <= size);
        sum += content.len();
        assert!(sum <= bytes.len());
    }
}

/// A tree that was read is written by the assembly contract, read again, and is the same.
pub(crate) fn tar_tree(bytes: &[u8]) {
    let read = |bytes: &[u8]| read_tar_tree("data.tar", bytes, &spill(), &LIMITS, |path, _| Ok(Some(path.clone())));
    let Ok(tree) = read(bytes) else { return };
    sound(&tree);
    let mut written = Vec::new();
    // What does not fit a header (an owner, a time) is refused by the writer.
    if write_tarball(&tree, u64::MAX, &mut written).is_err() {
        return;
    }
    // The writer adds missing folders, which may be more entries than are taken.
    let Ok(again) = read(&written) else { return };
    let mut rewritten = Vec::new();
    write_tarball(&again, u64::MAX, &mut rewritten).expect("it was written before");
    assert!(written == rewritten, "the layer of a layer's tree is another");
}

/// A package list: names that a path or a URL can hold.
pub(crate) fn packages(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(packages) = parse_packages(text) else { return };
    for package in packages {
        assert_eq!(package.version_text.parse().as_ref(), Ok(&package.version));
        drop(parse_relations(&package.depends));
        drop(parse_relations(&package.conflicts));
    }
}

/// Relations between packages.
pub(crate) fn relations(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(groups) = parse_relations(text) else { return };
    for relation in groups.iter().flatten() {
        assert!(!relation.name.is_empty() && !relation.name.contains(['/', ' ', ',']));
        if let Some(constraint) = &relation.constraint {
            // A version compares with itself as equal, whatever is in it.
            use nebh_builder::debian::relation::Operator as O;
            let inclusive = matches!(constraint.operator, O::EarlierOrEqual | O::Equal | O::LaterOrEqual);
            assert_eq!(constraint.admits(&constraint.version), inclusive);
        }
    }
}

/// Signed once by the key of the fixtures.
const SIGNED: &[u8] = include_bytes!("../../../builder/src/debian/fixtures/archive.InRelease");
static KEYRING: LazyLock<Keyring> = LazyLock::new(|| {
    let mut keyring = Keyring::default();
    keyring.add("archive.gpg", include_bytes!("../../../builder/src/debian/fixtures/archive.gpg")).expect("a keyring");
    keyring
});
static NOW: LazyLock<Timestamp> = LazyLock::new(|| "2026-06-02T00:00:00Z".parse().expect("a time"));
static TEXT: LazyLock<String> = LazyLock::new(|| KEYRING.verify(SIGNED, *NOW).expect("it is signed").text);

/// The key signed one text in its life: nothing else may ever pass.
pub(crate) fn inrelease(bytes: &[u8]) {
    if let Ok(signed) = KEYRING.verify(bytes, *NOW) {
        assert_eq!(signed.text, *TEXT, "accepted what was never signed");
        assert_eq!(signed.signers.len(), 1);
    }
}

/// The text of an index, signed or not.
pub(crate) fn suite_index(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let suite = "trixie".parse().expect("a suite");
    let Ok(release) = Release::parse(&suite, text) else { return };
    if release.check_time(&suite, *NOW, false).is_ok_and(|expired| !expired) {
        assert!(release.valid_until.is_none_or(|until| until >= *NOW));
    }
}
