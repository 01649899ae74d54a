//! `docker build` by BuildKit with cache mounts. Its base image holds our toolchain and crates, so that it fetches
//! nothing and compiles with the same compiler; its result holds the program alone, which is less than ours.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use nebh_builder::step::cargo::CONFIG;

use super::Toolchain;
use super::compiler::{COMMAND, environment};
use crate::command::run;
use crate::dockerd::Dockerd;
use crate::measure::{Cost, Watch};

/// dockerd of its own, with the base image.
#[derive(Debug)]
pub(crate) struct Docker {
    daemon: Dockerd,
    folder: PathBuf,
    file: PathBuf,
}

impl Docker {
    /// Starts it below `folder`.
    pub(crate) fn start(folder: &Path, tools: &Toolchain) -> Result<Self> {
        let daemon = Dockerd::start(folder)?;
        let docker = Self { daemon, folder: folder.to_owned(), file: folder.join("Dockerfile") };
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
        std::fs::write(settings.join("config.toml"), CONFIG)?;
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
        let mut command = self.daemon.client();
        command.args(words);
        command
    }

    /// Builds the work tree; counts the daemon's work, too.
    pub(crate) fn build(&self, source: &Path) -> Result<Cost> {
        let watch = Watch::start(&[self.daemon.id()]);
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

fn dockerfile() -> String {
    format!(
        "FROM base:1 AS build\nENV {}\nWORKDIR /x/src\nCOPY . .\nRUN --mount=type=cache,target=/x/target \
         --mount=type=cache,target=/x/home {COMMAND} && cp /x/target/release/ledger /ledger\nFROM scratch\n\
         COPY --from=build /ledger /usr/bin/ledger\nENTRYPOINT [\"/usr/bin/ledger\"]\n",
        environment().join(" ")
    )
}
