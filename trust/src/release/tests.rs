//! Releases put together and taken apart.

use nebh_oci::manifest::{Descriptor, ImageIndex, Platform, RawManifest};
use nebh_oci::media_type;

use super::*;

const SPEC: &str = "name: shop/api
config: { from: config/, mount: /etc/shop, check: [/usr/bin/shop-api, --check-config] }
data:
  ledger: { mount: /var/lib/shop, class: ledger, schema: { writes: 12, reads: [11, 12] } }
run: { ports: [8080], alive: { http: \":8080/healthz\" }, limits: { memory: 512MiB, cpus: 1.5 } }
";

fn image(seed: &str, architecture: &str) -> Descriptor {
    let bytes = format!("image {seed}");
    Descriptor::of(media_type::OCI_MANIFEST, bytes.as_bytes()).with_platform(Platform::new("linux", architecture))
}

fn config() -> ConfigSnapshot {
    let file = ConfigFile { path: "app.toml".parse().unwrap(), bytes: b"port = 8080\n".to_vec(), executable: false };
    let layer = ConfigLayer { name: "defaults".to_owned(), origin: "git".to_owned(), files: vec![file] };
    ConfigSnapshot { layers: vec![layer] }
}

fn commit() -> CommitId {
    "0123456789abcdef0123456789abcdef01234567".parse().unwrap()
}

fn parts(images: &[Descriptor]) -> Result<ReleaseParts, ReleaseError> {
    let spec = ReleaseSpec::parse("release.yaml", SPEC).unwrap();
    assemble(&spec, &"1.4.2".parse().unwrap(), &commit(), 7, images, &config())
}

fn statement_bytes(parts: &ReleaseParts) -> Vec<u8> {
    parts.artifacts()[1].blobs.last().unwrap().1.clone()
}

/// The index with something changed.
fn changed(parts: &ReleaseParts, change: impl FnOnce(&mut ImageIndex)) -> Result<ReleaseIndex, ReleaseError> {
    let mut index = parts.index().index().unwrap().clone();
    change(&mut index);
    read_release(&RawManifest::from_index(&index).unwrap())
}

#[test]
fn release_survives_its_index() {
    let images = [image("a", "amd64"), image("b", "arm64")];
    let parts = parts(&images).unwrap();
    let index = read_release(parts.index()).unwrap();
    assert_eq!(index.images, images);
    assert_eq!((index.version.as_str(), index.counter), ("1.4.2", 7));
    assert_eq!(index.commit, commit());
    assert_eq!(index.image_for(&Platform::new("linux", "arm64")), Some(&images[1]));
    assert_eq!(index.image_for(&Platform::new("linux", "riscv64")), None);
    let statement = ReleaseStatement::parse(&statement_bytes(&parts), &index).unwrap();
    assert_eq!(statement.config.mount.unwrap().as_str(), "/etc/shop");
    assert_eq!(statement.run.ports, [8080]);
    assert_eq!(statement.data.len(), 1);
}

#[test]
fn images_come_first_and_the_rest_is_hidden_from_runtimes() {
    let parts = parts(&[image("a", "amd64")]).unwrap();
    let children = &parts.index().index().unwrap().manifests;
    let platforms: Vec<String> = children
        .iter()
        .map(|child| child.platform.clone().unwrap())
        .map(|p| format!("{}/{}", p.os, p.architecture))
        .collect();
    assert_eq!(platforms, ["linux/amd64", "unknown/unknown", "unknown/unknown"]);
}

#[test]
fn bytes_of_a_release_stay_as_they_are() {
    let one = parts(&[image("a", "amd64")]).unwrap();
    assert_eq!(one.index(), parts(&[image("a", "amd64")]).unwrap().index());
    assert_eq!(one.index().digest().to_string(), GOLDEN);
}

/// Version 1 of the format. A change here is a new version of the format.
const GOLDEN: &str = "sha256:df1a251df73f1414cc28f222bebfed76fead88e29acc2e0060ac50a358472f1f";

#[test]
fn image_needs_a_platform_of_its_own() {
    let unknown = Descriptor { platform: Some(Platform::unknown()), ..image("a", "amd64") };
    assert!(matches!(parts(&[unknown]), Err(ReleaseError::NoPlatform(_))));
    assert!(matches!(parts(&[image("a", "amd64"), image("b", "amd64")]), Err(ReleaseError::PlatformTwice(_))));
    assert!(matches!(parts(&[]), Err(ReleaseError::NoImage)));
    let index = Descriptor { media_type: media_type::OCI_INDEX.to_owned(), ..image("a", "amd64") };
    assert!(matches!(parts(&[index]), Err(ReleaseError::NotAnImage(_))));
}

#[test]
fn foreign_child_missing_child_and_wrong_order_are_refused() {
    let parts = parts(&[image("a", "amd64")]).unwrap();
    let refused = |result: Result<ReleaseIndex, ReleaseError>| {
        assert!(matches!(result, Err(ReleaseError::NotARelease(_) | ReleaseError::NoImage)), "{result:?}");
    };
    refused(changed(&parts, |index| index.manifests.push(image("b", "arm64"))));
    refused(changed(&parts, |index| {
        index.manifests.push(image("b", "arm64").with_artifact_type("application/x"));
    }));
    refused(changed(&parts, |index| {
        index.manifests.pop();
    }));
    refused(changed(&parts, |index| {
        index.manifests.remove(0);
    }));
    refused(changed(&parts, |index| index.manifests[2].platform = None));
    refused(changed(&parts, |index| index.artifact_type = None));
    refused(changed(&parts, |index| {
        index.annotations.remove(COUNTER_ANNOTATION);
    }));
    for wrong in ["+7", "07", "-1", "x", "99999999999999999999"] {
        refused(changed(&parts, |index| {
            index.annotations.insert(COUNTER_ANNOTATION.to_owned(), wrong.to_owned());
        }));
    }
}

#[test]
fn statement_of_another_release_is_refused() {
    let parts = parts(&[image("a", "amd64")]).unwrap();
    let bytes = statement_bytes(&parts);
    let other = changed(&parts, |index| {
        index.annotations.insert(COUNTER_ANNOTATION.to_owned(), "8".to_owned());
    })
    .unwrap();
    assert!(matches!(ReleaseStatement::parse(&bytes, &other), Err(ReleaseError::Disagree("counter"))));
    let other = changed(&parts, |index| index.manifests[0] = image("z", "amd64")).unwrap();
    assert!(matches!(ReleaseStatement::parse(&bytes, &other), Err(ReleaseError::Disagree("images"))));
}

#[test]
fn statement_of_a_newer_program_says_so() {
    let parts = parts(&[image("a", "amd64")]).unwrap();
    let index = read_release(parts.index()).unwrap();
    let text = String::from_utf8(statement_bytes(&parts)).unwrap();
    let newer = text.replace(r#""deployer":1"#, r#""deployer":2"#);
    assert!(matches!(ReleaseStatement::parse(newer.as_bytes(), &index), Err(ReleaseError::TooNew { .. })));
    let unknown = text.replace(r#""deployer":1"#, r#""deployer":1,"x":1"#);
    assert!(matches!(ReleaseStatement::parse(unknown.as_bytes(), &index), Err(ReleaseError::Statement(_))));
}

#[test]
fn statement_that_no_release_file_could_make_is_refused() {
    let parts = parts(&[image("a", "amd64")]).unwrap();
    let index = read_release(parts.index()).unwrap();
    let text = String::from_utf8(statement_bytes(&parts)).unwrap();
    for (from, to, expected) in [
        ("/var/lib/shop", "/etc/shop/data", "mounted at or below"),
        ("\"ports\":[8080]", "\"ports\":[8080,8080]", "run.ports"),
        ("\"env\":{}", "\"env\":{\"a=b\":\"c\"}", "no name of a variable"),
        ("\"reads\":[11,12]", "\"reads\":[11]", "has to contain 12"),
    ] {
        let changed = text.replace(from, to);
        assert_ne!(changed, text, "{from}");
        let error = ReleaseStatement::parse(changed.as_bytes(), &index).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
