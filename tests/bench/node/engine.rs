//! What people do without a deployer: `docker stop`, `rm`, `run`, and the same with podman. On the host's network, which
//! is the quicker of the two ways. Neither takes a snapshot of the data.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::{Side, answers};
use crate::command::run;
use crate::leftovers::unmount_below;
use crate::server::{Server, free_port};

/// A container engine with an application.
#[derive(Debug)]
pub(crate) struct Engine {
    command: Vec<String>,
    /// podman's settings.
    settings: Option<PathBuf>,
    /// docker's, which ends with it.
    daemon: Option<Server>,
    /// podman's, which wants a short path.
    _short: Option<tempfile::TempDir>,
    folder: PathBuf,
    live: PathBuf,
    port: u16,
}

impl Engine {
    /// docker with a daemon of its own below `folder`.
    pub(crate) fn docker(folder: &Path, program: &Path, live: &Path) -> Result<Self> {
        let socket = format!("unix://{}", folder.join("docker.sock").display());
        let mut dockerd = Command::new("/usr/sbin/dockerd");
        dockerd
            .args(["--bridge", "none", "--iptables=false", "-H", &socket])
            .arg("--data-root")
            .arg(folder.join("root"));
        dockerd.arg("--exec-root").arg(folder.join("run")).arg("--pidfile").arg(folder.join("pid"));
        let mut daemon = Server::start(&mut dockerd, &folder.join("dockerd.log"))?;
        let command = vec!["/usr/bin/docker".to_owned(), "-H".to_owned(), socket];
        daemon.wait_until("dockerd", || words(&command).arg("version").output().is_ok_and(|o| o.status.success()))?;
        Self {
            command,
            settings: None,
            daemon: Some(daemon),
            _short: None,
            folder: folder.to_owned(),
            live: live.to_owned(),
            port: free_port()?,
        }
        .with_image(folder, program)
    }

    /// podman with storage of its own below `folder`.
    pub(crate) fn podman(folder: &Path, program: &Path, live: &Path) -> Result<Self> {
        let settings = folder.join("containers.conf");
        // Raising limits is refused on some machines; cgroupfs, because there may be no systemd.
        let text = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n\
                    [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n";
        std::fs::write(&settings, text)?;
        let place = |name: &str| folder.join(name).display().to_string();
        let short = tempfile::tempdir()?;
        let runs = short.path().display().to_string();
        let command = ["podman", "--root", &place("root"), "--runroot", &runs].map(str::to_owned).to_vec();
        Self {
            command,
            settings: Some(settings),
            daemon: None,
            _short: Some(short),
            folder: folder.to_owned(),
            live: live.to_owned(),
            port: free_port()?,
        }
        .with_image(folder, program)
    }

    fn with_image(self, folder: &Path, program: &Path) -> Result<Self> {
        let archive = folder.join("image.tar");
        let parent = program.parent().unwrap_or(Path::new("/"));
        run(Command::new("tar").arg("-C").arg(parent).arg("-cf").arg(&archive).arg("till"))?;
        run(self.engine().args(["import", "--change", "ENTRYPOINT [\"/till\"]"]).arg(&archive).arg("till:1"))?;
        self.run(1)?;
        Ok(self)
    }

    fn engine(&self) -> Command {
        let mut command = words(&self.command);
        if let Some(settings) = &self.settings {
            command.env("CONTAINERS_CONF", settings);
        }
        command
    }

    fn run(&self, version: u32) -> Result<()> {
        let mut engine = self.engine();
        engine.args(["run", "-d", "--name", "till", "--net", "host", "-e", &format!("VERSION={version}")]);
        engine.args(["-e", &format!("PORT={}", self.port)]);
        engine.arg("-v").arg(format!("{}:/var/lib/till", self.live.display())).arg("till:1");
        run(&mut engine)?;
        answers(self.port)
    }

    fn change(&self, version: u32) -> Result<()> {
        run(self.engine().args(["stop", "till"]))?;
        run(self.engine().args(["rm", "till"]))?;
        self.run(version)
    }

    /// Its version, as it says it.
    pub(crate) fn version(&self) -> String {
        crate::machine::first_line(self.engine().arg("--version"))
    }
}

impl Side for Engine {
    fn port(&self) -> u16 {
        self.port
    }

    fn switch(&mut self) -> Result<()> {
        self.change(2)
    }

    fn back(&mut self) -> Result<()> {
        self.change(1)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.engine().args(["rm", "-f", "till"]).output());
        drop(self.daemon.take());
        unmount_below(&self.folder);
    }
}

fn words(command: &[String]) -> Command {
    let mut words = Command::new(command.first().map_or("", String::as_str));
    words.args(command.iter().skip(1));
    words
}
