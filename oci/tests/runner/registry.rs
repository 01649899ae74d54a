//! The client and the layout against a real registry and against skopeo.

use std::io::Write;
use std::process::Command;

use nebh_oci::client::{Client, ClientErrorKind, ClientSettings, Credentials};
use nebh_oci::digest::{DiffId, Digest};
use nebh_oci::image_config::ImageConfig;
use nebh_oci::layout::Layout;
use nebh_oci::manifest::{Artifact, Descriptor, EMPTY_BLOB, ImageIndex, ImageManifest, Platform, RawManifest};
use nebh_oci::media_type;
use nebh_oci::names::Tag;

use crate::peer::{DockerRegistry, client, has, quick, skip, skopeo};

fn layer(text: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "file", text.as_bytes()).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&builder.into_inner().unwrap()).unwrap();
    gzip.finish().unwrap()
}

/// An image of two layers in a layout.
fn image(layout: &Layout, architecture: &str) -> RawManifest {
    let layers = [layer(architecture), layer("common")];
    let diff_ids = layers.iter().map(|bytes| DiffId(Digest::sha256(bytes))).collect();
    let config = ImageConfig::new(architecture, "linux", diff_ids).to_bytes().unwrap();
    layout.put_bytes(&config).unwrap();
    let layers = layers.iter().map(|bytes| {
        layout.put_bytes(bytes).unwrap();
        Descriptor::of(media_type::OCI_LAYER_GZIP, bytes)
    });
    let config = Descriptor::of(media_type::OCI_CONFIG, &config);
    RawManifest::from_image(&ImageManifest::image(config, layers.collect())).unwrap()
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn artifact(subject: &RawManifest, content: &[u8]) -> Artifact {
    let part = Descriptor::of(media_type::SIGSTORE_BUNDLE_V03, content);
    let manifest = ImageManifest::artifact(media_type::SIGSTORE_BUNDLE_V03, vec![part.clone()]);
    let manifest = RawManifest::from_image(&manifest.with_subject(subject.descriptor())).unwrap();
    Artifact { manifest, blobs: vec![(Descriptor::empty(), EMPTY_BLOB.to_vec()), (part, content.to_vec())], tag: None }
}

#[tokio::test]
async fn image_goes_up_and_comes_down_the_same() {
    let Some(registry) = DockerRegistry::start() else { return };
    let (client, address) = (client(), registry.address("shop/api"));
    let directory = tempfile::tempdir().unwrap();
    let here = Layout::create(directory.path().join("here")).unwrap();
    let there = Layout::create(directory.path().join("there")).unwrap();
    let manifest = image(&here, "amd64");
    here.put_manifest(&manifest, None).unwrap();

    client.push_image_from_layout(&address, &here, manifest.digest(), Some(&tag("1.0"))).await.unwrap();
    client.push_image_from_layout(&address, &here, manifest.digest(), Some(&tag("1.1"))).await.unwrap();
    assert_eq!(client.head_manifest(&address, &tag("1.0")).await.unwrap(), Some(*manifest.digest()));
    assert_eq!(client.head_manifest(&address, manifest.digest()).await.unwrap(), Some(*manifest.digest()));
    assert_eq!(client.tags(&address).await.unwrap(), [tag("1.0"), tag("1.1")]);
    let reference = format!("{address}:1.1").parse().unwrap();
    assert_eq!(client.resolve(&reference).await.unwrap(), manifest);

    let pulled = client.pull_to_layout(&address, manifest.digest(), &there).await.unwrap();
    assert_eq!(pulled.bytes(), manifest.bytes());
    let image = manifest.image().unwrap();
    for blob in image.layers.iter().chain([&image.config]) {
        assert_eq!(there.verify(&blob.digest).unwrap(), blob.size);
    }
    assert!(client.has_blob(&address, &image.config.digest).await.unwrap());
    assert!(!client.has_blob(&address, &Digest::sha256(b"?")).await.unwrap());

    client.delete_manifest(&address, manifest.digest()).await.unwrap();
    assert_eq!(client.head_manifest(&address, &tag("1.0")).await.unwrap(), None);
    assert!(client.manifest(&address, manifest.digest()).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn index_goes_with_all_of_its_children() {
    let Some(registry) = DockerRegistry::start() else { return };
    let (client, address) = (client(), registry.address("shop/api"));
    let directory = tempfile::tempdir().unwrap();
    let here = Layout::create(directory.path().join("here")).unwrap();
    let children: Vec<_> = ["amd64", "arm64"]
        .into_iter()
        .map(|architecture| {
            let child = image(&here, architecture);
            here.put_bytes(child.bytes()).unwrap();
            child.descriptor().with_platform(Platform::new("linux", architecture))
        })
        .collect();
    let index = RawManifest::from_index(&ImageIndex { manifests: children.clone(), ..ImageIndex::default() }).unwrap();
    here.put_manifest(&index, Some(&tag("all"))).unwrap();
    client.push_image_from_layout(&address, &here, index.digest(), Some(&tag("all"))).await.unwrap();

    let there = Layout::create(directory.path().join("there")).unwrap();
    client.pull_to_layout(&address, index.digest(), &there).await.unwrap();
    assert_eq!(there.index().unwrap().manifests.len(), 1);
    for child in &children {
        assert_eq!(there.manifest(&child.digest).unwrap(), here.manifest(&child.digest).unwrap());
    }
}

#[tokio::test]
async fn attachments_without_the_referrers_api_stand_in_the_fallback_list() {
    let Some(registry) = DockerRegistry::start() else { return };
    let (client, address) = (client(), registry.address("shop/api"));
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path()).unwrap();
    let subject = image(&layout, "amd64");
    assert_eq!(client.referrers(&address, subject.digest()).await.unwrap(), []);
    assert_eq!(client.attached(&address, subject.digest()).await.unwrap(), []);

    // Legal before the subject is there.
    let one = artifact(&subject, b"one");
    client.push_artifact(&address, &one).await.unwrap();
    client.push_artifact(&address, &one).await.unwrap();
    client.push_artifact(&address, &artifact(&subject, b"two")).await.unwrap();
    let simple = Artifact { tag: Tag::signatures_of(subject.digest()), ..artifact(&image(&layout, "other"), b"sig") };
    client.push_artifact(&address, &simple).await.unwrap();

    let listed = client.referrers(&address, subject.digest()).await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.contains(&one.manifest.referrer_descriptor()));
    let mut contents: Vec<_> = client.attached(&address, subject.digest()).await.unwrap();
    contents.sort_by_key(|attached| attached.layers[0].1.clone());
    let contents: Vec<_> = contents.iter().map(|attached| attached.layers[0].1.as_slice()).collect();
    assert_eq!(contents, [b"one".as_slice(), b"sig", b"two"]);
}

#[tokio::test]
async fn concurrent_attachments_lose_no_entry() {
    let Some(registry) = DockerRegistry::start() else { return };
    let (client, address) = (client(), registry.address("shop/api"));
    let directory = tempfile::tempdir().unwrap();
    let subject = image(&Layout::create(directory.path()).unwrap(), "amd64");
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..3_u8 {
        let (client, address, artifact) = (client.clone(), address.clone(), artifact(&subject, &[number]));
        tasks.spawn(async move { client.push_artifact(&address, &artifact).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(client.referrers(&address, subject.digest()).await.unwrap().len(), 3);
}

#[tokio::test]
async fn byte_flipped_on_the_registry_disk_is_tampering() {
    let Some(registry) = DockerRegistry::start() else { return };
    let (client, address) = (client(), registry.address("a"));
    let blob = Descriptor::of("a/b", b"honest");
    client.push_blob_bytes(&address, &blob, b"honest").await.unwrap();
    let stored = walk(registry.root(), &blob.digest.hex());
    std::fs::write(stored, b"honesT").unwrap();
    let error = client.blob_bytes(&address, &blob, 100).await.unwrap_err();
    assert!(error.is_tampered(), "{error}");
    let text = error.to_string();
    assert!(text.contains("content is not what its digest says"), "{text}");
    assert!(text.contains("127.0.0.1") && text.contains(&blob.digest.to_string()), "{text}");
}

fn walk(root: &std::path::Path, name: &str) -> std::path::PathBuf {
    let output = Command::new("find").arg(root).args(["-path", &format!("*/{name}/data")]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().into()
}

/// `admin` with the password `right`, in bcrypt.
const PASSWORDS: &str = "admin:$2y$05$abcdefghijklmnopqrstuu8xaCxxL82bnl.UY74PMksDxIJShppPC\n";

#[tokio::test]
async fn registry_that_wants_a_password_gets_it_or_denies() {
    let Some(registry) = DockerRegistry::start_with("auth:\n  htpasswd: { realm: basic, path: ROOT/htpasswd }") else {
        return;
    };
    std::fs::write(registry.root().join("htpasswd"), PASSWORDS).unwrap();
    let address = registry.address("a");
    let with = |password: &str| {
        let credentials = Credentials::Basic { username: "admin".into(), password: password.into() };
        let credentials = [(address.registry().clone(), credentials)].into();
        Client::new(ClientSettings { credentials, ..quick() }).unwrap()
    };
    let denied = client().tags(&address).await.unwrap_err();
    assert!(matches!(denied.kind(), ClientErrorKind::Denied { .. }), "{denied}");
    let denied = with("wrong").tags(&address).await.unwrap_err();
    assert!(
        matches!(denied.kind(), ClientErrorKind::Denied { message } if message.contains("not accepted")),
        "{denied}"
    );
    let blob = Descriptor::of("a/b", b"x");
    with("right").push_blob_bytes(&address, &blob, b"x").await.unwrap();
    assert_eq!(with("right").blob_bytes(&address, &blob, 1).await.unwrap(), b"x");
}

#[tokio::test]
async fn skopeo_reads_our_layout_and_we_read_what_it_writes() {
    if !has("skopeo") {
        return skip("skopeo").unwrap_or_default();
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let ours = Layout::create(path("ours")).unwrap();
    let manifest = image(&ours, "amd64");
    ours.put_manifest(&manifest, Some(&tag("v1"))).unwrap();
    skopeo(&["copy", &format!("oci:{}:v1", path("ours")), &format!("oci:{}:v2", path("theirs"))]);
    let theirs = Layout::open(path("theirs")).unwrap();
    let entry = theirs.resolve(&tag("v2")).unwrap().unwrap();
    assert_eq!(entry.digest, *manifest.digest());
    assert_eq!(theirs.manifest(&entry.digest).unwrap(), manifest);
    for layer in &manifest.image().unwrap().layers {
        theirs.verify(&layer.digest).unwrap();
    }
    // And we may go on writing there.
    theirs.put_manifest(&image(&theirs, "arm64"), Some(&tag("v3"))).unwrap();
    skopeo(&["inspect", &format!("oci:{}:v3", path("theirs"))]);

    let Some(registry) = DockerRegistry::start() else { return };
    let address = registry.address("shop/api");
    client().push_image_from_layout(&address, &ours, manifest.digest(), Some(&tag("v1"))).await.unwrap();
    let (from, to) = (format!("docker://{address}:v1"), format!("docker://{address}:copy"));
    skopeo(&["copy", "--src-tls-verify=false", "--dest-tls-verify=false", &from, &to]);
    assert_eq!(client().manifest_by_tag(&address, &tag("copy")).await.unwrap(), manifest);
}

#[tokio::test]
async fn nobody_at_home_is_unreachable() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}/a").parse().unwrap();
    let error = client().tags(&address).await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}
