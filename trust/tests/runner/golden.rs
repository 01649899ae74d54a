//! The bytes of our signatures, with a fixed key. Whoever changes one changes what is on every registry.

use nebh_oci::manifest::Artifact;
use nebh_trust::key::PrivateKey;
use nebh_trust::signing;

use super::support::{address, image, tags};

fn key() -> PrivateKey {
    PrivateKey::from_cosign_pem(include_str!("../fixtures/signing/good/k2.key"), "pw2").unwrap()
}

/// The signed part and the manifest of an artifact, one line each.
fn text(artifact: &Artifact) -> String {
    let part = String::from_utf8(artifact.blobs.last().unwrap().1.clone()).unwrap();
    let manifest = std::str::from_utf8(artifact.manifest.bytes()).unwrap();
    format!("{part}\n{manifest}\n")
}

#[test]
fn simple_signing_stays_as_it_is() {
    let artifact = signing::simple_signing(None, &image("golden"), &address(), &tags(), &key()).unwrap();
    assert_eq!(text(&artifact), include_str!("../fixtures/signing/golden/simple.txt"));
    assert_eq!(artifact.tag.unwrap().to_string(), format!("sha256-{}.sig", image("golden").digest().hex()));
}

#[test]
fn bundle_stays_as_it_is() {
    let artifact = signing::bundle(&image("golden"), &address(), &tags(), &key()).unwrap();
    assert_eq!(text(&artifact), include_str!("../fixtures/signing/golden/bundle.txt"));
}
