//! The plan: all that decides one image, in one document. Its digest is the build's identity; what has the same plan has
//! the same bytes.
//! Pure.

use std::collections::BTreeMap;

use nebh_oci::digest::Digest;
use nebh_oci::json::{self, JsonError};
use serde::Serialize;

use crate::assembly::{ASSEMBLY, COMPRESSOR};
use crate::lock::{Lock, LockedPackage};
use crate::root::FINISHERS;
use crate::spec::{Buildspec, ImageSpec, Step};

/// Version of the plan document.
pub const PLAN_VERSION: u32 = 1;
/// Names what a step can see and use in the sandbox; a change that a compiler could notice is a new name.
pub const SANDBOX: &str = "nebh-sandbox-3";
/// A source whose packages have at least this many bytes gets a layer of its own.
const OWN_LAYER_BYTES: u64 = 3 << 20;
/// Layers that the small packages share. Which one is decided by name alone, so that one package more changes one layer.
const SHARED_LAYERS: u8 = 4;
/// Package layers of one image: docker stops at 127 of all kinds.
const PACKAGE_LAYERS_MAX: usize = 40;

/// Everything that decides an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// The assembly contract.
    pub assembly: u32,
    /// The compressor of layers.
    pub compressor: &'static str,
    /// What stands for packages' scripts.
    pub finishers: u32,
    /// The sandbox of steps.
    pub sandbox: &'static str,
    /// Debian's name of the architecture.
    pub architecture: String,
    /// Name of the image.
    pub name: String,
    /// The commit.
    pub commit: String,
    /// Its time, in seconds since 1970.
    pub time: u64,
    /// True if no commit of anybody's holds these files.
    pub work_tree: bool,
    /// The source files.
    pub source: Digest,
    /// The lock's text.
    pub lock: Digest,
    /// What is made from the source, in order.
    pub steps: Vec<Step>,
    /// Which package is in which layer, in order of layers.
    pub groups: Vec<Group>,
    /// What the image is told.
    pub image: ImageSpec,
}

/// Packages that share a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Group {
    /// What the layer is called in messages and in the image's history.
    pub name: String,
    /// Its packages, by name.
    pub packages: Vec<PackageKey>,
}

/// A package as far as a layer's bytes go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PackageKey {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub sha256: Digest,
}

/// What the plan is made from, besides buildspec and lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedSource {
    /// The commit.
    pub commit: String,
    /// Its time.
    pub time: u64,
    /// Whether it is a work tree.
    pub work_tree: bool,
    /// Its files.
    pub files: Digest,
}

/// Makes the plan.
pub fn plan(buildspec: &Buildspec, lock: &Lock, lock_text: &Digest, source: PlannedSource) -> Plan {
    Plan {
        version: PLAN_VERSION,
        assembly: ASSEMBLY,
        compressor: COMPRESSOR,
        finishers: FINISHERS,
        sandbox: SANDBOX,
        architecture: lock.architecture.clone(),
        name: buildspec.name.to_string(),
        commit: source.commit,
        time: source.time,
        work_tree: source.work_tree,
        source: source.files,
        lock: *lock_text,
        steps: buildspec.steps.clone(),
        groups: groups(&lock.image_packages),
        image: buildspec.image.clone(),
    }
}

impl Plan {
    /// The plan's digest.
    pub fn digest(&self) -> Result<Digest, JsonError> {
        json::canonical(self).map(|bytes| Digest::sha256(&bytes))
    }
}

impl Group {
    /// The digest of all that decides this group's layer, but for the time that its files may not exceed.
    pub fn key(&self) -> Result<Digest, JsonError> {
        json::canonical(&(ASSEMBLY, COMPRESSOR, &self.packages)).map(|bytes| Digest::sha256(&bytes))
    }
}

/// Divides packages among layers: large sources alone, small ones together by name.
pub fn groups(packages: &[LockedPackage]) -> Vec<Group> {
    let mut sources: BTreeMap<&str, Vec<&LockedPackage>> = BTreeMap::new();
    for package in packages {
        sources.entry(source_of(package)).or_default().push(package);
    }
    let mut own_bytes = OWN_LAYER_BYTES;
    loop {
        let groups = divide(&sources, own_bytes);
        if groups.len() <= PACKAGE_LAYERS_MAX {
            return groups;
        }
        own_bytes *= 2;
    }
}

fn divide(sources: &BTreeMap<&str, Vec<&LockedPackage>>, own_bytes: u64) -> Vec<Group> {
    let mut groups: BTreeMap<String, Vec<PackageKey>> = BTreeMap::new();
    for (source, packages) in sources {
        let bytes: u64 = packages.iter().map(|package| package.size).sum();
        let name = if bytes >= own_bytes { (*source).to_owned() } else { shared_layer(source) };
        let keys = packages.iter().map(|package| PackageKey { name: package.name.clone(), sha256: package.sha256 });
        groups.entry(name).or_default().extend(keys);
    }
    groups
        .into_iter()
        .map(|(name, mut packages)| {
            packages.sort();
            Group { name, packages }
        })
        .collect()
}

fn shared_layer(source: &str) -> String {
    let number = Digest::sha256(source.as_bytes()).bytes().first().copied().unwrap_or(0) % SHARED_LAYERS;
    // A space sorts before every source's name, and no source is called so.
    format!(" small packages {}", number + 1)
}

/// The source package, which is the folder that the pool keeps its packages in.
fn source_of(package: &LockedPackage) -> &str {
    package.path.rsplit('/').nth(1).filter(|folder| !folder.is_empty()).unwrap_or(&package.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(source: &str, name: &str, size: u64) -> LockedPackage {
        LockedPackage {
            name: name.into(),
            version: "1".into(),
            architecture: "amd64".into(),
            suite: "trixie".parse().unwrap(),
            size,
            sha256: Digest::sha256(name.as_bytes()),
            path: format!("pool/main/x/{source}/{name}_1_amd64.deb"),
        }
    }

    fn many() -> Vec<LockedPackage> {
        (0..60).map(|n| package(&format!("s{n}"), &format!("p{n}"), 10_000)).collect()
    }

    #[test]
    fn large_source_has_a_layer_of_its_own() {
        let packages = [package("gcc", "gcc", 2 << 20), package("gcc", "cpp", 2 << 20), package("tiny", "tiny", 1)];
        let groups = groups(&packages);
        let gcc = groups.iter().find(|group| group.name == "gcc").unwrap();
        assert_eq!(gcc.packages.iter().map(|package| package.name.as_str()).collect::<Vec<_>>(), ["cpp", "gcc"]);
        assert_eq!(groups.len(), 2);
    }

    #[test]
    fn one_small_package_more_changes_one_layer() {
        let before = groups(&many());
        let mut packages = many();
        packages.push(package("new", "new", 10_000));
        let after = groups(&packages);
        let changed = after.iter().filter(|group| !before.contains(group)).count();
        assert_eq!((before.len(), after.len(), changed), (4, 4, 1));
    }

    #[test]
    fn order_of_the_lock_does_not_matter() {
        let mut packages = many();
        packages.reverse();
        assert_eq!(groups(&packages), groups(&many()));
    }

    #[test]
    fn layers_stay_below_what_engines_take() {
        let packages: Vec<_> = (0..300).map(|n| package(&format!("s{n}"), &format!("p{n}"), 4 << 20)).collect();
        assert!(groups(&packages).len() <= PACKAGE_LAYERS_MAX);
        assert!(groups(&[]).is_empty());
    }

    #[test]
    fn plan_of_the_same_is_the_same_and_of_another_is_another() {
        let buildspec = Buildspec::parse("b", "name: shop/api\nimage: { base: debian/trixie }\n").unwrap();
        let lock = Lock {
            request: crate::lock::Request::of(&buildspec),
            architecture: "amd64".into(),
            suites: Vec::new(),
            image_packages: many(),
            toolchain: Vec::new(),
            language: None,
        };
        let source = |files: &[u8], time| PlannedSource {
            commit: "c".into(),
            time,
            work_tree: false,
            files: Digest::sha256(files),
        };
        let digest =
            |files, time| plan(&buildspec, &lock, &Digest::sha256(b"lock"), source(files, time)).digest().unwrap();
        assert_eq!(digest(b"a", 1), digest(b"a", 1));
        assert_ne!(digest(b"a", 1), digest(b"b", 1));
        assert_ne!(digest(b"a", 1), digest(b"a", 2));
    }
}
