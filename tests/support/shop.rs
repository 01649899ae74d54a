//! The shop: a small program in C that takes payments, made into signed releases on a site's gateway, and a node that
//! runs it. The source is that of the deployer's own tests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nebh_oci::digest::{DiffId, Digest};
use nebh_oci::image_config::ImageConfig;
use nebh_oci::manifest::{Descriptor, ImageManifest, Platform, RawManifest};
use nebh_oci::media_type::{OCI_CONFIG, OCI_LAYER};
use nebh_oci::names::{RepositoryAddress, Tag};
use nebh_trust::release::{ConfigSnapshot, ReleaseSpec, assemble};
use nebh_trust::signing::sign_both;

use super::{Server, Site, client, free_port, nebh, peer, said, succeed};

const RELEASE: &str = "
name: shop/api
data:
  ledger: { mount: /var/lib/shop, class: ledger, schema: { writes: 1, reads: [1] } }
run:
  ports: [8080]
  alive: { http: ':8080/healthz', within: 10s }
  probation: 60s
";

/// A node with the shop: its gateway, its agent, its clients.
pub(crate) struct Shop {
    site: Site,
    port: u16,
    agent: Option<Server>,
}

impl Shop {
    /// A gateway with the releases 1.0.0 and 2.0.0, and a node's settings; no agent yet. `None` where it cannot be.
    pub(crate) fn start() -> Option<Self> {
        let compiled = tempfile::tempdir().expect("a scratch folder");
        let program = compile(compiled.path());
        let runtime = super::has_program("runc") || super::has_program("crun");
        if !peer("a C compiler with a static libc", program.is_some()) || !peer("runc or crun", runtime) {
            return None;
        }
        if !peer("root", rustix::process::geteuid().is_root()) {
            return None;
        }
        let site = Site::start("signed");
        let program = std::fs::read(program?).expect("the program");
        let address = site.address("shop/api");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        for (version, counter) in [("1.0.0", 1), ("2.0.0", 2)] {
            runtime.block_on(publish(&site, &address, &program, version, counter));
        }
        let port = free_port();
        let settings = format!(
            "node: n1\nstate: node\ntrust: trust.yaml\napps:\n  - name: shop/api\n    follow: {{ repository: {address} }}\n    \
             datasets: {{ ledger: {{ driver: copy, path: data/ledger }} }}\n    ports: {{ \"8080\": 127.0.0.1:{port} }}\n"
        );
        std::fs::create_dir(site.folder.path().join("data")).expect("a folder for data");
        std::fs::write(site.folder.path().join("node.yaml"), settings).expect("settings");
        Some(Self { site, port, agent: None })
    }

    fn folder(&self) -> &Path {
        self.site.folder.path()
    }

    /// A command with this node's settings.
    pub(crate) fn nebh(&self, arguments: &[&str]) -> Command {
        let mut command = nebh();
        command.args(arguments).arg("--settings").arg(self.folder().join("node.yaml"));
        command
    }

    /// Runs a command that may fail with its agent; gives what it said.
    pub(crate) fn say(&self, arguments: &[&str]) -> String {
        said(&self.nebh(arguments).output().expect("a command"))
    }

    /// Starts the agent, to end at `crash` if named.
    pub(crate) fn run_agent(&mut self, crash: Option<&str>) {
        let mut command = self.nebh(&["node", "run", "-v"]);
        if let Some(point) = crash {
            command.env("NEBH_CRASH_POINT", point);
        }
        let mut agent = Server::start(&mut command, &self.folder().join("agent.log"));
        if crash.is_none() {
            agent.wait_until("the agent", || self.nebh(&["node", "status"]).output().is_ok_and(|o| answers(&o)));
        } else {
            // It may end before it answers: then its crash point was in its recovery.
            let mut looks = 0;
            while agent.is_up() && !self.nebh(&["node", "status"]).output().is_ok_and(|o| answers(&o)) && looks < 500 {
                looks += 1;
            }
        }
        self.agent = Some(agent);
    }

    /// True once the agent has ended by itself.
    pub(crate) fn agent_ended(&mut self) -> bool {
        self.agent.as_mut().is_none_or(|agent| !agent.is_up())
    }

    /// What the agent wrote.
    pub(crate) fn agent_output(&self) -> String {
        self.agent.as_ref().map(Server::output).unwrap_or_default()
    }

    /// Ends the agent with SIGKILL if it did not end itself.
    pub(crate) fn kill_agent(&mut self) {
        self.agent = None;
    }

    /// The phase and the live version, once nothing is on its way any more; probation is committed.
    pub(crate) fn settled(&self) -> (String, String) {
        for _ in 0..600 {
            let text = self.status();
            let phase = text["apps"][0]["phase"].as_str().unwrap_or_default().to_owned();
            match phase.as_str() {
                "probation" => drop(self.nebh(&["node", "commit"]).output()),
                "serving" | "empty" | "needs-operator" => return (phase, self.version().unwrap_or_default()),
                _ => {}
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("it never settles: {}\n{}", self.status(), self.agent_output());
    }

    /// `nebh node status --output json`
    pub(crate) fn status(&self) -> serde_json::Value {
        let output = self.nebh(&["node", "status", "--output", "json"]).output().expect("a status");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str(text.lines().next().unwrap_or_default()).unwrap_or_else(|_| panic!("{}", said(&output)))
    }

    /// The version that answers at the entrance.
    pub(crate) fn version(&self) -> std::io::Result<String> {
        ask(self.port, "GET /")
    }

    /// Makes the live program die of a segmentation fault.
    pub(crate) fn crash_program(&self) {
        drop(ask(self.port, "GET /crash"));
    }

    /// Every payment in the live data.
    pub(crate) fn book(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder().join("data/ledger/book")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Every payment in the live data, the snapshots and the left timelines.
    pub(crate) fn everything_kept(&self) -> Vec<String> {
        let mut all = self.book();
        for kind in ["snap", "tl"] {
            let folder = self.folder().join("data/ledger.nebh").join(kind);
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let text = std::fs::read_to_string(entry.path().join("book")).unwrap_or_default();
                all.extend(text.lines().map(str::to_owned));
            }
        }
        all
    }

    /// A client that pays again and again until it is dropped.
    pub(crate) fn client(&self) -> Payer {
        let (stop, paid) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (port, ended, book) = (self.port, stop.clone(), paid.clone());
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while !ended.load(Ordering::Relaxed) {
                number += 1;
                let payment = format!("p{number}");
                if ask(port, &format!("POST /pay/{payment}")).is_ok_and(|answer| answer == "paid") {
                    book.lock().expect("the client's book").push(payment);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Payer { stop, paid, thread: Some(thread) }
    }
}

impl Drop for Shop {
    /// Containers and the entrance outlive the agent on purpose; here they end, each by what names this folder.
    fn drop(&mut self) {
        self.agent = None;
        let root = self.folder().join("node/containers");
        let runtime = if super::has_program("runc") { "runc" } else { "crun" };
        for entry in std::fs::read_dir(&root).into_iter().flatten().flatten() {
            let id = entry.file_name();
            drop(Command::new(runtime).arg("--root").arg(&root).args(["delete", "--force"]).arg(id).output());
        }
        let here = self.folder().to_string_lossy().into_owned();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_string_lossy().parse::<i32>().ok();
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let ours =
                String::from_utf8_lossy(&line).contains(&here) && !String::from_utf8_lossy(&line).contains("gateway");
            if let Some(pid) = pid.filter(|_| ours).and_then(rustix::process::Pid::from_raw) {
                // It may have ended meanwhile.
                let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let mut below: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        below.retain(|place| place.starts_with(&here));
        below.sort_unstable_by(|a, b| b.cmp(a));
        for place in below {
            let _gone = rustix::mount::unmount(place, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

/// A client that pays.
pub(crate) struct Payer {
    stop: Arc<AtomicBool>,
    paid: Arc<Mutex<Vec<String>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Payer {
    /// What was acknowledged so far.
    pub(crate) fn acknowledged(&self) -> Vec<String> {
        self.paid.lock().expect("the client's book").clone()
    }

    /// Ends, and gives what was acknowledged.
    pub(crate) fn end(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        self.acknowledged()
    }
}

impl Drop for Payer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn answers(output: &Output) -> bool {
    matches!(output.status.code(), Some(0 | 6))
}

fn ask(port: u16, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).ok_or(std::io::ErrorKind::UnexpectedEof.into())
}

fn compile(folder: &Path) -> Option<PathBuf> {
    let (source, program) = (folder.join("shop.c"), folder.join("shop"));
    std::fs::write(&source, include_str!("../../deployer/src/host/tests/shop.c")).expect("a source file");
    let made = Command::new("cc").arg("-static").arg("-o").arg(&program).arg(&source).output();
    made.is_ok_and(|output| output.status.success()).then_some(program)
}

async fn publish(site: &Site, address: &RepositoryAddress, program: &[u8], version: &str, counter: u64) {
    let (client, tag): (_, Tag) = (client(), version.parse().expect("a tag"));
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    archive.append_data(&mut header, "shop", program).expect("an entry");
    let layer = archive.into_inner().expect("a tar");
    let mut config = ImageConfig::new("amd64", "linux", vec![DiffId(Digest::sha256(&layer))]);
    config.config.entrypoint = vec!["/shop".to_owned()];
    config.config.env = vec![format!("VERSION={version}")];
    config.config.user = Some("65532".to_owned());
    let config = config.to_bytes().expect("a config");
    let blobs = [(Descriptor::of(OCI_CONFIG, &config), config), (Descriptor::of(OCI_LAYER, &layer), layer)];
    let image = ImageManifest::image(blobs[0].0.clone(), vec![blobs[1].0.clone()]);
    let image = RawManifest::from_image(&image).expect("a manifest");
    for (descriptor, bytes) in &blobs {
        client.push_blob_bytes(address, descriptor, bytes).await.expect("a blob is stored");
    }
    client.push_manifest(address, &image, None).await.expect("the manifest is stored");
    sign(address, &image, &[], &site.builder).await;
    let spec = ReleaseSpec::parse("release.yaml", RELEASE).expect("a release");
    let platform = image.descriptor().with_platform(Platform::new("linux", "amd64"));
    let commit = "0123456789abcdef0123456789abcdef01234567".parse().expect("a commit");
    let parts = assemble(&spec, &tag, &commit, counter, &[platform], &ConfigSnapshot::default()).expect("a release");
    for artifact in parts.artifacts() {
        client.push_artifact(address, &artifact).await.expect("a part of the release is stored");
    }
    sign(address, parts.index(), std::slice::from_ref(&tag), &site.releaser).await;
    client.push_manifest(address, parts.index(), Some(parts.tag())).await.expect("the release tag is granted");
}

async fn sign(address: &RepositoryAddress, manifest: &RawManifest, tags: &[Tag], key: &nebh_trust::key::PrivateKey) {
    for artifact in sign_both(None, manifest, address, tags, key).expect("signatures") {
        client().push_artifact(address, &artifact).await.expect("a signature is stored");
    }
}

/// Runs a command of the node that has to succeed.
pub(crate) fn done(shop: &Shop, arguments: &[&str]) -> String {
    succeed(&mut shop.nebh(arguments))
}
