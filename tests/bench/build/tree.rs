//! The application of the build's scales: buildspecs/ledger as a project of its own, one line of which changes.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::run;
use crate::measure::Cost;
use crate::project::Project;

/// A copy of buildspecs/ledger in git.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The project.
    pub(crate) project: Project,
    lines: u32,
}

impl Tree {
    /// Copies the application, locks its inputs against what the mirror has today, commits.
    pub(crate) fn new(nebh: &Path, folder: &Path, state: &Path) -> Result<Self> {
        let path = folder.join("ledger");
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("buildspecs/ledger");
        run(Command::new("cp").arg("-r").arg(&from).arg(&path))?;
        for extra in ["versions", "target"] {
            drop(std::fs::remove_dir_all(path.join(extra)));
        }
        std::fs::write(path.join(".dockerignore"), ".git\n")?;
        Ok(Self { project: Project::new(nebh, &path, state)?, lines: 0 })
    }

    /// Builds with nothing but inputs in the state folder, which it fetches first; and what those are.
    pub(crate) fn first_build(&self) -> Result<(Cost, String)> {
        let inputs = self.project.lock(&["--update"])?;
        self.project.commit()?;
        let all = ["folders", "kept", "images"];
        self.project.forget(&all)?;
        if let Ok(cost) = self.project.build() {
            return Ok((cost, inputs));
        }
        // Something has yet to be fetched.
        self.project.fetch()?;
        self.project.forget(&all)?;
        Ok((self.project.build()?, inputs))
    }

    /// Changes one line of the application and commits it.
    pub(crate) fn change_a_line(&mut self) -> Result<()> {
        self.lines += 1;
        let file = self.project.path.join("src/version.rs");
        let text = std::fs::read_to_string(&file)?;
        let (before, rest) = text.split_once("VERSION: &str = \"").context("the line with the version")?;
        let (_, after) = rest.split_once('"').context("its end")?;
        std::fs::write(&file, format!("{before}VERSION: &str = \"1.0.{}\"{after}", self.lines))?;
        self.project.commit()
    }

    /// Forgets everything but the inputs, the toolchain and the unpacked crates.
    pub(crate) fn forget(&self) -> Result<()> {
        self.project.forget(&["folders/dependencies", "kept", "images"])
    }
}
