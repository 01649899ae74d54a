//! The build service as a process of its own, in front of our gateway: from a push to a release, and what kill -9 leaves.

use std::io::Read;

use crate::support::forge::Forge;
use crate::support::{Site, client, fail, nebh, succeed};

#[tokio::test(flavor = "multi_thread")]
async fn push_becomes_an_admitted_image_and_a_version_tag_a_pinned_release() {
    let site = Site::start("signed");
    let forge = Forge::beside(&site);
    let _service = forge.serve(site.port);
    let build = forge.hook("refs/heads/main", "d1").await;
    let told = succeed(&mut forge.nebh(&["builder", "logs", "-f", &build]));
    assert!(told.contains("signed") && told.contains("done     shop/site  main"), "{told}");
    assert_eq!(forge.hook("refs/heads/main", "d2").await, build);

    forge.git("work", &["tag", "v1.0.0"]);
    forge.git("work", &["push", "-q", "origin", "v1.0.0"]);
    let release = forge.hook("refs/tags/v1.0.0", "d3").await;
    let told = succeed(&mut forge.nebh(&["builder", "logs", "-f", &release]));
    assert!(told.contains("channel stable #1 → 1.0.0"), "{told}");

    let address = site.address("shop/site");
    let client = client();
    let image = client.manifest_by_tag(&address, &"main".parse().expect("a tag")).await.expect("the image is admitted");
    let index =
        client.manifest_by_tag(&address, &"1.0.0".parse().expect("a tag")).await.expect("the release is admitted");
    let children = &index.index().expect("a release is an index").manifests;
    assert_eq!(children[0].digest, *image.digest());
    let shown = succeed(&mut forge.nebh(&["release", "show", &format!("{address}:1.0.0")]));
    assert!(shown.contains("release  shop/site 1.0.0"), "{shown}");
    let listed = succeed(&mut forge.nebh(&["-q", "release", "list", &address.to_string()]));
    assert_eq!(listed, "1.0.0\n");
    let head = ["channel", "show", "stable", "--repository", &address.to_string(), "--key", "releaser.pub"];
    assert!(succeed(&mut forge.nebh(&head)).contains("stable #1 → 1.0.0"));
    let stranger = ["channel", "show", "stable", "--repository", &address.to_string(), "--key", "stranger.pub"];
    fail(3, &mut forge.nebh(&stranger));
}

#[tokio::test(flavor = "multi_thread")]
async fn build_that_kill_nine_broke_off_is_finished_by_the_next_start() {
    let site = Site::start("signed");
    let forge = Forge::beside(&site);
    // A registry that takes connections and never answers: the build stands in the middle of its push.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let service = forge.serve(silent.local_addr().expect("an address").port());
    let build = forge.hook("refs/heads/main", "d1").await;
    let waiting = silent.try_clone().expect("a second handle");
    let pushing = tokio::task::spawn_blocking(move || wait_for_a_blob(&waiting));
    pushing.await.expect("a thread").expect("the build comes to its push");
    // Dropping a server kills it (SIGKILL).
    drop(service);
    drop(silent);

    let _service = forge.serve(site.port);
    let told = succeed(&mut forge.nebh(&["builder", "logs", "-f", &build]));
    assert!(told.contains("done     shop/site  main"), "{told}");
    let listed = succeed(&mut forge.nebh(&["builder", "list", "--output", "json"]));
    let listed: serde_json::Value = serde_json::from_str(listed.trim()).expect("one build");
    assert_eq!((&listed["id"], &listed["attempt"]), (&build.as_str().into(), &2.into()));
    let tag = "main".parse().expect("a tag");
    client().manifest_by_tag(&site.address("shop/site"), &tag).await.expect("the image is admitted");
}

/// Takes connections and answers none, until one of them is about a blob: the service asks for its channel, too.
fn wait_for_a_blob(listener: &std::net::TcpListener) -> std::io::Result<()> {
    let mut unanswered = Vec::new();
    loop {
        let (mut connection, _) = listener.accept()?;
        let mut head = [0; 256];
        let count = connection.read(&mut head)?;
        if String::from_utf8_lossy(&head[..count]).contains("/blobs/") {
            return Ok(());
        }
        unanswered.push(connection);
    }
}

#[test]
fn keys_say_what_is_wrong_with_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let in_folder = |arguments: &[&str]| {
        let mut command = nebh();
        command.args(arguments).current_dir(folder.path());
        command
    };
    let made = succeed(&mut in_folder(&["key", "new", "alice", "--role", "releaser"]));
    assert!(made.contains("alice.key signs, alice.pub verifies"), "{made}");
    let id = succeed(&mut in_folder(&["-q", "key", "show", "alice.pub"]));
    assert_eq!(id.trim().len(), 64);

    let again = fail(2, &mut in_folder(&["key", "new", "alice", "--role", "releaser"]));
    assert!(again.contains("alice.key exists: a key is never written over"), "{again}");
    let sign = ["sign", "127.0.0.1:1/x/y:z", "--sign-with", "alice.key"];
    let wrong = fail(1, in_folder(&sign).env("NEBH_KEY_PASSWORD", "wrong"));
    assert!(wrong.contains("cannot open key alice.key: the passphrase does not open this key"), "{wrong}");
    let unset = fail(2, in_folder(&sign).env_remove("NEBH_KEY_PASSWORD").env_remove("COSIGN_PASSWORD"));
    assert!(unset.contains("set NEBH_KEY_PASSWORD, or give --passphrase-file FILE"), "{unset}");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(folder.path().join("alice.key"), mode).expect("a mode");
    let open = fail(2, &mut in_folder(&sign));
    assert!(open.contains("key file alice.key can be read by others: its mode is 0644"), "{open}");
    assert!(open.contains("next: chmod 600 alice.key"), "{open}");
}
