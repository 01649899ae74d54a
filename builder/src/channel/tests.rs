//! Heads: counted, remembered, believed only from a key that is asked for.

use super::*;
use crate::publish::tests::client;
use crate::publish::twin::Twin;

fn release(version: &str) -> HeadRelease {
    HeadRelease { version: version.to_owned(), digest: nebh_oci::digest::Digest::sha256(version.as_bytes()) }
}

async fn set_to(twin: &Twin, version: &str, keys: &[PrivateKey], if_changed: bool) -> Result<ChannelHead, Failure> {
    let request = Request {
        to: &twin.address,
        channel: "stable",
        release: release(version),
        keys,
        expiry: EXPIRY,
        now: Timestamp::now(),
        if_changed,
    };
    set(&client(), &request).await
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
