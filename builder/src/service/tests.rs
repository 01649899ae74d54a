//! What the tests of the service share: a project with a real git repository, and a maker that only remembers.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use nebh_trust::channel::Floor;

use super::queue::{Build, BuildState};
use super::worker::{EventSink, Outcome};
use super::*;
use crate::channel::Renewed;

pub(super) const SECRET: &str = "a secret of decent length";

/// A folder with a repository `shop.git`, its work tree, and settings for one project.
pub(super) struct Site {
    pub(super) dir: tempfile::TempDir,
}

impl Site {
    pub(super) fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("webhook.secret");
        std::fs::write(&secret, SECRET).unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let site = Self { dir };
        site.git(".", &["init", "-q", "--bare", "-b", "main", "shop.git"]);
        site.git(".", &["init", "-q", "-b", "main", "work"]);
        site.git("work", &["remote", "add", "origin", "../shop.git"]);
        site.push("one");
        site
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn git(&self, folder: &str, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.test", "-c", "commit.gpgsign=false"])
            .args(["-c", "protocol.file.allow=always"])
            .args(arguments)
            .current_dir(self.path().join(folder))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("HOME", self.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Commits something and pushes it to `main`; returns the commit.
    pub(super) fn push(&self, text: &str) -> String {
        std::fs::write(self.path().join("work/file"), text).unwrap();
        self.git("work", &["add", "file"]);
        self.git("work", &["commit", "-q", "-m", text]);
        self.git("work", &["push", "-q", "origin", "HEAD:refs/heads/main"]);
        self.git("work", &["rev-parse", "HEAD"])
    }

    pub(super) fn settings(&self) -> Settings {
        let text = format!(
            "listen: 127.0.0.1:0\nstate: state\nprojects:\n  - name: shop/api\n    source: file://{}\n    \
             webhook: {{ kind: github, secret-file: webhook.secret }}\n    refs: [main]\n    releases: \"v{{version}}\"\n    \
             to: 127.0.0.1:5000/shop/api\nsign: {{ builder: b.key, releaser: r.key }}\n",
            self.path().join("shop.git").display()
        );
        Settings::parse(&self.path().join("builder.yaml"), &text).unwrap()
    }

    pub(super) async fn service(&self) -> Arc<Service> {
        Arc::new(Service::open(self.settings()).await.unwrap())
    }
}

/// Makes nothing, and remembers what it was asked for.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) made: Mutex<Vec<(String, String)>>,
    /// Never ends by itself.
    pub(super) hangs: bool,
    pub(super) panics: bool,
}

impl Maker for Recorder {
    async fn make(&self, project: &Project, build: &Build, events: EventSink) -> Result<Outcome, Failure> {
        events.say(&serde_json::json!({ "text": format!("building {}", build.commit) })).await;
        self.made.lock().unwrap().push((build.reference.full().to_owned(), build.commit.clone()));
        assert!(!self.panics, "asked to");
        if self.hangs {
            std::future::pending::<()>().await;
        }
        if build.attempt > 1 && build.reference.short() == "v9.9.9" {
            return Err(Failure::new(Exit::Failed, "no"));
        }
        Ok(Outcome {
            image: format!("sha256:{}", "0".repeat(64)),
            reference: project.to.to_string(),
            tags: vec![build.reference.short().to_owned()],
            release: None,
        })
    }

    async fn renew(&self, _: &Project, _: &str, _: &Floor, _: Timestamp) -> Result<Renewed, Failure> {
        Ok(Renewed::None)
    }
}

/// A running service; ends with the test.
pub(super) struct Running {
    pub(super) service: Arc<Service>,
    pub(super) maker: Arc<Recorder>,
    pub(super) url: String,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<Result<(), Failure>>,
}

impl Running {
    pub(super) async fn start(service: Arc<Service>, maker: Recorder) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = watch::channel(false);
        let maker = Arc::new(maker);
        let task = tokio::spawn(serve(service.clone(), maker.clone(), listener, stopped));
        Self { service, maker, url, stop, task }
    }

    pub(super) async fn end(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap().unwrap();
    }

    /// Waits until the only build is in `state`.
    pub(super) async fn only_build(&self, state: BuildState) -> Build {
        let mut changes = self.service.queue.changes();
        loop {
            changes.mark_unchanged();
            let builds = self.service.queue.builds(None).await.unwrap();
            assert!(builds.len() < 2, "{builds:?}");
            if let Some(build) = builds.into_iter().find(|build| build.state == state) {
                return build;
            }
            changes.changed().await.unwrap();
        }
    }
}

#[tokio::test]
async fn second_service_on_one_state_folder_is_refused() {
    let site = Site::new();
    let _first = site.service().await;
    let second = Service::open(site.settings()).await.unwrap_err();
    assert!(second.to_string().contains("another build service uses"), "{second}");
}
