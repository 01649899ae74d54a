//! The build service as a process of its own, in front of our gateway: from a push to a release, and what kill -9 leaves.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

use nebh_builder::lock::{LOCK_FILE, Lock, Request};
use nebh_builder::service::webhook::signature;
use nebh_builder::spec::{BUILDSPEC_FILE, Buildspec};
use nebh_trust::key::PrivateKey;

use crate::support::{Server, Site, client, fail, free_port, listens, nebh, succeed};

/// Needs no package, so that nothing is fetched and no sandbox is needed.
const SPEC: &str = "\
name: shop/site
build:
  files: { copy: [ { from: www, to: /srv/www } ] }
image: { base: debian/trixie, entrypoint: [/srv/www/run] }
";
const RELEASE: &str = "name: shop/site\nconfig: { from: config, mount: /etc/site }\nrun: { ports: [8080] }\n";
const SECRET: &str = "a secret of decent length";

/// A gateway, a repository with one commit, and the settings of a build service for it.
struct Forge {
    site: Site,
    port: u16,
}

impl Forge {
    fn new() -> Self {
        let forge = Self { site: Site::start("signed"), port: free_port() };
        forge.private("builder.key", &sealed(&forge.site.builder));
        forge.private("releaser.key", &sealed(&forge.site.releaser));
        forge.private("webhook.secret", SECRET);
        forge.git(".", &["init", "-q", "--bare", "-b", "main", "site.git"]);
        forge.git(".", &["init", "-q", "-b", "main", "work"]);
        forge.git("work", &["remote", "add", "origin", "../site.git"]);
        let spec = Buildspec::parse(BUILDSPEC_FILE, SPEC).expect("a buildspec");
        let lock = Lock {
            request: Request::of(&spec),
            architecture: "amd64".to_owned(),
            suites: Vec::new(),
            image_packages: Vec::new(),
            toolchain: Vec::new(),
            language: None,
        };
        let files = [
            (BUILDSPEC_FILE, SPEC),
            (LOCK_FILE, &lock.to_text()),
            ("release.yaml", RELEASE),
            ("config/site.toml", "greeting = \"hello\"\n"),
            ("www/index.html", "hello\n"),
        ];
        for (name, text) in files {
            let file = forge.folder().join("work").join(name);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder is made");
            std::fs::write(file, text).expect("a file is written");
        }
        forge.git("work", &["add", "-A"]);
        forge.git("work", &["commit", "-q", "-m", "site"]);
        forge.git("work", &["push", "-q", "origin", "main"]);
        forge
    }

    fn folder(&self) -> &Path {
        self.site.folder.path()
    }

    fn private(&self, name: &str, text: &str) {
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.folder().join(name));
        file.and_then(|mut file| file.write_all(text.as_bytes())).expect("a private file");
    }

    fn git(&self, folder: &str, arguments: &[&str]) {
        succeed(
            Command::new("git")
                .args(["-c", "user.name=t", "-c", "user.email=t@example.test", "-c", "commit.gpgsign=false"])
                .args(arguments)
                .current_dir(self.folder().join(folder))
                .env("GIT_CONFIG_NOSYSTEM", "1")
                .env("HOME", self.folder()),
        );
    }

    /// Starts the service, which pushes to the registry at `to`.
    fn serve(&self, to: u16) -> Server {
        let settings = format!(
            "listen: 127.0.0.1:{}\nstate: builder\nprojects:\n  - name: shop/site\n    source: file://{}\n    \
             webhook: {{ kind: github, secret-file: webhook.secret }}\n    refs: [main]\n    releases: \"v{{version}}\"\n    \
             channel: stable\n    to: 127.0.0.1:{to}/shop/site\nsign: {{ builder: builder.key, releaser: releaser.key }}\n",
            self.port,
            self.folder().join("site.git").display()
        );
        std::fs::write(self.folder().join("builder.yaml"), settings).expect("settings");
        let mut serve = self.nebh(&["builder", "serve"]);
        let mut server = Server::start(&mut serve, &self.folder().join("builder.log"));
        server.wait_until("the build service", || listens(self.port));
        server
    }

    fn nebh(&self, arguments: &[&str]) -> Command {
        let mut command = nebh();
        command.arg("--settings").arg(self.folder().join("builder.yaml")).args(arguments).current_dir(self.folder());
        command
    }

    /// Sends a webhook as a forge does; gives the id of the build.
    async fn hook(&self, reference: &str, delivery: &str) -> String {
        let body = format!("{{\"ref\":\"{reference}\",\"repository\":{{\"clone_url\":\"file:///nowhere\"}}}}");
        let signed = signature(SECRET.as_bytes(), body.as_bytes()).expect("a signature");
        let response = reqwest::Client::new()
            .post(format!("http://127.0.0.1:{}/hooks/shop/site", self.port))
            .header("content-type", "application/json")
            .header("x-hub-signature-256", signed)
            .header("x-github-event", "push")
            .header("x-github-delivery", delivery)
            .body(body)
            .send()
            .await
            .expect("an answer");
        let said: serde_json::Value = response.json().await.expect("JSON");
        said["build"].as_str().unwrap_or_else(|| panic!("no build: {said}")).to_owned()
    }
}

fn sealed(key: &PrivateKey) -> String {
    key.to_cosign_pem("test").expect("a sealed key").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn push_becomes_an_admitted_image_and_a_version_tag_a_pinned_release() {
    let forge = Forge::new();
    let _service = forge.serve(forge.site.port);
    let build = forge.hook("refs/heads/main", "d1").await;
    let told = succeed(&mut forge.nebh(&["builder", "logs", "-f", &build]));
    assert!(told.contains("signed") && told.contains("done     shop/site  main"), "{told}");
    assert_eq!(forge.hook("refs/heads/main", "d2").await, build);

    forge.git("work", &["tag", "v1.0.0"]);
    forge.git("work", &["push", "-q", "origin", "v1.0.0"]);
    let release = forge.hook("refs/tags/v1.0.0", "d3").await;
    let told = succeed(&mut forge.nebh(&["builder", "logs", "-f", &release]));
    assert!(told.contains("channel stable #1 → 1.0.0"), "{told}");

    let address = forge.site.address("shop/site");
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
    let forge = Forge::new();
    // A registry that takes connections and never answers: the build stands in the middle of its push.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let service = forge.serve(silent.local_addr().expect("an address").port());
    let build = forge.hook("refs/heads/main", "d1").await;
    let waiting = silent.try_clone().expect("a second handle");
    let pushing = tokio::task::spawn_blocking(move || waiting.accept().map(drop));
    pushing.await.expect("a thread").expect("the build comes to its push");
    // Dropping a server kills it (SIGKILL).
    drop(service);
    drop(silent);

    let _service = forge.serve(forge.site.port);
    let told = succeed(&mut forge.nebh(&["builder", "logs", "-f", &build]));
    assert!(told.contains("done     shop/site  main"), "{told}");
    let listed = succeed(&mut forge.nebh(&["builder", "list", "--output", "json"]));
    let listed: serde_json::Value = serde_json::from_str(listed.trim()).expect("one build");
    assert_eq!((&listed["id"], &listed["attempt"]), (&build.as_str().into(), &2.into()));
    let tag = "main".parse().expect("a tag");
    client().manifest_by_tag(&forge.site.address("shop/site"), &tag).await.expect("the image is admitted");
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
