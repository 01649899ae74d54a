//! Webhooks over a real socket, against a real repository: what builds, and every attack by its name.

use super::super::queue::BuildState;
use super::super::reference::RefName;
use super::super::remote::Remote;
use super::super::tests::{Recorder, Running, SECRET, Site};
use super::super::webhook::{TRIGGER_EVENT, signature};
use super::*;

type Header<'a> = (&'a str, &'a str);

struct Sent {
    status: u16,
    body: Value,
}

async fn post(running: &Running, project: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Sent {
    let mut request = reqwest::Client::new().post(format!("{}/hooks/{project}", running.url)).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    Sent { status: response.status().as_u16(), body: response.json().await.unwrap() }
}

async fn hook(running: &Running, delivery: &str, event: &str, body: &Value) -> Sent {
    let body = serde_json::to_vec(body).unwrap();
    let signed = signature(SECRET.as_bytes(), &body).unwrap();
    let headers = [
        ("content-type", "application/json"),
        ("x-hub-signature-256", signed.as_str()),
        ("x-github-delivery", delivery),
        ("x-github-event", event),
    ];
    post(running, "shop/api", &headers, body).await
}

async fn started(site: &Site) -> Running {
    Running::start(site.service().await, Recorder::default()).await
}

fn main_at(commit: &str) -> Value {
    json!({ "ref": "refs/heads/main", "after": commit, "repository": { "clone_url": "https://evil.example/x.git" } })
}

#[tokio::test]
async fn push_builds_the_commit_that_the_repository_names() {
    let site = Site::new();
    let commit = site.push("two");
    let running = started(&site).await;
    let sent = hook(&running, "d1", "push", &main_at(&commit)).await;
    assert_eq!(sent.status, 202, "{}", sent.body);
    let build = running.only_build(BuildState::Done).await;
    assert_eq!(sent.body["build"], build.id.as_str());
    assert_eq!(build.commit, commit);
    running.end().await;
}

#[tokio::test]
async fn replayed_delivery() {
    let site = Site::new();
    let running = started(&site).await;
    let first = hook(&running, "d1", "push", &main_at("x")).await;
    let build = running.only_build(BuildState::Done).await;
    let again = hook(&running, "d1", "push", &main_at("x")).await;
    assert_eq!(
        (again.status, &again.body["replayed"], &again.body["build"]),
        (200, &json!(true), &first.body["build"])
    );
    // The same bytes under another delivery id, which nobody signs: found, not built again.
    let renamed = hook(&running, "d2", "push", &main_at("x")).await;
    assert_eq!(renamed.body["build"], build.id.as_str());
    assert_eq!(running.only_build(BuildState::Done).await.attempt, 1);
    assert_eq!(running.maker.made.lock().unwrap().len(), 1);
    running.end().await;
}

#[tokio::test]
async fn payload_commit_not_in_repository() {
    let site = Site::new();
    let commit = site.push("two");
    let running = started(&site).await;
    hook(&running, "d1", "push", &main_at(&"f".repeat(40))).await;
    assert_eq!(running.only_build(BuildState::Done).await.commit, commit);
    running.end().await;
}

#[tokio::test]
async fn ref_not_listed() {
    let site = Site::new();
    site.git("work", &["push", "-q", "origin", "HEAD:refs/heads/topic", "HEAD:refs/tags/nightly"]);
    let running = started(&site).await;
    for (at, reference) in ["refs/heads/topic", "refs/tags/nightly", "refs/heads/mainline"].iter().enumerate() {
        let sent = hook(&running, &format!("d{at}"), "push", &json!({ "ref": reference })).await;
        assert_eq!(sent.status, 200);
        assert!(sent.body["ignored"].as_str().unwrap().contains("is not among the references that build"));
    }
    let pull = hook(&running, "d9", "push", &json!({ "ref": "refs/pull/1/head" })).await;
    assert_eq!((pull.status, &pull.body["error"]), (400, &json!("malformed")));
    assert!(running.service.queue.builds(None).await.unwrap().is_empty());
    running.end().await;
}

#[tokio::test]
async fn deleted_branch() {
    let site = Site::new();
    let running = started(&site).await;
    let sent = hook(&running, "d1", "push", &json!({ "ref": "refs/heads/main", "deleted": true })).await;
    assert_eq!((sent.status, &sent.body["ignored"]), (200, &json!("branch `main` was deleted")));
    // Deleted without saying so: the repository does not have it, and that is what counts.
    site.git("shop.git", &["update-ref", "-d", "refs/heads/main"]);
    let sent = hook(&running, "d2", "push", &main_at("x")).await;
    assert_eq!(sent.body["ignored"], "the repository has no `refs/heads/main`");
    assert!(running.service.queue.builds(None).await.unwrap().is_empty());
    running.end().await;
}

#[tokio::test]
async fn unsigned_and_wrongly_signed_requests_change_nothing() {
    let site = Site::new();
    let running = started(&site).await;
    let body = serde_json::to_vec(&main_at("x")).unwrap();
    let good = signature(SECRET.as_bytes(), &body).unwrap();
    let wrong = signature(b"another secret, as long as it", &body).unwrap();
    let cases: [(&str, &[Header<'_>], u16); 5] = [
        ("missing_signature", &[], 401),
        ("sha1_only", &[("x-hub-signature", "sha1=00")], 401),
        ("bad_signature", &[("x-hub-signature-256", &wrong)], 401),
        ("missing_signature", &[("x-hub-signature-256", &good), ("x-hub-signature-256", &good)], 401),
        ("wrong_content_type", &[("x-hub-signature-256", &good), ("content-type", "text/plain")], 415),
    ];
    for (error, headers, status) in cases {
        let mut headers = headers.to_vec();
        headers.extend([("x-github-delivery", "d1"), ("x-github-event", "push")]);
        let sent = post(&running, "shop/api", &headers, body.clone()).await;
        assert_eq!((sent.status, &sent.body["error"]), (status, &json!(error)));
    }
    assert!(running.service.queue.builds(None).await.unwrap().is_empty());
    running.end().await;
}

#[tokio::test]
async fn project_unknown() {
    let site = Site::new();
    let running = started(&site).await;
    for project in ["shop/other", "shop", "shop/api/x", "..%2f..%2fetc", "%00"] {
        let sent = post(&running, project, &[], Vec::new()).await;
        assert_eq!((sent.status, &sent.body["error"]), (404, &json!("project_unknown")), "{project}");
    }
    running.end().await;
}

#[tokio::test]
async fn huge_body() {
    let site = Site::new();
    let running = started(&site).await;
    let sent = post(&running, "shop/api", &[], vec![b' '; BODY_BYTES_MAX + 1]).await;
    assert_eq!((sent.status, &sent.body["error"]), (413, &json!("too_large")));
    // The same without saying how long it will be.
    let chunks =
        futures_util::stream::iter((0..=BODY_BYTES_MAX / 65536).map(|_| Ok::<_, std::io::Error>(vec![b' '; 65536])));
    let response = reqwest::Client::new()
        .post(format!("{}/hooks/shop/api", running.url))
        .body(reqwest::Body::wrap_stream(chunks))
        .send()
        .await;
    // The server may close before the sender has finished; then there is no answer to read, and nothing was taken either.
    if let Ok(response) = response {
        assert_eq!(response.status().as_u16(), 413);
    }
    running.end().await;
}

#[tokio::test]
async fn secret_that_is_missing_empty_or_readable_by_others_closes_the_door() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new();
    let running = started(&site).await;
    let file = site.path().join("webhook.secret");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(hook(&running, "d1", "push", &main_at("x")).await.body["error"], "no_secret");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&file, "\n").unwrap();
    assert_eq!(hook(&running, "d1", "push", &main_at("x")).await.status, 503);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(hook(&running, "d1", "push", &main_at("x")).await.status, 503);
    running.end().await;
}

#[tokio::test]
async fn delivery_waits_for_a_repository_that_does_not_answer() {
    let site = Site::new();
    std::fs::rename(site.path().join("shop.git"), site.path().join("away.git")).unwrap();
    let running = started(&site).await;
    let body = serde_json::to_vec(&main_at("x")).unwrap();
    let signed = signature(SECRET.as_bytes(), &body).unwrap();
    let headers = [
        ("content-type", "application/json"),
        ("x-hub-signature-256", signed.as_str()),
        ("x-github-delivery", "d1"),
        ("x-github-event", "push"),
    ];
    let (sent, ()) = tokio::join!(post(&running, "shop/api", &headers, body), async {
        let mut changes = running.service.queue.changes();
        while running.service.queue.unread().await.unwrap().is_empty() {
            changes.changed().await.unwrap();
        }
        std::fs::rename(site.path().join("away.git"), site.path().join("shop.git")).unwrap();
    });
    assert_eq!(sent.status, 202);
    running.only_build(BuildState::Done).await;
    running.end().await;
}

#[tokio::test]
async fn trigger_of_a_built_commit_finds_the_build() {
    let site = Site::new();
    let running = started(&site).await;
    hook(&running, "d1", "push", &main_at("x")).await;
    let build = running.only_build(BuildState::Done).await;
    let asked = json!({ "ref": "refs/heads/main", "delivery": "t1" });
    let sent = hook(&running, "t1", TRIGGER_EVENT, &asked).await;
    assert_eq!(sent.body["build"], build.id.as_str());
    running.end().await;
}

#[tokio::test]
async fn builds_and_their_events_are_read_over_http() {
    let site = Site::new();
    let running = started(&site).await;
    hook(&running, "d1", "push", &main_at("x")).await;
    let build = running.only_build(BuildState::Done).await;
    let get = |path: String| {
        let url = format!("{}{path}", running.url);
        async move { reqwest::get(url).await.unwrap().text().await.unwrap() }
    };
    let list: Value = serde_json::from_str(&get("/api/v1/builds".to_owned()).await).unwrap();
    assert_eq!(list["builds"][0]["id"], build.id.as_str());
    let one: Value = serde_json::from_str(&get(format!("/api/v1/builds/{}", build.id)).await).unwrap();
    assert_eq!((&one["state"], &one["outcome"]["tags"][0]), (&json!("done"), &json!("main")));
    let events = get(format!("/api/v1/builds/{}/events", build.id)).await;
    assert!(events.starts_with("id: 1\nevent: build\ndata: {\"text\":\"building "), "{events}");
    assert!(events.contains("event: state\ndata: {"), "{events}");
    assert!(get("/api/v1/builds/nothing".to_owned()).await.contains("build_unknown"));
    running.end().await;
}

#[tokio::test]
async fn remote_triggers_follows_and_lists() {
    let site = Site::new();
    let running = started(&site).await;
    let remote = Remote::new(running.url.parse().unwrap()).unwrap();
    let main = RefName::branch("main").unwrap();
    let said = remote.trigger("shop/api", &main, SECRET.as_bytes()).await.unwrap();
    let id = said["build"].as_str().unwrap().to_owned();
    let mut events = remote.events(&id, true).await.unwrap();
    let mut names = Vec::new();
    while let Some(sent) = events.next().await.unwrap() {
        names.push(sent.name);
    }
    assert_eq!(names, ["build", "state"]);
    assert_eq!(remote.builds(Some("shop/api")).await.unwrap()[0]["id"], id);
    assert!(remote.builds(Some("shop/other")).await.unwrap().is_empty());

    let refused = remote.trigger("shop/api", &main, b"not the secret, but as long").await.unwrap_err();
    assert_eq!(refused.exit, nebh_face::Exit::Refused);
    running.end().await;
    let away = remote.builds(None).await.unwrap_err();
    assert_eq!(away.exit, nebh_face::Exit::Unreachable);
}
