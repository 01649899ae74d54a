//! The packages of several suites as one set to choose from. Pure.
//!
//! Which version is tried first is decided here and nowhere else: first what an earlier lock holds, then suites that are
//! read by default before suites that were named for single packages (as apt treats backports), then the newer version.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::str::FromStr;

use debversion::Version;

use super::packages::{Package, Priority};
use super::relation::{Operator, Relation, parse_relations};
use crate::spec::Suite;

/// How readily versions of a suite are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pin {
    /// Only where it was asked for by name, or nothing else fulfils a demand.
    OnRequest,
    /// By default.
    Default,
}

/// Position of a package in the universe.
pub type PackageId = u32;

/// A package and where it came from.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The package.
    pub package: Package,
    /// Its suite.
    pub suite: Suite,
    pin: Pin,
}

/// All packages to choose from.
#[derive(Clone, Debug, Default)]
pub struct Universe {
    candidates: Vec<Candidate>,
    by_name: BTreeMap<String, Vec<PackageId>>,
    providers: BTreeMap<String, Vec<Provider>>,
    preferred: BTreeMap<String, Version>,
}

#[derive(Clone, Debug)]
struct Provider {
    package: PackageId,
    version: Option<Version>,
}

impl Universe {
    /// An empty universe in which, of each package, the version of an earlier lock is tried first.
    pub fn preferring(preferred: BTreeMap<String, Version>) -> Self {
        Self { preferred, ..Self::default() }
    }

    /// Adds the packages of one suite. A version that is there already, from a suite added before, stays as it is.
    pub fn add(&mut self, suite: &Suite, pin: Pin, packages: Vec<Package>) -> Result<(), String> {
        let mut known: HashSet<(String, String)> = HashSet::with_capacity(self.candidates.len());
        known.extend(self.candidates.iter().map(|one| (one.package.name.clone(), one.package.version_text.clone())));
        for package in packages {
            if !known.insert((package.name.clone(), package.version_text.clone())) {
                continue;
            }
            let id = PackageId::try_from(self.candidates.len()).map_err(|_| "too many packages")?;
            self.add_provides(id, &package)?;
            self.by_name.entry(package.name.clone()).or_default().push(id);
            self.candidates.push(Candidate { package, suite: suite.clone(), pin });
        }
        self.order();
        Ok(())
    }

    /// The packages of a name, the one to try first in front.
    pub fn named(&self, name: &str) -> &[PackageId] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// One package.
    pub fn get(&self, id: PackageId) -> &Candidate {
        &self.candidates[id as usize]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.candidates.len()
    }

    /// True without any package.
    pub fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// Every real package name, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// What fulfils one relation: packages of that name first, then those that provide it; grouped by name, each group
    /// with the one to try first in front.
    pub fn fulfilling(&self, relation: &Relation) -> Vec<(&str, Vec<PackageId>)> {
        let admits = |version: &Version| relation.constraint.as_ref().is_none_or(|one| one.admits(version));
        let mut groups: Vec<(&str, Vec<PackageId>)> = Vec::new();
        let real = self.named(&relation.name).iter().copied().filter(|id| admits(&self.get(*id).package.version));
        let real: Vec<PackageId> = real.collect();
        if let Some(first) = real.first() {
            groups.push((&self.get(*first).package.name, real));
        }
        for provider in self.providers.get(&relation.name).map_or(&[][..], Vec::as_slice) {
            // A provision without a version fulfils only what asks for none (Debian policy 7.5).
            let fulfils = match (&relation.constraint, &provider.version) {
                (None, _) => true,
                (Some(constraint), Some(version)) => constraint.admits(version),
                (Some(_), None) => false,
            };
            if !fulfils {
                continue;
            }
            let name = self.get(provider.package).package.name.as_str();
            match groups.iter_mut().find(|(known, _)| *known == name) {
                Some((_, ids)) if ids.contains(&provider.package) => {}
                Some((_, ids)) => ids.push(provider.package),
                None => groups.push((name, vec![provider.package])),
            }
        }
        groups
    }

    fn add_provides(&mut self, id: PackageId, package: &Package) -> Result<(), String> {
        if package.provides.is_empty() {
            return Ok(());
        }
        let groups = parse_relations(&package.provides)
            .map_err(|text| format!("package `{}` provides what is no name: {text}", package.name))?;
        for relation in groups.into_iter().flatten() {
            let version = relation.constraint.filter(|one| one.operator == Operator::Equal).map(|one| one.version);
            self.providers.entry(relation.name).or_default().push(Provider { package: id, version });
        }
        Ok(())
    }

    fn order(&mut self) {
        let Self { candidates, by_name, providers, preferred } = self;
        let rank = |id: PackageId| {
            let one = &candidates[id as usize];
            let is_preferred = preferred.get(&one.package.name) == Some(&one.package.version);
            (Reverse(is_preferred), Reverse(one.pin), Reverse(&one.package.version))
        };
        for ids in by_name.values_mut() {
            ids.sort_by(|a, b| rank(*a).cmp(&rank(*b)));
        }
        let importance: HashMap<&str, Priority> =
            candidates.iter().map(|one| (one.package.name.as_str(), one.package.priority)).collect();
        for providers in providers.values_mut() {
            providers.sort_by_cached_key(|one| {
                let package = &candidates[one.package as usize].package;
                let place = by_name[&package.name].iter().position(|id| *id == one.package);
                (importance[package.name.as_str()], package.name.clone(), place)
            });
        }
    }
}

/// Reads the versions of an earlier lock; what is no version is left out, for it only orders candidates.
pub fn preferred<'a>(locked: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, Version> {
    locked.filter_map(|(name, version)| Some((name.to_owned(), Version::from_str(version).ok()?))).collect()
}
