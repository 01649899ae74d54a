//! Containers that are made before they are needed: all that is left to do is to start them.
//!
//! Side effects: creates containers by the runtime; looks into `/proc` for what they mounted.

use std::os::unix::fs::MetadataExt;

use nebh_oci::runtime::BundleSpec;
use nebh_trust::release::ReleaseStatement;

use super::generation::Generation;
use super::local::LocalHost;
use super::places::Places;
use super::trouble;
use crate::container::{self, Planned, Run, User};
use crate::machine::{GenerationId, Trouble};

impl LocalHost {
    /// A container that waits to be started, unless there is one.
    pub(super) async fn spare(&self, id: GenerationId, generation: &Generation, data: &Places) -> Result<(), Trouble> {
        let folder = self.folder(id);
        if folder.runs().iter().any(|run| run.is_spare() && sees(run, &generation.statement, data)) {
            return Ok(());
        }
        let spec = self.spec(generation, data, None);
        let created = self.node.runner.create(&folder.next_run(), &spec).await;
        created.map(drop).map_err(|error| trouble::failed(&error))
    }

    pub(super) fn spec(&self, generation: &Generation, data: &Places, check: Option<&[String]>) -> BundleSpec {
        let statement = &generation.statement;
        let planned = Planned {
            root: &self.node.root(&generation.image),
            config: &self.node.config(&generation.config),
            data,
            user: User { uid: generation.uid, gid: generation.gid },
            node: self.node.settings.node.as_text(),
        };
        let mut spec = container::plan(statement, &generation.image_config, &planned, check);
        if check.is_some() {
            spec.network = nebh_oci::runtime::NetworkMode::None;
            return spec;
        }
        container::with_data(spec, statement, data)
    }
}

/// True if the container was created on these very data: mounts follow what they mounted, not the path.
pub(super) fn sees(run: &Run, statement: &ReleaseStatement, data: &Places) -> bool {
    let Some(process) = run.process() else { return false };
    statement.data.iter().all(|(name, mount)| {
        let Some(place) = data.get(name.as_str()) else { return true };
        let inside = format!("/proc/{}/root{}", process.pid, mount.mount);
        match (std::fs::symlink_metadata(inside), std::fs::symlink_metadata(place)) {
            (Ok(seen), Ok(there)) => (seen.dev(), seen.ino()) == (there.dev(), there.ino()),
            _ => false,
        }
    })
}
