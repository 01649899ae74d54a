//! Signed indexes good and bad, and requests over small universes.
//!
//! The fixtures were signed once by gpg, all on 2026-06-01: `archive` by a signing subkey that expires on 2027-01-01,
//! `weak` by the same with SHA-1, `revoked` by a key whose keyring holds its revocation, `other` by a key of its own.

use jiff::Timestamp;
use nebh_oci::digest::Digest;

use super::keyring::{Keyring, SignatureError};
use super::packages::{Package, parse_packages};
use super::release::{Release, ReleaseError};
use super::solve::{SolveError, solve};
use super::universe::{Pin, Universe, preferred};
use crate::spec::{PackageRequest, Suite};

const SIGNED: &[u8] = include_bytes!("fixtures/archive.InRelease");

fn keyring(bytes: &[u8]) -> Keyring {
    let mut keyring = Keyring::default();
    keyring.add("test", bytes).unwrap();
    keyring
}

fn archive() -> Keyring {
    keyring(include_bytes!("fixtures/archive.gpg"))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn suite(name: &str) -> Suite {
    name.parse().unwrap()
}

const SOON: &str = "2026-06-02T00:00:00Z";

#[test]
fn good_signature_gives_exactly_the_signed_text() {
    let signed = archive().verify(SIGNED, at(SOON)).unwrap();
    assert!(signed.text.starts_with("Origin: Test\nSuite: stable\n"));
    assert_eq!(signed.signers.len(), 1);
    let release = Release::parse(&suite("trixie"), &signed.text).unwrap();
    assert_eq!(release.files["main/binary-amd64/Packages.xz"].size, 5);
    assert_eq!(release.files["main/binary-amd64/Packages.xz"].digest, Digest::sha256(b"hello"));
    assert!(release.by_hash);
}

#[test]
fn changed_text_is_said_to_be_changed() {
    let text = String::from_utf8(SIGNED.to_vec()).unwrap().replace("        5 main", "        6 main");
    let error = archive().verify(text.as_bytes(), at(SOON)).unwrap_err();
    assert!(matches!(error, SignatureError::Tampered { .. }), "{error}");
}

#[test]
fn text_beside_the_signature_is_refused() {
    for text in
        [[b"Suite: evil\n\n", SIGNED].concat(), [SIGNED, b"\nSuite: evil\n"].concat(), b"Suite: stable\n".to_vec()]
    {
        assert!(matches!(archive().verify(&text, at(SOON)), Err(SignatureError::NotSigned(_))));
    }
}

#[test]
fn signature_of_a_foreign_key_is_refused_by_its_name() {
    let error = archive().verify(include_bytes!("fixtures/other.InRelease"), at(SOON)).unwrap_err();
    assert!(matches!(&error, SignatureError::UnknownKey { signers } if signers[0].len() == 40), "{error}");
    keyring(include_bytes!("fixtures/other.asc")).verify(include_bytes!("fixtures/other.InRelease"), at(SOON)).unwrap();
}

#[test]
fn keys_that_may_not_sign_are_refused_with_the_reason() {
    let reason = |keyring: Keyring, text: &[u8], now: &str| keyring.verify(text, at(now)).unwrap_err().to_string();
    assert!(reason(archive(), SIGNED, "2027-06-01T00:00:00Z").ends_with("is expired"));
    assert!(reason(archive(), SIGNED, "2026-05-01T00:00:00Z").ends_with("signed in the future"));
    let weak = include_bytes!("fixtures/weak.InRelease");
    assert!(reason(archive(), weak, SOON).ends_with("signed with a hash that is weaker than SHA-256"));
    let revoked = keyring(include_bytes!("fixtures/revoked.gpg"));
    assert!(reason(revoked, include_bytes!("fixtures/revoked.InRelease"), SOON).ends_with("is revoked"));
}

#[test]
fn subkey_without_its_binding_does_not_sign() {
    use pgp::composed::{Deserializable, SignedPublicKey};
    use pgp::ser::Serialize;
    let mut key = SignedPublicKey::from_bytes(&include_bytes!("fixtures/archive.gpg")[..]).unwrap();
    let foreign = SignedPublicKey::from_armor_single(&include_bytes!("fixtures/other.asc")[..]).unwrap().0;
    // The subkey put under a certificate that never bound it.
    key.primary_key = foreign.primary_key;
    key.details = foreign.details;
    let error = keyring(&key.to_bytes().unwrap()).verify(SIGNED, at(SOON)).unwrap_err();
    assert!(error.to_string().ends_with("is not bound to its certificate"), "{error}");
}

#[test]
fn index_out_of_its_time_is_refused_unless_accepted() {
    let text = archive().verify(SIGNED, at(SOON)).unwrap().text;
    let (trixie, late) = (suite("trixie"), at("2026-06-09T00:00:00Z"));
    let release = Release::parse(&trixie, &text).unwrap();
    assert!(!release.check_time(&trixie, at(SOON), false).unwrap());
    assert!(matches!(release.check_time(&trixie, late, false), Err(ReleaseError::Expired { .. })));
    assert!(release.check_time(&trixie, late, true).unwrap());
    assert!(matches!(release.check_time(&trixie, at("2026-05-01T00:00:00Z"), true), Err(ReleaseError::Future { .. })));
}

#[test]
fn index_of_another_suite_is_refused() {
    let text = archive().verify(SIGNED, at(SOON)).unwrap().text;
    let error = Release::parse(&suite("bookworm"), &text).unwrap_err();
    assert!(matches!(error, ReleaseError::OtherSuite { .. }), "{error}");
}

/// `name version` and further fields, one package a paragraph.
fn packages(text: &str) -> Vec<Package> {
    let paragraph = |block: &str| {
        let (head, rest) = block.trim().split_once('\n').unwrap_or((block.trim(), ""));
        let (name, version) = head.split_once(' ').unwrap();
        let digest = Digest::sha256(head.as_bytes()).hex();
        format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: pool/{name}.deb\nSize: 1\nSHA256: {digest}\n{rest}\n"
        )
    };
    let list: Vec<String> = text.trim().split("\n\n").map(paragraph).collect();
    parse_packages(&list.join("\n")).unwrap()
}

fn universe(text: &str) -> Universe {
    let mut universe = Universe::default();
    universe.add(&suite("stable"), Pin::Default, packages(text)).unwrap();
    universe
}

fn set(universe: &Universe, requests: &[&str]) -> Result<String, SolveError> {
    let requests: Vec<PackageRequest> = requests.iter().map(|request| request.parse().unwrap()).collect();
    let ids = solve(universe, &requests)?;
    let names = ids.iter().map(|id| {
        let package = &universe.get(*id).package;
        format!("{}={}", package.name, package.version_text)
    });
    Ok(names.collect::<Vec<_>>().join(" "))
}

#[test]
fn dependencies_are_followed_and_the_newest_version_is_taken() {
    let all = universe("aa 1\nDepends: bb (>= 2), cc\n\nbb 1\n\nbb 2\n\nbb 3\n\ncc 1\nPre-Depends: bb (<< 3)\n\ndd 1");
    assert_eq!(set(&all, &["aa"]).unwrap(), "aa=1 bb=2 cc=1");
    assert_eq!(set(&all, &["bb"]).unwrap(), "bb=3");
}

#[test]
fn first_alternative_is_taken_unless_it_cannot_be() {
    let all = universe("aa 1\nDepends: xx | yy\n\nxx 1\n\nyy 1\n\nbb 1\nConflicts: xx\n\ncc 1\nDepends: nn | yy");
    assert_eq!(set(&all, &["aa"]).unwrap(), "aa=1 xx=1");
    assert_eq!(set(&all, &["aa", "bb"]).unwrap(), "aa=1 bb=1 yy=1");
    assert_eq!(set(&all, &["cc"]).unwrap(), "cc=1 yy=1");
}

#[test]
fn virtual_packages_stand_for_those_that_provide_them() {
    let all = universe(
        "aa 1\nDepends: mta\n\npp 1\nProvides: mta\nConflicts: mta\n\nqq 1\nProvides: mta\nPriority: important\nConflicts: mta\n\n\
         bb 1\nDepends: api (>= 2)\n\nrr 1\nProvides: api\n\nss 1\nProvides: api (= 2)",
    );
    assert_eq!(set(&all, &["aa"]).unwrap(), "aa=1 qq=1");
    assert_eq!(set(&all, &["aa", "pp"]).unwrap(), "aa=1 pp=1");
    assert_eq!(set(&all, &["bb"]).unwrap(), "bb=1 ss=1");
    assert!(matches!(set(&all, &["pp", "qq"]), Err(SolveError::Conflict(_))));
    assert_eq!(set(&all, &["mta"]).unwrap(), "qq=1");
}

#[test]
fn broken_versions_are_kept_out() {
    let all = universe("aa 1\nDepends: bb\nBreaks: bb (<< 2)\n\nbb 1\n\nbb 2\n\ncc 1\nDepends: bb (= 1)");
    assert_eq!(set(&all, &["aa"]).unwrap(), "aa=1 bb=2");
    let conflict = set(&all, &["aa", "cc"]).unwrap_err().to_string();
    assert!(conflict.contains("cc") && conflict.contains("bb"), "{conflict}");
}

#[test]
fn backports_are_taken_only_where_asked_for_or_needed() {
    let mut all = universe("tool 1\nDepends: lib\n\nlib 1\n\nother 1");
    let newer = packages("tool 2\nDepends: lib (>= 2)\n\nlib 2\n\nother 2");
    all.add(&suite("stable-backports"), Pin::OnRequest, newer).unwrap();
    assert_eq!(set(&all, &["tool", "other"]).unwrap(), "lib=1 other=1 tool=1");
    assert_eq!(set(&all, &["tool/stable-backports", "other"]).unwrap(), "lib=2 other=1 tool=2");
    assert_eq!(set(&all, &["other/stable-backports"]).unwrap(), "other=2");
    let error = set(&all, &["tool/elsewhere"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "package `tool` is in none of the suites elsewhere".replace("`tool`", "`tool/elsewhere`")
    );
}

#[test]
fn locked_versions_stay_while_they_can_be_had() {
    let mut all = Universe::preferring(preferred([("lib", "1"), ("tool", "0.9")].into_iter()));
    all.add(&suite("stable"), Pin::Default, packages("tool 1\nDepends: lib\n\ntool 2\nDepends: lib\n\nlib 1\n\nlib 2"))
        .unwrap();
    assert_eq!(set(&all, &["tool"]).unwrap(), "lib=1 tool=2");
}

#[test]
fn unknown_package_names_the_nearest() {
    let all = universe("nginx 1\n\nzlib 1");
    let Err(SolveError::Unknown { nearest, .. }) = set(&all, &["ngnix"]) else { panic!("found") };
    assert_eq!(nearest.as_deref(), Some("nginx"));
}

#[test]
fn cycles_and_self_provision_are_no_problem() {
    let all = universe("aa 1\nDepends: bb\n\nbb 1\nDepends: aa, cc\nProvides: cc");
    assert_eq!(set(&all, &["aa"]).unwrap(), "aa=1 bb=1");
}

#[test]
fn dependency_of_another_architecture_cannot_be_met() {
    let all = universe("aa 1\nDepends: bb:any, cc:native\n\nbb 1\n\ncc 1\n\ndd 1\nDepends: bb:i386");
    assert_eq!(set(&all, &["aa"]).unwrap(), "aa=1 bb=1 cc=1");
    assert!(set(&all, &["dd"]).is_err());
}
