//! Prepare: everything slow, in the background, long before anybody says "Go!". When it is over, switch and rollback
//! need no network, no unpacking and no question to anybody.
//!
//! ```text
//!   fetch + verify ─► pull ─► unpack ─► render config ─► probe data drivers ─► check config in the new image
//!        network        └────── this disk, by digest ──────┘                        │
//!                                   record ◄─ spare of the new one, spare of the old one (the way back)
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use nebh_oci::image_config::ImageConfig;
use nebh_oci::manifest::Platform;
use nebh_oci::runtime::{Bundle, OutputLine};
use nebh_trust::release::{DataClass, ReleaseStatement, Switch};
use tokio::sync::mpsc;

use super::Progress;
use super::blocking::blocking;
use super::generation::{Folder, Generation};
use super::local::LocalHost;
use super::{disk, fetch, trouble};
use crate::config::{self, Facts as TemplateFacts};
use crate::container::{self, User};
use crate::machine::{
    DatasetClass, DatasetFacts, Facts, GenerationId, PrepareSource, ReleaseRef, SchemaWindow, Trouble, TroubleKind,
};

/// How long a release's own check of its config may take.
const CHECK_WITHIN: Duration = Duration::from_mins(1);
/// Lines of a failed check that are repeated.
const CHECK_LINES_MAX: usize = 5;
/// Snapshots that one way back can need: before the switch, and of what is abandoned.
const SNAPSHOTS_NEEDED: u64 = 2;

impl LocalHost {
    pub(super) async fn prepare(
        &self,
        id: GenerationId,
        source: &PrepareSource,
        beside: Option<GenerationId>,
        progress: &Progress,
    ) -> Result<Facts, Trouble> {
        let folder = self.folder(id);
        // A finished earlier try is taken as it is; only its spare may be gone.
        if folder.read().is_err() {
            let _one_at_a_time = self.node.disk.lock().await;
            let (generation, evidence) = match source {
                PrepareSource::Release { release } => self.assemble(&folder, release, progress).await?,
                PrepareSource::Mix { binary, config } => self.mix(*binary, *config)?,
            };
            self.check_config(&folder, &generation, progress).await?;
            folder.write(&generation, &evidence).map_err(|error| trouble::failed(&error))?;
        }
        let generation = folder.read().map_err(|error| trouble::failed(&error))?;
        self.spare(id, &generation, &self.live_places(&generation.statement)).await?;
        if let Some(old) = beside.filter(|old| *old != id) {
            progress.say("rehearse the way back");
            let old_generation = self.folder(old).read().map_err(|error| {
                Trouble::new(TroubleKind::Failed, format!("the way back, {old}, is not whole on this disk: {error}"))
            })?;
            self.spare(old, &old_generation, &self.live_places(&old_generation.statement)).await?;
        }
        facts(&generation)
    }

    async fn assemble(
        &self,
        folder: &Folder,
        release: &ReleaseRef,
        progress: &Progress,
    ) -> Result<(Generation, super::evidence::Evidence), Trouble> {
        let policy = self.policy()?;
        progress.say(format!("verify {}", release.version));
        let fetched = fetch::fetch(&self.node.client, &self.app.repository, release, &policy).await?;
        tracing::info!(release = %release.digest, by = fetched.signed_by, "verified on this host");
        self.fits_this_node(&fetched.statement)?;
        progress.say("pull");
        let address = &self.app.repository;
        let image = self.node.client.pull_to_layout(address, &fetched.image, &self.node.store).await;
        let image = image.map_err(|error| trouble::from_content(&error))?;
        progress.say("unpack");
        let (store, roots, manifest) = (self.node.store.clone(), self.node.roots(), image.clone());
        let image_config = blocking(move || disk::unpack(&store, &manifest, &roots)).await?;
        made_for(&fetch::platform(), &image_config)?;
        let root = self.node.root(&fetched.image);
        let user =
            container::resolve(&root, image_config.config.user.as_deref()).map_err(|error| trouble::failed(&error))?;
        progress.say("config");
        let config = self.render(&fetched.statement, &fetched.snapshot).await?;
        progress.say("data drivers");
        self.probe_data(&fetched.statement, user).await?;
        let generation = Generation::new(release.clone(), fetched.image, config, user, fetched.statement, image_config);
        std::fs::create_dir_all(folder.path()).map_err(|error| trouble::failed(&error))?;
        Ok((generation, fetched.evidence))
    }

    /// The program of one generation with the config of another: both are here.
    fn mix(
        &self,
        binary: GenerationId,
        config: GenerationId,
    ) -> Result<(Generation, super::evidence::Evidence), Trouble> {
        let read = |id: GenerationId| self.folder(id).read().map_err(|error| trouble::failed(&error));
        let mut generation = read(binary)?;
        generation.config = read(config)?.config;
        let evidence = self.folder(binary).evidence().map_err(|error| trouble::failed(&error))?;
        Ok((generation, evidence))
    }

    /// What the release asks of the node, and the node's settings do not give.
    fn fits_this_node(&self, statement: &ReleaseStatement) -> Result<(), Trouble> {
        if statement.run.switch == Switch::Overlap {
            return Err(trouble::wrong(format!(
                "release {} asks for `run.switch: overlap`, which this nebh cannot do; make it with `stop-first`",
                statement.release.version
            )));
        }
        for (name, dataset) in &statement.data {
            let has_place = self.app.datasets.keys().any(|known| known.as_text() == name.as_str());
            if !has_place && dataset.class != DataClass::Scratch {
                let text = format!("the release has a dataset `{name}`, and the node's settings give it no place");
                return Err(trouble::wrong(text));
            }
        }
        let ports = &statement.run.ports;
        match self.app.ports.keys().find(|port| !ports.contains(port)) {
            Some(port) => Err(trouble::wrong(format!(
                "the node's settings lead to port {port}, and the release listens on {ports:?}"
            ))),
            None => Ok(()),
        }
    }

    async fn render(
        &self,
        statement: &ReleaseStatement,
        snapshot: &nebh_trust::release::ConfigSnapshot,
    ) -> Result<nebh_oci::digest::Digest, Trouble> {
        let settings = &self.node.settings;
        let facts = TemplateFacts {
            node: settings.node.to_string(),
            groups: settings.groups.iter().map(ToString::to_string).collect(),
            app: self.app.name.to_string(),
            version: statement.release.version.to_string(),
            commit: statement.release.commit.to_string(),
            ports: statement.run.ports.clone(),
            data: statement.data.iter().map(|(name, data)| (name.to_string(), data.mount.to_string())).collect(),
        };
        let (mut layers, folders, target) = (snapshot.layers.clone(), self.app.config.clone(), self.node.configs());
        blocking(move || {
            for folder in &folders {
                layers.push(config::read_folder(folder).map_err(|error| trouble::failed(&error))?);
            }
            let rendered = config::render(&layers, &facts).map_err(|error| trouble::wrong(error.to_string()))?;
            config::place(&rendered, &target).map_err(|error| trouble::failed(&error))?;
            Ok(*rendered.digest())
        })
        .await
    }

    /// Each driver at its place, and space for the snapshots of the way back.
    async fn probe_data(&self, statement: &ReleaseStatement, user: User) -> Result<(), Trouble> {
        for (kind, mut dataset) in self.datasets(statement) {
            dataset.owner = Some((user.uid, user.gid));
            let name = dataset.name.clone();
            let probed =
                blocking(move || kind.driver().probe(&dataset).map_err(|error| trouble::from_data(&error))).await?;
            let needed = probed.snapshot_bytes.saturating_mul(SNAPSHOTS_NEEDED);
            if needed > probed.free_bytes {
                let text = format!(
                    "dataset `{name}`: the way back needs {needed} bytes for {SNAPSHOTS_NEEDED} snapshots, and {} are free",
                    probed.free_bytes
                );
                return Err(Trouble::new(TroubleKind::NoSpace, text));
            }
        }
        Ok(())
    }

    /// The release's own check of the rendered config, inside the new image, without network and without data.
    async fn check_config(&self, folder: &Folder, generation: &Generation, progress: &Progress) -> Result<(), Trouble> {
        let check = &generation.statement.config.check;
        if check.is_empty() {
            return Ok(());
        }
        progress.say("check config in the new image");
        let spec = self.spec(generation, &self.live_places(&generation.statement), Some(check));
        let id = folder.container_id("check");
        let at = folder.path().join("check");
        // What an earlier try left would make the runtime refuse the name.
        let runtime = self.node.runner.runtime();
        runtime.delete(&id, true).await.map_err(|error| trouble::failed(&error))?;
        let bundle = Bundle::write(&at, &id, &spec).map_err(|error| trouble::failed(&error))?;
        let (lines, mut inbox) = mpsc::channel::<OutputLine>(16);
        let collect = async {
            let mut last: Vec<String> = Vec::new();
            while let Some(line) = inbox.recv().await {
                if last.len() == CHECK_LINES_MAX {
                    last.remove(0);
                }
                last.push(line.text);
            }
            last
        };
        let run = async { tokio::join!(runtime.run(&bundle, lines), collect) };
        let outcome = tokio::time::timeout(CHECK_WITHIN, run).await;
        drop(std::fs::remove_dir_all(&at));
        let program = check.first().map_or("", String::as_str);
        let Ok((exit, last)) = outcome else {
            let text = format!("the config check `{program}` did not end within {} s", CHECK_WITHIN.as_secs());
            return Err(Trouble::new(TroubleKind::Failed, text));
        };
        let exit = exit.map_err(|error| trouble::failed(&error))?;
        if exit.is_success() {
            return Ok(());
        }
        let (version, said) = (&generation.release.version, last.join(" | "));
        let text = format!("the config check of {version} (`{program}`) failed with {exit}: {said}");
        Err(Trouble::new(TroubleKind::Failed, text))
    }
}

/// An index can list an image for a platform that it was not made for. Its own config knows, and says so here, not in
/// the words of a program that cannot be run.
pub(super) fn made_for(here: &Platform, image: &ImageConfig) -> Result<(), Trouble> {
    if image.os == here.os && image.architecture == here.architecture {
        return Ok(());
    }
    let (os, architecture) = (&image.os, &image.architecture);
    let text = format!(
        "the image is made for {os}/{architecture}, though the release lists it for {}/{}",
        here.os, here.architecture
    );
    Err(trouble::wrong(text))
}

/// What the machine has to know.
fn facts(generation: &Generation) -> Result<Facts, Trouble> {
    let mut datasets = BTreeMap::new();
    for (name, dataset) in &generation.statement.data {
        let name = name.as_str().parse().map_err(|error| trouble::failed(&error))?;
        let class = match dataset.class {
            DataClass::Ledger => DatasetClass::Ledger,
            DataClass::Paired => DatasetClass::Paired,
            DataClass::Derived => DatasetClass::Derived,
            DataClass::Scratch => DatasetClass::Scratch,
        };
        let schema =
            dataset.schema.as_ref().map(|schema| SchemaWindow { writes: schema.writes, reads: schema.reads.clone() });
        datasets.insert(name, DatasetFacts { class, schema });
    }
    let probation = generation.statement.run.probation.duration().as_millis();
    Ok(Facts {
        release: generation.release.clone(),
        image: generation.image,
        config: generation.config,
        datasets,
        probation_ms: u64::try_from(probation).unwrap_or(u64::MAX),
    })
}
