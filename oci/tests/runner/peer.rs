//! Real peers, started by hand on free loopback ports and ended by their process id.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nebh_oci::client::{Client, ClientSettings};
use nebh_oci::names::RepositoryAddress;

/// Debian's docker-registry 2.8: no referrers API.
pub(crate) struct DockerRegistry {
    process: Child,
    port: u16,
    root: tempfile::TempDir,
}

impl DockerRegistry {
    /// Starts one, or says loudly why not.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// The same with more lines in its configuration.
    pub(crate) fn start_with(more: &str) -> Option<Self> {
        if !has("docker-registry") {
            return skip("docker-registry");
        }
        // The port may be taken between our look and its start: then another one.
        (0..5).find_map(|_| Self::try_start(more))
    }

    fn try_start(more: &str) -> Option<Self> {
        let root = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage:\n  filesystem: {{ rootdirectory: {} }}\n  delete: {{ enabled: true }}\nhttp: {{ addr: '127.0.0.1:{port}' }}\n{more}\n",
            root.path().join("data").display()
        );
        let file = root.path().join("config.yml");
        std::fs::write(&file, config.replace("ROOT", &root.path().display().to_string())).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut registry = Self { process: command.spawn().unwrap(), port, root };
        let give_up = Instant::now() + Duration::from_mins(1);
        while Instant::now() < give_up && registry.process.try_wait().unwrap().is_none() {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(registry);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// A repository there.
    pub(crate) fn address(&self, repository: &str) -> RepositoryAddress {
        format!("127.0.0.1:{}/{repository}", self.port).parse().unwrap()
    }

    /// Where it keeps its bytes.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A client with little patience.
pub(crate) fn client() -> Client {
    Client::new(quick()).unwrap()
}

/// Settings with little patience.
pub(crate) fn quick() -> ClientSettings {
    ClientSettings { back_off: Duration::from_millis(1), retries: 2, ..ClientSettings::default() }
}

/// Whether a program is installed.
pub(crate) fn has(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|directory| directory.join(program).is_file())
}

/// Says that a test did not run.
pub(crate) fn skip<T>(peer: &str) -> Option<T> {
    assert!(std::env::var_os("NEBH_REQUIRE_PEERS").is_none_or(|value| value != "1"), "`{peer}` is required and absent");
    eprintln!("SKIPPED: `{peer}` is not installed, nothing was shown here");
    None
}

/// Runs skopeo; its words are the panic when it fails.
pub(crate) fn skopeo(arguments: &[&str]) {
    let output = Command::new("skopeo").args(["--insecure-policy"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
