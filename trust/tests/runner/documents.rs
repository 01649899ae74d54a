//! Channel heads and data snapshots: who may sign them, and what time does to them.

use jiff::{SignedDuration, Timestamp};
use nebh_oci::digest::Digest;
use nebh_oci::manifest::{Attached, Descriptor};
use nebh_oci::media_type::DSSE_ENVELOPE;
use nebh_trust::channel::{self, ChannelHead, Floor, HeadRelease, sign_head, verify_head};
use nebh_trust::data::{DataSnapshotManifest, sign_data_snapshot, verify_data_snapshot};
use nebh_trust::dsse::Envelope;
use nebh_trust::{Rejection, RejectionKind as Kind, Verified};

use super::support::{PEOPLE, POLICY, attached, image, now, policy, refused, repository};

fn later(hours: i64) -> Timestamp {
    now() + SignedDuration::from_hours(hours)
}

pub(crate) fn head(counter: u64) -> ChannelHead {
    let current = HeadRelease { version: "1.4.2".to_owned(), digest: Digest::sha256(b"release") };
    ChannelHead::new("stable", repository(), counter, current, later(-1), later(24))
}

/// Signed by both releasers, as the policy demands.
fn signed(head: &ChannelHead) -> Attached {
    let by_one = Attached::from_artifact(&sign_head(head, &PEOPLE.alice).unwrap());
    Attached::from_artifact(&channel::cosign_head(&by_one, &head.channel, &PEOPLE.bob).unwrap())
}

fn verify(head: &Attached, floor: u64, now: Timestamp) -> Result<Verified<ChannelHead>, Rejection> {
    verify_head(&policy(POLICY), &repository(), "stable", head, &Floor::at(floor), now)
}

#[test]
fn good_head_is_followed() {
    let artifact = sign_head(&head(7), &PEOPLE.alice).unwrap();
    assert_eq!(artifact.tag.unwrap().as_str(), "channel.stable");
    assert!(channel::is_head(&artifact.manifest));
    let verified = verify(&signed(&head(7)), 6, now()).unwrap();
    assert_eq!(verified.signers().len(), 2);
    assert_eq!(verified.into_value(), head(7));
    // The same head again is no step back.
    assert!(verify(&signed(&head(7)), 7, now()).is_ok());
}

#[test]
fn regressed_head_is_refused() {
    let text = refused(verify(&signed(&head(7)), 8, now()), Kind::Regressed);
    assert!(text.contains("head 7 of channel `stable` was served, and head 8 was seen before"), "{text}");
}

#[test]
fn counter_that_ran_away_is_refused() {
    let text = refused(verify(&signed(&head((1 << 53) - 1)), 7, now()), Kind::Malformed);
    assert!(text.contains("it has run away"), "{text}");
    // A host that was away for long is no attack, and neither is one that never saw a head.
    assert!(verify(&signed(&head(100_000)), 7, now()).is_ok());
    assert!(verify(&signed(&head(1 << 40)), 0, now()).is_ok());
}

#[test]
fn two_heads_with_one_counter_are_told_apart() {
    let mut other = head(7);
    other.current.digest = Digest::sha256(b"another release");
    let floor = Floor { counter: 7, head: Some(head(7).digest().unwrap()) };
    let verify = |head: &Attached| verify_head(&policy(POLICY), &repository(), "stable", head, &floor, now());
    let text = refused(verify(&signed(&other)), Kind::Equivocal);
    for digest in [head(7).digest().unwrap(), other.digest().unwrap()] {
        assert!(text.contains(&digest.to_string()), "both are named: {text}");
    }
    // The same again, signed by more or fewer, is no contradiction; and the next head ends the matter.
    assert!(verify(&signed(&head(7))).is_ok());
    assert!(verify(&signed(&ChannelHead { counter: 8, ..other })).is_ok());
}

#[test]
fn clock_set_back_does_not_lower_the_floor() {
    // Head 7 was current once, and a clock of that time would believe it again.
    let then = later(-2);
    let old = ChannelHead { issued: later(-48), expires: later(-1), ..head(7) };
    assert!(verify(&signed(&old), 0, then).is_ok());
    refused(verify(&signed(&old), 8, then), Kind::Regressed);
    refused(verify(&signed(&old), 8, Timestamp::MIN), Kind::Regressed);
}

#[test]
fn counter_that_nothing_could_follow_is_refused_even_by_who_never_saw_a_head() {
    let payload = String::from_utf8(nebh_oci::json::canonical(&head(7)).unwrap()).unwrap();
    let last = payload.replace(r#""counter":7"#, r#""counter":18446744073709551615"#);
    let envelope = Envelope::sign(channel::PAYLOAD_TYPE, last.into_bytes(), &[&PEOPLE.alice, &PEOPLE.bob]);
    let bytes = envelope.to_bytes().unwrap();
    let attached = attached(vec![(Descriptor::of(DSSE_ENVELOPE, &bytes), bytes)]);
    let text = refused(verify(&attached, 0, now()), Kind::Malformed);
    assert!(text.contains("nothing could follow it"), "{text}");
}

#[test]
fn expired_head_is_refused() {
    let text = refused(verify(&signed(&head(7)), 0, later(24)), Kind::Expired);
    assert!(text.contains("expired at"), "{text}");
    assert!(verify(&signed(&head(7)), 0, later(23)).is_ok());
}

#[test]
fn head_of_another_channel_or_repository_is_refused() {
    let mut other = head(7);
    other.channel = "debug".to_owned();
    refused(verify(&signed(&other), 0, now()), Kind::WrongSubject);
    let mut other = head(7);
    other.repository = "shop/web".parse().unwrap();
    refused(verify(&signed(&other), 0, now()), Kind::WrongSubject);
}

#[test]
fn head_by_too_few_or_wrong_keys_is_refused() {
    let by_one = Attached::from_artifact(&sign_head(&head(7), &PEOPLE.alice).unwrap());
    refused(verify(&by_one, 0, now()), Kind::BelowThreshold);
    let twice = Attached::from_artifact(&channel::cosign_head(&by_one, "stable", &PEOPLE.alice).unwrap());
    refused(verify(&twice, 0, now()), Kind::BelowThreshold);
    let by_stranger = Attached::from_artifact(&sign_head(&head(7), &PEOPLE.stranger).unwrap());
    refused(verify(&by_stranger, 0, now()), Kind::Untrusted);
    let by_builder = Attached::from_artifact(&sign_head(&head(7), &PEOPLE.builder).unwrap());
    let text = refused(verify(&by_builder, 0, now()), Kind::Untrusted);
    assert!(text.contains("of role `builder`, which does not speak here"), "{text}");
}

#[test]
fn head_that_points_to_a_revoked_release_is_refused() {
    let text = format!("{POLICY}revoked: {{ digests: [\"{}\"] }}\n", head(7).current.digest);
    let result = verify_head(&policy(&text), &repository(), "stable", &signed(&head(7)), &Floor::default(), now());
    refused(result, Kind::Revoked);
}

#[test]
fn head_of_a_newer_format_and_backward_times_are_malformed() {
    let newer = ChannelHead { version: 2, ..head(7) };
    refused(verify(&signed(&newer), 0, now()), Kind::Malformed);
    let backward = ChannelHead { expires: later(-2), ..head(7) };
    refused(verify(&signed(&backward), 0, now()), Kind::Malformed);
}

#[test]
fn changed_head_is_refused() {
    let mut changed = signed(&head(7));
    let bytes = &mut changed.layers[0].1;
    let last = bytes.len() - 10;
    bytes[last] ^= 1;
    refused(verify(&changed, 0, now()), Kind::Malformed);
}

pub(crate) fn data_snapshot(release: Digest) -> DataSnapshotManifest {
    DataSnapshotManifest {
        version: 1,
        app: "shop/api".to_owned(),
        dataset: "ledger".to_owned(),
        driver: "btrfs".to_owned(),
        snapshot: "op1-pre".to_owned(),
        timeline: "tl1".to_owned(),
        schema: Some(12),
        release,
        operation: "op1".to_owned(),
        purpose: "pre".to_owned(),
        node: "n1".to_owned(),
        time: now(),
    }
}

#[test]
fn data_snapshot_is_signed_by_the_node_for_its_release() {
    let release = image("release");
    let manifest = data_snapshot(*release.digest());
    let artifact = sign_data_snapshot(&manifest, &release, &PEOPLE.node).unwrap();
    assert_eq!(artifact.manifest.subject().unwrap().digest, *release.digest());
    let attached = Attached::from_artifact(&artifact);
    let verify = |release: &Digest, attached: &Attached| {
        verify_data_snapshot(&policy(POLICY), &repository(), release, attached, now())
    };
    assert_eq!(verify(release.digest(), &attached).unwrap().into_value(), manifest);
    refused(verify(&Digest::sha256(b"other"), &attached), Kind::WrongSubject);
    let by_builder = sign_data_snapshot(&manifest, &release, &PEOPLE.builder).unwrap();
    refused(verify(release.digest(), &Attached::from_artifact(&by_builder)), Kind::Untrusted);
}

#[test]
fn one_signed_document_is_never_taken_for_another() {
    let release = image("release");
    let snapshot = sign_data_snapshot(&data_snapshot(*release.digest()), &release, &PEOPLE.alice).unwrap();
    refused(verify(&Attached::from_artifact(&snapshot), 0, now()), Kind::Malformed);
}
