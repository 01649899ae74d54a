//! Retention over HTTP: what goes, what stays, what comes back, and the sweep behind it.

use jiff::{SignedDuration, Timestamp};
use nebh_gateway::{db, sweep};
use nebh_oci::digest::Digest;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{SETTINGS, Server, head, image};

const REPOSITORY: &str = "shop/api";

fn later(days: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_hours(24 * days)
}

async fn present(server: &Server, name: &str) -> bool {
    server.get(&format!("/v2/{REPOSITORY}/manifests/{name}")).await.status() == StatusCode::OK
}

async fn plan(server: &Server) -> Value {
    server.ask("retention/plan").await
}

fn fate<'a>(plan: &'a Value, tag: &str) -> (&'a str, &'a str) {
    let verdicts = plan["repositories"].as_array().unwrap().iter().flat_map(|one| one["verdicts"].as_array().unwrap());
    let found = verdicts.into_iter().find(|one| one["tags"].as_array().unwrap().contains(&tag.into())).unwrap();
    (found["fate"].as_str().unwrap(), found["because"].as_str().unwrap())
}

async fn apply(server: &Server, plan: &Value, confirm: bool) -> (StatusCode, Value) {
    server.order("retention/apply", &json!({ "digest": plan["digest"], "confirm": confirm })).await
}

#[tokio::test]
async fn oldest_unpinned_version_goes_with_its_signatures_and_can_be_restored() {
    let server = Server::start().await;
    let pinned = server.push_signed(REPOSITORY, "zero", "v0").await;
    server.push_signed_release(REPOSITORY, "1.0.0", &pinned).await;
    let mut images = Vec::new();
    for version in ["v1", "v2", "v3"] {
        images.push(server.push_signed(REPOSITORY, version, version).await);
    }
    let plan = plan(&server).await;
    assert_eq!(fate(&plan, "v0"), ("keep", "part-of"));
    assert_eq!(fate(&plan, "1.0.0"), ("keep", "pinned"));
    assert_eq!(fate(&plan, "v1"), ("drop", "beyond-recent"));
    assert_eq!(fate(&plan, "v3"), ("keep", "recent"));
    let signature = format!("sha256-{}.sig", images[0].digest().hex());
    assert_eq!(fate(&plan, &signature), ("drop", "with"));
    let (status, applied) = apply(&server, &plan, false).await;
    assert_eq!(status, StatusCode::OK, "{applied}");
    assert!(applied["applied"]["tags"].as_array().unwrap().contains(&json!("shop/api:v1")), "{applied}");
    assert!(!present(&server, "v1").await && !present(&server, &signature).await);
    assert!(!present(&server, &images[0].digest().to_string()).await);
    for name in ["v0", "1.0.0", "v2", "v3"] {
        assert!(present(&server, name).await, "{name}");
    }
    // The bytes wait as long as it can be restored.
    sweep::pass(&server.gateway, later(13)).await.unwrap();
    sweep::pass(&server.gateway, later(13)).await.unwrap();
    let (status, _) = server.order("retention/restore", &json!({ "repository": REPOSITORY, "name": "v1" })).await;
    assert_eq!(status, StatusCode::OK);
    assert!(present(&server, "v1").await && present(&server, &signature).await);
    let layer = Digest::sha256(b"layer of v1");
    let found = server.get(&format!("/v2/{REPOSITORY}/blobs/{layer}")).await;
    assert_eq!(found.text().await.unwrap(), "layer of v1");
    // Restored whole: its signature still speaks for it.
    assert_eq!(server.put(REPOSITORY, "again", &images[0]).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn dropped_version_is_gone_for_good_after_its_time_and_only_its_own_bytes_go() {
    let server = Server::start().await;
    let shared = server.push_blob(REPOSITORY, b"shared").await;
    for version in ["v1", "v2", "v3"] {
        server.push_signed(REPOSITORY, version, version).await;
    }
    let plan = plan(&server).await;
    assert_eq!(apply(&server, &plan, false).await.0, StatusCode::OK);
    let layer = |name: &str| server.gateway.store.tree().blob(&Digest::sha256(format!("layer of {name}").as_bytes()));
    assert!(layer("v1").exists());
    let forgotten = sweep::pass(&server.gateway, later(15)).await.unwrap();
    assert!(forgotten.forgotten > 0 && forgotten.condemned > 0 && forgotten.removed == 0, "{forgotten:?}");
    assert!(layer("v1").exists());
    let gone = sweep::pass(&server.gateway, later(17)).await.unwrap();
    assert!(gone.removed > 0, "{gone:?}");
    assert!(!layer("v1").exists() && layer("v2").exists() && layer("v3").exists());
    assert!(!server.gateway.store.tree().blob(&shared).exists());
    let (status, _) = server.order("retention/restore", &json!({ "repository": REPOSITORY, "name": "v1" })).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    // The same image can come back by an ordinary push.
    server.push_signed(REPOSITORY, "v1", "v1").await;
    assert!(layer("v1").exists());
}

/// More tags than the sweep forgets in one step: as long as one of them is known it can be restored, so no manifest may go
/// before the last of its tags.
#[tokio::test]
async fn tag_is_forgotten_before_its_manifest_however_many_others_are() {
    let server = Server::start().await;
    let manifest = server.push_image("open/one", "one").await;
    assert_eq!(server.put("open/one", "v1", &manifest).await.status(), StatusCode::CREATED);
    let mut tx = server.gateway.db.write().await.unwrap();
    for nth in 0..1_500 {
        sqlx::query("INSERT INTO dropped_tag (repository, name, digest, dropped, reason) VALUES ($1, $2, $3, 1, 'x')")
            .bind("open/one")
            .bind(format!("old{nth}"))
            .bind(manifest.digest().to_string())
            .execute(&mut *tx)
            .await
            .unwrap();
    }
    db::commit(tx).await.unwrap();
    let path = format!("/v2/open/one/manifests/{}", manifest.digest());
    assert_eq!(server.send(Method::DELETE, &path, &[], "").await.status(), StatusCode::ACCEPTED);
    assert_eq!(sweep::pass(&server.gateway, later(15)).await.unwrap().forgotten, 1);
    let mut tx = server.gateway.db.write().await.unwrap();
    let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM dropped_tag").fetch_one(&mut *tx);
    assert_eq!(count.await.unwrap(), 0, "a tag that is known longer than its manifest");
    db::commit(tx).await.unwrap();
    let (status, _) = server.order("retention/restore", &json!({ "repository": "open/one", "name": "v1" })).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let found = server.get("/v2/open/one/tags/list").await.text().await.unwrap();
    assert!(!found.contains("v1"), "a tag that leads nowhere: {found}");
}

#[tokio::test]
async fn tag_whose_manifest_is_gone_is_not_restored() {
    let server = Server::start().await;
    server.push_image("open/one", "another").await;
    let mut tx = server.gateway.db.write().await.unwrap();
    sqlx::query(
        "INSERT INTO dropped_tag (repository, name, digest, dropped, reason) VALUES ('open/one', 'v1', $1, 1, 'x')",
    )
    .bind(Digest::sha256(b"nothing").to_string())
    .execute(&mut *tx)
    .await
    .unwrap();
    db::commit(tx).await.unwrap();
    let (status, _) = server.order("retention/restore", &json!({ "repository": "open/one", "name": "v1" })).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

/// More than the sweep does in one step: none is left over, and what still serves is not touched.
#[tokio::test]
async fn many_deleted_images_go_whole_and_their_neighbours_stay() {
    let server = Server::start().await;
    let mut deleted = Vec::new();
    for nth in 0..50 {
        let manifest = server.push_image("open/one", &format!("image {nth}")).await;
        if nth % 2 == 0 {
            let path = format!("/v2/open/one/manifests/{}", manifest.digest());
            assert_eq!(server.send(Method::DELETE, &path, &[], "").await.status(), StatusCode::ACCEPTED);
            deleted.push(manifest);
        }
    }
    let first = sweep::pass(&server.gateway, later(15)).await.unwrap();
    assert_eq!((first.forgotten, first.condemned, first.removed), (25, 50, 0));
    let second = sweep::pass(&server.gateway, later(17)).await.unwrap();
    assert_eq!((second.forgotten, second.condemned, second.removed), (0, 0, 50));
    let mut tx = server.gateway.db.write().await.unwrap();
    let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM manifest_bytes").fetch_one(&mut *tx);
    let kept = count.await.unwrap();
    nebh_gateway::db::commit(tx).await.unwrap();
    assert_eq!(kept, 25, "bytes of manifests that nobody can name");
    for manifest in deleted {
        let layer = &manifest.image().unwrap().layers[0].digest;
        assert!(!server.gateway.store.tree().blob(layer).exists());
    }
    for nth in (1..50).step_by(2) {
        let layer = Digest::sha256(format!("layer of image {nth}").as_bytes());
        assert_eq!(server.get(&format!("/v2/open/one/blobs/{layer}")).await.status(), StatusCode::OK, "{nth}");
    }
}

#[tokio::test]
async fn condemned_blob_that_a_pusher_asks_for_is_kept() {
    let server = Server::start().await;
    let digest = server.push_blob("open/one", b"old").await;
    assert_eq!(sweep::pass(&server.gateway, later(2)).await.unwrap().condemned, 1);
    let path = format!("/v2/open/one/blobs/{digest}");
    assert_eq!(server.send(Method::HEAD, &path, &[], "").await.status(), StatusCode::OK);
    assert_eq!(sweep::pass(&server.gateway, later(0)).await.unwrap().removed, 0);
    assert_eq!(server.get(&path).await.text().await.unwrap(), "old");
}

#[tokio::test]
async fn manifest_push_takes_back_the_condemnation_of_its_blobs() {
    let server = Server::start().await;
    let manifest = server.push_image_blobs("open/one", "one").await;
    assert_eq!(sweep::pass(&server.gateway, later(2)).await.unwrap().condemned, 2);
    assert_eq!(server.put("open/one", "v1", &manifest).await.status(), StatusCode::CREATED);
    for days in [3, 30, 300] {
        assert_eq!(sweep::pass(&server.gateway, later(days)).await.unwrap().removed, 0);
    }
}

#[tokio::test]
async fn plan_that_is_not_what_was_looked_at_is_not_applied() {
    let server = Server::start().await;
    for version in ["v1", "v2", "v3"] {
        server.push_signed(REPOSITORY, version, version).await;
    }
    let seen = plan(&server).await;
    server.push_signed(REPOSITORY, "v4", "v4").await;
    let (status, answer) = apply(&server, &seen, true).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(answer["errors"][0]["message"].as_str().unwrap().contains(seen["digest"].as_str().unwrap()), "{answer}");
    assert!(present(&server, "v1").await);
}

#[tokio::test]
async fn plan_that_drops_most_of_a_repository_needs_confirmation() {
    let server = Server::start().await;
    for version in ["v1", "v2", "v3", "v4", "v5"] {
        server.push_signed(REPOSITORY, version, version).await;
    }
    let plan = plan(&server).await;
    assert_eq!(plan["needs_confirmation"], json!([REPOSITORY]));
    let (status, answer) = apply(&server, &plan, false).await;
    assert_eq!(status, StatusCode::PRECONDITION_REQUIRED);
    assert!(answer["errors"][0]["message"].as_str().unwrap().contains("3 of 5 versions"), "{answer}");
    assert_eq!(apply(&server, &plan, true).await.0, StatusCode::OK);
    assert!(!present(&server, "v3").await && present(&server, "v4").await);
}

#[tokio::test]
async fn what_a_host_reports_stays_until_it_reports_otherwise() {
    let server = Server::start().await;
    let first = server.push_signed(REPOSITORY, "v1", "v1").await;
    for version in ["v2", "v3"] {
        server.push_signed(REPOSITORY, version, version).await;
    }
    let report = |releases: Value| json!({ "version": 1, "app": "shop/api", "repository": server.address(REPOSITORY), "releases": releases, "phase": "serving" });
    let held = json!([{ "generation": 1, "release": first.digest(), "version": "1.0.0", "role": "running" }]);
    assert_eq!(server.order("hosts/n1/report", &report(held)).await.0, StatusCode::OK);
    let explained = server.ask(&format!("explain/retention?repository={REPOSITORY}&name=v1")).await;
    assert_eq!(explained["verdict"]["reason"], "in use: n1 (1.0.0 running)");
    assert_eq!(server.ask("hosts").await["uses"][0]["node"], "n1");
    assert_eq!(server.order("hosts/n1/report", &report(json!([]))).await.0, StatusCode::OK);
    assert_eq!(fate(&plan(&server).await, "v1").0, "drop");
}

#[tokio::test]
async fn pin_by_hand_holds_a_tag_in_place_and_out_of_retention() {
    let server = Server::start().await;
    let first = server.push_signed(REPOSITORY, "v1", "v1").await;
    for version in ["v2", "v3"] {
        server.push_signed(REPOSITORY, version, version).await;
    }
    let order = json!({ "repository": REPOSITORY, "name": "v1", "reason": "the auditor's copy" });
    let (status, pinned) = server.order("pins", &order).await;
    assert_eq!((status, &pinned["digest"]), (StatusCode::OK, &json!(first.digest())));
    assert_eq!(fate(&plan(&server).await, "v1"), ("keep", "pinned"));
    let second = image("v2");
    assert_eq!(server.put(REPOSITORY, "v1", &second).await.status(), StatusCode::FORBIDDEN);
    let pins = server.ask("pins").await;
    assert_eq!(pins["pins"][0]["reason"], "the auditor's copy");
    let none = json!({ "repository": REPOSITORY, "name": "v9", "reason": "x" });
    assert_eq!(server.order("pins", &none).await.0, StatusCode::NOT_FOUND);
    let empty = json!({ "repository": REPOSITORY, "name": "v1", "reason": " " });
    assert_eq!(server.order("pins", &empty).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn pin_of_a_tag_that_moves_meanwhile_is_refused() {
    let server = Server::start().await;
    server.push_signed(REPOSITORY, "v1", "v1").await;
    let second = server.push_signed(REPOSITORY, "v2", "v2").await;
    let (repository, tag) = (REPOSITORY.parse().unwrap(), "v1".parse().unwrap());
    let mut tx = server.gateway.db.write().await.unwrap();
    let order = json!({ "repository": REPOSITORY, "name": "v1", "reason": "x" });
    let mut pinning = std::pin::pin!(server.order("pins", &order));
    // By then it has looked the tag up, also on a busy machine, and waits for its turn to write.
    assert!(tokio::time::timeout(std::time::Duration::from_secs(3), pinning.as_mut()).await.is_err());
    db::tags::set(&mut tx, &repository, &tag, second.digest(), None, Timestamp::now()).await.unwrap();
    db::commit(tx).await.unwrap();
    let (status, said) = pinning.await;
    assert_eq!(status, StatusCode::CONFLICT, "{said}");
    assert_eq!(server.ask("pins").await["pins"], json!([]));
}

#[tokio::test]
async fn old_refusals_are_forgotten_and_nothing_else_that_happened() {
    let server = Server::start().await;
    let mut tx = server.gateway.db.write().await.unwrap();
    for (kind, subject) in
        [("admitted", "a"), ("refused", "b"), ("pinned", "c"), ("refused", "d"), ("refused", "e"), ("refused", "f")]
    {
        db::events::record(&mut tx, kind, None, subject, "x", Timestamp::now()).await.unwrap();
    }
    assert_eq!(db::events::forget_refusals(&mut tx, 2).await.unwrap(), 2);
    db::commit(tx).await.unwrap();
    let events = server.gateway.db.events(None, None, 10).await.unwrap();
    let left: Vec<&str> = events.iter().map(|event| event.subject.as_str()).collect();
    assert_eq!(left, ["f", "e", "c", "a"]);
}

#[tokio::test]
async fn release_that_a_channel_head_names_stays_after_it_is_unpinned() {
    let server = Server::start().await;
    let first = server.push_signed(REPOSITORY, "v1", "v1").await;
    let release = server.push_signed_release(REPOSITORY, "1.0.0", &first).await;
    let head = head("stable", REPOSITORY, 1, &release, 30, &server.keys.releaser);
    assert_eq!(server.push_artifact(REPOSITORY, &head).await.status(), StatusCode::CREATED);
    assert_eq!(server.order("unpin", &json!({ "repository": REPOSITORY, "name": "1.0.0" })).await.0, StatusCode::OK);
    for version in ["v2", "v3", "v4"] {
        server.push_signed(REPOSITORY, version, version).await;
    }
    let plan = plan(&server).await;
    assert_eq!(fate(&plan, "1.0.0"), ("keep", "channel"));
    assert_eq!(fate(&plan, "channel.stable"), ("keep", "channel-head"));
    assert_eq!(fate(&plan, "v1"), ("keep", "part-of"));
    assert_eq!(fate(&plan, "v2"), ("drop", "beyond-recent"));
}

#[tokio::test]
async fn repository_without_keep_loses_nothing() {
    let server = Server::with(&SETTINGS.replace("keep: { recent: 2 }", "keep: { recent: 1 }").replacen(
        ", keep: { recent: 1 }",
        "",
        1,
    ))
    .await;
    for version in ["v1", "v2", "v3"] {
        server.push_signed(REPOSITORY, version, version).await;
    }
    let plan = plan(&server).await;
    assert_eq!(fate(&plan, "v1"), ("keep", "no-rule"));
}
