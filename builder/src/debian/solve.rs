//! From a request to the set of packages that fulfils it, by the resolvo solver. No I/O and no clock: the solver asks by an
//! async trait, and every answer is ready at once.
//!
//! Every version of every package is something the solver may choose; of one name it may choose one. A dependency is a
//! list of alternatives in the order of the field, a virtual package stands for those that provide it, `Conflicts` and
//! `Breaks` forbid versions of others, never of the package itself. `Recommends` are not followed: an image has what was
//! asked for. The same universe and request give the same set.
//!
//! Rejected: `apt-get -s` in the sandbox. It needs the machine's apt, takes a thousand times as long, and says why
//! something cannot be had only as text for people.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::{self, Display};
use std::rc::Rc;

use resolvo::{
    Candidates, Condition, ConditionId, ConditionalRequirement, Dependencies, DependencyProvider, Interner,
    KnownDependencies, NameId, Problem, Requirement, SolvableId, Solver, SolverCache, StringId, UnsolvableOrCancelled,
    VersionSetId, VersionSetUnionId,
};

use super::relation::{Relation, parse_relations};
use super::universe::{PackageId, Universe};
use crate::spec::PackageRequest;

/// Why a request cannot be fulfilled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SolveError {
    /// No such package.
    #[error("package `{request}` is in none of the suites {}", .suites.join(", "))]
    Unknown {
        /// What was asked for.
        request: PackageRequest,
        /// Where it was looked for.
        suites: Vec<String>,
        /// The nearest name, if one is near.
        nearest: Option<String>,
    },
    /// The demands of the packages contradict each other.
    #[error("the packages cannot be had together: {0}")]
    Conflict(String),
    /// A package with a field that is not Debian's.
    #[error("{0}")]
    Malformed(String),
}

/// The packages that fulfil the requests, with all that they need, in order of name.
pub fn solve(universe: &Universe, requests: &[PackageRequest]) -> Result<Vec<PackageId>, SolveError> {
    let graph = Graph::new(universe);
    let mut requirements = Vec::new();
    for request in requests {
        let name = request.name().as_str();
        let mut groups = universe.fulfilling(&Relation { name: name.to_owned(), constraint: None });
        for (_, ids) in &mut groups {
            ids.retain(|id| request.suite().is_none_or(|suite| universe.get(*id).suite == *suite));
        }
        groups.retain(|(_, ids)| !ids.is_empty());
        if groups.is_empty() {
            return Err(unknown(universe, request));
        }
        requirements.push(graph.requirement(&request.to_string(), groups));
    }
    let mut solver = Solver::new(graph);
    match solver.solve(Problem::new().requirements(requirements)) {
        Ok(solution) => {
            if let Some(what) = solver.provider().malformed.borrow_mut().take() {
                return Err(SolveError::Malformed(what));
            }
            let mut ids: Vec<PackageId> = solution.into_iter().map(resolvo::DenseId::into_raw).collect();
            ids.sort_by(|a, b| universe.get(*a).package.name.cmp(&universe.get(*b).package.name));
            Ok(ids)
        }
        Err(UnsolvableOrCancelled::Unsolvable(conflict)) => {
            let text = conflict.display_user_friendly(&solver).to_string();
            Err(SolveError::Conflict(text.trim().to_owned()))
        }
        Err(UnsolvableOrCancelled::Cancelled(_)) => Err(SolveError::Malformed("the solver was cancelled".to_owned())),
    }
}

fn unknown(universe: &Universe, request: &PackageRequest) -> SolveError {
    let names: Vec<&str> = universe.names().collect();
    let suites = (0..universe.len()).filter_map(|id| PackageId::try_from(id).ok());
    let suites: BTreeSet<String> = suites.map(|id| universe.get(id).suite.to_string()).collect();
    let nearest = nebh_face::document::nearest(request.name().as_str(), &names).map(str::to_owned);
    SolveError::Unknown {
        request: request.clone(),
        suites: match request.suite() {
            Some(suite) => vec![suite.to_string()],
            None => suites.into_iter().collect(),
        },
        nearest: nearest.filter(|near| near != request.name().as_str()),
    }
}

/// The universe in the words of the solver. Sets of versions are made as it asks for them.
struct Graph<'a> {
    universe: &'a Universe,
    interned: RefCell<Interned>,
    malformed: RefCell<Option<String>>,
}

#[derive(Default)]
struct Interned {
    names: Vec<Rc<str>>,
    name_ids: HashMap<Rc<str>, u32>,
    sets: Vec<Rc<VersionSet>>,
    set_ids: BTreeMap<(u32, Vec<PackageId>), u32>,
    unions: Vec<Rc<[VersionSetId]>>,
    strings: Vec<Rc<str>>,
}

struct VersionSet {
    name: u32,
    members: Vec<PackageId>,
    label: String,
}

impl Interned {
    fn name(&mut self, name: &str) -> u32 {
        if let Some(id) = self.name_ids.get(name) {
            return *id;
        }
        let id = index(self.names.len());
        let name: Rc<str> = name.into();
        self.names.push(name.clone());
        self.name_ids.insert(name, id);
        id
    }

    fn set(&mut self, name: &str, mut members: Vec<PackageId>, label: &str) -> VersionSetId {
        members.sort_unstable();
        let name = self.name(name);
        let key = (name, members.clone());
        if let Some(id) = self.set_ids.get(&key) {
            return VersionSetId(*id);
        }
        let id = index(self.sets.len());
        self.sets.push(Rc::new(VersionSet { name, members, label: label.to_owned() }));
        self.set_ids.insert(key, id);
        VersionSetId(id)
    }
}

/// Lists are bounded far below this (`PACKAGES_MAX`, `GROUPS_MAX`).
fn index(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

impl<'a> Graph<'a> {
    fn new(universe: &'a Universe) -> Self {
        Self { universe, interned: RefCell::default(), malformed: RefCell::default() }
    }

    fn requirement(&self, label: &str, groups: Vec<(&str, Vec<PackageId>)>) -> ConditionalRequirement {
        let mut interned = self.interned.borrow_mut();
        let sets: Vec<VersionSetId> =
            groups.into_iter().map(|(name, members)| interned.set(name, members, label)).collect();
        match &sets[..] {
            // Nothing fulfils it: an empty set, so that the solver's explanation names it.
            [] => {
                let name = label.split([' ', '|']).next().unwrap_or(label);
                Requirement::Single(interned.set(name, Vec::new(), label)).into()
            }
            [one] => Requirement::Single(*one).into(),
            _ => {
                let id = index(interned.unions.len());
                interned.unions.push(sets.into());
                Requirement::Union(VersionSetUnionId(id)).into()
            }
        }
    }

    fn dependencies(&self, id: PackageId) -> Result<KnownDependencies, String> {
        let package = &self.universe.get(id).package;
        let wrong = |what: String| format!("package `{}` has a malformed relation: {what}", package.name);
        let mut known = KnownDependencies::default();
        for alternatives in parse_relations(&package.depends).map_err(wrong)? {
            let label = label(&alternatives);
            let groups = alternatives.iter().flat_map(|one| self.universe.fulfilling(one)).collect();
            known.requirements.push(self.requirement(&label, groups));
        }
        for relation in parse_relations(&package.conflicts).map_err(wrong)?.into_iter().flatten() {
            for (name, forbidden) in self.universe.fulfilling(&relation) {
                if name == package.name {
                    continue;
                }
                let others = self.universe.named(name).iter().copied().filter(|id| !forbidden.contains(id));
                let label = format!("not {}", label(std::slice::from_ref(&relation)));
                known.constrains.push(self.interned.borrow_mut().set(name, others.collect(), &label));
            }
        }
        Ok(known)
    }

    fn string(&self, text: &str) -> StringId {
        let mut interned = self.interned.borrow_mut();
        interned.strings.push(text.into());
        StringId(index(interned.strings.len() - 1))
    }
}

fn label(alternatives: &[Relation]) -> String {
    use super::relation::Operator as O;
    let text = |relation: &Relation| match &relation.constraint {
        None => relation.name.clone(),
        Some(constraint) => {
            let sign = match constraint.operator {
                O::Earlier => "<<",
                O::EarlierOrEqual => "<=",
                O::Equal => "=",
                O::LaterOrEqual => ">=",
                O::Later => ">>",
            };
            format!("{} ({sign} {})", relation.name, constraint.version)
        }
    };
    alternatives.iter().map(text).collect::<Vec<_>>().join(" | ")
}

/// A text that lives as long as the solver's display of it.
struct Shown(String);

impl Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Interner for Graph<'_> {
    type NameId = NameId;
    type SolvableId = SolvableId;

    fn display_solvable(&self, solvable: SolvableId) -> impl Display + '_ {
        let one = self.universe.get(solvable.into_raw());
        Shown(format!("{} {}", one.package.name, one.package.version_text))
    }

    fn display_merged_solvables(&self, solvables: &[SolvableId]) -> impl Display + '_ {
        let shown: BTreeSet<String> = solvables.iter().map(|id| self.display_solvable(*id).to_string()).collect();
        Shown(shown.into_iter().collect::<Vec<_>>().join(" | "))
    }

    fn display_name(&self, name: NameId) -> impl Display + '_ {
        Shown(self.interned.borrow().names[name.into_raw() as usize].to_string())
    }

    fn display_version_set(&self, version_set: VersionSetId) -> impl Display + '_ {
        Shown(format!("({})", self.interned.borrow().sets[version_set.0 as usize].label))
    }

    fn display_string(&self, string: StringId) -> impl Display + '_ {
        Shown(self.interned.borrow().strings[string.0 as usize].to_string())
    }

    fn version_set_name(&self, version_set: VersionSetId) -> NameId {
        NameId::from_raw(self.interned.borrow().sets[version_set.0 as usize].name)
    }

    fn solvable_name(&self, solvable: SolvableId) -> NameId {
        NameId::from_raw(self.interned.borrow_mut().name(&self.universe.get(solvable.into_raw()).package.name))
    }

    fn version_sets_in_union(&self, union: VersionSetUnionId) -> impl Iterator<Item = VersionSetId> {
        let sets = self.interned.borrow().unions[union.0 as usize].clone();
        (0..sets.len()).map(move |at| sets[at])
    }

    fn resolve_condition(&self, _condition: ConditionId) -> Condition {
        // We make no conditional requirement; this is the answer that demands nothing new.
        Condition::Requirement(VersionSetId(0))
    }
}

impl DependencyProvider for Graph<'_> {
    async fn filter_candidates(
        &self,
        candidates: &[SolvableId],
        version_set: VersionSetId,
        inverse: bool,
    ) -> Vec<SolvableId> {
        let set = self.interned.borrow().sets[version_set.0 as usize].clone();
        let within = |id: &SolvableId| set.members.binary_search(&id.into_raw()).is_ok() != inverse;
        candidates.iter().copied().filter(within).collect()
    }

    async fn get_candidates(&self, name: NameId) -> Option<Candidates> {
        let name = self.interned.borrow().names[name.into_raw() as usize].clone();
        let candidates = self.universe.named(&name).iter().map(|id| SolvableId::from_raw(*id)).collect();
        Some(Candidates { candidates, ..Candidates::default() })
    }

    async fn sort_candidates(&self, _solver: &SolverCache<Self>, solvables: &mut [SolvableId]) {
        // All of one name: the universe holds them with the one to try first in front.
        let Some(first) = solvables.first() else { return };
        let order = self.universe.named(&self.universe.get(first.into_raw()).package.name);
        solvables.sort_by_key(|id| order.iter().position(|one| *one == id.into_raw()));
    }

    async fn get_dependencies(&self, solvable: SolvableId) -> Dependencies {
        match self.dependencies(solvable.into_raw()) {
            Ok(known) => Dependencies::Known(known),
            Err(what) => {
                let text = self.string(&what);
                *self.malformed.borrow_mut() = Some(what);
                Dependencies::Unknown(text)
            }
        }
    }
}
