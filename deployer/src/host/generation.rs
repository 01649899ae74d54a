//! One generation on this disk. The record is written last and renamed into place: a folder without it is a try that
//! did not come to its end.
//!
//! ```text
//!   <state>/apps/<app>/generations/g7/generation.json    what was prepared
//!                                     evidence.json      why it may run
//!                                     runs/<n>/          its containers
//!                                     stdout.log …       what its programs said
//!   <state>/roots/<image digest>      unpacked images      ┐ shared by generations,
//!   <state>/config/<config digest>    rendered config      ├ each whole or absent
//!   <state>/store                     blobs, as an image layout ┘
//! ```
//!
//! Side effects: reads and writes below `<state>`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nebh_oci::digest::Digest;
use nebh_oci::image_config::ImageConfig;
use nebh_trust::release::ReleaseStatement;
use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use crate::container::Run;
use crate::machine::{GenerationId, ReleaseRef};

/// Version of the record.
const VERSION: u32 = 1;

/// `generation.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Generation {
    version: u32,
    pub(crate) release: ReleaseRef,
    pub(crate) image: Digest,
    pub(crate) config: Digest,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) statement: ReleaseStatement,
    pub(crate) image_config: ImageConfig,
}

impl Generation {
    pub(crate) fn new(
        release: ReleaseRef,
        image: Digest,
        config: Digest,
        user: crate::container::User,
        statement: ReleaseStatement,
        image_config: ImageConfig,
    ) -> Self {
        Self { version: VERSION, release, image, config, uid: user.uid, gid: user.gid, statement, image_config }
    }
}

/// The folder of one generation.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    stem: String,
}

impl Folder {
    /// Of this generation of the application in `app`; `stem` begins its container ids.
    pub(crate) fn of(app: &Path, stem: &str, generation: GenerationId) -> Self {
        Self { path: app.join("generations").join(generation.to_string()), stem: format!("{stem}-{generation}") }
    }

    /// Every generation that has a folder, whole or not.
    pub(crate) fn all(app: &Path) -> Vec<GenerationId> {
        let entries = fs::read_dir(app.join("generations")).into_iter().flatten().flatten();
        let mut found: Vec<GenerationId> =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        found.sort_unstable();
        found
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn runs(&self) -> Vec<Run> {
        Run::all(&self.path, &self.stem)
    }

    pub(crate) fn next_run(&self) -> Run {
        Run::next(&self.path, &self.stem)
    }

    /// A container id for something that is not a run.
    pub(crate) fn container_id(&self, purpose: &str) -> String {
        format!("{}-{purpose}", self.stem)
    }

    /// The record, if the generation is whole.
    pub(crate) fn read(&self) -> io::Result<Generation> {
        let generation: Generation = serde_json::from_slice(&fs::read(self.path.join("generation.json"))?)?;
        if generation.version == VERSION {
            Ok(generation)
        } else {
            Err(io::Error::other(format!("generation record of version {} is not known here", generation.version)))
        }
    }

    pub(crate) fn evidence(&self) -> io::Result<Evidence> {
        Evidence::from_bytes(&fs::read(self.path.join("evidence.json"))?).map_err(io::Error::other)
    }

    /// Makes the generation whole: evidence first, the record last, both durable.
    pub(crate) fn write(&self, generation: &Generation, evidence: &Evidence) -> io::Result<()> {
        fs::create_dir_all(&self.path)?;
        self.put("evidence.json", &evidence.to_bytes()?)?;
        self.put("generation.json", &serde_json::to_vec(generation)?)?;
        for folder in [Some(&*self.path), self.path.parent()].into_iter().flatten() {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let half = self.path.join(format!(".{name}.half"));
        let mut file = File::create(&half)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&half, self.path.join(name))
    }

    /// Removes everything, the record first, so that a half-removed generation is none.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for name in ["generation.json", "evidence.json"] {
            match fs::remove_file(self.path.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
