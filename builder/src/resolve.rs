//! From a buildspec to its lock: which suites are read, what is asked of the solver, what an earlier lock keeps.
//!
//! An image is *not* a Debian system: it stands on [`BASE_PACKAGES`] and holds besides what was asked for and what that
//! depends on. Debian lets a package use any `Essential` package (a shell, coreutils, dpkg …) without saying so; who
//! needs one of these names it. Side effects: those of `debian::index`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use nebh_oci::digest::Digest;

use crate::archive::InputArchive;
use crate::debian::index::{IndexError, Reader, SuiteIndex};
use crate::debian::solve::{SolveError, solve};
use crate::debian::universe::{Pin, Universe, preferred};
use crate::fetch::Http;
use crate::lock::cargo::{CargoLockError, crates};
use crate::lock::{Lock, LockedLanguage, LockedPackage, Request};
use crate::spec::{Base, Buildspec, PackageRequest, Suite, Toolchain};
use crate::upstream::Upstreams;

/// What every image stands on: the root folders and their links, the users that packages expect, the C library.
pub const BASE_PACKAGES: [&str; 3] = ["base-files", "base-passwd", "libc6"];
/// The compiler, from the backports of the suite where it has them: a release's own is soon too old for many crates.
const RUST_PACKAGES: [&str; 2] = ["cargo", "rustc"];
/// What else a Rust step runs: the linker, the C compiler of bundled C sources, and what build scripts call.
const RUST_TOOLS: [&str; 9] =
    ["base-files", "base-passwd", "coreutils", "dash", "gcc", "grep", "libc6-dev", "make", "sed"];
/// Suites that have no updates, security or backports of their own: they roll.
const ROLLING: [&str; 5] = ["sid", "unstable", "experimental", "rc-buggy", "testing"];

/// Why no lock can be made.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// A suite cannot be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Image or toolchain cannot be put together.
    #[error("no set of packages for the {what}")]
    Solve {
        /// The image, or the toolchain.
        what: &'static str,
        /// Why.
        #[source]
        cause: SolveError,
    },
    /// `Cargo.lock` is not there.
    #[error("the rust step needs `Cargo.lock` beside the buildspec")]
    NoCargoLock,
    /// `Cargo.lock` cannot be built from.
    #[error("`Cargo.lock` cannot be locked")]
    CargoLock(#[from] CargoLockError),
    /// The mirror is behind what was already locked.
    #[error("the mirror's index of suite `{suite}` is of {now}, older than the lock's of {locked}")]
    Regressed {
        /// The suite.
        suite: Suite,
        /// The date of the mirror's index.
        now: Timestamp,
        /// The date of the lock's.
        locked: Timestamp,
    },
    /// No build of Debian for this machine.
    #[error("this machine's architecture `{0}` is not one of Debian's that images are built for")]
    Architecture(&'static str),
    /// No client.
    #[error(transparent)]
    Client(#[from] crate::fetch::FetchError),
}

/// What an earlier lock is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// Its packages stay where they still can.
    Nothing,
    /// These packages are taken new, the others stay.
    Only(BTreeSet<String>),
    /// All are taken new.
    Everything,
}

/// All that a lock is made from.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// What is wanted.
    pub buildspec: &'a Buildspec,
    /// The bytes of `Cargo.lock`, if there is one.
    pub cargo_lock: Option<&'a [u8]>,
    /// The lock before.
    pub previous: Option<&'a Lock>,
    /// What of it is taken new.
    pub update: Update,
    /// Debian's name of the architecture; see [`architecture`].
    pub architecture: &'a str,
    /// The time.
    pub now: Timestamp,
}

/// Debian's name of this machine's architecture.
pub fn architecture() -> Result<&'static str, ResolveError> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => Err(ResolveError::Architecture(other)),
    }
}

/// Makes the lock of a buildspec.
pub async fn lock(
    question: &Question<'_>,
    upstreams: &Upstreams,
    archive: &InputArchive,
) -> Result<Lock, ResolveError> {
    let architecture = question.architecture;
    let request = Request::of(question.buildspec);
    let language = language(question)?;
    let same = |previous: &&Lock| {
        question.update == Update::Nothing && previous.request == request && previous.architecture == architecture
    };
    if let Some(previous) = question.previous.filter(same) {
        // Only `Cargo.lock` changed: the packages, and the toolchain with them, stay without asking anybody.
        return Ok(Lock { language, ..previous.clone() });
    }
    let reader = Reader { http: Http::new()?, upstreams, archive, architecture, now: question.now };
    let mut suites = Suites { reader, request: &request, read: BTreeMap::new() };
    suites.read_all(question.previous).await?;
    let (image_packages, toolchain) = (suites.image(question)?, suites.toolchain(question)?);
    let used: BTreeSet<&Suite> = image_packages.iter().chain(&toolchain).map(|package| &package.suite).collect();
    let wanted = suites.image_suites().into_iter().chain(suites.toolchain_suites()).map(|(suite, _)| suite);
    let wanted: BTreeSet<Suite> = wanted.collect();
    let suites = suites.read.into_iter().filter(|(suite, _)| used.contains(suite) || wanted.contains(suite));
    Ok(Lock {
        architecture: architecture.to_owned(),
        suites: suites.filter_map(|(_, index)| index.map(|index| index.locked)).collect(),
        image_packages,
        toolchain,
        language,
        request,
    })
}

fn language(question: &Question<'_>) -> Result<Option<LockedLanguage>, ResolveError> {
    if question.buildspec.rust().is_none() {
        return Ok(None);
    }
    let bytes = question.cargo_lock.ok_or(ResolveError::NoCargoLock)?;
    Ok(Some(LockedLanguage::Rust { cargo_lock: Digest::sha256(bytes), crates: crates(bytes)? }))
}

/// The suites of one lock. A suite that may be absent, and is, is kept as `None`.
struct Suites<'a> {
    reader: Reader<'a>,
    request: &'a Request,
    read: BTreeMap<Suite, Option<SuiteIndex>>,
}

impl Suites<'_> {
    async fn read_all(&mut self, previous: Option<&Lock>) -> Result<(), ResolveError> {
        let mut needed: BTreeMap<Suite, bool> = BTreeMap::new();
        for (suite, _) in self.image_suites().into_iter().chain(self.toolchain_suites()) {
            needed.insert(suite, true);
        }
        if let Some(backports) = self.backports()
            && !needed.contains_key(&backports)
        {
            needed.insert(backports, false);
        }
        for (suite, must_be) in needed {
            let accept_expired = self.request.accept_expired.contains(&suite);
            let index = match self.reader.read(&suite, accept_expired).await {
                Ok(index) => Some(index),
                Err(IndexError::NoSuite(_)) if !must_be => None,
                Err(error) => return Err(error.into()),
            };
            if let Some(index) = &index {
                check_not_older(index, previous)?;
            }
            self.read.insert(suite, index);
        }
        Ok(())
    }

    fn image_suites(&self) -> Vec<(Suite, Pin)> {
        let Base::DebianSuite(base) = &self.request.base;
        with_named(base, &self.request.packages)
    }

    fn toolchain_suites(&self) -> Vec<(Suite, Pin)> {
        match &self.request.toolchain {
            Some(Toolchain::Debian(suite)) => with_named(suite, &self.request.toolchain_packages),
            None => Vec::new(),
        }
    }

    /// The suite that the compiler is taken from where it exists.
    fn backports(&self) -> Option<Suite> {
        let Toolchain::Debian(suite) = self.request.toolchain.as_ref()?;
        if ROLLING.contains(&suite.as_str()) { None } else { derived(suite, "backports") }
    }

    fn image(&self, question: &Question<'_>) -> Result<Vec<LockedPackage>, ResolveError> {
        let kept = question.previous.map_or(&[][..], |lock| &lock.image_packages);
        let base = BASE_PACKAGES.iter().filter_map(|name| Some(PackageRequest::of(name.parse().ok()?)));
        let requests: Vec<PackageRequest> = merge(base, &self.request.packages);
        self.solve("image", &self.image_suites(), &requests, kept, &question.update)
    }

    fn toolchain(&self, question: &Question<'_>) -> Result<Vec<LockedPackage>, ResolveError> {
        if self.request.toolchain.is_none() {
            return Ok(Vec::new());
        }
        let kept = question.previous.map_or(&[][..], |lock| &lock.toolchain);
        let mut suites = self.toolchain_suites();
        let backports = self.backports().filter(|suite| matches!(self.read.get(suite), Some(Some(_))));
        if let Some(backports) = &backports
            && !suites.iter().any(|(suite, _)| suite == backports)
        {
            suites.push((backports.clone(), Pin::OnRequest));
        }
        let tools = RUST_TOOLS.iter().filter_map(|name| Some(PackageRequest::of(name.parse().ok()?)));
        let compiler = RUST_PACKAGES.iter().filter_map(|name| {
            let there = |suite: &&Suite| {
                self.index(suite).is_some_and(|index| index.packages.iter().any(|one| one.name == *name))
            };
            Some(match backports.as_ref().filter(there) {
                Some(suite) => PackageRequest::from_suite(name.parse().ok()?, suite.clone()),
                None => PackageRequest::of(name.parse().ok()?),
            })
        });
        let requests = merge(tools.chain(compiler), &self.request.toolchain_packages);
        self.solve("toolchain", &suites, &requests, kept, &question.update)
    }

    fn index(&self, suite: &Suite) -> Option<&SuiteIndex> {
        self.read.get(suite)?.as_ref()
    }

    fn solve(
        &self,
        what: &'static str,
        suites: &[(Suite, Pin)],
        requests: &[PackageRequest],
        kept: &[LockedPackage],
        update: &Update,
    ) -> Result<Vec<LockedPackage>, ResolveError> {
        let failed = |cause| ResolveError::Solve { what, cause };
        let stays = |package: &&LockedPackage| match update {
            Update::Nothing => true,
            Update::Only(names) => !names.contains(&package.name),
            Update::Everything => false,
        };
        let kept = kept.iter().filter(stays).map(|package| (package.name.as_str(), package.version.as_str()));
        let mut universe = Universe::preferring(preferred(kept));
        for (suite, pin) in suites {
            if let Some(index) = self.index(suite) {
                let added = universe.add(suite, *pin, index.packages.clone());
                added.map_err(|what| failed(SolveError::Malformed(what)))?;
            }
        }
        let ids = solve(&universe, requests).map_err(failed)?;
        let locked = |id: u32| {
            let one = universe.get(id);
            LockedPackage {
                name: one.package.name.clone(),
                version: one.package.version_text.clone(),
                architecture: one.package.architecture.clone(),
                suite: one.suite.clone(),
                size: one.package.size,
                sha256: one.package.sha256,
                path: one.package.path.clone(),
            }
        };
        Ok(ids.into_iter().map(locked).collect())
    }
}

/// What a person asks for comes in place of our own request for the same package: it may name a suite.
fn merge(own: impl Iterator<Item = PackageRequest>, asked: &[PackageRequest]) -> Vec<PackageRequest> {
    let mut requests: Vec<PackageRequest> =
        own.filter(|one| !asked.iter().any(|other| other.name() == one.name())).collect();
    requests.extend_from_slice(asked);
    requests
}

/// A suite with its updates and its security suite, and those that single packages are asked from.
fn with_named(base: &Suite, packages: &[PackageRequest]) -> Vec<(Suite, Pin)> {
    let mut suites = vec![(base.clone(), Pin::Default)];
    if !ROLLING.contains(&base.as_str()) {
        let own = ["updates", "security"].iter().filter_map(|kind| derived(base, kind));
        suites.extend(own.map(|suite| (suite, Pin::Default)));
    }
    for suite in packages.iter().filter_map(PackageRequest::suite) {
        if !suites.iter().any(|(known, _)| known == suite) {
            suites.push((suite.clone(), Pin::OnRequest));
        }
    }
    suites
}

fn derived(base: &Suite, kind: &str) -> Option<Suite> {
    format!("{base}-{kind}").parse().ok()
}

/// A mirror that goes back in time would take away updates that were already locked.
fn check_not_older(index: &SuiteIndex, previous: Option<&Lock>) -> Result<(), ResolveError> {
    let suite = &index.locked.suite;
    let before = previous.and_then(|lock| lock.suites.iter().find(|one| one.suite == *suite));
    match before.filter(|before| before.date > index.locked.date) {
        Some(before) => {
            Err(ResolveError::Regressed { suite: suite.clone(), now: index.locked.date, locked: before.date })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
