//! What a host moves over the network to make a release of one changed line ready: our Prepare, and `docker pull` of the
//! same image, from the same gateway, each through a door that counts.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};

use super::docker::Docker;
use super::tree::Tree;
use crate::command::run;
use crate::server::{Server, free_port};

const PASSPHRASE: &str = "bench";

/// Bytes that came over the network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    /// By Prepare of the first release.
    pub(crate) first: u64,
    /// By Prepare of the second, which differs in one line.
    pub(crate) second: u64,
    /// By `docker pull` of the same two images.
    pub(crate) docker: Option<(u64, u64)>,
    /// Size of the one layer that differs.
    pub(crate) layer: u64,
}

/// A gateway, and a node that follows it through a door.
struct Site {
    folder: PathBuf,
    nebh: PathBuf,
    registry: u16,
    node_door: Door,
    docker_door: Door,
    servers: Vec<Server>,
}

/// Publishes the newest commit, prepares it, changes a line, and again.
pub(crate) fn moved(nebh: &Path, folder: &Path, tree: &mut Tree, docker: Option<&Docker>) -> Result<Moved> {
    let site = Site::start(nebh, folder)?;
    let (first, first_docker) = site.release(tree, docker, "1.0.1")?;
    tree.change_a_line()?;
    let (second, second_docker) = site.release(tree, docker, "1.0.2")?;
    Ok(Moved { first, second, docker: first_docker.zip(second_docker), layer: site.last_layer("1.0.2")? })
}

impl Site {
    fn start(nebh: &Path, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let registry = free_port()?;
        let (node_door, docker_door) = (Door::to(registry)?, Door::to(registry)?);
        let mut site = Self {
            folder: folder.to_owned(),
            nebh: nebh.to_owned(),
            registry,
            node_door,
            docker_door,
            servers: Vec::new(),
        };
        for role in ["builder", "releaser"] {
            run(site.nebh(&["key", "new", role, "--role", role, "--out"]).arg(folder))?;
        }
        let write = |name: &str, text: String| std::fs::write(folder.join(name), text);
        write(
            "trust.yaml",
            "roles:\n  builder: { keys: [builder.pub] }\n  releaser: { keys: [releaser.pub] }\nrules:\n  \
             - { match: shop/*, image: builder, release: releaser }\n"
                .to_owned(),
        )?;
        let here = folder.display();
        write(
            "gateway.yaml",
            format!(
                "listen: 127.0.0.1:{registry}\nstate: {here}/gateway\ntrust: trust.yaml\nrepositories:\n  \
                 - {{ match: shop/*, admit: signed, keep: {{ recent: 2 }} }}\n"
            ),
        )?;
        std::fs::create_dir_all(folder.join("data"))?;
        write(
            "node.yaml",
            format!(
                "node: n1\nstate: {here}/node\ntrust: trust.yaml\napps:\n  - name: shop/ledger\n    \
                 follow: {{ repository: 127.0.0.1:{}/shop/ledger }}\n    \
                 datasets: {{ ledger: {{ driver: copy, path: {here}/data/ledger }} }}\n    \
                 ports: {{ \"8080\": 127.0.0.1:{} }}\n",
                site.node_door.port,
                free_port()?
            ),
        )?;
        site.serve(&["gateway", "serve"], "gateway.yaml")?.wait_for_port(registry)?;
        let mut status = site.nebh(&["node", "status", "--settings"]);
        status.arg(folder.join("node.yaml"));
        site.serve(&["node", "run"], "node.yaml")?.wait_until("the agent", || {
            status.output().is_ok_and(|output| matches!(output.status.code(), Some(0 | 6)))
        })?;
        Ok(site)
    }

    fn nebh(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.nebh);
        command.args(words).env("NEBH_KEY_PASSWORD", PASSPHRASE);
        command
    }

    fn serve(&mut self, words: &[&str], settings: &str) -> Result<&mut Server> {
        let log = self.folder.join(settings).with_extension("log");
        let server = Server::start(self.nebh(words).arg("--settings").arg(self.folder.join(settings)), &log)?;
        self.servers.push(server);
        self.servers.last_mut().context("it was pushed")
    }

    /// Builds, releases and prepares the newest commit; the bytes that the node moved, and docker.
    fn release(&self, tree: &Tree, docker: Option<&Docker>, version: &str) -> Result<(u64, Option<u64>)> {
        let to = format!("127.0.0.1:{}/shop/ledger", self.registry);
        let image = format!("{to}:{version}-image");
        let key = |role: &str| self.folder.join(format!("{role}.key"));
        let with_key = |command: &mut Command, role: &str| {
            command.arg("--sign-with").arg(key(role)).env("NEBH_KEY_PASSWORD", PASSPHRASE);
        };
        let mut build = tree.project.nebh(&["build", "--offline", "--to", &image]);
        with_key(build.arg(&tree.project.path), "builder");
        run(&mut build)?;
        let mut create =
            tree.project.nebh(&["release", "create", "--version", version, "--image", &image, "--to", &to]);
        with_key(create.arg(&tree.project.path), "releaser");
        run(&mut create)?;

        self.node_door.counted();
        run(self.nebh(&["node", "prepare", "--to", version, "--settings"]).arg(self.folder.join("node.yaml")))?;
        let ours = self.node_door.counted();
        let Some(docker) = docker else { return Ok((ours, None)) };
        self.docker_door.counted();
        run(&mut docker.docker(&[
            "pull",
            "-q",
            &format!("127.0.0.1:{}/shop/ledger:{version}", self.docker_door.port),
        ]))?;
        Ok((ours, Some(self.docker_door.counted())))
    }

    /// Size of the last layer of an image: the application's.
    fn last_layer(&self, version: &str) -> Result<u64> {
        use nebh_oci::client::{Client, ClientSettings};
        let address = format!("127.0.0.1:{}/shop/ledger", self.registry).parse()?;
        let tag = format!("{version}-image").parse()?;
        let client = Client::new(ClientSettings::default())?;
        let manifest = tokio::runtime::Runtime::new()?.block_on(client.manifest_by_tag(&address, &tag))?;
        let image = manifest.image().context("an image")?;
        Ok(image.layers.last().context("a layer")?.size)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.servers.clear();
        crate::leftovers::sweep(&self.folder);
    }
}

/// Passes connections on to a port, and counts the bytes that come back.
struct Door {
    port: u16,
    bytes: Arc<AtomicU64>,
}

impl Door {
    fn to(port: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let door = Self { port: listener.local_addr()?.port(), bytes: Arc::default() };
        let bytes = Arc::clone(&door.bytes);
        // Ends with the program: it waits for connections for ever.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let bytes = Arc::clone(&bytes);
                std::thread::spawn(move || pass(client, port, &bytes));
            }
        });
        Ok(door)
    }

    /// The bytes since the last question.
    fn counted(&self) -> u64 {
        self.bytes.swap(0, Ordering::SeqCst)
    }
}

fn pass(client: TcpStream, port: u16, bytes: &AtomicU64) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
    let (Ok(mut from_client), Ok(mut to_server)) = (client.try_clone(), server.try_clone()) else { return };
    let up = std::thread::spawn(move || {
        // Either side may go at any time.
        drop(std::io::copy(&mut from_client, &mut to_server));
        drop(to_server.shutdown(Shutdown::Write));
    });
    let (mut from_server, mut to_client) = (server, Counted { to: client, bytes });
    drop(std::io::copy(&mut from_server, &mut to_client));
    drop(to_client.to.shutdown(Shutdown::Both));
    drop(up.join());
}

struct Counted<'a> {
    to: TcpStream,
    bytes: &'a AtomicU64,
}

impl std::io::Write for Counted<'_> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let count = self.to.write(buffer)?;
        self.bytes.fetch_add(count as u64, Ordering::SeqCst);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}
