//! A forge: a git repository with a site in it, webhooks as a forge sends them, and the build service that hears them.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nebh_builder::lock::{LOCK_FILE, Lock, Request};
use nebh_builder::service::webhook::signature;
use nebh_builder::spec::{BUILDSPEC_FILE, Buildspec};
use nebh_trust::key::PrivateKey;

use super::{Server, Site, free_port, listens, nebh, succeed};

/// Needs no package, so that nothing is fetched and no sandbox is needed.
const SPEC: &str = "\
name: shop/site
build:
  files: { copy: [ { from: www, to: /srv/www } ] }
image: { base: debian/trixie, entrypoint: [/srv/www/run] }
";
const RELEASE: &str = "name: shop/site\nconfig: { from: config, mount: /etc/site }\nrun: { ports: [8080] }\n";
const SECRET: &str = "a secret of decent length";

/// A repository with one commit, and the settings of a build service for it, in the folder of a site.
pub(crate) struct Forge {
    folder: PathBuf,
    /// Port of the build service.
    pub(crate) port: u16,
}

impl Forge {
    /// Makes the repository and pushes its first commit.
    pub(crate) fn beside(site: &Site) -> Self {
        let forge = Self { folder: site.folder.path().to_owned(), port: free_port() };
        forge.private("builder.key", &sealed(&site.builder));
        forge.private("releaser.key", &sealed(&site.releaser));
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

    /// The scratch folder; the work tree is `work` in it.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn private(&self, name: &str, text: &str) {
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.folder().join(name));
        file.and_then(|mut file| file.write_all(text.as_bytes())).expect("a private file");
    }

    /// Runs git in a folder of the scratch folder.
    pub(crate) fn git(&self, folder: &str, arguments: &[&str]) {
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
    pub(crate) fn serve(&self, to: u16) -> Server {
        let mut server = self.begin(to, |_| {});
        server.wait_until("the build service", || listens(self.port));
        server
    }

    /// Starts the service and does not wait for it.
    pub(crate) fn begin(&self, to: u16, more: impl FnOnce(&mut Command)) -> Server {
        let settings = format!(
            "listen: 127.0.0.1:{}\nstate: builder\nprojects:\n  - name: shop/site\n    source: file://{}\n    \
             webhook: {{ kind: github, secret-file: webhook.secret }}\n    refs: [main]\n    releases: \"v{{version}}\"\n    \
             channel: stable\n    to: 127.0.0.1:{to}/shop/site\nsign: {{ builder: builder.key, releaser: releaser.key }}\n",
            self.port,
            self.folder().join("site.git").display()
        );
        std::fs::write(self.folder().join("builder.yaml"), settings).expect("settings");
        let mut serve = self.nebh(&["builder", "serve"]);
        more(&mut serve);
        Server::start(&mut serve, &self.folder().join("builder.log"))
    }

    /// A command with the service's settings.
    pub(crate) fn nebh(&self, arguments: &[&str]) -> Command {
        let mut command = nebh();
        command.arg("--settings").arg(self.folder().join("builder.yaml")).args(arguments).current_dir(self.folder());
        command
    }

    /// Sends a webhook as a forge does; gives the id of the build.
    pub(crate) async fn hook(&self, reference: &str, delivery: &str) -> String {
        let said = self.deliver(reference, delivery).await.expect("an answer");
        said["build"].as_str().unwrap_or_else(|| panic!("no build: {said}")).to_owned()
    }

    /// Sends a webhook as a forge does; gives the answer, or why there was none.
    pub(crate) async fn deliver(&self, reference: &str, delivery: &str) -> Result<serde_json::Value, reqwest::Error> {
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
            .await?;
        response.error_for_status()?.json().await
    }
}

fn sealed(key: &PrivateKey) -> String {
    key.to_cosign_pem("test").expect("a sealed key").to_string()
}
