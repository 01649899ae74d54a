//! Our side: a gateway with two signed releases, an agent with its entrance, and the commands that a person types.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use nebh_oci::client::{Client, ClientSettings};
use nebh_oci::digest::{DiffId, Digest};
use nebh_oci::image_config::ImageConfig;
use nebh_oci::manifest::{Descriptor, ImageManifest, Platform, RawManifest};
use nebh_oci::media_type::{OCI_CONFIG, OCI_LAYER};
use nebh_oci::names::{RepositoryAddress, Tag};
use nebh_trust::key::PrivateKey;
use nebh_trust::release::{ConfigSnapshot, ReleaseSpec, assemble};
use nebh_trust::signing::sign_both;

use super::{Side, answers};
use crate::command::run;
use crate::leftovers::sweep;
use crate::server::{Server, free_port};

/// The user of the image; the volume's data are its own.
pub(crate) const USER: u32 = 65532;
const PASSPHRASE: &str = "bench";
const RELEASE: &str = "
name: shop/till
data:
  till: { mount: /var/lib/till, class: ledger, schema: { writes: 1, reads: [1] } }
run:
  ports: [8080]
  alive: { http: ':8080/healthz', within: 10s }
  probation: 10m
";
const TRUST: &str = "roles:
  builder: { keys: [builder.pub] }
  releaser: { keys: [releaser.pub] }
  node: { keys: [node.pub] }
rules:
  - { match: shop/*, image: builder, release: releaser }
";

/// A node that serves, with its gateway.
#[derive(Debug)]
pub(crate) struct Ours {
    nebh: PathBuf,
    folder: PathBuf,
    port: u16,
    agent: Option<Server>,
    gateway: Option<Server>,
}

impl Ours {
    /// Serves release 1.0.0 with the data in `live`.
    pub(crate) fn start(nebh: &Path, folder: &Path, program: &Path, live: &Path) -> Result<Self> {
        let key = || PrivateKey::generate().context("a key");
        let (builder, releaser, node) = (key()?, key()?, key()?);
        for (name, key) in [("builder", &builder), ("releaser", &releaser), ("node", &node)] {
            std::fs::write(folder.join(format!("{name}.pub")), key.public().to_pem()?)?;
        }
        let private =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join("node.key"));
        private?.write_all(node.to_cosign_pem(PASSPHRASE)?.as_bytes())?;
        std::fs::write(folder.join("trust.yaml"), TRUST)?;
        let (registry, port) = (free_port()?, free_port()?);
        std::fs::write(
            folder.join("gateway.yaml"),
            format!(
                "listen: 127.0.0.1:{registry}\nstate: {}/gateway\ntrust: trust.yaml\nrepositories:\n  \
                 - {{ match: shop/*, admit: signed, keep: {{ recent: 2 }} }}\n",
                folder.display()
            ),
        )?;
        std::fs::write(
            folder.join("node.yaml"),
            format!(
                "node: n1\nstate: {}/node\ntrust: trust.yaml\nkey: node.key\napps:\n  - name: shop/till\n    \
                 follow: {{ repository: 127.0.0.1:{registry}/shop/till }}\n    \
                 datasets: {{ till: {{ driver: btrfs, path: {} }} }}\n    ports: {{ \"8080\": 127.0.0.1:{port} }}\n",
                folder.display(),
                live.display()
            ),
        )?;
        let mut ours = Self { nebh: nebh.to_owned(), folder: folder.to_owned(), port, agent: None, gateway: None };
        let mut gateway =
            Server::start(&mut ours.serve(&["gateway", "serve"], "gateway.yaml"), &folder.join("gateway.log"))?;
        gateway.wait_for_port(registry)?;
        ours.gateway = Some(gateway);
        let address: RepositoryAddress = format!("127.0.0.1:{registry}/shop/till").parse()?;
        let program = std::fs::read(program)?;
        let publishing = async {
            publish(&address, &program, "1.0.0", 1, &builder, &releaser).await?;
            publish(&address, &program, "2.0.0", 2, &builder, &releaser).await
        };
        tokio::runtime::Runtime::new()?.block_on(publishing)?;
        let mut agent = Server::start(&mut ours.serve(&["node", "run", "-v"], "node.yaml"), &folder.join("agent.log"))?;
        agent.wait_until("the agent", || {
            ours.node(&["status"]).output().is_ok_and(|output| matches!(output.status.code(), Some(0 | 6)))
        })?;
        ours.agent = Some(agent);
        run(&mut ours.node(&["switch", "--to", "1.0.0", "--no-wait"]))?;
        run(&mut ours.node(&["commit"]))?;
        answers(port)?;
        Ok(ours)
    }

    fn serve(&self, words: &[&str], settings: &str) -> Command {
        let mut command = Command::new(&self.nebh);
        command.args(words).arg("--settings").arg(self.folder.join(settings)).env("NEBH_KEY_PASSWORD", PASSPHRASE);
        command
    }

    fn node(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.nebh);
        command.arg("node").args(words).arg("--settings").arg(self.folder.join("node.yaml"));
        command
    }
}

impl Side for Ours {
    fn port(&self) -> u16 {
        self.port
    }

    fn ready(&mut self) -> Result<()> {
        // What a node does by itself when the next release appears: everything slow, before anybody waits.
        run(&mut self.node(&["prepare", "--to", "2.0.0"])).map(drop)
    }

    fn switch(&mut self) -> Result<()> {
        run(&mut self.node(&["switch", "--to", "2.0.0", "--no-wait"])).map(drop)
    }

    fn back(&mut self) -> Result<()> {
        run(&mut self.node(&["rollback"])).map(drop)
    }

    fn back_with_old_data(&mut self) -> Result<()> {
        run(&mut self.node(&["rollback", "--data", "pre"])).map(drop)
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        drop(self.agent.take());
        drop(self.gateway.take());
        sweep(&self.folder);
    }
}

async fn publish(
    address: &RepositoryAddress,
    program: &[u8],
    version: &str,
    counter: u64,
    builder: &PrivateKey,
    releaser: &PrivateKey,
) -> Result<()> {
    let client = Client::new(ClientSettings::default())?;
    let tag: Tag = version.parse()?;
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    archive.append_data(&mut header, "till", program)?;
    let layer = archive.into_inner()?;
    let mut config = ImageConfig::new("amd64", "linux", vec![DiffId(Digest::sha256(&layer))]);
    config.config.entrypoint = vec!["/till".to_owned()];
    config.config.env = vec![format!("VERSION={version}")];
    config.config.user = Some(USER.to_string());
    let config = config.to_bytes()?;
    let blobs = [(Descriptor::of(OCI_CONFIG, &config), config), (Descriptor::of(OCI_LAYER, &layer), layer)];
    let image = RawManifest::from_image(&ImageManifest::image(blobs[0].0.clone(), vec![blobs[1].0.clone()]))?;
    for (descriptor, bytes) in &blobs {
        client.push_blob_bytes(address, descriptor, bytes).await?;
    }
    client.push_manifest(address, &image, None).await?;
    sign(&client, address, &image, &[], builder).await?;
    let spec = ReleaseSpec::parse("release.yaml", RELEASE).map_err(|error| anyhow::anyhow!("{error}"))?;
    let platform = image.descriptor().with_platform(Platform::new("linux", "amd64"));
    let commit = "0123456789abcdef0123456789abcdef01234567".parse()?;
    let parts = assemble(&spec, &tag, &commit, counter, &[platform], &ConfigSnapshot::default())?;
    for artifact in parts.artifacts() {
        client.push_artifact(address, &artifact).await?;
    }
    sign(&client, address, parts.index(), std::slice::from_ref(&tag), releaser).await?;
    client.push_manifest(address, parts.index(), Some(parts.tag())).await?;
    Ok(())
}

async fn sign(
    client: &Client,
    address: &RepositoryAddress,
    manifest: &RawManifest,
    tags: &[Tag],
    key: &PrivateKey,
) -> Result<()> {
    for artifact in sign_both(None, manifest, address, tags, key)? {
        client.push_artifact(address, &artifact).await?;
    }
    Ok(())
}
