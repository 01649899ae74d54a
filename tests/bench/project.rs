//! A project in git that our program builds, with the state folder that it is built in.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::run;
use crate::measure::{Cost, run as measured};

/// A work tree and a state folder.
#[derive(Debug)]
pub(crate) struct Project {
    nebh: PathBuf,
    /// The work tree.
    pub(crate) path: PathBuf,
    state: PathBuf,
}

impl Project {
    /// Makes a repository of a folder.
    pub(crate) fn new(nebh: &Path, path: &Path, state: &Path) -> Result<Self> {
        let project = Self { nebh: nebh.to_owned(), path: path.to_owned(), state: state.to_owned() };
        project.git(&["init", "-q", "-b", "main"])?;
        Ok(project)
    }

    /// Our program with this state folder.
    pub(crate) fn nebh(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.nebh);
        command.args(words).env("NEBH_STATE", &self.state).env_remove("NEBH_SETTINGS");
        command
    }

    /// Commits whatever changed.
    pub(crate) fn commit(&self) -> Result<()> {
        self.git(&["add", "-A"])?;
        self.git(&["commit", "-q", "--allow-empty", "-m", "a change"])
    }

    fn git(&self, words: &[&str]) -> Result<()> {
        let identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.org", "-c", "commit.gpgsign=false"];
        let mut git = Command::new("git");
        git.args(identity).args(words).current_dir(&self.path).env("GIT_CONFIG_NOSYSTEM", "1");
        run(&mut git).map(drop)
    }

    /// Builds the newest commit.
    pub(crate) fn build(&self) -> Result<Cost> {
        measured(self.nebh(&["build", "--offline"]).arg(&self.path))
    }

    /// Writes the lock, and says what it locked.
    pub(crate) fn lock(&self, words: &[&str]) -> Result<String> {
        let said = run(self.nebh(&["lock"]).arg(&self.path).args(words))?;
        Ok(said.split_once(": ").map_or("", |(_, inputs)| inputs.trim()).to_owned())
    }

    /// Fetches what is not archived yet, by a build.
    pub(crate) fn fetch(&self) -> Result<()> {
        run(self.nebh(&["build"]).arg(&self.path)).map(drop)
    }

    /// Forgets some of what the state folder keeps.
    pub(crate) fn forget(&self, names: &[&str]) -> Result<()> {
        for folder in names.iter().map(|name| self.state.join(name)).filter(|folder| folder.exists()) {
            std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
        }
        Ok(())
    }

    /// The one folder of a kind that the state keeps.
    pub(crate) fn kept(&self, kind: &str) -> Result<PathBuf> {
        let folder = self.state.join("folders").join(kind);
        let mut entries = std::fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))?;
        Ok(entries.next().with_context(|| format!("{} is empty", folder.display()))??.path())
    }
}
