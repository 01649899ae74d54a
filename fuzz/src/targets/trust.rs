//! Signatures, policies, heads and releases: what is accepted was signed, and says one thing.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use nebh_oci::json;
use nebh_oci::manifest::{Attached, Descriptor, ImageManifest, RawManifest};
use nebh_oci::media_type::{DSSE_ENVELOPE, NEBH_CHANNEL_HEAD};
use nebh_trust::bundle::Bundle;
use nebh_trust::channel::{self, ChannelHead, Floor, verify_head};
use nebh_trust::dsse::Envelope;
use nebh_trust::key::{PrivateKey, PublicKey};
use nebh_trust::pattern::Pattern;
use nebh_trust::policy::{Purpose, TrustPolicy};
use nebh_trust::release::{ReleaseStatement, read_release};
use nebh_trust::simple::Payload;
use nebh_trust::statement::Statement;

/// Made by cosign; the corpora hold what this key signed.
static KEY: LazyLock<PrivateKey> = LazyLock::new(|| {
    let file = include_str!("../../../trust/tests/fixtures/signing/good/k2.key");
    PrivateKey::from_cosign_pem(file, "pw2").expect("the fixture's key")
});
/// All that the key signed in the seeds.
const SIGNED: &[&[u8]] = &[
    include_bytes!("../../corpus/envelope/bundle.json"),
    include_bytes!("../../corpus/envelope/envelope.json"),
    include_bytes!("../../corpus/envelope/c2-att-slsa.json"),
];
static SIGNED_PAYLOADS: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let envelope = |bytes: &[u8]| match Bundle::parse(bytes) {
        Ok(bundle) => bundle.envelope().clone(),
        Err(_) => Envelope::parse(bytes).expect("a seed"),
    };
    SIGNED
        .iter()
        .map(|bytes| envelope(bytes))
        .map(|one| (one.payload_type().to_owned(), one.payload().to_vec()))
        .collect()
});

/// What verifies was signed; what was read is written and read again as the same.
pub(crate) fn envelope(bytes: &[u8]) {
    if let Ok(bundle) = Bundle::parse(bytes) {
        let written = bundle.to_bytes().expect("it can be written");
        assert_eq!(Bundle::parse(&written).expect("ours is read"), bundle);
        genuine(bundle.envelope());
    }
    if let Ok(envelope) = Envelope::parse(bytes) {
        let written = envelope.to_bytes().expect("it can be written");
        assert_eq!(Envelope::parse(&written).expect("ours is read"), envelope);
        genuine(&envelope);
    }
}

fn genuine(envelope: &Envelope) {
    if !envelope.signers([KEY.public()]).is_empty() {
        let said = (envelope.payload_type().to_owned(), envelope.payload().to_vec());
        assert!(SIGNED_PAYLOADS.contains(&said), "the key never signed {}", said.1.escape_ascii());
    }
}

/// A statement has one meaning: its canonical form says the same.
pub(crate) fn statement(bytes: &[u8]) {
    let Ok(statement) = Statement::parse(bytes) else { return };
    assert!(!statement.subjects().is_empty());
    let Ok(written) = statement.to_bytes() else { return };
    let again = Statement::parse(&written).expect("ours is read");
    assert_eq!(again.subjects(), statement.subjects());
    assert_eq!(again.predicate_type(), statement.predicate_type());
    assert_eq!(again.to_bytes().expect("and written again"), written);
}

/// The same for cosign's older document.
pub(crate) fn simple_signing(bytes: &[u8]) {
    let Ok(payload) = Payload::parse(bytes) else { return };
    let written = payload.to_bytes().expect("it can be written");
    assert_eq!(Payload::parse(&written).expect("ours is read"), payload);
    let name = nebh_trust::simple::repository_of(&payload.docker_reference);
    assert!(payload.docker_reference.contains(name));
}

/// A key that is read has one file form and one name.
pub(crate) fn public_key(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(key) = PublicKey::from_pem(text) else { return };
    let again = PublicKey::from_pem(&key.to_pem().expect("it can be written")).expect("ours is read");
    assert_eq!(again.id(), key.id());
    assert!(key.verify(b"never signed", &[]).is_err());
}

/// A key file opens with its passphrase, or not at all.
pub(crate) fn private_key(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(key) = PrivateKey::from_cosign_pem(text, "pw2") {
        assert_eq!(key.id(), KEY.id(), "another key in this box");
    }
}

/// Keys of a policy, by the names that the seeds use.
static KEYS: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let names = ["a", "b", "c", "builder", "second-builder", "alice", "bob", "node", "rebuilder"];
    let pem = || PrivateKey::generate().and_then(|key| key.public().to_pem()).expect("a key");
    names.iter().map(|name| ((*name).to_owned(), pem())).collect()
});

fn load(name: &str) -> Result<String, String> {
    KEYS.get(name).cloned().ok_or_else(|| "no such key".to_owned())
}

/// A policy that exists holds together: it has rules, each with a role, each with enough keys of its own.
pub(crate) fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(policy) = TrustPolicy::parse("trust.yaml", text, &mut |name| load(name)) else { return };
    let again = TrustPolicy::parse("trust.yaml", text, &mut |name| load(name)).expect("as before");
    assert_eq!(again.fingerprint(), policy.fingerprint());
    for name in ["shop/api", "a", "other/place/deep"] {
        let Some(rule) = policy.rule(&name.parse().expect("a name")) else { continue };
        let role = policy.role(rule, Purpose::Image).expect("every rule has a role for images");
        assert!(role.threshold() >= 1 && role.threshold() <= role.keys().len());
        for other in ["builder", "releaser", "node"].iter().filter_map(|name| policy.role_named(name)) {
            let shared = other.keys().iter().any(|key| role.keys().contains(key));
            assert_eq!(shared, other.name() == role.name(), "a key plays two roles");
        }
    }
}

static HEAD_POLICY: LazyLock<TrustPolicy> = LazyLock::new(|| {
    let text = "roles: { releaser: { keys: [key] } }\nrules: [{ match: shop/*, image: releaser, release: releaser }]\n";
    TrustPolicy::parse("trust.yaml", text, &mut |_| KEY.public().to_pem().map_err(|error| error.to_string()))
        .expect("a policy")
});

/// The bytes as the payload of a head that the right key signed: whatever it says, it is followed only forward, in its
/// time and on its channel.
pub(crate) fn channel_head(bytes: &[u8]) {
    let (floor, now) = (Floor { counter: 7, head: None }, "2026-06-01T12:00:00Z".parse::<Timestamp>().expect("a time"));
    let envelope = Envelope::sign(channel::PAYLOAD_TYPE, bytes.to_vec(), &[&KEY]).to_bytes().expect("an envelope");
    let layer = Descriptor::of(DSSE_ENVELOPE, &envelope);
    let manifest = RawManifest::from_image(&ImageManifest::artifact(NEBH_CHANNEL_HEAD, vec![layer.clone()]));
    let head = Attached { manifest: manifest.expect("a manifest"), layers: vec![(layer, envelope)] };
    let repository = "shop/api".parse().expect("a name");
    let Ok(head) = verify_head(&HEAD_POLICY, &repository, "stable", &head, &floor, now) else { return };
    let head = head.into_value();
    assert!(head.counter >= floor.counter && head.expires > now && head.expires > head.issued);
    assert!(head.channel == "stable" && head.repository == repository);
    let written = json::canonical(&head).expect("a head that is followed can be written");
    assert_eq!(json::parse_strict::<ChannelHead>(&written).expect("and read"), head);
}

/// A release that is read has its parts, each once.
pub(crate) fn release_index(bytes: &[u8]) {
    let Ok(manifest) = RawManifest::parse(bytes.to_vec(), None) else { return };
    let Ok(release) = read_release(&manifest) else { return };
    assert_eq!(release.digest, *manifest.digest());
    assert!(!release.images.is_empty());
    let children = &manifest.index().expect("an index").manifests;
    assert_eq!(children.len(), release.images.len() + 2);
    for image in &release.images {
        let platform = image.platform.as_ref().expect("each image has a platform");
        assert!(release.image_for(platform).is_some());
    }
}

/// The release that the statements of the corpus belong to.
const INDEX: &[u8] = include_bytes!("../../corpus/release-index/release.json");

/// A statement that is read agrees with its index.
pub(crate) fn release_statement(bytes: &[u8]) {
    let index = RawManifest::parse(INDEX.to_vec(), None).expect("a seed");
    let index = read_release(&index).expect("a release");
    let Ok(statement) = ReleaseStatement::parse(bytes, &index) else { return };
    assert_eq!(statement.release.version, index.version);
    assert_eq!(statement.config.snapshot, index.config.digest);
    assert!(statement.images.iter().map(|image| image.digest).eq(index.images.iter().map(|image| image.digest)));
    let written = json::canonical(&statement).expect("it can be written");
    assert_eq!(ReleaseStatement::parse(&written, &index).expect("and read"), statement);
}

/// `pattern` NUL `text`. The answer is that of the plainest matcher there is.
pub(crate) fn pattern(bytes: &[u8]) {
    let Ok(both) = std::str::from_utf8(bytes) else { return };
    let Some((pattern, text)) = both.split_once('\0') else { return };
    let Ok(parsed) = Pattern::parse(pattern) else { return };
    // The plain matcher takes exponential time.
    if pattern.len() > 24 || text.len() > 24 {
        let _: bool = parsed.matches(text);
        return;
    }
    assert_eq!(parsed.matches(text), plainly(pattern, text), "`{pattern}` and `{text}`");
}

fn plainly(pattern: &str, text: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix("**") {
        return (0..=text.len()).filter(|at| text.is_char_boundary(*at)).any(|at| plainly(rest, &text[at..]));
    }
    if let Some(rest) = pattern.strip_prefix('*') {
        let end = text.find('/').unwrap_or(text.len());
        return (0..=end).filter(|at| text.is_char_boundary(*at)).any(|at| plainly(rest, &text[at..]));
    }
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some(one), Some(other)) if one == other => plainly(&pattern[one.len_utf8()..], &text[other.len_utf8()..]),
        _ => false,
    }
}
