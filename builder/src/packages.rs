//! Locked packages as layers of an image, and as the root of a toolchain; each made once for the digests of its packages.
//! Reads the input archive, writes the store.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use nebh_face::{Exit, Failure};
use nebh_oci::digest::Digest;
use nebh_oci::json;

use crate::archive::InputArchive;
use crate::assembly::{Entry, EntryPath, FileTree, Layer, Meta, Spill, write_layer};
use crate::event::Events;
use crate::lock::LockedPackage;
use crate::plan::{Group, PackageKey};
use crate::root::{Deb, FINISHERS, Limits, PackageFacts, finish, materialize, read_deb, unhandled_script};
use crate::store::{Store, StoreError, Work};

/// What a package layer was made from, so that the layer need not be made again.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct KeptLayer {
    layer: Layer,
    /// The latest time of any file, before it was held back.
    latest: u64,
}

/// A layer, and whether it was kept from before.
#[derive(Clone, Debug)]
pub struct MadeLayer {
    /// The layer.
    pub layer: Layer,
    /// What it holds, for messages and the image's history.
    pub name: String,
    /// True if nothing had to be done.
    pub kept: bool,
}

/// Where packages come from and go to.
#[derive(Debug)]
pub struct Packages<'a> {
    /// The input archive.
    pub inputs: &'a InputArchive,
    /// The store.
    pub store: &'a Store,
    /// Scratch space of this build.
    pub work: &'a Work,
    /// Who is told.
    pub events: &'a Events,
}

/// Layers made at the same time, where there are as many CPUs: each may hold 64 MiB of small files.
const LAYERS_AT_ONCE: usize = 4;

/// Folders of a toolchain's root that the sandbox mounts something onto.
pub const MOUNT_POINTS: [&str; 9] = ["dev", "proc", "tmp", "x", "x/.cargo", "x/home", "x/src", "x/target", "x/vendor"];

impl Packages<'_> {
    /// The layers of all groups, in their order.
    pub fn layers(&self, groups: &[Group], latest: u64) -> Result<Vec<MadeLayer>, Failure> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(LAYERS_AT_ONCE).min(groups.len());
        let made: Vec<OnceLock<Result<MadeLayer, Failure>>> = groups.iter().map(|_| OnceLock::new()).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let (Some(group), Some(made)) = (groups.get(at), made.get(at)) else { return };
                let layer = self.layer(group, latest);
                if layer.is_err() {
                    next.store(groups.len(), Ordering::Relaxed);
                }
                // Each place is filled by the one thread that took its number.
                drop(made.set(layer));
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        let mut layers = Vec::with_capacity(groups.len());
        for layer in made.into_iter().filter_map(OnceLock::into_inner) {
            layers.push(layer?);
        }
        Ok(layers)
    }

    /// The layer of one group. No file's time is after `latest`.
    pub fn layer(&self, group: &Group, latest: u64) -> Result<MadeLayer, Failure> {
        let plain = group.key().map_err(|error| internal(&error))?;
        let bounded = key_of(&(plain, latest))?;
        let name = group.name.trim().to_owned();
        let kept = self.kept(&plain).filter(|kept| kept.latest <= latest).or_else(|| self.kept(&bounded));
        if let Some(kept) = kept {
            return Ok(MadeLayer { layer: kept.layer, name, kept: true });
        }
        let spill = self.spill()?;
        let mut tree = FileTree::default();
        let mut newest = 0;
        for package in &group.packages {
            let deb = self.read(package, &spill)?;
            newest = newest.max(deb.facts.latest);
            let status = status(&deb, latest).map_err(|error| wrong(package, &*error))?;
            tree.merge(deb.tree).and_then(|()| tree.merge(status)).map_err(|error| wrong(package, &error))?;
        }
        let layer = write_layer(self.store.images(), &name, &tree, latest).map_err(|error| internal(&error))?;
        let key = if newest <= latest { plain } else { bounded };
        self.store
            .keep("layers", &key, &KeptLayer { layer: layer.clone(), latest: newest })
            .map_err(|e| internal(&e))?;
        Ok(MadeLayer { layer, name, kept: false })
    }

    /// The layer of what packages' scripts would have done. `None` for an image without packages.
    pub fn finishing_layer(&self, groups: &[Group], latest: u64) -> Result<Option<MadeLayer>, Failure> {
        let packages: Vec<&PackageKey> = groups.iter().flat_map(|group| &group.packages).collect();
        if packages.is_empty() {
            return Ok(None);
        }
        let name = "users, certificates, alternatives".to_owned();
        let facts = self.facts(&packages)?;
        for (facts, script) in facts.iter().filter_map(|facts| Some((facts, unhandled_script(facts)?))) {
            self.events
                .note(format!("package {} has a {script} that no finisher stands for; it is not run", facts.name));
        }
        let newest = facts.iter().map(|facts| facts.latest).max().unwrap_or(0).min(latest);
        let key =
            key_of(&("finish", FINISHERS, crate::assembly::ASSEMBLY, crate::assembly::COMPRESSOR, newest, &packages))?;
        if let Some(kept) = self.kept(&key) {
            return Ok(Some(MadeLayer { layer: kept.layer, name, kept: true }));
        }
        let tree = finish(&facts, newest).map_err(|error| internal(&error))?;
        let layer = write_layer(self.store.images(), &name, &tree, newest).map_err(|error| internal(&error))?;
        let kept = KeptLayer { layer: layer.clone(), latest: newest };
        self.store.keep("layers", &key, &kept).map_err(|error| internal(&error))?;
        Ok(Some(MadeLayer { layer, name, kept: false }))
    }

    /// The folder with the root of a toolchain, the digest that it follows from, and whether it was kept from before.
    pub fn root(&self, packages: &[LockedPackage]) -> Result<(PathBuf, Digest, bool), Failure> {
        let mut keys: Vec<PackageKey> =
            packages.iter().map(|one| PackageKey { name: one.name.clone(), sha256: one.sha256 }).collect();
        keys.sort();
        let key = key_of(&("root-1", MOUNT_POINTS, &keys))?;
        if let Some(folder) = self.store.folder("roots", &key) {
            return Ok((folder, key, true));
        }
        let spill = self.spill()?;
        let mut tree = FileTree::default();
        let mut facts = Vec::with_capacity(keys.len());
        for package in &keys {
            let deb = self.read(package, &spill)?;
            facts.push(deb.facts);
            tree.merge(deb.tree).map_err(|error| wrong(package, &error))?;
        }
        let mut finished = finish(&facts, 0).map_err(|error| internal(&error))?;
        for folder in MOUNT_POINTS {
            let path = EntryPath::parse(folder).map_err(|error| internal(&error))?;
            finished.insert(path, Entry::folder(Meta::root(0o755, 0))).map_err(|error| internal(&error))?;
        }
        tree.merge(finished).map_err(|error| internal(&error))?;
        let made = self.work.folder("root").map_err(|error| internal(&error))?;
        materialize(tree, &made).map_err(|error| internal(&error))?;
        let folder = self.store.keep_folder("roots", &key, &made).map_err(|error| internal(&error))?;
        Ok((folder, key, false))
    }

    fn facts(&self, packages: &[&PackageKey]) -> Result<Vec<PackageFacts>, Failure> {
        let mut spill = None;
        packages
            .iter()
            .map(|package| {
                let kept = self.store.record::<PackageFacts>("facts", &package.sha256);
                if let Some(facts) = kept.filter(|facts| facts.version == crate::root::FACTS_VERSION) {
                    return Ok(facts);
                }
                let spill = match &mut spill {
                    Some(spill) => spill,
                    none => none.insert(self.spill()?),
                };
                Ok(self.read(package, spill)?.facts)
            })
            .collect()
    }

    fn read(&self, package: &PackageKey, spill: &Spill) -> Result<Deb, Failure> {
        let path = self.inputs.path(&package.sha256);
        let file = File::open(&path).map_err(|cause| {
            Failure::new(Exit::Failed, format!("input package {} is not in the input archive", package.name))
                .why(format!("cannot open `{}`: {cause}", path.display()))
        })?;
        let file = std::io::BufReader::with_capacity(1 << 18, file);
        let deb = read_deb(file, spill, &Limits::default()).map_err(|error| wrong(package, &error))?;
        if deb.facts.name != package.name {
            return Err(Failure::new(Exit::Failed, format!("input package {} is another one", package.name))
                .why(format!("its control file says `{}`", deb.facts.name)));
        }
        self.store.keep("facts", &package.sha256, &deb.facts).map_err(|error| internal(&error))?;
        Ok(deb)
    }

    /// A layer whose blob is still in the layout.
    fn kept(&self, key: &Digest) -> Option<KeptLayer> {
        let kept: KeptLayer = self.store.record("layers", key)?;
        let descriptor = &kept.layer.descriptor;
        (self.store.images().has(&descriptor.digest) == Some(descriptor.size)).then_some(kept)
    }

    fn spill(&self) -> Result<Spill, Failure> {
        Spill::new(self.work.path())
            .map_err(|cause| Failure::new(Exit::Failed, "cannot make a scratch file").because(&cause))
    }
}

/// What scanners look for to know which packages an image has, in the form of images without `dpkg`.
fn status(deb: &Deb, latest: u64) -> Result<FileTree, Box<dyn std::error::Error>> {
    let mut tree = FileTree::default();
    let meta = Meta::root(0o644, deb.facts.latest.min(latest));
    let mut files = BTreeMap::from([(deb.facts.name.clone(), deb.facts.control.clone())]);
    if let Some(sums) = &deb.md5sums {
        files.insert(format!("{}.md5sums", deb.facts.name), sums.clone());
    }
    for (name, text) in files {
        let path = EntryPath::parse(&format!("var/lib/dpkg/status.d/{name}"))?;
        tree.insert(path, Entry::file(meta, text.into_bytes()))?;
    }
    Ok(tree)
}

/// The digest of a value's canonical JSON.
pub(crate) fn key_of<T: serde::Serialize>(value: &T) -> Result<Digest, Failure> {
    json::canonical(value).map(|bytes| Digest::sha256(&bytes)).map_err(|error| internal(&error))
}

/// A failure of the machine below us: no room, a broken disk, a state folder that somebody took away.
pub(crate) fn internal(error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Failed, "the build stopped").because(error)
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        internal(&error)
    }
}

fn wrong(package: &PackageKey, error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Failed, format!("package {} cannot be unpacked", package.name)).because(error)
}
