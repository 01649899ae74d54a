//! What people do without a deployer: `docker stop`, `rm`, `run`, and the same with podman. On the host's network, which
//! is the quicker of the two ways. Neither takes a snapshot of the data.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::{Side, answers};
use crate::command::run;
use crate::dockerd::Dockerd;
use crate::leftovers::Mounts;
use crate::server::free_port;

/// A container engine with an application.
#[derive(Debug)]
pub(crate) struct Engine {
    kind: Kind,
    live: PathBuf,
    port: u16,
}

#[derive(Debug)]
enum Kind {
    Docker(Dockerd),
    /// Without a daemon. `runs` wants a short path.
    Podman {
        storage: PathBuf,
        runs: PathBuf,
        settings: PathBuf,
        _mounts: Mounts,
    },
}

impl Engine {
    /// docker with a daemon of its own below `folder`.
    pub(crate) fn docker(folder: &Path, program: &Path, live: &Path) -> Result<Self> {
        Self::with_image(Kind::Docker(Dockerd::start(folder)?), folder, program, live)
    }

    /// podman with storage of its own below `folder`, and sockets in `runs`.
    pub(crate) fn podman(folder: &Path, runs: &Path, program: &Path, live: &Path) -> Result<Self> {
        let settings = folder.join("containers.conf");
        // Raising limits is refused on some machines; cgroupfs, because there may be no systemd.
        let text = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n\
                    [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n";
        std::fs::write(&settings, text)?;
        let (storage, runs) = (folder.join("root"), runs.to_owned());
        let kind = Kind::Podman { storage, runs, settings, _mounts: Mounts::below(folder) };
        Self::with_image(kind, folder, program, live)
    }

    fn with_image(kind: Kind, folder: &Path, program: &Path, live: &Path) -> Result<Self> {
        let engine = Self { kind, live: live.to_owned(), port: free_port()? };
        let archive = folder.join("image.tar");
        let parent = program.parent().unwrap_or(Path::new("/"));
        run(Command::new("tar").arg("-C").arg(parent).arg("-cf").arg(&archive).arg("till"))?;
        run(engine.engine().args(["import", "--change", "ENTRYPOINT [\"/till\"]"]).arg(&archive).arg("till:1"))?;
        engine.run(1)?;
        Ok(engine)
    }

    fn engine(&self) -> Command {
        match &self.kind {
            Kind::Docker(daemon) => daemon.client(),
            Kind::Podman { storage, runs, settings, .. } => {
                let mut command = Command::new("podman");
                command.arg("--root").arg(storage).arg("--runroot").arg(runs);
                command.env("CONTAINERS_CONF", settings);
                command
            }
        }
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
    }
}
