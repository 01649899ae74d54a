//! Heads: counted, remembered, believed only from a key that is asked for.

use super::*;
use crate::publish::tests::client;
use crate::publish::twin::Twin;

fn release(version: &str) -> HeadRelease {
    HeadRelease { version: version.to_owned(), digest: nebh_oci::digest::Digest::sha256(version.as_bytes()) }
}

fn request<'a>(twin: &'a Twin, version: &str, keys: &'a [PrivateKey]) -> Request<'a> {
    let (to, release) = (&twin.address, release(version));
    Request { to, channel: "stable", release, keys, expiry: EXPIRY, now: Timestamp::now(), if_changed: false }
}

async fn set_to(twin: &Twin, version: &str, keys: &[PrivateKey], if_changed: bool) -> Result<ChannelHead, Failure> {
    set(&client(), &Request { if_changed, ..request(twin, version, keys) }).await
}

#[tokio::test]
async fn heads_are_counted_and_remember_what_was_before() {
    let (twin, keys) = (Twin::start().await, [PrivateKey::generate().unwrap()]);
    assert_eq!(set_to(&twin, "1.0.0", &keys, false).await.unwrap().counter, 1);
    assert_eq!(set_to(&twin, "1.1.0", &keys, false).await.unwrap().counter, 2);
    // A deliberate return is a new head.
    let head = set_to(&twin, "1.0.0", &keys, false).await.unwrap();
    assert_eq!((head.counter, head.current, head.recent), (3, release("1.0.0"), vec![release("1.1.0")]));
    let shown = show(&client(), &twin.address, "stable", &[keys[0].public().clone()]).await.unwrap().unwrap();
    assert_eq!(shown.counter, 3);
}

#[tokio::test]
async fn asking_again_leaves_a_young_head_alone() {
    let (twin, keys) = (Twin::start().await, [PrivateKey::generate().unwrap()]);
    set_to(&twin, "1.0.0", &keys, true).await.unwrap();
    assert_eq!(set_to(&twin, "1.0.0", &keys, true).await.unwrap().counter, 1);
    assert_eq!(set_to(&twin, "1.1.0", &keys, true).await.unwrap().counter, 2);
}

#[tokio::test]
async fn head_of_a_foreign_key_is_not_counted_on() {
    let twin = Twin::start().await;
    let (ours, theirs) = ([PrivateKey::generate().unwrap()], [PrivateKey::generate().unwrap()]);
    set_to(&twin, "6.6.6", &theirs, false).await.unwrap();
    let refused = set_to(&twin, "1.0.0", &ours, false).await.unwrap_err();
    assert_eq!(refused.exit, Exit::Refused);
    assert!(refused.to_string().contains("its counter cannot be believed"), "{refused}");
}

const DAY: SignedDuration = SignedDuration::from_hours(24);

async fn renewed(twin: &Twin, keys: &[PrivateKey], floor: &Floor, now: Timestamp) -> Result<Renewed, Failure> {
    renew(&client(), &Renewal { to: &twin.address, channel: "stable", keys, floor, now }).await
}

async fn set_at(twin: &Twin, keys: &[PrivateKey], version: &str, now: Timestamp) -> ChannelHead {
    set(&client(), &Request { now, ..request(twin, version, keys) }).await.unwrap()
}

#[tokio::test]
async fn head_is_signed_anew_when_a_third_of_its_life_is_left() {
    let (twin, keys) = (Twin::start().await, [PrivateKey::generate().unwrap()]);
    let (begun, floor) = (Timestamp::from_second(1_700_000_000).unwrap(), Floor::default());
    assert_eq!(renewed(&twin, &keys, &floor, begun).await.unwrap(), Renewed::None);
    set_at(&twin, &keys, "1.0.0", begun).await;
    let head = set_at(&twin, &keys, "1.1.0", begun).await;
    assert_eq!(renewed(&twin, &keys, &floor, begun + DAY * 19).await.unwrap(), Renewed::Young(head.clone()));
    for (day, now) in [(20, begun + DAY * 20), (90, begun + DAY * 90)] {
        let before = show(&client(), &twin.address, "stable", &[keys[0].public().clone()]).await.unwrap().unwrap();
        let Renewed::Again(again) = renewed(&twin, &keys, &floor, now).await.unwrap() else { panic!("day {day}") };
        let expected = ChannelHead { counter: before.counter + 1, issued: now, expires: now + EXPIRY, ..head.clone() };
        assert_eq!(again, expected);
        let shown = show(&client(), &twin.address, "stable", &[keys[0].public().clone()]).await.unwrap();
        assert_eq!(shown, Some(again.clone()));
        assert_eq!(renewed(&twin, &keys, &floor, now).await.unwrap(), Renewed::Young(again));
    }
}

#[tokio::test]
async fn old_head_that_is_served_again_is_not_made_young() {
    let (twin, keys) = (Twin::start().await, [PrivateKey::generate().unwrap()]);
    let begun = Timestamp::from_second(1_700_000_000).unwrap();
    let old = set_at(&twin, &keys, "1.0.0", begun).await;
    let standing = twin.tag("channel.stable").unwrap();
    for floor in [
        Floor { counter: 2, head: None },
        // Of the same counter, and yet another one.
        Floor { counter: 1, head: Some(nebh_oci::digest::Digest::sha256(b"the one that was seen")) },
    ] {
        let refused = renewed(&twin, &keys, &floor, begun + DAY * 25).await.unwrap_err();
        assert_eq!(refused.exit, Exit::Refused);
        assert_eq!(twin.tag("channel.stable").unwrap(), standing);
    }
    let floor = Floor { counter: 1, head: Some(old.digest().unwrap()) };
    assert!(matches!(renewed(&twin, &keys, &floor, begun + DAY * 25).await.unwrap(), Renewed::Again(_)));
}

#[tokio::test]
async fn head_that_others_signed_too_keeps_their_signatures() {
    let twin = Twin::start().await;
    let both = [PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap()];
    let begun = Timestamp::from_second(1_700_000_000).unwrap();
    let head = set_at(&twin, &both, "1.0.0", begun).await;
    let standing = twin.tag("channel.stable");
    let alone = renewed(&twin, &both[..1], &Floor::default(), begun + DAY * 25).await.unwrap();
    assert_eq!((alone, twin.tag("channel.stable")), (Renewed::Shared(head), standing));
    let together = renewed(&twin, &both, &Floor::default(), begun + DAY * 25).await.unwrap();
    assert!(matches!(together, Renewed::Again(_)));
}
