//! The queue keeps its promises: once per reference and commit, and nothing lost when a service ends.

use super::super::reference::RefName;
use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn delivery(id: &str) -> Delivery {
    Delivery {
        project: "shop/api".to_owned(),
        delivery: id.to_owned(),
        event: "push".to_owned(),
        reference: RefName::branch("main").unwrap(),
        again: false,
    }
}

async fn queue() -> (tempfile::TempDir, Queue) {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::open(&dir.path().join("queue.sqlite")).await.unwrap();
    (dir, queue)
}

async fn enqueued(queue: &Queue, id: &str, commit: &str) -> BuildId {
    assert_eq!(queue.receive(&delivery(id), at(1)).await.unwrap(), Receipt::New);
    queue.enqueue(&delivery(id), commit, "r.example/shop", at(1)).await.unwrap()
}

#[tokio::test]
async fn transaction_that_the_database_ended_by_itself_does_not_end_the_queue() {
    let (_dir, queue) = queue().await;
    // What a full disk does.
    let mut transaction = queue.begin().await.unwrap();
    sqlx::query("ROLLBACK").execute(&mut *transaction).await.unwrap();
    drop(transaction);
    enqueued(&queue, "d1", "c1").await;
}

#[tokio::test]
async fn replayed_delivery_is_found_in_the_ledger_and_builds_nothing_more() {
    let (_dir, queue) = queue().await;
    let build = enqueued(&queue, "d1", "c1").await;
    let again = queue.receive(&delivery("d1"), at(2)).await.unwrap();
    assert_eq!(again, Receipt::Replayed(DeliveryState::Queued(build)));
    assert_eq!(queue.builds(None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn one_reference_at_one_commit_is_one_build_whoever_asks() {
    let (_dir, queue) = queue().await;
    let first = enqueued(&queue, "push", "c1").await;
    let second = enqueued(&queue, "create", "c1").await;
    let other = enqueued(&queue, "push-2", "c2").await;
    assert_eq!(first, second);
    assert_ne!(first, other);
    assert_eq!(queue.builds(Some("shop/api")).await.unwrap().len(), 2);

    // The project moved to another registry, where nothing is yet.
    queue.receive(&delivery("moved"), at(2)).await.unwrap();
    let moved = queue.enqueue(&delivery("moved"), "c1", "other.example/shop", at(2)).await.unwrap();
    assert_ne!(moved, first);
    assert!(queue.builds(Some("shop/other")).await.unwrap().is_empty());
}

#[tokio::test]
async fn build_left_running_is_queued_again_once_its_lease_is_over() {
    let (dir, queue) = queue().await;
    let id = enqueued(&queue, "d1", "c1").await;
    let running = queue.claim(at(10), at(70)).await.unwrap().unwrap();
    assert_eq!((running.id.clone(), running.attempt), (id, 1));
    assert!(queue.claim(at(11), at(71)).await.unwrap().is_none());

    // The service ends without a word; the next one opens the same file.
    drop(queue);
    let queue = Queue::open(&dir.path().join("queue.sqlite")).await.unwrap();
    assert_eq!(queue.recover(at(69), at(69)).await.unwrap(), 0);
    assert_eq!(queue.recover(at(70), at(70)).await.unwrap(), 1);
    assert_eq!(queue.recover(at(70), at(70)).await.unwrap(), 0);
    let second = queue.claim(at(80), at(140)).await.unwrap().unwrap();
    assert_eq!(second.attempt, 2);

    // What the first one would still say is no longer heard.
    assert!(!queue.renew(&running, at(999)).await.unwrap());
    assert!(!queue.finish(&running, Ok("{}"), at(90)).await.unwrap());
    assert!(queue.finish(&second, Ok("{}"), at(90)).await.unwrap());
    assert!(queue.claim(at(91), at(150)).await.unwrap().is_none());
}

#[tokio::test]
async fn build_that_ends_the_service_again_and_again_fails_at_last() {
    let (_dir, queue) = queue().await;
    let id = enqueued(&queue, "d1", "c1").await;
    for attempt in 1..=ATTEMPTS_MAX {
        assert_eq!(queue.claim(at(attempt), at(attempt)).await.unwrap().unwrap().attempt, attempt);
        assert_eq!(queue.recover(at(attempt), at(attempt)).await.unwrap(), 1);
    }
    let build = queue.build(&id).await.unwrap().unwrap();
    assert_eq!(build.state, BuildState::Failed);
    assert_eq!(build.failure.unwrap(), "the service ended during each of 3 attempts");
}

#[tokio::test]
async fn failed_build_runs_again_only_when_triggered() {
    let (_dir, queue) = queue().await;
    let id = enqueued(&queue, "d1", "c1").await;
    let running = queue.claim(at(1), at(60)).await.unwrap().unwrap();
    queue.finish(&running, Err("no such package"), at(2)).await.unwrap();

    enqueued(&queue, "d2", "c1").await;
    assert!(queue.claim(at(3), at(60)).await.unwrap().is_none());

    let trigger = Delivery { again: true, ..delivery("d3") };
    queue.receive(&trigger, at(4)).await.unwrap();
    assert_eq!(queue.enqueue(&trigger, "c1", "r.example/shop", at(4)).await.unwrap(), id);
    let second = queue.claim(at(5), at(60)).await.unwrap().unwrap();
    queue.finish(&second, Err("again"), at(6)).await.unwrap();
    // The same delivery handled a second time asks for nothing more.
    queue.enqueue(&trigger, "c1", "r.example/shop", at(7)).await.unwrap();
    assert!(queue.claim(at(8), at(60)).await.unwrap().is_none());
}

#[tokio::test]
async fn build_that_is_given_back_keeps_its_attempts() {
    let (_dir, queue) = queue().await;
    enqueued(&queue, "d1", "c1").await;
    let running = queue.claim(at(1), at(60)).await.unwrap().unwrap();
    queue.give_back(&running).await.unwrap();
    assert_eq!(queue.claim(at(2), at(60)).await.unwrap().unwrap().attempt, 1);
}

#[tokio::test]
async fn unread_deliveries_survive_until_their_reference_is_read() {
    let (_dir, queue) = queue().await;
    queue.receive(&delivery("d1"), at(1)).await.unwrap();
    queue.receive(&delivery("d2"), at(2)).await.unwrap();
    assert_eq!(queue.unread().await.unwrap(), [delivery("d1"), delivery("d2")]);
    queue.ignore(&delivery("d1"), "no such branch").await.unwrap();
    queue.enqueue(&delivery("d2"), "c1", "r.example/shop", at(3)).await.unwrap();
    assert!(queue.unread().await.unwrap().is_empty());
    assert_eq!(
        queue.delivery_state("shop/api", "d1").await.unwrap(),
        DeliveryState::Ignored("no such branch".to_owned())
    );
}

#[tokio::test]
async fn events_are_numbered_and_read_from_any_place() {
    let (_dir, queue) = queue().await;
    let id = enqueued(&queue, "d1", "c1").await;
    for body in ["{\"a\":1}", "{\"a\":2}", "{\"a\":3}"] {
        queue.append(&id, &[(at(1), body.to_owned())]).await.unwrap();
    }
    let events = queue.events(&id, 1).await.unwrap();
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(events[1].body, "{\"a\":3}");
}

#[tokio::test]
async fn flood_of_deliveries_for_a_repository_that_is_away_does_not_hold_up_another_project() {
    let (_dir, queue) = queue().await;
    for n in 0..UNREAD_MAX + 5 {
        queue.receive(&delivery(&format!("flood-{n}")), at(1)).await.unwrap();
    }
    let other = Delivery { project: "shop/web".to_owned(), ..delivery("late") };
    queue.receive(&other, at(2)).await.unwrap();
    let unread = queue.unread().await.unwrap();
    assert!(unread.contains(&other));
    assert_eq!(unread.len(), usize::try_from(UNREAD_MAX).unwrap() + 1);
}

#[tokio::test]
async fn floor_of_a_channel_never_goes_back() {
    let (_dir, queue) = queue().await;
    let floor = |counter, head: &[u8]| Floor { counter, head: Some(nebh_oci::digest::Digest::sha256(head)) };
    assert_eq!(queue.floor("r/shop", "stable").await.unwrap(), Floor::default());
    for (raised, stands) in [(floor(3, b"three"), floor(3, b"three")), (floor(2, b"two"), floor(3, b"three"))] {
        queue.raise("r/shop", "stable", &raised).await.unwrap();
        assert_eq!(queue.floor("r/shop", "stable").await.unwrap(), stands);
    }
    queue.raise("r/shop", "stable", &floor(4, b"four")).await.unwrap();
    assert_eq!(queue.floor("r/shop", "stable").await.unwrap(), floor(4, b"four"));
    assert_eq!(queue.floor("r/other", "stable").await.unwrap(), Floor::default());
}
