//! What may be started: a whole generation that today's trust policy accepts, asked from what is on this disk.
//!
//! The answer takes longer than it takes to stop a program, so it is looked for meanwhile, once the entrance holds.
//!
//! Side effects: reads the generation, the policy and its keys.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::blocking::blocking;
use super::generation::{Folder, Generation};
use super::trouble;
use crate::machine::{GenerationId, Trouble, TroubleKind};

/// How long an answer that was looked for ahead is today's. A start that comes later asks anew.
const TODAY: Duration = Duration::from_secs(10);

/// An answer that is on its way.
#[derive(Debug, Default)]
pub(super) struct Ahead(Mutex<Option<Asked>>);

#[derive(Debug)]
struct Asked {
    id: GenerationId,
    at: Instant,
    answer: JoinHandle<Result<Generation, Trouble>>,
}

impl Ahead {
    /// Begins to look for the answer.
    pub(super) fn ask(&self, id: GenerationId, folder: Folder, policy: PathBuf) {
        let answer = tokio::task::spawn_blocking(move || admit(id, &folder, &policy));
        let asked = Asked { id, at: Instant::now(), answer };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
    }

    /// The generation, if it may be started.
    pub(super) async fn answer(
        &self,
        id: GenerationId,
        folder: Folder,
        policy: PathBuf,
    ) -> Result<Generation, Trouble> {
        // Taken in any case: what was asked for one change is no answer for the next.
        let asked = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(asked) = asked
            && asked.id == id
            && asked.at.elapsed() < TODAY
        {
            return asked.answer.await.map_err(|error| trouble::failed(&error))?;
        }
        blocking(move || admit(id, &folder, &policy)).await
    }
}

fn admit(id: GenerationId, folder: &Folder, policy: &Path) -> Result<Generation, Trouble> {
    let generation = folder.read().map_err(|error| trouble::failed(&error))?;
    let evidence = folder.evidence().map_err(|error| trouble::failed(&error))?;
    let policy = crate::policy::read(policy).map_err(|failure| trouble::from_failure(&failure))?;
    evidence.verify(&policy, Timestamp::now()).map_err(|rejection| trouble::refused(&rejection))?;
    if *evidence.image.manifest.digest() != generation.image
        || *evidence.release.manifest.digest() != generation.release.digest
    {
        let text = format!("{id}: the record names another release or image than the one that was verified");
        return Err(Trouble::new(TroubleKind::Refused, text));
    }
    Ok(generation)
}
