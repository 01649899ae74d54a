//! A fixture for each version of each format: what was written once is read for ever, and written the same way.

use nebh_oci::digest::Digest;
use nebh_oci::json::{canonical, parse_strict};
use nebh_oci::manifest::{Descriptor, Platform};
use nebh_oci::media_type::OCI_MANIFEST;
use nebh_trust::channel::ChannelHead;
use nebh_trust::data::DataSnapshotManifest;
use nebh_trust::release::{ConfigSnapshot, ReleaseSpec, ReleaseStatement, assemble, read_release};

use super::documents::{data_snapshot, head};
use super::support::policy;

const SPEC: &str = include_str!("../fixtures/formats/release.yaml");
const HEAD_V1: &str = include_str!("../fixtures/formats/channel-head.v1.json");
const DATA_SNAPSHOT_V1: &str = include_str!("../fixtures/formats/data-snapshot.v1.json");
const STATEMENT_V1: &str = include_str!("../fixtures/formats/release-statement.v1.json");

fn text(bytes: Vec<u8>) -> String {
    format!("{}\n", String::from_utf8(bytes).unwrap())
}

/// The fixture ends in a line end, which is no part of the document.
fn document(fixture: &str) -> &[u8] {
    fixture.trim_end().as_bytes()
}

#[test]
fn channel_head_version_1() {
    assert_eq!(text(canonical(&head(7)).unwrap()), HEAD_V1);
    assert_eq!(parse_strict::<ChannelHead>(document(HEAD_V1)).unwrap(), head(7));
}

#[test]
fn data_snapshot_version_1() {
    let snapshot = data_snapshot(Digest::sha256(b"release"));
    assert_eq!(text(canonical(&snapshot).unwrap()), DATA_SNAPSHOT_V1);
    assert_eq!(parse_strict::<DataSnapshotManifest>(document(DATA_SNAPSHOT_V1)).unwrap(), snapshot);
}

#[test]
fn release_statement_version_1() {
    let spec = ReleaseSpec::parse("release.yaml", SPEC).unwrap();
    let image = Descriptor::of(OCI_MANIFEST, b"image").with_platform(Platform::new("linux", "amd64"));
    let commit = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
    let parts = assemble(&spec, &"1.4.2".parse().unwrap(), &commit, 7, &[image], &ConfigSnapshot::default()).unwrap();
    let written = parts.artifacts()[1].blobs.last().unwrap().1.clone();
    assert_eq!(text(written), STATEMENT_V1);
    let read = ReleaseStatement::parse(document(STATEMENT_V1), &read_release(parts.index()).unwrap()).unwrap();
    assert_eq!(read.run, spec.run);
    assert_eq!(read.data, spec.data);
}

#[test]
fn trust_policy_with_everything_in_it() {
    let policy = policy(include_str!("../fixtures/formats/trust.yaml"));
    assert!(policy.rule(&"any/where/else".parse().unwrap()).is_some());
    assert_eq!(policy.role_named("builder").unwrap().expires().unwrap().to_string(), "2030-01-01T00:00:00Z");
}
