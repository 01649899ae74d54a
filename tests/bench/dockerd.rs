//! dockerd of its own below a folder of the measurement: no bridge, no rules of a firewall, nothing of the machine's own.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::leftovers::Mounts;
use crate::server::Server;

const DAEMON: &str = "/usr/sbin/dockerd";
/// Debian's: others lack BuildKit's client.
const CLIENT: &str = "/usr/bin/docker";

/// A running one. It ends first, then what it left mounted goes.
#[derive(Debug)]
pub(crate) struct Dockerd {
    server: Server,
    socket: String,
    _mounts: Mounts,
}

impl Dockerd {
    /// True if there is one to start.
    pub(crate) fn is_here() -> bool {
        Path::new(DAEMON).exists() && Path::new(CLIENT).exists()
    }

    /// Starts it and waits until it answers.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let socket = format!("unix://{}", folder.join("docker.sock").display());
        let mut command = Command::new(DAEMON);
        command.args(["--bridge", "none", "--iptables=false", "-H", &socket]);
        command.arg("--data-root").arg(folder.join("root")).arg("--exec-root").arg(folder.join("run"));
        command.arg("--pidfile").arg(folder.join("pid"));
        let server = Server::start(&mut command, &folder.join("dockerd.log"))?;
        let mut docker = Self { server, socket, _mounts: Mounts::below(folder) };
        let mut version = docker.client();
        version.arg("version");
        docker.server.wait_until("dockerd", || version.output().is_ok_and(|output| output.status.success()))?;
        Ok(docker)
    }

    /// The client, which talks to it.
    pub(crate) fn client(&self) -> Command {
        let mut command = Command::new(CLIENT);
        command.args(["-H", &self.socket]).env("DOCKER_BUILDKIT", "1");
        command
    }

    /// The daemon's process id.
    pub(crate) fn id(&self) -> u32 {
        self.server.id()
    }
}
