//! Our side: a gateway with two signed releases, an agent with its entrance, and the commands that a person types.

#[path = "../../support/release.rs"]
mod release;

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use nebh_oci::client::{Client, ClientSettings};
use nebh_oci::names::RepositoryAddress;
use nebh_trust::key::PrivateKey;
use nebh_trust::release::ConfigSnapshot;

use self::release::Release;
pub(crate) use self::release::USER;
use super::{Side, answers};
use crate::command::run;
use crate::leftovers::sweep;
use crate::server::{Server, free_port};

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
        let (client, program) = (Client::new(ClientSettings::default())?, std::fs::read(program)?);
        let publishing = async {
            for (version, counter) in [("1.0.0", 1), ("2.0.0", 2)] {
                let image = release::program("till", &program, version)?;
                client.push_artifact(&address, &image).await?;
                release::sign(&client, &address, &image.manifest, &[], &builder).await?;
                let release = Release { spec: RELEASE, version, counter, config: &ConfigSnapshot::default() };
                release.publish(&client, &address, &image.manifest, &releaser).await?;
            }
            anyhow::Ok(())
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
