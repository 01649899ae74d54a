//! Real peers against our gateway and our signatures: cosign 2 and 3, skopeo with a policy, docker, podman, containerd.

use std::path::{Path, PathBuf};
use std::process::Command;

use nebh_oci::manifest::RawManifest;
use nebh_oci::names::{RepositoryAddress, Tag};
use nebh_trust::release::ConfigSnapshot;
use nebh_trust::signing::attest;
use nebh_trust::statement::SLSA_PROVENANCE_V1;

use crate::support::release::{Release, sign};
use crate::support::{Site, client, fail, has_program, peer, peers, small_image, succeed};

const RELEASE: &str = "name: shop/hello\nrun:\n  switch: stop-first\n  alive: { tcp: \":8080\", within: 5s }\n";

/// A signed image with a provenance, and a signed release of it under the tag `1.0.0`; gives the image.
async fn publish(site: &Site, address: &RepositoryAddress, text: &str) -> RawManifest {
    let client = client();
    let image = small_image(text);
    let tag: Tag = "1.0.0".parse().expect("a tag");
    client.push_artifact(address, &image).await.expect("the image is stored");
    let signed = sign(&client, address, &image.manifest, std::slice::from_ref(&tag), &site.builder).await;
    signed.expect("signatures are stored");
    let predicate = serde_json::json!({ "buildDefinition": { "buildType": "https://nebh.invalid/test" } });
    let provenance = attest(&image.manifest, SLSA_PROVENANCE_V1, &predicate, &site.builder).expect("an attestation");
    client.push_artifact(address, &provenance).await.expect("an attestation is stored");
    let release = Release { spec: RELEASE, version: "1.0.0", counter: 1, config: &ConfigSnapshot::default() };
    release.publish(&client, address, &image.manifest, &site.releaser).await.expect("the release is published");
    image.manifest
}

/// Copies the public keys to where a chroot sees them; gives the folder as the chroot names it.
fn keys_in(root: &Path, site: &Site) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir_in(root.join("tmp")).expect("a folder in the peer's root");
    for name in ["builder.pub", "releaser.pub", "stranger.pub"] {
        std::fs::copy(site.folder.path().join(name), folder.path().join(name)).expect("a key is copied");
    }
    let inside = format!("/tmp/{}", folder.path().file_name().expect("a name").to_string_lossy());
    (folder, inside)
}

fn cosign(root: &Path, arguments: &[&str], key: &str, reference: &str) -> Command {
    let mut command = Command::new("chroot");
    command.arg(root).arg("cosign").args(arguments).args(["--key", key, "--insecure-ignore-tlog=true"]);
    command.args(["--allow-insecure-registry", "--allow-http-registry", reference]);
    command
}

/// cosign 2 looks at bundles only when told to, and then asks for a trusted root: an empty one, so that the public key
/// alone decides.
const EMPTY_ROOT: &str = r#"{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#;

async fn cosign_verifies(suite: &str, bundles: bool) {
    let root = peers().join(suite);
    if !peer(&format!("cosign of {suite}"), root.join("usr/bin/cosign").exists()) {
        return;
    }
    let site = Site::start("release");
    let address = site.address("shop/hello");
    let image = publish(&site, &address, "hello").await;
    let (folder, keys) = keys_in(&root, &site);
    std::fs::write(folder.path().join("root.json"), EMPTY_ROOT).expect("a trusted root");
    let trusted = format!("{keys}/root.json");
    let mut attestation = vec!["verify-attestation", "--type", "slsaprovenance1"];
    if !bundles {
        attestation.extend(["--new-bundle-format", "--trusted-root", &trusted]);
    }
    let reference = format!("{address}@{}", image.digest());
    let builder = format!("{keys}/builder.pub");
    succeed(&mut cosign(&root, &["verify"], &builder, &reference));
    succeed(&mut cosign(&root, &attestation, &builder, &reference));
    let release = format!("{address}:1.0.0");
    succeed(&mut cosign(&root, &["verify"], &format!("{keys}/releaser.pub"), &release));
    let other = format!("{keys}/stranger.pub");
    for arguments in [&["verify"][..], &attestation] {
        let output = cosign(&root, arguments, &other, &reference).output().expect("cosign runs");
        assert!(!output.status.success(), "cosign accepts {reference} under a stranger's key");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cosign_2_verifies_signature_and_attestation() {
    cosign_verifies("trixie", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cosign_3_verifies_signature_and_attestation() {
    cosign_verifies("sid", true).await;
}

/// A signature policy for skopeo that trusts `key` for everything on the gateway, and its registries.d.
fn skopeo_policy(folder: &Path, inside: &str, site: &Site, key: &str) -> PathBuf {
    let registry = format!("127.0.0.1:{}", site.port);
    let demand = serde_json::json!([{ "type": "sigstoreSigned", "keyPath": format!("{inside}/{key}") }]);
    let policy = serde_json::json!({
        "default": [{ "type": "reject" }],
        "transports": { "docker": { &registry: demand }, "dir": { "": [{ "type": "insecureAcceptAnything" }] } },
    });
    let file = folder.join(format!("policy-{key}.json"));
    std::fs::write(&file, policy.to_string()).expect("a policy");
    let registries = folder.join("registries.d");
    std::fs::create_dir_all(&registries).expect("a folder");
    let attachments = format!("docker:\n  {registry}:\n    use-sigstore-attachments: true\n");
    std::fs::write(registries.join("gateway.yaml"), attachments).expect("registries.d");
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_with_a_policy_pulls_under_our_key_and_refuses_under_another() {
    let root = peers().join("trixie");
    if !peer("skopeo of trixie", root.join("usr/bin/skopeo").exists()) {
        return;
    }
    let site = Site::start("release");
    let address = site.address("shop/hello");
    publish(&site, &address, "hello").await;
    let (folder, inside) = keys_in(&root, &site);
    let copy = |key: &str| {
        let policy = skopeo_policy(folder.path(), &inside, &site, key);
        let name = policy.file_name().expect("a name").to_string_lossy().into_owned();
        let mut command = Command::new("chroot");
        command.arg(&root).args(["skopeo", "--policy", &format!("{inside}/{name}")]);
        command.args(["--registries.d", &format!("{inside}/registries.d"), "copy", "--src-tls-verify=false"]);
        command.args([&format!("docker://{address}:1.0.0"), &format!("dir:{inside}/copy-{key}")]);
        command
    };
    succeed(&mut copy("builder.pub"));
    let refused = fail(1, &mut copy("stranger.pub"));
    assert!(refused.contains("cryptographic signature verification failed: invalid signature"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_pulls_the_release_and_runs_it() {
    if !peer("podman", has_program("podman")) {
        return;
    }
    let site = Site::start("release");
    let address = site.address("shop/hello");
    publish(&site, &address, "hello from podman").await;
    let folder = site.folder.path();
    let settings = folder.join("containers.conf");
    let text = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\n";
    std::fs::write(&settings, text).expect("settings");
    let policy = folder.join("policy.json");
    std::fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).expect("a policy");
    let podman = || {
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", &settings).arg("--root").arg(folder.join("podman"));
        command.arg("--runroot").arg(folder.join("podman-run")).args(["--storage-driver", "vfs"]);
        command
    };
    let reference = format!("{address}:1.0.0");
    succeed(podman().args(["pull", "--tls-verify=false", "--signature-policy"]).arg(&policy).arg(&reference));
    let printed = succeed(podman().args(["run", "--rm", "--net", "host", &reference]));
    assert_eq!(printed, "hello from podman\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_pulls_the_release_and_runs_it() {
    if !peer("docker", Path::new("/usr/sbin/dockerd").exists() && Path::new("/usr/bin/docker").exists()) {
        return;
    }
    let site = Site::start("release");
    let address = site.address("shop/hello");
    publish(&site, &address, "hello from docker").await;
    let folder = site.folder.path();
    let socket = format!("unix://{}", folder.join("docker.sock").display());
    let mut daemon = Command::new("/usr/sbin/dockerd");
    daemon.args(["--bridge", "none", "--iptables=false", "-H", &socket]).arg("--data-root").arg(folder.join("docker"));
    daemon.arg("--exec-root").arg(folder.join("docker-run")).arg("--pidfile").arg(folder.join("docker.pid"));
    daemon.args(["--storage-driver", "vfs"]);
    let mut daemon = crate::support::Server::start(&mut daemon, &folder.join("dockerd.log"));
    let docker = || {
        let mut command = Command::new("/usr/bin/docker");
        command.args(["-H", &socket]);
        command
    };
    daemon.wait_until("dockerd", || docker().arg("version").output().is_ok_and(|output| output.status.success()));
    let reference = format!("{address}:1.0.0");
    succeed(docker().args(["pull", &reference]));
    let printed = succeed(docker().args(["run", "--rm", "--net", "host", &reference]));
    assert_eq!(printed, "hello from docker\n");
    daemon.stop();
    // Some versions keep their own network namespace mounted, and a folder with a mount in it is not removed.
    drop(Command::new("umount").arg(folder.join("docker-run/netns/default")).output());
}

#[tokio::test(flavor = "multi_thread")]
async fn containerd_pulls_the_release() {
    if !peer("containerd", has_program("containerd") && has_program("ctr")) {
        return;
    }
    let site = Site::start("release");
    let address = site.address("shop/hello");
    publish(&site, &address, "hello").await;
    let folder = site.folder.path();
    let socket = folder.join("containerd.sock");
    let settings = folder.join("containerd.toml");
    let text = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
    std::fs::write(&settings, text).expect("settings");
    let mut daemon = Command::new("containerd");
    daemon.arg("--config").arg(&settings).arg("--address").arg(&socket).arg("--root").arg(folder.join("containerd"));
    daemon.arg("--state").arg(folder.join("containerd-state"));
    let mut daemon = crate::support::Server::start(&mut daemon, &folder.join("containerd.log"));
    daemon.wait_until("containerd", || socket.exists());
    let mut ctr = Command::new("ctr");
    ctr.arg("--address").arg(&socket).args(["images", "pull", "--plain-http", "--snapshotter", "native"]);
    succeed(ctr.arg(format!("{address}:1.0.0")));
    daemon.stop();
}
