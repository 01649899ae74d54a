//! What is pushed in which order, what verifies afterwards, and what a second run adds: nothing.

use jiff::Timestamp;
use nebh_oci::client::ClientSettings;
use nebh_oci::image_config::ImageConfig;
use nebh_oci::manifest::{Descriptor, ImageManifest};
use nebh_oci::media_type::{OCI_CONFIG, OCI_LAYER};
use nebh_trust::policy::TrustPolicy;
use nebh_trust::provenance::Source;
use nebh_trust::rejection::RejectionKind;
use nebh_trust::verify::{verify_image, verify_provenance};

use super::provenance::{Facts, builder_id, components};
use super::twin::Twin;
use super::*;
use crate::lock::{Lock, LockedPackage, Request};
use crate::spec::Buildspec;

/// An image of one layer in a layout of its own.
pub(crate) struct Sample {
    _dir: tempfile::TempDir,
    pub(crate) layout: Layout,
    pub(crate) image: RawManifest,
}

impl Sample {
    pub(crate) fn new(content: &str) -> Self {
        Self::of(content, &"c".repeat(40))
    }

    /// An image that says it was made of `commit`.
    pub(crate) fn of(content: &str, commit: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path().join("oci")).unwrap();
        let layer = Descriptor::of(OCI_LAYER, content.as_bytes());
        let config = ImageConfig::new("amd64", "linux", Vec::new()).to_bytes().unwrap();
        layout.put_bytes(content.as_bytes()).unwrap();
        layout.put_bytes(&config).unwrap();
        let image = ImageManifest::image(Descriptor::of(OCI_CONFIG, &config), vec![layer])
            .with_annotation(crate::image::REVISION, commit);
        let image = RawManifest::from_image(&image).unwrap();
        layout.put_manifest(&image, None).unwrap();
        Self { _dir: dir, layout, image }
    }

    pub(crate) async fn publish(&self, twin: &Twin, tags: &[&str], keys: &[PrivateKey]) -> Result<(), Failure> {
        let lock = lock();
        let tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        let publication = Publication {
            layout: &self.layout,
            image: &self.image,
            to: &twin.address,
            tags: &tags,
            names: &["1.0.0".parse().unwrap()],
            provenance: &provenance_of(&lock, keys.first()),
            components: &components(&lock),
            committed: Timestamp::UNIX_EPOCH,
            keys,
        };
        publish(&client(), &publication).await
    }
}

pub(crate) fn client() -> Client {
    Client::new(ClientSettings { retries: 0, ..ClientSettings::default() }).unwrap()
}

pub(crate) fn policy(role: &PrivateKey) -> TrustPolicy {
    let text = "roles: { builder: { keys: [k] } }\nrules: [{ match: shop/*, image: builder, release: builder, \
                provenance: { source: \"file:///srv/*\", custom-steps: refuse } }]\n";
    TrustPolicy::parse("trust.yaml", text, &mut |_| Ok(role.public().to_pem().unwrap())).unwrap()
}

fn lock() -> Lock {
    let spec = "name: shop/api\nbuild: { files: { copy: [ { from: a, to: /a } ] } }\nimage: { base: debian/trixie }\n";
    let spec = Buildspec::parse("buildspec.yaml", spec).unwrap();
    let package = |name: &str, version: &str| LockedPackage {
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: "amd64".to_owned(),
        suite: "trixie".parse().unwrap(),
        size: 1,
        sha256: nebh_oci::digest::Digest::sha256(name.as_bytes()),
        path: format!("pool/{name}.deb"),
    };
    Lock {
        request: Request::of(&spec),
        architecture: "amd64".to_owned(),
        suites: Vec::new(),
        image_packages: vec![package("libc6", "2.41-12"), package("libstdc++6", "1:14.2~rc1+b2")],
        toolchain: Vec::new(),
        language: None,
    }
}

fn provenance_of(lock: &Lock, key: Option<&PrivateKey>) -> Provenance {
    let now = Timestamp::now();
    provenance::provenance(&Facts {
        source: Source {
            uri: "file:///srv/shop.git".to_owned(),
            commit: "c".repeat(40),
            reference: Some("refs/heads/main".to_owned()),
            directory: String::new(),
        },
        buildspec: "buildspec.yaml".to_owned(),
        platform: "linux/amd64".to_owned(),
        steps: vec!["files".to_owned()],
        configure: false,
        plan: nebh_oci::digest::Digest::sha256(b"plan"),
        assembly: 1,
        lock,
        builder: key.map(|key| builder_id(key.public())).unwrap_or_default(),
        invocation: now.to_string(),
        started: now,
        finished: now,
    })
}

#[tokio::test]
async fn signatures_and_attestations_are_up_before_the_manifest_and_the_manifest_before_its_tags() {
    let (twin, sample, key) = (Twin::start().await, Sample::new("a"), PrivateKey::generate().unwrap());
    sample.publish(&twin, &["main"], &[key]).await.unwrap();
    let order = twin.order();
    let at = |what: &str| order.iter().position(|entry| entry == what).unwrap_or_else(|| panic!("{what}: {order:#?}"));
    let digest = sample.image.digest();
    let manifest = at(&format!("manifest {digest}"));
    let last_referrer = order.iter().rposition(|entry| entry.starts_with("referrer ")).unwrap();
    assert!(at(&format!("manifest sha256-{}.sig", digest.hex())) < manifest);
    assert!(last_referrer < manifest);
    assert_eq!(at("manifest main"), manifest + 1);
    assert_eq!(order.len(), manifest + 2, "{order:#?}");
    // Signature bundle, provenance, two bills.
    assert_eq!(order.iter().filter(|entry| entry.starts_with("referrer ")).count(), 4);
}

#[tokio::test]
async fn published_image_verifies_with_its_provenance_and_under_no_other_key() {
    let (twin, sample) = (Twin::start().await, Sample::new("a"));
    let keys = [PrivateKey::generate().unwrap()];
    sample.publish(&twin, &["main"], &keys).await.unwrap();
    let client = client();
    let tag = "main".parse().unwrap();
    let manifest = client.manifest_by_tag(&twin.address, &tag).await.unwrap();
    let attached = client.attached(&twin.address, manifest.digest()).await.unwrap();
    let repository = twin.address.repository();
    let now = Timestamp::now();
    verify_image(&policy(&keys[0]), repository, &manifest, &attached, now).unwrap();
    let provenance = verify_provenance(&policy(&keys[0]), repository, &manifest, &attached, now).unwrap();
    let definition = &provenance.value().build_definition;
    assert_eq!(definition.external_parameters.source.commit, "c".repeat(40));
    let purls: Vec<_> = definition.resolved_dependencies.iter().filter_map(|one| one.uri.as_deref()).collect();
    assert_eq!(
        purls,
        [
            "git+file:///srv/shop.git@refs/heads/main",
            "pkg:deb/debian/libc6@2.41-12?arch=amd64&distro=trixie",
            "pkg:deb/debian/libstdc%2B%2B6@1:14.2~rc1%2Bb2?arch=amd64&distro=trixie"
        ]
    );
    let other = policy(&PrivateKey::generate().unwrap());
    let rejection = verify_image(&other, repository, &manifest, &attached, now).unwrap_err();
    assert_eq!(rejection.kind, RejectionKind::Untrusted);
}

#[tokio::test]
async fn publishing_again_adds_nothing() {
    let (twin, sample) = (Twin::start().await, Sample::new("a"));
    let keys = [PrivateKey::generate().unwrap()];
    sample.publish(&twin, &["main"], &keys).await.unwrap();
    let digest = sample.image.digest();
    let first = client().attached(&twin.address, digest).await.unwrap().len();
    sample.publish(&twin, &["main", "other"], &keys).await.unwrap();
    let again = client().attached(&twin.address, digest).await.unwrap();
    // One signature bundle more, for the tag that is new; provenance and bills were known.
    assert_eq!(again.len(), first + 1);
    assert_eq!(twin.tag("other"), Some(digest.to_string()));
}

#[tokio::test]
async fn second_signer_is_added_beside_the_first() {
    let (twin, sample) = (Twin::start().await, Sample::new("a"));
    let keys = [PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap()];
    sample.publish(&twin, &["main"], &keys[..1]).await.unwrap();
    let tags = ["main".parse().unwrap()];
    sign(&client(), &twin.address, &sample.image, &tags, &keys[1..]).await.unwrap();
    let attached = client().attached(&twin.address, sample.image.digest()).await.unwrap();
    for key in &keys {
        let now = Timestamp::now();
        verify_image(&policy_without_provenance(key), twin.address.repository(), &sample.image, &attached, now)
            .unwrap();
    }
}

fn policy_without_provenance(key: &PrivateKey) -> TrustPolicy {
    let text = "roles: { builder: { keys: [k] } }\nrules: [{ match: shop/*, image: builder }]\n";
    TrustPolicy::parse("trust.yaml", text, &mut |_| Ok(key.public().to_pem().unwrap())).unwrap()
}

#[tokio::test]
async fn refused_tag_leaves_no_name_behind_and_is_a_refusal() {
    let (twin, sample) = (Twin::start().await, Sample::new("a"));
    twin.state.lock().unwrap().refuse_tags = true;
    let keys = [PrivateKey::generate().unwrap()];
    let failure = sample.publish(&twin, &["main"], &keys).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Refused);
    assert!(failure.to_string().contains("not admitted"), "{failure}");
    assert_eq!(twin.tag("main"), None);
}

#[tokio::test]
async fn registry_that_is_away_is_unreachable_and_not_a_refusal() {
    let (twin, sample) = (Twin::start().await, Sample::new("a"));
    let address = twin.address.clone();
    drop(twin);
    tokio::task::yield_now().await;
    let keys = [PrivateKey::generate().unwrap()];
    let failure = sign(&client(), &address, &sample.image, &[], &keys).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Unreachable);
}
