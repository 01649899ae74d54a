//! Retention by cases and by properties.

use proptest::prelude::*;

use super::*;

const GRACE: Duration = Duration::from_hours(24);

fn at(hour: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + hour * 3600).unwrap()
}

fn id(name: &str) -> Digest {
    Digest::sha256(name.as_bytes())
}

fn bare(name: &str, hour: i64) -> Candidate {
    Candidate { digest: id(name), tags: Vec::new(), pushed: Some(at(hour)), subject: None, children: Vec::new() }
}

fn version(name: &str, hour: i64) -> Candidate {
    let tag = TagFact { name: name.to_owned(), kind: TagKind::Version, moved: Some(at(hour)) };
    Candidate { tags: vec![tag], ..bare(name, hour) }
}

fn decide(recent: usize, candidates: &[Candidate], holds: &Holds) -> BTreeMap<Digest, Verdict> {
    let verdicts = retain(Some(Keep { recent }), candidates, holds, GRACE, at(1000));
    assert_eq!(verdicts.len(), candidates.len());
    verdicts.into_iter().map(|verdict| (verdict.digest(), verdict)).collect()
}

fn dropped(verdicts: &BTreeMap<Digest, Verdict>, name: &str) -> bool {
    verdicts[&id(name)].drops()
}

#[test]
fn oldest_version_beyond_the_rule_is_dropped_with_its_rank() {
    let verdicts = decide(2, &[version("a", 1), version("b", 3), version("c", 2)], &Holds::default());
    assert!(dropped(&verdicts, "a"));
    assert_eq!(verdicts[&id("a")].reason(), "version 3 by age, and 2 are kept; no pin, host or channel holds it");
    assert_eq!(verdicts[&id("b")].reason(), "recent version 1");
}

#[test]
fn pinned_version_is_kept_and_uses_no_place() {
    let holds = Holds { pins: [(id("a"), vec!["1.0.0".to_owned()])].into(), ..Holds::default() };
    let verdicts = decide(1, &[version("a", 1), version("b", 2), version("c", 3)], &holds);
    assert_eq!(verdicts[&id("a")].reason(), "pinned as 1.0.0");
    assert!(dropped(&verdicts, "b"));
    assert!(!dropped(&verdicts, "c"));
}

#[test]
fn what_a_host_runs_and_a_channel_names_is_kept() {
    let holds = Holds {
        hosts: [(id("a"), vec!["n1 (running)".to_owned()])].into(),
        channels: [(id("b"), vec!["channel.stable".to_owned()])].into(),
        ..Holds::default()
    };
    let verdicts = decide(1, &[version("a", 1), version("b", 2), version("c", 3)], &holds);
    assert_eq!(verdicts[&id("a")].reason(), "in use: n1 (running)");
    assert_eq!(verdicts[&id("b")].reason(), "named by channel.stable");
    assert!(!dropped(&verdicts, "c"));
}

#[test]
fn signature_is_no_version_and_follows_its_image() {
    let mut signature = bare("sig-a", 5);
    signature.tags =
        vec![TagFact { name: "sha256-a.sig".to_owned(), kind: TagKind::Attached(id("a")), moved: Some(at(5)) }];
    let referrer = Candidate { subject: Some(id("a")), ..bare("ref-a", 6) };
    let candidates = [version("a", 1), version("b", 2), signature, referrer];
    let verdicts = decide(1, &candidates, &Holds::default());
    assert!(dropped(&verdicts, "a") && dropped(&verdicts, "sig-a") && dropped(&verdicts, "ref-a"));
    let verdicts = decide(2, &candidates, &Holds::default());
    assert_eq!(verdicts[&id("sig-a")].reason(), format!("attached to {}", id("a").short()));
    assert!(!dropped(&verdicts, "ref-a"));
}

#[test]
fn children_of_a_kept_index_and_their_signatures_are_kept() {
    let index = Candidate { children: vec![id("amd64")], ..version("index", 9) };
    let signature = Candidate { subject: Some(id("amd64")), ..bare("sig", 1) };
    let verdicts = decide(1, &[index, bare("amd64", 1), signature], &Holds::default());
    assert!(verdicts.values().all(|verdict| !verdict.drops()));
}

#[test]
fn child_shared_by_a_kept_and_a_dropped_index_is_kept() {
    let old = Candidate { children: vec![id("shared"), id("own")], ..version("old", 1) };
    let new = Candidate { children: vec![id("shared")], ..version("new", 2) };
    let verdicts = decide(1, &[old, new, bare("shared", 1), bare("own", 1)], &Holds::default());
    assert!(dropped(&verdicts, "old") && dropped(&verdicts, "own"));
    assert!(!dropped(&verdicts, "shared"));
}

#[test]
fn image_of_a_pinned_release_is_kept_although_its_own_tag_is_old() {
    let release = Candidate { children: vec![id("image")], ..version("release", 2) };
    let holds = Holds { pins: [(id("release"), vec!["1.0.0".to_owned()])].into(), ..Holds::default() };
    let verdicts = decide(1, &[release, version("image", 1), version("new", 9)], &holds);
    assert_eq!(verdicts[&id("image")].reason(), format!("part of {}", id("release").short()));
}

#[test]
fn image_of_a_pinned_release_takes_no_place_from_the_recent_ones() {
    let release = Candidate { children: vec![id("newest")], ..version("release", 9) };
    let holds = Holds { pins: [(id("release"), vec!["1.0.0".to_owned()])].into(), ..Holds::default() };
    let verdicts = decide(1, &[release, version("newest", 9), version("new", 5), version("old", 1)], &holds);
    assert!(!dropped(&verdicts, "newest") && !dropped(&verdicts, "new"));
    assert_eq!(verdicts[&id("new")].reason(), "recent version 1");
    assert!(dropped(&verdicts, "old"));
}

#[test]
fn manifest_of_unknown_age_is_kept() {
    let mut tagged = version("a", 1);
    tagged.tags[0].moved = None;
    let untagged = Candidate { pushed: None, ..bare("b", 1) };
    let verdicts = decide(1, &[tagged, untagged, version("c", 3), version("d", 4)], &Holds::default());
    assert_eq!(verdicts[&id("a")].reason(), "nobody knows when it was pushed");
    assert!(!dropped(&verdicts, "b"));
    assert!(dropped(&verdicts, "c"));
}

#[test]
fn signature_that_came_before_its_image_has_the_grace() {
    let early = Candidate { subject: Some(id("coming")), ..bare("early", 1000) };
    let late = Candidate { subject: Some(id("never")), ..bare("late", 1) };
    let future = bare("future", 2000);
    let verdicts = decide(1, &[early, late, future], &Holds::default());
    assert!(!dropped(&verdicts, "early"));
    assert!(!dropped(&verdicts, "future"));
    assert_eq!(verdicts[&id("late")].reason(), DropReason::Nowhere.to_string());
}

#[test]
fn two_tags_on_one_manifest_are_one_version() {
    let mut twice = version("a", 1);
    twice.tags.push(TagFact { name: "latest".to_owned(), kind: TagKind::Version, moved: Some(at(9)) });
    let verdicts = decide(1, &[twice, version("b", 5)], &Holds::default());
    assert!(!dropped(&verdicts, "a") && dropped(&verdicts, "b"));
}

#[test]
fn repository_without_a_rule_keeps_everything() {
    let verdicts = retain(None, &[version("a", 1), bare("b", 1)], &Holds::default(), GRACE, at(1000));
    assert!(verdicts.iter().all(|verdict| !verdict.drops()));
}

#[test]
fn manifests_that_refer_to_each_other_in_a_ring_are_decided() {
    let a = Candidate { subject: Some(id("b")), ..bare("a", 1) };
    let b = Candidate { subject: Some(id("a")), ..bare("b", 1) };
    assert_eq!(decide(1, &[a, b], &Holds::default()).len(), 2);
}

prop_compose! {
    fn any_candidate()(
        name in 0_u8..24,
        tagged in 0_u8..5,
        hour in proptest::option::of(0_i64..2000),
        subject in proptest::option::of(0_u8..24),
        children in proptest::collection::vec(0_u8..24, 0..3),
    ) -> Candidate {
        let time = hour.map(at);
        let kind = match tagged {
            0 => None,
            1 => Some(TagKind::Channel),
            2 => subject.map(|subject| TagKind::Attached(id(&subject.to_string()))),
            _ => Some(TagKind::Version),
        };
        Candidate {
            digest: id(&name.to_string()),
            tags: kind.into_iter().map(|kind| TagFact { name: format!("t{name}"), kind, moved: time }).collect(),
            pushed: time,
            subject: subject.map(|subject| id(&subject.to_string())),
            children: children.into_iter().map(|child| id(&child.to_string())).collect(),
        }
    }
}

proptest! {
    #[test]
    fn nothing_that_is_held_or_of_unknown_age_is_ever_dropped(
        all in proptest::collection::vec(any_candidate(), 0..24),
        pinned in proptest::collection::vec(0_u8..24, 0..4),
        used in proptest::collection::vec(0_u8..24, 0..4),
        recent in 1_usize..4,
    ) {
        let unique: BTreeMap<Digest, Candidate> = all.into_iter().map(|one| (one.digest, one)).collect();
        let all: Vec<Candidate> = unique.values().cloned().collect();
        let map = |names: &[u8]| names.iter().map(|name| (id(&name.to_string()), vec![name.to_string()])).collect();
        let holds = Holds { pins: map(&pinned), hosts: map(&used), ..Holds::default() };
        let verdicts = retain(Some(Keep { recent }), &all, &holds, GRACE, at(1000));
        prop_assert_eq!(verdicts.len(), all.len());
        prop_assert_eq!(&verdicts, &retain(Some(Keep { recent }), &all, &holds, GRACE, at(1000)));
        let fate: BTreeMap<Digest, bool> = verdicts.iter().map(|one| (one.digest(), one.drops())).collect();
        for candidate in &all {
            let kept = !fate[&candidate.digest];
            if holds.pins.contains_key(&candidate.digest) || holds.hosts.contains_key(&candidate.digest) {
                prop_assert!(kept, "held and dropped");
            }
            if is_version(candidate) && age(candidate).is_none() {
                prop_assert!(kept, "of unknown age and dropped");
            }
            if kept {
                for child in &candidate.children {
                    prop_assert!(!fate.get(child).copied().unwrap_or(false), "part of a kept one, and dropped");
                }
            }
        }
        let versions = all.iter().filter(|one| is_version(one)).count();
        let kept_versions = all.iter().filter(|one| is_version(one) && !fate[&one.digest]).count();
        prop_assert!(kept_versions >= versions.min(recent));
    }
}
