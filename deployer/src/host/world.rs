//! The twin's world, made of values. Programs take payments, datasets are lists, and everything that a real host has to
//! be (idempotent by name, forgetful at a power cut) this one is in the simplest way.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use nebh_oci::digest::Digest;

use crate::machine::{
    Branch, Effect, Event, Facts, GenerationId, PrepareSource, SnapshotName, TimelineId, Trouble, TroubleKind, Window,
};

/// The world of one application.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// What can be prepared, by the digest of the release.
    pub releases: BTreeMap<Digest, Facts>,
    /// What is prepared.
    pub prepared: BTreeMap<GenerationId, Facts>,
    /// Generations whose process runs.
    pub running: BTreeSet<GenerationId>,
    /// Where the entrance leads; nowhere while it holds.
    pub open: Option<GenerationId>,
    /// The live data.
    pub live: Vec<Entry>,
    /// Which branch the live data are, once anything was exchanged.
    pub line: Option<TimelineId>,
    /// Snapshots by name.
    pub snapshots: BTreeMap<SnapshotName, Vec<Entry>>,
    /// What was live and was left.
    pub aside: BTreeMap<TimelineId, Vec<Entry>>,
    /// Payments that were acknowledged to somebody.
    pub acknowledged: BTreeSet<u64>,
    /// Names of effects that fail the next time, with how.
    pub faults: BTreeMap<&'static str, Trouble>,
    /// Names of effects that are taken and never end.
    pub deaf: BTreeSet<&'static str>,
    /// Generations that die as soon as they are probed.
    pub stillborn: BTreeSet<GenerationId>,
    /// Snapshots whose manifest was published.
    pub published: BTreeSet<SnapshotName>,
    /// How many payments were taken.
    pub payments: u64,
}

/// One thing in the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// A payment, by number.
    Payment(u64),
    /// What a generation does to the data when it starts.
    Start(GenerationId),
}

impl World {
    /// One client's payment: acknowledged if a generation is there to take it.
    pub fn pay(&mut self) -> bool {
        let served = self.open.is_some_and(|generation| self.running.contains(&generation));
        if served {
            self.payments += 1;
            self.live.push(Entry::Payment(self.payments));
            self.acknowledged.insert(self.payments);
        }
        served
    }

    /// The node loses its power: processes are gone, the entrance comes back holding, what was cut stays cut.
    pub fn power_cut(&mut self) {
        self.running.clear();
        self.open = None;
    }

    /// Acknowledged payments that are not in these data.
    pub fn missing(&self, data: &[Entry]) -> Vec<u64> {
        let there: BTreeSet<&Entry> = data.iter().collect();
        self.acknowledged.iter().copied().filter(|payment| !there.contains(&Entry::Payment(*payment))).collect()
    }

    /// Acknowledged payments that are nowhere at all.
    pub fn lost(&self) -> Vec<u64> {
        let kept = self.snapshots.values().chain(self.aside.values()).flatten();
        let all: Vec<Entry> = kept.chain(&self.live).copied().collect();
        self.missing(&all)
    }

    /// Performs one effect of the row or of the shelf.
    pub fn perform(&mut self, effect: &Effect) -> Option<Event> {
        if let Some(why) = self.faults.remove(effect.name()) {
            return failed(effect, why);
        }
        if self.deaf.contains(effect.name()) {
            return None;
        }
        Some(match effect.clone() {
            Effect::Prepare { generation, source, .. } => self.prepare(generation, &source),
            Effect::Hold { step, ahead } => {
                if ahead.is_some()
                    && let Some(why) = self.faults.remove("ahead")
                {
                    return Some(Event::AheadFailed { step, why });
                }
                self.open = None;
                Event::Held { step }
            }
            Effect::Stop { step } => {
                self.running.clear();
                Event::Stopped { step }
            }
            Effect::Snapshot { step, name, .. } => {
                let live = self.live.clone();
                self.snapshots.entry(name).or_insert(live);
                Event::Snapshotted { step }
            }
            Effect::Exchange { step, branch: Branch { snapshot, timeline, .. }, aside } => {
                if self.line != Some(timeline) {
                    let Some(branch) = self.snapshots.get(&snapshot).cloned() else {
                        let why = Trouble::new(TroubleKind::Failed, format!("there is no snapshot `{snapshot}`"));
                        return Some(Event::ExchangeFailed { step, why, torn: false });
                    };
                    let left = std::mem::replace(&mut self.live, branch);
                    self.aside.insert(aside, left);
                    self.line = Some(timeline);
                }
                Event::Exchanged { step }
            }
            Effect::Start { step, generation } => {
                if self.running.insert(generation) {
                    self.live.push(Entry::Start(generation));
                }
                Event::Started { step }
            }
            Effect::CheckAlive { step, generation } => {
                if self.stillborn.contains(&generation) {
                    self.running.remove(&generation);
                }
                if self.running.contains(&generation) {
                    Event::Alive { step, after_ms: 1 }
                } else {
                    Event::AliveFailed { step, why: Trouble::new(TroubleKind::Failed, "it is gone") }
                }
            }
            Effect::Open { step, generation } => {
                self.open = Some(generation);
                Event::Opened { step, window: Window { held_ms: 1, waited: 0, lost: 0 } }
            }
            Effect::Remove { generation } => {
                self.prepared.remove(&generation);
                Event::Removed { generation }
            }
            Effect::Watch { .. } | Effect::Wait { .. } | Effect::Report => return None,
        })
    }

    fn prepare(&mut self, generation: GenerationId, source: &PrepareSource) -> Event {
        let found = match source {
            PrepareSource::Release { release } => self.releases.get(&release.digest).cloned(),
            PrepareSource::Mix { binary, config } => self
                .prepared
                .get(binary)
                .cloned()
                .zip(self.prepared.get(config))
                .map(|(program, settings)| Facts { config: settings.config, ..program }),
        };
        if let Some(facts) = found {
            self.prepared.insert(generation, facts.clone());
            Event::Prepared { generation, facts: Box::new(facts) }
        } else {
            let why = Trouble::new(TroubleKind::Refused, "no signature of a known key covers it");
            Event::PrepareFailed { generation, why }
        }
    }
}

fn failed(effect: &Effect, why: Trouble) -> Option<Event> {
    Some(match effect.clone() {
        Effect::Prepare { generation, .. } => Event::PrepareFailed { generation, why },
        Effect::Hold { step, .. } => Event::HoldFailed { step, why },
        Effect::Stop { step } => Event::StopFailed { step, why },
        Effect::Snapshot { step, .. } => Event::SnapshotFailed { step, why },
        Effect::Exchange { step, .. } => Event::ExchangeFailed { step, why, torn: false },
        Effect::Start { step, .. } => Event::StartFailed { step, why },
        Effect::CheckAlive { step, .. } => Event::AliveFailed { step, why },
        Effect::Open { step, .. } => Event::OpenFailed { step, why },
        Effect::Remove { generation } => Event::RemoveFailed { generation, why },
        Effect::Watch { .. } | Effect::Wait { .. } | Effect::Report => return None,
    })
}
