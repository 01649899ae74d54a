//! `docker build` by BuildKit with cache mounts. Its base image holds our toolchain and crates, so that it fetches
//! nothing and compiles with the same compiler; its result holds the program alone, which is less than ours.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::Toolchain;
use super::compiler::{COMMAND, ENVIRONMENT, SETTINGS};
use crate::command::run;
use crate::leftovers::unmount_below;
use crate::measure::{Cost, Watch};
use crate::server::Server;

/// dockerd of its own, with the base image.
#[derive(Debug)]
pub(crate) struct Docker {
    daemon: Option<Server>,
    folder: PathBuf,
    socket: String,
    file: PathBuf,
}

impl Docker {
    /// True if there is one.
    pub(crate) fn is_here() -> bool {
        Path::new("/usr/sbin/dockerd").exists() && Path::new("/usr/bin/docker").exists()
    }

    /// Starts it below `folder`.
    pub(crate) fn start(folder: &Path, tools: &Toolchain) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let socket = format!("unix://{}", folder.join("docker.sock").display());
        let mut dockerd = Command::new("/usr/sbin/dockerd");
        dockerd
            .args(["--bridge", "none", "--iptables=false", "-H", &socket])
            .arg("--data-root")
            .arg(folder.join("root"));
        dockerd.arg("--exec-root").arg(folder.join("run")).arg("--pidfile").arg(folder.join("pid"));
        let mut daemon = Server::start(&mut dockerd, &folder.join("dockerd.log"))?;
        let mut version = client(&socket, &["version"]);
        daemon.wait_until("dockerd", || version.output().is_ok_and(|output| output.status.success()))?;
        let file = folder.join("Dockerfile");
        let docker = Self { daemon: Some(daemon), folder: folder.to_owned(), socket, file };
        docker.import(folder, tools)?;
        std::fs::write(&docker.file, dockerfile())?;
        Ok(docker)
    }

    fn import(&self, folder: &Path, tools: &Toolchain) -> Result<()> {
        let archive = folder.join("root.tar");
        run(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&tools.root).arg("."))?;
        run(self.docker(&["import"]).arg(&archive).arg("toolchain:1"))?;
        std::fs::remove_file(&archive)?;
        let settings = folder.join("settings");
        std::fs::create_dir_all(&settings)?;
        std::fs::write(settings.join("config.toml"), SETTINGS)?;
        self.add("toolchain:1", &tools.vendor, "/x/vendor/", "crates:1")?;
        self.add("crates:1", &settings, "/x/.cargo/", "base:1")
    }

    /// An image with a folder more. Not by one archive: dockerd takes no folder twice.
    fn add(&self, from: &str, folder: &Path, to: &str, name: &str) -> Result<()> {
        let file = self.folder.join("Dockerfile.add");
        std::fs::write(&file, format!("FROM {from}\nCOPY . {to}\n"))?;
        run(self.docker(&["build", "-q", "-t", name, "-f"]).arg(&file).arg(folder)).map(drop)
    }

    /// The client.
    pub(crate) fn docker(&self, words: &[&str]) -> Command {
        client(&self.socket, words)
    }

    /// Builds the work tree; counts the daemon's work, too.
    pub(crate) fn build(&self, source: &Path) -> Result<Cost> {
        let watch = Watch::start(&self.daemon.iter().map(Server::id).collect::<Vec<_>>());
        let client = crate::measure::run(
            self.docker(&["build", "-q", "--network", "none", "-t", "ledger:1", "-f"]).arg(&self.file).arg(source),
        )?;
        let server = watch.stop();
        Ok(Cost { wall: client.wall, cpu: client.cpu + server.cpu, peak: client.peak + server.peak })
    }

    /// Forgets what was built, and what the cache mounts hold.
    pub(crate) fn forget(&self) -> Result<()> {
        run(&mut self.docker(&["builder", "prune", "-a", "-f"])).map(drop)
    }

    /// Its version.
    pub(crate) fn version(&self) -> String {
        crate::machine::first_line(&mut self.docker(&["--version"]))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        drop(self.daemon.take());
        unmount_below(&self.folder);
    }
}

fn client(socket: &str, words: &[&str]) -> Command {
    let mut command = Command::new("/usr/bin/docker");
    command.args(["-H", socket]).args(words).env("DOCKER_BUILDKIT", "1");
    command
}

fn dockerfile() -> String {
    let environment: Vec<String> = ENVIRONMENT.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!(
        "FROM base:1 AS build\nENV {}\nWORKDIR /x/src\nCOPY . .\nRUN --mount=type=cache,target=/x/target \
         --mount=type=cache,target=/x/home {COMMAND} && cp /x/target/release/ledger /ledger\nFROM scratch\n\
         COPY --from=build /ledger /usr/bin/ledger\nENTRYPOINT [\"/usr/bin/ledger\"]\n",
        environment.join(" ")
    )
}
