//! What the stories share: a scratch folder with keys and settings, servers that end with the test, small real images.

pub(crate) mod disk;
pub(crate) mod forge;
pub(crate) mod leftovers;
pub(crate) mod mounts;
pub(crate) mod payer;
pub(crate) mod release;
pub(crate) mod shop;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nebh_oci::client::{Client, ClientSettings};
use nebh_oci::digest::{DiffId, Digest};
use nebh_oci::image_config::ImageConfig;
use nebh_oci::manifest::Artifact;
use nebh_oci::media_type::OCI_LAYER_GZIP;
use nebh_oci::names::RepositoryAddress;
use nebh_trust::key::PrivateKey;

/// Bound on waiting for something that takes milliseconds: only a hang reaches it.
const PATIENCE: Duration = Duration::from_mins(1);

const TRUST: &str = "roles:
  builder: { keys: [builder.pub] }
  releaser: { keys: [releaser.pub] }
rules:
  - match: shop/*
    image: builder
    release: releaser
";

/// The program under test.
pub(crate) fn nebh() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nebh"));
    command.env("NEBH_KEY_PASSWORD", "test").env_remove("NEBH_STATE").env_remove("NEBH_SETTINGS");
    command
}

/// Runs a command to its end; on a failure shows everything it said.
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}\n{}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command that has to fail with this exit code; gives what it said.
pub(crate) fn fail(code: i32, command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert_eq!(output.status.code(), Some(code), "{command:?}\n{}", said(&output));
    said(&output)
}

/// Both streams and the status.
pub(crate) fn said(output: &Output) -> String {
    format!("{}{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr), output.status)
}

/// True if the peer is here. If not: a loud skip, or a failure where peers are required.
pub(crate) fn peer(name: &str, present: bool) -> bool {
    if present {
        return true;
    }
    assert!(std::env::var_os("NEBH_REQUIRE_PEERS").is_none(), "{name} is required here and is missing: run hack/peers");
    eprintln!("SKIPPED: {name} is not on this machine (hack/peers brings it)");
    false
}

/// True if a program is on the path.
pub(crate) fn has_program(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()))
}

/// The folder that `hack/peers` fills.
pub(crate) fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers")
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a loopback port").port()
}

/// A server that ends with the test, by its process id.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts it; its output goes to `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let file = std::fs::File::create(log).expect("a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, log: log.to_owned() }
    }

    /// Waits until `ready` is true; a server that ended shows its log.
    pub(crate) fn wait_until(&mut self, what: &str, mut ready: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !ready() {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{what}: the server ended with {status}\n{}", self.output());
            }
            assert!(Instant::now() < end, "{what}: nothing for {PATIENCE:?}\n{}", self.output());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks it to end (SIGTERM) and waits, so that it ends its own children.
    pub(crate) fn stop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(0)) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("our own child can be signalled");
        }
        let end = Instant::now() + PATIENCE;
        while self.is_up() {
            assert!(Instant::now() < end, "asked to end, and it goes on for {PATIENCE:?}\n{}", self.output());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// True while it runs.
    pub(crate) fn is_up(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it wrote so far.
    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// True if somebody listens on the loopback port.
pub(crate) fn listens(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// Keys of the three roles, a policy that names them, and a gateway that admits by it.
pub(crate) struct Site {
    /// Scratch folder; gone with the test.
    pub(crate) folder: tempfile::TempDir,
    /// Signs images.
    pub(crate) builder: PrivateKey,
    /// Signs releases and channel heads.
    pub(crate) releaser: PrivateKey,
    /// Port of the gateway.
    pub(crate) port: u16,
    /// Ends with the site; `None` while it is away.
    gateway: Option<Server>,
}

impl Site {
    /// Starts a gateway whose repositories below `shop/` admit as `admit` says; `open/` takes everything.
    pub(crate) fn start(admit: &str) -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let key = || PrivateKey::generate().expect("a key");
        let (builder, releaser, stranger) = (key(), key(), key());
        for (name, key) in [("builder", &builder), ("releaser", &releaser), ("stranger", &stranger)] {
            let pem = key.public().to_pem().expect("PEM");
            std::fs::write(folder.path().join(format!("{name}.pub")), pem).expect("a key file");
        }
        std::fs::write(folder.path().join("trust.yaml"), TRUST).expect("a policy");
        let port = free_port();
        let state = folder.path().join("gateway");
        let settings = format!(
            "listen: 127.0.0.1:{port}\nstate: {}\ntrust: trust.yaml\nrepositories:\n  \
             - {{ match: shop/*, admit: {admit}, keep: {{ recent: 2 }} }}\n  - {{ match: open/*, admit: open }}\n",
            state.display()
        );
        std::fs::write(folder.path().join("gateway.yaml"), settings).expect("settings");
        let mut site = Self { folder, builder, releaser, port, gateway: None };
        site.serve();
        site
    }

    /// Starts the gateway, at the same port with the same state.
    pub(crate) fn serve(&mut self) {
        let file = self.folder.path().join("gateway.yaml");
        let log = self.folder.path().join("gateway.log");
        let mut gateway = Server::start(nebh().args(["gateway", "serve", "--settings"]).arg(&file), &log);
        gateway.wait_until("the gateway", || listens(self.port));
        self.gateway = Some(gateway);
    }

    /// Ends the gateway with SIGKILL; nobody listens at its port until it is started again.
    pub(crate) fn kill_gateway(&mut self) {
        self.gateway = None;
    }

    /// The builder's key in its file format, sealed with `test`.
    pub(crate) fn builder_pem(&self) -> String {
        self.builder.to_cosign_pem("test").expect("a sealed key").to_string()
    }

    /// Where a repository stands.
    pub(crate) fn address(&self, repository: &str) -> RepositoryAddress {
        format!("127.0.0.1:{}/{repository}", self.port).parse().expect("an address")
    }
}

/// A client for loopback.
pub(crate) fn client() -> Client {
    Client::new(ClientSettings::default()).expect("a client")
}

/// A small real image: a static busybox that says `text`.
pub(crate) fn small_image(text: &str) -> Artifact {
    let program = std::fs::read("/bin/busybox").expect("busybox-static");
    let layer = release::layer("busybox", &program).expect("a tar");
    let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::fastest());
    let mut packed = vec![0; compressor.gzip_compress_bound(layer.len())];
    let size = compressor.gzip_compress(&layer, &mut packed).expect("gzip");
    packed.truncate(size);
    let mut config = ImageConfig::new("amd64", "linux", vec![DiffId(Digest::sha256(&layer))]);
    config.config.entrypoint = vec!["/busybox".to_owned(), "echo".to_owned(), text.to_owned()];
    release::image(&config, OCI_LAYER_GZIP, packed).expect("an image")
}
