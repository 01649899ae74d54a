//! A node with everything around it: keys, a policy, a registry with releases, an application in C, a host.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use nebh_oci::image_config::ImageConfig;
use nebh_oci::manifest::{Artifact, Descriptor, ImageManifest, RawManifest};
use nebh_oci::media_type::{OCI_CONFIG, OCI_LAYER};
use nebh_trust::key::PrivateKey;
use nebh_trust::release::{ConfigFile, ConfigLayer, ConfigSnapshot, ReleaseSpec, assemble};
use nebh_trust::signing::sign_both;

use super::super::{Host, LocalHost, LocalNode, Progress, fetch};
use super::registry::Registry;
use crate::container::tests::{program, runtime};
use crate::machine::{Effect, Event, Facts, GenerationId, OpId, PrepareSource, ReleaseRef, Step, Trouble};
use crate::process::Process;
use crate::settings::Settings;

pub(super) struct World {
    pub(super) folder: tempfile::TempDir,
    pub(super) state: PathBuf,
    pub(super) registry: Registry,
    pub(super) builder: PrivateKey,
    pub(super) releaser: PrivateKey,
    pub(super) listen: SocketAddr,
    pub(super) program: PathBuf,
    pub(super) host: LocalHost,
    pub(super) node: LocalNode,
    /// Last, when nothing is left that would start the entrance again.
    guard: Guard,
}

const RELEASE: &str = "
name: shop/api
config: { from: config/, mount: /etc/shop, check: [/shop, --check-config] }
data:
  ledger: { mount: /var/lib/shop, class: ledger, schema: { writes: 1, reads: [1] } }
run:
  ports: [8080]
  alive: { http: ':8080/healthz', within: 10s }
  live: { http: ':8080/healthz', every: 100ms, failures: 3 }
  probation: 1s
";

impl World {
    pub(super) async fn new() -> Option<Self> {
        Self::with_state(Path::new("state")).await
    }

    /// The same with the agent's state elsewhere.
    pub(super) async fn with_state(state: &Path) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        runtime(folder.path()).await?;
        compile(folder.path())?;
        let registry = Registry::start().await;
        let (builder, releaser) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        for (name, key) in [("builder", &builder), ("releaser", &releaser)] {
            fs::write(folder.path().join(format!("{name}.pub")), key.public().to_pem().unwrap()).unwrap();
        }
        let trust = "
roles:
  builder:  { keys: [builder.pub] }
  releaser: { keys: [releaser.pub] }
rules:
  - { match: shop/*, image: builder, release: releaser }
";
        fs::write(folder.path().join("trust.yaml"), trust).unwrap();
        fs::create_dir_all(folder.path().join("config/n1")).unwrap();
        fs::write(folder.path().join("config/n1/app.conf.j2"), "node = {{ node }}\n").unwrap();
        let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let program = program(folder.path());
        let state = folder.path().join(state);
        let node = LocalNode::start(settings(folder.path(), &state, &registry, listen), &program).await.unwrap();
        let host = node.host(&"shop/api".parse().unwrap()).await.unwrap();
        let guard = Guard(folder.path().to_owned());
        Some(Self { folder, state, registry, builder, releaser, listen, program, host, node, guard })
    }

    /// The same node after its agent died: everything on disk and every process stays.
    pub(super) async fn reborn(self) -> Self {
        let Self { folder, state, registry, builder, releaser, listen, program, host, node, guard } = self;
        drop((node, host));
        let node = LocalNode::start(settings(folder.path(), &state, &registry, listen), &program).await.unwrap();
        let host = node.host(&"shop/api".parse().unwrap()).await.unwrap();
        Self { folder, state, registry, builder, releaser, listen, program, host, node, guard }
    }

    pub(super) fn image(&self, version: &str, key: &PrivateKey) -> RawManifest {
        self.image_for(&fetch::platform().architecture, version, key)
    }

    pub(super) fn image_for(&self, architecture: &str, version: &str, key: &PrivateKey) -> RawManifest {
        let layer = layer(&self.folder.path().join("shop"));
        let config = format!(
            r#"{{"architecture":"{architecture}","os":"linux","config":{{"User":"65532","Env":["VERSION={version}"],"Entrypoint":["/shop"]}},
                "rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            Descriptor::of(OCI_LAYER, &layer).digest
        );
        ImageConfig::parse(config.as_bytes()).unwrap();
        let (config, layer) = (config.into_bytes(), layer);
        let descriptors = (Descriptor::of(OCI_CONFIG, &config), Descriptor::of(OCI_LAYER, &layer));
        let manifest = ImageManifest::image(descriptors.0.clone(), vec![descriptors.1.clone()]);
        let manifest = RawManifest::from_image(&manifest).unwrap();
        let blobs = vec![(descriptors.0, config), (descriptors.1, layer)];
        self.registry.put(&Artifact { manifest: manifest.clone(), blobs, tag: None });
        self.sign(&manifest, key);
        manifest
    }

    pub(super) fn sign(&self, manifest: &RawManifest, key: &PrivateKey) {
        for artifact in sign_both(None, manifest, &self.registry.address, &[], key).unwrap() {
            self.registry.put(&artifact);
        }
    }

    /// A release with everything signed as it should be.
    pub(super) fn release(&self, version: &str, counter: u64) -> ReleaseRef {
        let image = self.image(version, &self.builder);
        let index = self.release_of(&image, version, counter, "name = shop\n");
        self.sign(&index, &self.releaser);
        reference(version, &index)
    }

    /// A release that nobody signed.
    pub(super) fn release_of(&self, image: &RawManifest, version: &str, counter: u64, config: &str) -> RawManifest {
        let spec = ReleaseSpec::parse("release.yaml", RELEASE).unwrap();
        let image = image.descriptor().with_platform(fetch::platform());
        let file =
            ConfigFile { path: "name.conf".parse().unwrap(), bytes: config.as_bytes().to_vec(), executable: false };
        let layer = ConfigLayer { name: "defaults".to_owned(), origin: "test".to_owned(), files: vec![file] };
        let snapshot = ConfigSnapshot { layers: vec![layer] };
        let commit = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
        let parts = assemble(&spec, &version.parse().unwrap(), &commit, counter, &[image], &snapshot).unwrap();
        for artifact in parts.artifacts() {
            self.registry.put(&artifact);
        }
        let tagged = Artifact { manifest: parts.index().clone(), blobs: vec![], tag: Some(parts.tag().clone()) };
        self.registry.put(&tagged);
        parts.index().clone()
    }

    pub(super) async fn prepare(
        &self,
        generation: u32,
        release: &ReleaseRef,
        beside: Option<u32>,
    ) -> Result<Facts, Trouble> {
        let effect = Effect::Prepare {
            generation: GenerationId::new(generation),
            source: PrepareSource::Release { release: release.clone() },
            beside: beside.map(GenerationId::new),
        };
        match self.host.perform(effect, &Progress::silent()).await.unwrap() {
            Event::Prepared { facts, .. } => Ok(*facts),
            Event::PrepareFailed { why, .. } => Err(why),
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn perform(&self, effect: Effect) -> Event {
        self.host.perform(effect, &Progress::silent()).await.unwrap()
    }

    pub(super) async fn ask(&self, request: &str) -> std::io::Result<String> {
        let (listen, request) = (self.listen, request.to_owned());
        tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(listen)?;
            // In one piece: the program reads once.
            stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            match text.split_once("\r\n\r\n") {
                Some((_, body)) => Ok(body.to_owned()),
                None => Err(std::io::ErrorKind::UnexpectedEof.into()),
            }
        })
        .await
        .unwrap()
    }

    /// Stops everything that this world started.
    pub(super) async fn end(self) {
        self.perform(Effect::Stop { step: step("end") }).await;
        for (id, _) in self.host.runs() {
            self.perform(Effect::Remove { generation: id }).await;
        }
        let entrance = self.node.entrance().clone();
        let Self { host, node, guard, folder, .. } = self;
        // Its keeper would start it again.
        drop((host, node));
        entrance.stop().await.unwrap();
        drop((guard, folder));
    }
}

/// Ends what a failed test leaves running: the entrance and attendants name the test's folder in their environment,
/// and a container's first process is a child of its attendant.
struct Guard(PathBuf);

impl Drop for Guard {
    fn drop(&mut self) {
        let folder = self.0.as_os_str().as_encoded_bytes();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let of_folder = ["environ", "cmdline"].iter().any(|name| {
                fs::read(entry.path().join(name))
                    .is_ok_and(|text| text.windows(folder.len()).any(|window| window == folder))
            });
            let Some(pid) = entry.file_name().to_str().and_then(|text| text.parse::<u32>().ok()) else { continue };
            if !of_folder || pid == std::process::id() {
                continue;
            }
            let tasks = fs::read_dir(entry.path().join("task")).into_iter().flatten().flatten();
            let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
            let children: Vec<u32> = children
                .flat_map(|text| text.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
                .collect();
            for pid in children.into_iter().chain([pid]) {
                if let Ok(process) = Process::of(pid) {
                    drop(process.signal(rustix::process::Signal::KILL));
                }
            }
        }
    }
}

pub(super) fn step(op: &str) -> Step {
    Step { op: op.parse::<OpId>().unwrap(), attempt: 1 }
}

pub(super) fn reference(version: &str, index: &RawManifest) -> ReleaseRef {
    ReleaseRef { version: version.parse().unwrap(), digest: *index.digest() }
}

fn settings(folder: &Path, state: &Path, registry: &Registry, listen: SocketAddr) -> Settings {
    let text = format!(
        "
node: n1
state: {}
trust: trust.yaml
apps:
  - name: shop/api
    follow: {{ repository: {}, channel: stable, every: 100ms }}
    config: [config/n1]
    datasets: {{ ledger: {{ driver: copy, path: data/ledger }} }}
    ports: {{ \"8080\": {listen} }}
",
        state.display(),
        registry.address
    );
    Settings::parse("node.yaml", &text, folder, folder).unwrap()
}

fn compile(folder: &Path) -> Option<()> {
    let source = folder.join("shop.c");
    fs::write(&source, include_str!("shop.c")).unwrap();
    let made = Command::new("cc").arg("-static").arg("-o").arg(folder.join("shop")).arg(&source).output();
    if made.is_ok_and(|output| output.status.success()) {
        return Some(());
    }
    assert!(std::env::var_os("NEBH_REQUIRE_PEERS").is_none(), "no C compiler with a static libc here");
    println!("SKIPPED: no C compiler with a static libc here");
    None
}

fn layer(program: &Path) -> Vec<u8> {
    let bytes = fs::read(program).unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_path("shop").unwrap();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(bytes.len() as u64);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    archive.append(&header, bytes.as_slice()).unwrap();
    archive.into_inner().unwrap()
}
