//! One build from beginning to end: plan, fetch, steps, layers, image. Owns the order; each part owns its effects.
//!
//! ```text
//!   Checkout + buildspec + lock ─► plan ─► known? ─► image
//!                                    └─► fetch ─► steps ─► layers ─► image ─► known from now on
//! ```
//!
//! Safe to drop at every await: containers end with their future, and what is half made lies in the build's own scratch
//! folder. Nothing is remembered before it is whole.

use std::time::Instant;

use nebh_face::{Exit, Failure};
use nebh_oci::digest::Digest;
use nebh_oci::layout::Layout;
use nebh_oci::manifest::RawManifest;

use crate::archive::InputArchive;
use crate::assembly::{FileTree, Spill, write_layer};
use crate::blocking::blocking;
use crate::crash;
use crate::event::{BuildEvent, Events};
use crate::image::{NamedLayer, image};
use crate::lock::{LOCK_FILE, Lock};
use crate::packages::{MadeLayer, Packages, internal};
use crate::plan::{Plan, PlannedSource, plan};
use crate::root::merged_place;
use crate::sandbox::Sandbox;
use crate::source::Checkout;
use crate::spec::{BUILDSPEC_FILE, Buildspec, Step};
use crate::step::{RustInputs, files, rust};
use crate::store::{Store, Work};
use crate::upstream::UpstreamSettings;

/// An image that this builder made, with all that a statement about it needs.
#[derive(Clone, Debug)]
pub struct BuiltImage {
    /// The manifest.
    pub manifest: RawManifest,
    /// Where manifest, config and layers are.
    pub layout: Layout,
    /// The digest of the plan.
    pub plan: Digest,
    /// What was asked for.
    pub buildspec: Buildspec,
    /// Every input.
    pub lock: Lock,
    /// The source.
    pub checkout: Checkout,
    /// True if an earlier build had made it.
    pub known: bool,
}

/// What a build does besides the files of its commit.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// Take nothing from upstream: all inputs have to be in the archive.
    pub offline: bool,
    /// Build even if the plan is known.
    pub again: bool,
    /// Where inputs come from, where that is not what this machine's clients use.
    pub upstreams: UpstreamSettings,
}

/// What a commit asks for, read and checked; nothing was fetched yet.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The buildspec.
    pub buildspec: Buildspec,
    /// The lock, which answers it.
    pub lock: Lock,
    /// The plan.
    pub plan: Plan,
}

/// Reads buildspec and lock of a checkout and makes the plan. A missing or stale lock is an error that names the input.
pub fn ask(checkout: &Checkout) -> Result<Asked, Failure> {
    let buildspec = Buildspec::parse(&checkout.named(BUILDSPEC_FILE), &checkout.text(BUILDSPEC_FILE)?)?;
    let lock_text = checkout.text(LOCK_FILE)?;
    let lock_name = checkout.named(LOCK_FILE);
    let lock = Lock::parse(&lock_name, &lock_text).map_err(|error| {
        Failure::new(Exit::Usage, format!("{lock_name} cannot be read"))
            .because(&error)
            .next("run `nebh lock` and commit its result")
    })?;
    lock.check_fresh(&buildspec, checkout.read("Cargo.lock")?.as_deref())?;
    let source = PlannedSource {
        commit: checkout.commit().id.to_string(),
        time: checkout.time(),
        work_tree: checkout.is_work_tree(),
        files: checkout.digest()?,
    };
    let plan = plan(&buildspec, &lock, &Digest::sha256(lock_text.as_bytes()), source);
    Ok(Asked { buildspec, lock, plan })
}

/// Builds the image of a checkout.
pub async fn build(
    checkout: Checkout,
    store: &Store,
    options: &BuildOptions,
    events: &Events,
) -> Result<BuiltImage, Failure> {
    let begun = Instant::now();
    let Asked { buildspec, lock, plan } = ask(&checkout)?;
    let digest = plan.digest().map_err(|error| internal(&error))?;
    let steps = plan.steps.len();
    events.send(BuildEvent::Planned { plan: digest, inputs: lock.inputs().len(), steps });
    let layout = store.images().clone();
    let answer = |manifest, known| BuiltImage {
        manifest,
        layout,
        plan: digest,
        buildspec,
        lock: lock.clone(),
        checkout: checkout.clone(),
        known,
    };
    if !options.again
        && let Some(manifest) = known(store, &digest)
    {
        events.send(BuildEvent::Known { plan: digest, image: *manifest.digest() });
        return Ok(answer(manifest, true));
    }
    let inputs = InputArchive::open(store.inputs()).map_err(|error| internal(&error))?;
    crate::inputs::bring(&lock, &inputs, store, &options.upstreams, options.offline, events).await?;
    let making =
        Build { checkout: &checkout, lock: &lock, plan: &plan, store, inputs: &inputs, work: store.work()?, events };
    let application = making.steps().await?;
    let manifest = blocking(|| making.assemble(&application))?;
    crash::point("image-made");
    store.keep("plans", &digest, manifest.digest())?;
    crash::point("image-kept");
    let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    events.send(BuildEvent::Built { plan: digest, image: *manifest.digest(), millis });
    Ok(answer(manifest, false))
}

/// The image of a plan that was built before and is still whole in the layout.
fn known(store: &Store, plan: &Digest) -> Option<RawManifest> {
    let digest: Digest = store.record("plans", plan)?;
    let manifest = store.images().manifest(&digest).ok()?;
    let image = manifest.image()?;
    let whole =
        image.layers.iter().chain([&image.config]).all(|blob| store.images().has(&blob.digest) == Some(blob.size));
    whole.then_some(manifest)
}

struct Build<'a> {
    checkout: &'a Checkout,
    lock: &'a Lock,
    plan: &'a Plan,
    store: &'a Store,
    inputs: &'a InputArchive,
    work: Work,
    events: &'a Events,
}

impl Build<'_> {
    fn packages(&self) -> Packages<'_> {
        Packages { inputs: self.inputs, store: self.store, work: &self.work, events: self.events }
    }

    /// Runs the steps; what they made as one tree.
    async fn steps(&self) -> Result<FileTree, Failure> {
        let mut tree = FileTree::default();
        if self.plan.steps.is_empty() {
            return Ok(tree);
        }
        let source = self.work.folder("source")?;
        blocking(|| self.checkout.export(&source))?;
        let spill = Spill::new(self.work.path()).map_err(|error| internal(&error))?;
        for step in &self.plan.steps {
            let made = match step {
                Step::Files(step) => files(step, self.checkout.tree(), &source, &spill, self.plan.time)?,
                Step::Rust(step) => {
                    let sandbox = Sandbox::open(&self.store.root().join("runtime")).await.map_err(|error| {
                        internal(&error)
                            .next("install runc (or crun); as another user than root, allow user namespaces")
                    })?;
                    let packages = self.packages();
                    let inputs = RustInputs {
                        checkout: self.checkout,
                        source: &source,
                        lock: self.lock,
                        packages: &packages,
                        sandbox: &sandbox,
                    };
                    rust(step, &inputs, &spill).await?
                }
            };
            tree.merge(made).map_err(|error| internal(&error))?;
        }
        placed(&tree)
    }

    /// Makes the layers and the image.
    fn assemble(&self, application: &FileTree) -> Result<RawManifest, Failure> {
        let layers = self.layers(application)?;
        let sizes =
            |kept: &dyn Fn(&&MadeLayer) -> bool| layers.iter().filter(kept).map(|one| one.layer.descriptor.size).sum();
        self.events.send(BuildEvent::Layers {
            total: layers.len(),
            kept: layers.iter().filter(|one| one.kept).count(),
            bytes_new: sizes(&|one| !one.kept),
            bytes: sizes(&|_| true),
        });
        let named: Vec<NamedLayer> = layers
            .into_iter()
            .map(|made| NamedLayer { name: made.name, descriptor: made.layer.descriptor, diff_id: made.layer.diff_id })
            .collect();
        let image = image(self.plan, self.checkout.timestamp(), &named).map_err(|error| internal(&error))?;
        let images = self.store.images();
        images.put_bytes(&image.config).map_err(|error| internal(&error))?;
        images.put_bytes(image.manifest.bytes()).map_err(|error| internal(&error))?;
        Ok(image.manifest)
    }

    fn layers(&self, application: &FileTree) -> Result<Vec<MadeLayer>, Failure> {
        let packages = self.packages();
        let mut layers = packages.layers(&self.plan.groups, self.plan.time)?;
        layers.extend(packages.finishing_layer(&self.plan.groups, self.plan.time)?);
        if !application.is_empty() {
            let name = self.plan.name.clone();
            let layer =
                write_layer(self.store.images(), &name, application, self.plan.time).map_err(|e| internal(&e))?;
            layers.push(MadeLayer { layer, name, kept: false });
        }
        Ok(layers)
    }
}

/// The tree with every path where it lies in a root of ours: an application's `/lib/x` must not hide the link `/lib`.
fn placed(tree: &FileTree) -> Result<FileTree, Failure> {
    let mut out = FileTree::default();
    for (path, entry) in tree.iter() {
        if let Some(place) = merged_place(path).map_err(|error| internal(&error))? {
            out.insert(place, entry.clone()).map_err(|error| internal(&error))?;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
