//! What stays in a repository and what goes, with the reason for each. Pure: the same arguments give the same
//! verdicts, in the same order.
//!
//! ```text
//!   tags ─► versions ─► pinned │ used by a host │ named by a channel │ age unknown │ recent ─► kept
//!                  └──► beyond recent ─► dropped
//!   everything else follows: parts and attachments of what is kept are kept, of what is dropped are dropped,
//!   and what hangs nowhere is dropped once it is older than the grace
//! ```
//!
//! A *version* is a manifest with at least one ordinary tag. Signatures, attestations and channel heads are never
//! versions and never use up a place; they follow what they are attached to, and never hold it. What is unknown stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use nebh_oci::digest::Digest;
use serde::Serialize;

use crate::settings::Keep;

/// One manifest of a repository, with all that speaks for or against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub digest: Digest,
    /// The tags that lead to it.
    pub tags: Vec<TagFact>,
    /// When it was pushed; unknown means keep.
    pub pushed: Option<Timestamp>,
    /// What it is attached to.
    pub subject: Option<Digest>,
    /// The manifests that it consists of.
    pub children: Vec<Digest>,
}

/// A tag that leads to a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagFact {
    /// Its name.
    pub name: String,
    /// What kind of name it is.
    pub kind: TagKind,
    /// When it was set; unknown means keep.
    pub moved: Option<Timestamp>,
}

/// What kind of name a tag is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagKind {
    /// A version's name.
    Version,
    /// `channel.<name>`.
    Channel,
    /// `sha256-<hex>…`: attached to that digest.
    Attached(Digest),
}

/// What keeps candidates beside being recent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    /// Pinned digests and the names of their pins.
    pub pins: BTreeMap<Digest, Vec<String>>,
    /// Digests that hosts use, and how.
    pub hosts: BTreeMap<Digest, Vec<String>>,
    /// Digests that channel heads name, and which.
    pub channels: BTreeMap<Digest, Vec<String>>,
}

/// Why something stays.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeepReason {
    /// The repository has no `keep:`.
    NoRule,
    /// Pinned under these names.
    Pinned(Vec<String>),
    /// Hosts reported it.
    Used(Vec<String>),
    /// Channel heads name it.
    Channel(Vec<String>),
    /// Among the most recent versions, at this place (1 is the newest).
    Recent(usize),
    /// Nobody knows when it was pushed.
    AgeUnknown,
    /// Part of this kept index.
    PartOf(Digest),
    /// Attached to this kept manifest.
    Attached(Digest),
    /// Hangs nowhere, but is younger than the grace: its tag or its subject may still come.
    TooYoung,
    /// It is a channel head.
    ChannelHead,
}

/// Why something goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropReason {
    /// A version after the last place that is kept.
    BeyondRecent {
        /// Its place.
        rank: usize,
        /// The last place that is kept.
        kept: usize,
    },
    /// Belongs to this dropped manifest, and to no kept one.
    With(Digest),
    /// Never tagged, attached to nothing that is here, and older than the grace.
    Nowhere,
}

/// The fate of one manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It stays.
    Keep {
        /// Which.
        digest: Digest,
        /// Its tags.
        tags: Vec<String>,
        /// Why.
        because: KeepReason,
    },
    /// It goes, restorable for a time.
    Drop {
        /// Which.
        digest: Digest,
        /// Its tags, which go too.
        tags: Vec<String>,
        /// Why.
        because: DropReason,
    },
}

impl Verdict {
    /// Of which manifest.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Keep { digest, .. } | Self::Drop { digest, .. } => *digest,
        }
    }

    /// Its tags.
    pub fn tags(&self) -> &[String] {
        match self {
            Self::Keep { tags, .. } | Self::Drop { tags, .. } => tags,
        }
    }

    /// True for what goes.
    pub fn drops(&self) -> bool {
        matches!(self, Self::Drop { .. })
    }

    /// The reason in words.
    pub fn reason(&self) -> String {
        match self {
            Self::Keep { because, .. } => because.to_string(),
            Self::Drop { because, .. } => because.to_string(),
        }
    }
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRule => f.write_str("the repository has no `keep:` rule, so everything stays"),
            Self::Pinned(names) => write!(f, "pinned as {}", names.join(", ")),
            Self::Used(hosts) => write!(f, "in use: {}", hosts.join(", ")),
            Self::Channel(names) => write!(f, "named by {}", names.join(", ")),
            Self::Recent(rank) => write!(f, "recent version {rank}"),
            Self::AgeUnknown => f.write_str("nobody knows when it was pushed"),
            Self::PartOf(parent) => write!(f, "part of {}", parent.short()),
            Self::Attached(subject) => write!(f, "attached to {}", subject.short()),
            Self::TooYoung => f.write_str("pushed a short while ago; its tag or subject may still come"),
            Self::ChannelHead => f.write_str("a channel head"),
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeyondRecent { rank, kept } => {
                write!(f, "version {rank} by age, and {kept} are kept; no pin, host or channel holds it")
            }
            Self::With(parent) => write!(f, "goes with {}", parent.short()),
            Self::Nowhere => f.write_str("without a tag, attached to nothing that is here, and older than the grace"),
        }
    }
}

/// Decides the fate of every manifest of one repository.
pub fn retain(
    rule: Option<Keep>,
    candidates: &[Candidate],
    holds: &Holds,
    grace: Duration,
    now: Timestamp,
) -> Vec<Verdict> {
    let Some(rule) = rule else {
        return candidates.iter().map(|candidate| keep(candidate, KeepReason::NoRule)).collect();
    };
    let mut kept: BTreeMap<Digest, KeepReason> = BTreeMap::new();
    let mut dropped: BTreeMap<Digest, DropReason> = BTreeMap::new();
    for candidate in candidates {
        if let Some(reason) = held(candidate, holds) {
            kept.insert(candidate.digest, reason);
        }
    }
    // Before the places are given away: what belongs to a pinned release takes none.
    follow(candidates, &mut kept);
    for (rank, candidate) in (1..).zip(by_age(candidates, &kept)) {
        if rank <= rule.recent {
            kept.insert(candidate.digest, KeepReason::Recent(rank));
        } else {
            dropped.insert(candidate.digest, DropReason::BeyondRecent { rank, kept: rule.recent });
        }
    }
    let above = above(candidates);
    for candidate in candidates {
        if !kept.contains_key(&candidate.digest)
            && !dropped.contains_key(&candidate.digest)
            && !above.contains_key(&candidate.digest)
        {
            match candidate.pushed {
                None => drop(kept.insert(candidate.digest, KeepReason::AgeUnknown)),
                Some(at) if is_young(at, grace, now) => drop(kept.insert(candidate.digest, KeepReason::TooYoung)),
                Some(_) => drop(dropped.insert(candidate.digest, DropReason::Nowhere)),
            }
        }
    }
    follow(candidates, &mut kept);
    fall(candidates, &above, &mut kept, &mut dropped);
    // A part of a kept index stays although its own tag would go.
    follow(candidates, &mut kept);
    candidates
        .iter()
        .map(|candidate| match (kept.remove(&candidate.digest), dropped.remove(&candidate.digest)) {
            (Some(because), _) => keep(candidate, because),
            (None, Some(because)) => Verdict::Drop { digest: candidate.digest, tags: names(candidate), because },
            (None, None) => keep(candidate, KeepReason::AgeUnknown),
        })
        .collect()
}

fn keep(candidate: &Candidate, because: KeepReason) -> Verdict {
    Verdict::Keep { digest: candidate.digest, tags: names(candidate), because }
}

fn names(candidate: &Candidate) -> Vec<String> {
    candidate.tags.iter().map(|tag| tag.name.clone()).collect()
}

fn is_version(candidate: &Candidate) -> bool {
    candidate.tags.iter().any(|tag| tag.kind == TagKind::Version)
}

/// What keeps a candidate whatever its age.
fn held(candidate: &Candidate, holds: &Holds) -> Option<KeepReason> {
    let of = |map: &BTreeMap<Digest, Vec<String>>| map.get(&candidate.digest).cloned();
    if let Some(names) = of(&holds.pins) {
        return Some(KeepReason::Pinned(names));
    }
    if let Some(hosts) = of(&holds.hosts) {
        return Some(KeepReason::Used(hosts));
    }
    if let Some(names) = of(&holds.channels) {
        return Some(KeepReason::Channel(names));
    }
    if candidate.tags.iter().any(|tag| tag.kind == TagKind::Channel) {
        return Some(KeepReason::ChannelHead);
    }
    (is_version(candidate) && age(candidate).is_none()).then_some(KeepReason::AgeUnknown)
}

/// The newest of its version tags' times; unknown if one of them is.
fn age(candidate: &Candidate) -> Option<Timestamp> {
    let tags = candidate.tags.iter().filter(|tag| tag.kind == TagKind::Version);
    tags.map(|tag| tag.moved).collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// Versions that nothing else holds, newest first; equal times in the order of their digests.
fn by_age<'a>(candidates: &'a [Candidate], kept: &BTreeMap<Digest, KeepReason>) -> Vec<&'a Candidate> {
    let mut versions: Vec<&Candidate> =
        candidates.iter().filter(|candidate| is_version(candidate) && !kept.contains_key(&candidate.digest)).collect();
    versions.sort_by_key(|candidate| (std::cmp::Reverse(age(candidate)), candidate.digest));
    versions
}

/// What a candidate is attached to, by its subject or by its tag.
fn subjects(candidate: &Candidate) -> impl Iterator<Item = Digest> + '_ {
    let by_tag = candidate.tags.iter().filter_map(|tag| match tag.kind {
        TagKind::Attached(subject) => Some(subject),
        TagKind::Version | TagKind::Channel => None,
    });
    candidate.subject.into_iter().chain(by_tag)
}

/// Keeps the parts and attachments of what is kept, and theirs, until nothing changes.
fn follow(candidates: &[Candidate], kept: &mut BTreeMap<Digest, KeepReason>) {
    let by_digest: BTreeMap<Digest, &Candidate> =
        candidates.iter().map(|candidate| (candidate.digest, candidate)).collect();
    let mut attached: BTreeMap<Digest, Vec<Digest>> = BTreeMap::new();
    for candidate in candidates {
        for subject in subjects(candidate) {
            attached.entry(subject).or_default().push(candidate.digest);
        }
    }
    let mut queue: Vec<Digest> = kept.keys().copied().collect();
    while let Some(digest) = queue.pop() {
        let children = by_digest.get(&digest).map(|candidate| candidate.children.as_slice()).unwrap_or_default();
        let parts = children.iter().map(|child| (*child, KeepReason::PartOf(digest)));
        let followers = attached.get(&digest).into_iter().flatten().map(|one| (*one, KeepReason::Attached(digest)));
        for (next, reason) in parts.chain(followers) {
            if by_digest.contains_key(&next) && !kept.contains_key(&next) {
                kept.insert(next, reason);
                queue.push(next);
            }
        }
    }
}

/// For each manifest, one that it is part of or attached to.
fn above(candidates: &[Candidate]) -> BTreeMap<Digest, Digest> {
    let here: BTreeSet<Digest> = candidates.iter().map(|candidate| candidate.digest).collect();
    let mut above = BTreeMap::new();
    for candidate in candidates {
        for child in &candidate.children {
            above.entry(*child).or_insert(candidate.digest);
        }
        for subject in subjects(candidate).filter(|subject| here.contains(subject)) {
            above.entry(candidate.digest).or_insert(subject);
        }
    }
    above
}

/// Drops what belongs to dropped manifests, and what belongs to that, until nothing changes. What then still waits
/// hangs in a ring, which no digest can make: it stays.
fn fall(
    candidates: &[Candidate],
    above: &BTreeMap<Digest, Digest>,
    kept: &mut BTreeMap<Digest, KeepReason>,
    dropped: &mut BTreeMap<Digest, DropReason>,
) {
    let mut waiting: Vec<Digest> = candidates.iter().map(|candidate| candidate.digest).collect();
    loop {
        waiting.retain(|digest| !kept.contains_key(digest) && !dropped.contains_key(digest));
        let falling: Vec<(Digest, Digest)> = waiting
            .iter()
            .filter_map(|digest| above.get(digest).map(|parent| (*digest, *parent)))
            .filter(|(_, parent)| dropped.contains_key(parent) && !kept.contains_key(parent))
            .collect();
        if falling.is_empty() {
            break;
        }
        dropped.extend(falling.into_iter().map(|(digest, parent)| (digest, DropReason::With(parent))));
    }
    kept.extend(waiting.into_iter().map(|digest| (digest, KeepReason::AgeUnknown)));
}

/// A time in the future is young too: a clock that is wrong must not delete.
fn is_young(pushed: Timestamp, grace: Duration, now: Timestamp) -> bool {
    Duration::try_from(now.duration_since(pushed)).map_or(true, |age| age < grace)
}

#[cfg(test)]
mod tests;
