//! What happens to a build when the service ends in the middle of it, in each way that it can.

use super::super::queue::{BuildState, Delivery, Receipt};
use super::super::reference::RefName;
use super::super::tests::{Recorder, Running, Site};
use super::*;

async fn deliver(service: &Service, id: &str) {
    let delivery = Delivery {
        project: "shop/api".to_owned(),
        delivery: id.to_owned(),
        event: "push".to_owned(),
        reference: RefName::branch("main").unwrap(),
        again: false,
    };
    assert_eq!(service.queue.receive(&delivery, Timestamp::now()).await.unwrap(), Receipt::New);
}

#[tokio::test]
async fn build_that_was_running_when_the_service_died_is_built_again_once() {
    let site = Site::new();
    let service = site.service().await;
    deliver(&service, "d1").await;
    let running = Running::start(service, Recorder { hangs: true, ..Recorder::default() }).await;
    let first = running.only_build(BuildState::Running).await;
    // kill -9 leaves the database as it is now, and nobody to tidy up: copy it as the next service will find it.
    let left = tempfile::tempdir().unwrap();
    for name in ["builds.sqlite", "builds.sqlite-wal"] {
        std::fs::copy(site.path().join("state").join(name), left.path().join(name)).unwrap();
    }
    running.end().await;

    let mut settings = site.settings();
    settings.state = left.path().to_owned();
    let service = Arc::new(Service::open(settings).await.unwrap());
    let running = Running::start(service, Recorder::default()).await;
    let second = running.only_build(BuildState::Done).await;
    assert_eq!((second.id, second.attempt), (first.id, 2));
    assert_eq!(running.maker.made.lock().unwrap().len(), 1);
    running.end().await;
}

#[tokio::test]
async fn build_is_given_back_when_the_service_is_asked_to_end() {
    let site = Site::new();
    let service = site.service().await;
    deliver(&service, "d1").await;
    let running = Running::start(service, Recorder { hangs: true, ..Recorder::default() }).await;
    running.only_build(BuildState::Running).await;
    running.end().await;

    let running = Running::start(site.service().await, Recorder::default()).await;
    assert_eq!(running.only_build(BuildState::Done).await.attempt, 1);
    running.end().await;
}

#[tokio::test]
async fn panic_in_a_build_is_its_failure_and_not_the_services_end() {
    let site = Site::new();
    let service = site.service().await;
    deliver(&service, "d1").await;
    let running = Running::start(service, Recorder { panics: true, ..Recorder::default() }).await;
    let build = running.only_build(BuildState::Failed).await;
    assert!(build.failure.unwrap().starts_with("the builder failed within"), "says so");
    running.end().await;
}

#[tokio::test]
async fn events_of_a_build_stand_in_the_queue_before_its_end() {
    let site = Site::new();
    let service = site.service().await;
    deliver(&service, "d1").await;
    let running = Running::start(service, Recorder::default()).await;
    let build = running.only_build(BuildState::Done).await;
    let events = running.service.queue.events(&build.id, 0).await.unwrap();
    assert_eq!(events[0].body, format!("{{\"text\":\"building {}\"}}", build.commit));
    running.end().await;
}
