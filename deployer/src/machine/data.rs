//! The data of an application: timelines and snapshots, as the journal knows them. Nothing here is ever destroyed.
//! Pure.
//!
//! ```text
//!   tl0 ──●pre──────────────            PARENT   (where the current line comes from)
//!          ├─► tl1 ──●abandoned ─ …     ORPHAN   (left behind: kept, listed, adoptable)
//!          └─► tl2 ───────────────►     CURRENT  (a branch from `pre`, exchanged in)
//! ```
//!
//! A switch from one generation to another begins a new timeline behind its `pre` snapshot, so that an orphan is
//! exactly what was left behind. A timeline's status is computed from the parents, never stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::facts::Facts;
use super::ids::{DatasetName, GenerationId, OpId, ReleaseRef, SnapshotKind, SnapshotName, TimelineId};

/// Schema stamp of each dataset that has one.
pub type Stamps = BTreeMap<DatasetName, u32>;

/// All timelines and snapshots of one application. They grow with every switch and a state is copied at every record, so
/// that states share them until one writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Data {
    /// The line that the live path shows.
    pub current: TimelineId,
    /// Every line there ever was.
    pub timelines: Arc<BTreeMap<TimelineId, Timeline>>,
    /// Every snapshot that an operation needed.
    pub snapshots: Arc<BTreeMap<SnapshotName, SnapshotFacts>>,
    /// A branch that was ordered and is not live, or not yet: something may lie under its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordered: Option<(TimelineId, SnapshotName)>,
    /// The snapshot whose branch some datasets may show while others do not: nothing else may be started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub torn: Option<SnapshotName>,
}

/// One line of history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Timeline {
    /// The snapshot it branched from; none for the first.
    pub parent: Option<SnapshotName>,
    /// When it became the live one.
    #[serde(with = "super::stamp")]
    pub begun: Timestamp,
    /// The generation that wrote to it last.
    pub generation: Option<GenerationId>,
    /// What the data's schema must be taken for.
    pub schema: Stamps,
    /// The last snapshot cut from it: where an adoption would branch from.
    pub last: Option<SnapshotName>,
}

/// One snapshot of all datasets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotFacts {
    /// Its name in every dataset.
    pub name: SnapshotName,
    /// Why it was cut.
    pub kind: SnapshotKind,
    /// By which operation.
    pub op: OpId,
    /// From which line.
    pub timeline: TimelineId,
    /// The generation that had written the data, if any.
    pub generation: Option<GenerationId>,
    /// Its release.
    pub release: Option<ReleaseRef>,
    /// Which datasets it holds.
    pub datasets: Vec<DatasetName>,
    /// Schema of the data in it.
    pub schema: Stamps,
    /// When it was cut.
    #[serde(with = "super::stamp")]
    pub at: Timestamp,
    /// True once its manifest is at the gateway.
    pub published: bool,
}

/// What a timeline is to the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TimelineStatus {
    /// It is the live one.
    Current,
    /// The current one comes from it.
    Parent,
    /// Left behind by a rollback or an adoption.
    Orphan,
}

impl Data {
    /// The data of an application that never ran: whatever is there is `tl0`.
    pub fn first(at: Timestamp) -> Self {
        let first = TimelineId::new(0);
        let line = Timeline { parent: None, begun: at, generation: None, schema: Stamps::new(), last: None };
        let timelines = Arc::new(BTreeMap::from([(first, line)]));
        Self { current: first, timelines, snapshots: Arc::default(), ordered: None, torn: None }
    }

    /// The number that the next timeline gets.
    pub fn next_timeline(&self) -> TimelineId {
        let last = self.timelines.last_key_value().map(|(id, _)| *id);
        let ordered = self.ordered.as_ref().map(|(id, _)| *id);
        last.max(ordered).map_or(TimelineId::new(0), TimelineId::next)
    }

    /// The number for a branch of `snapshot`. A branch that was ordered and did not become live keeps its number for the
    /// same snapshot, and for no other: a half-done exchange is gone on with, and nobody gets other data than asked for.
    pub fn branch_of(&self, snapshot: &SnapshotName) -> TimelineId {
        match &self.ordered {
            Some((id, of)) if of == snapshot => *id,
            _ => self.next_timeline(),
        }
    }

    /// What this timeline is to the current one.
    pub fn status(&self, id: TimelineId) -> TimelineStatus {
        if id == self.current {
            return TimelineStatus::Current;
        }
        let mut at = self.current;
        // A parent's number is always smaller, so this ends.
        while let Some(parent) = self.parent_of(at) {
            if parent == id {
                return TimelineStatus::Parent;
            }
            at = parent;
        }
        TimelineStatus::Orphan
    }

    fn parent_of(&self, id: TimelineId) -> Option<TimelineId> {
        let snapshot = self.timelines.get(&id)?.parent.as_ref()?;
        self.snapshots.get(snapshot).map(|facts| facts.timeline).filter(|parent| *parent < id)
    }

    /// Schema of the live data.
    pub fn schema(&self) -> Stamps {
        self.timelines.get(&self.current).map(|line| line.schema.clone()).unwrap_or_default()
    }

    /// Notes a snapshot of the current line.
    pub(super) fn cut(&mut self, facts: SnapshotFacts) {
        if let Some(line) = Arc::make_mut(&mut self.timelines).get_mut(&self.current) {
            line.last = Some(facts.name.clone());
        }
        Arc::make_mut(&mut self.snapshots).insert(facts.name.clone(), facts);
    }

    /// Why the data cannot be used as they are; `branched` is the snapshot that a branch of is exchanged in first.
    pub(super) fn torn_for(&self, branched: Option<&SnapshotName>) -> Option<String> {
        let torn = self.torn.as_ref().filter(|torn| Some(*torn) != branched)?;
        Some(format!("some datasets show the data of snapshot `{torn}` and others do not; finish that rollback first"))
    }

    /// Makes `id`, a branch from `parent`, the current line.
    pub(super) fn branch(&mut self, id: TimelineId, parent: &SnapshotName, at: Timestamp) {
        let from = self.snapshots.get(parent);
        let line = Timeline {
            parent: Some(parent.clone()),
            begun: at,
            generation: from.and_then(|facts| facts.generation),
            schema: from.map(|facts| facts.schema.clone()).unwrap_or_default(),
            last: None,
        };
        Arc::make_mut(&mut self.timelines).insert(id, line);
        self.current = id;
    }

    /// Notes that a generation may write to the current line from now on. A schema only grows: a program that writes
    /// an older one on newer data does not make the data old again.
    pub(super) fn written_by(&mut self, generation: GenerationId, facts: &Facts) {
        if let Some(line) = Arc::make_mut(&mut self.timelines).get_mut(&self.current) {
            line.generation = Some(generation);
            for (name, dataset) in &facts.datasets {
                if let Some(window) = &dataset.schema {
                    let stamp = line.schema.entry(name.clone()).or_insert(window.writes);
                    *stamp = (*stamp).max(window.writes);
                }
            }
        }
    }
}

/// Why a generation cannot work on data of this schema; `None` if it can. A dataset without a stamp or without a
/// declared window is readable: nothing is known against it.
pub fn unreadable(facts: &Facts, schema: &Stamps) -> Option<String> {
    facts.datasets.iter().find_map(|(name, dataset)| {
        let window = dataset.schema.as_ref()?;
        let stamp = schema.get(name)?;
        if window.reads.contains(stamp) || window.writes == *stamp {
            return None;
        }
        let reads: Vec<String> = window.reads.iter().map(ToString::to_string).collect();
        Some(format!(
            "{} cannot read dataset `{name}`: its schema is {stamp}, it reads {}",
            facts.release.version,
            reads.join(", ")
        ))
    })
}
