//! One application of this node: what its host knows, and where its generations and their runs are. What is done with
//! them is in the rooms `prepare` (slow), `change` (in a switch), `branch` (other data), `remote` (registry);
//! `perform` leads to them.
//!
//! Side effects: opens the application's ports; reads its folder.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nebh_face::{Exit, Failure};
use nebh_oci::digest::Digest;
use nebh_trust::policy::TrustPolicy;

use super::generation::Folder;
use super::parts::Parts;
use super::{admission, trouble};
use crate::container::Run;
use crate::entrance::Port;
use crate::machine::{GenerationId, Trouble};
use crate::settings::AppSettings;

/// Letters of an application's name that stand in its containers' ids, which may have 96 in all.
const STEM_LETTERS_MAX: usize = 40;

/// One application of this node.
pub struct LocalHost {
    pub(super) node: Arc<Parts>,
    pub(super) app: AppSettings,
    /// `<state>/apps/<app>`.
    pub(super) path: PathBuf,
    pub(super) gate: String,
    stem: String,
    /// Connections that had failed when the entrance was last asked to hold.
    failed_at_hold: Mutex<Option<u64>>,
    pub(super) admission: admission::Ahead,
}

impl std::fmt::Debug for LocalHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalHost").field("app", &self.app.name).finish_non_exhaustive()
    }
}

impl LocalHost {
    /// Opens the application's ports; what comes in waits until something serves.
    pub(super) async fn open(node: Arc<Parts>, app: AppSettings) -> Result<Self, Failure> {
        let path = node.settings.app_dir(&app.name);
        std::fs::create_dir_all(path.join("generations"))
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot make `{}`", path.display())).because(&error))?;
        let gate = app.name.to_string();
        let ports: Vec<Port> = app.ports.iter().map(|(port, listen)| Port { listen: *listen, port: *port }).collect();
        node.entrance.open(&gate, &ports).await.map_err(|error| {
            Failure::new(Exit::Failed, format!("cannot open the ports of `{gate}`"))
                .because(&error)
                .next("see which program listens there:  ss -ltnp")
        })?;
        let stem = stem(&app.name.to_string(), &path);
        Ok(Self {
            node,
            app,
            path,
            gate,
            stem,
            failed_at_hold: Mutex::new(None),
            admission: admission::Ahead::default(),
        })
    }

    pub(super) fn folder(&self, generation: GenerationId) -> Folder {
        Folder::of(&self.path, &self.stem, generation)
    }

    /// Every generation that has a folder.
    pub(super) fn folders(&self) -> impl Iterator<Item = Folder> {
        Folder::all(&self.path).into_iter().map(|id| self.folder(id))
    }

    /// Every run of every generation.
    pub(super) fn runs(&self) -> Vec<(GenerationId, Run)> {
        let of = |id: GenerationId| self.folder(id).runs().into_iter().map(move |run| (id, run));
        Folder::all(&self.path).into_iter().flat_map(of).collect()
    }

    /// The run of a generation that was told to start last, whether it still runs or not: the record of its end may be
    /// a moment behind its end.
    pub(super) fn last_started(&self, generation: GenerationId) -> Option<Run> {
        self.folder(generation).runs().into_iter().rfind(Run::is_started)
    }

    /// Today's trust policy.
    pub(super) fn policy(&self) -> Result<TrustPolicy, Trouble> {
        crate::policy::read(&self.node.settings.trust).map_err(|failure| trouble::from_failure(&failure))
    }

    pub(super) async fn failed_so_far(&self) -> Result<u64, Trouble> {
        let (_, gates) = self.node.entrance.stats_soon().await.map_err(|error| trouble::failed(&error))?;
        Ok(gates.iter().find(|gate| gate.gate == self.gate).map_or(0, |gate| gate.failed))
    }

    pub(super) fn note_failed(&self, count: u64) {
        *self.failed_at_hold.lock().unwrap_or_else(PoisonError::into_inner) = Some(count);
    }

    pub(super) fn failed_since_hold(&self, count: u64) -> u64 {
        let before = self.failed_at_hold.lock().unwrap_or_else(PoisonError::into_inner).take();
        before.map_or(0, |before| count.saturating_sub(before))
    }
}

/// Begins the ids of an application's containers. Two agents on one machine share its cgroups, so the state folder is
/// part of it.
fn stem(app: &str, path: &Path) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let letters: String = app.chars().map(legal).take(STEM_LETTERS_MAX).collect();
    let place = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let place = Digest::sha256(place.as_os_str().as_encoded_bytes());
    format!("{letters}-{}", place.short())
}
