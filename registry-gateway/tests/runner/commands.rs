//! The commands as a person runs them, against a gateway that serves: what they do, and the exit codes they end with.

use clap::Parser;
use nebh_face::{Exit, Failure, Globals};
use nebh_gateway::cli::{self, Command};
use reqwest::StatusCode;

use crate::support::{Server, image};

const REPOSITORY: &str = "shop/api";

/// What `src/main.rs` makes of the same words.
#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

async fn run(words: &[&str]) -> Result<(), Failure> {
    let line = Line::try_parse_from(["nebh", "-q"].iter().chain(words)).unwrap();
    cli::run(line.command, &line.globals).await
}

#[tokio::test]
async fn pin_and_unpin_hold_and_free_a_tag() {
    let server = Server::start().await;
    server.push_signed(REPOSITORY, "one", "v1").await;
    let second = server.push_signed(REPOSITORY, "two", "v2").await;
    let reference = format!("{}:v1", server.address(REPOSITORY));
    run(&["pin", &reference, "--reason", "the auditor's copy"]).await.unwrap();
    assert_eq!(server.put(REPOSITORY, "v1", &second).await.status(), StatusCode::FORBIDDEN);
    run(&["explain", "retention", &reference]).await.unwrap();
    run(&["explain", "admission", &reference]).await.unwrap();
    run(&["unpin", &reference]).await.unwrap();
    assert_eq!(server.put(REPOSITORY, "v1", &second).await.status(), StatusCode::CREATED);
    let failure = run(&["unpin", &reference]).await.unwrap_err();
    assert_eq!((failure.exit, failure.what.as_str()), (Exit::Failed, "`v1` of `shop/api` is not pinned"));
}

#[tokio::test]
async fn retention_is_planned_applied_explained_and_undone() {
    let server = Server::start().await;
    for version in ["v1", "v2", "v3"] {
        server.push_signed(REPOSITORY, version, version).await;
    }
    let at = ["--gateway", &server.url];
    let reference = format!("{}:v1", server.address(REPOSITORY));
    run(&[&["gateway", "retention", "plan"], &at[..]].concat()).await.unwrap();
    let stale = nebh_oci::digest::Digest::sha256(b"another plan").to_string();
    let failure = run(&[&["gateway", "retention", "apply", &stale], &at[..]].concat()).await.unwrap_err();
    assert!(failure.what.contains("not the one you looked at"), "{failure}");
    run(&[&["gateway", "retention", "apply"], &at[..]].concat()).await.unwrap();
    let found = server.get(&format!("/v2/{REPOSITORY}/manifests/v1")).await;
    assert_eq!(found.status(), StatusCode::NOT_FOUND);
    run(&["explain", "retention", &reference]).await.unwrap();
    run(&["gateway", "retention", "restore", &reference]).await.unwrap();
    let found = server.get(&format!("/v2/{REPOSITORY}/manifests/v1")).await;
    assert_eq!(found.bytes().await.unwrap(), image("v1").bytes());
    run(&[&["gateway", "sweep"], &at[..]].concat()).await.unwrap();
}

#[tokio::test]
async fn plan_that_needs_confirmation_says_how_to_give_it() {
    let server = Server::start().await;
    for version in ["v1", "v2", "v3", "v4", "v5"] {
        server.push_signed(REPOSITORY, version, version).await;
    }
    let failure = run(&["gateway", "retention", "apply", "--gateway", &server.url]).await.unwrap_err();
    assert!(failure.what.contains("3 of 5 versions"), "{failure}");
    assert!(failure.next.as_deref().is_some_and(|next| next.contains("--yes")), "{failure}");
    run(&["gateway", "retention", "apply", "--yes", "--gateway", &server.url]).await.unwrap();
}

#[tokio::test]
async fn gateway_that_does_not_answer_ends_with_its_own_exit_code_and_says_what_still_works() {
    let failure = run(&["gateway", "retention", "plan", "--gateway", "http://127.0.0.1:1"]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Unreachable);
    assert!(failure.next.as_deref().is_some_and(|next| next.contains("hosts go on")), "{failure}");
}

#[tokio::test]
async fn settings_that_are_wrong_end_with_usage_and_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.yaml");
    std::fs::write(&file, "listen: 127.0.0.1:0\nrepositories:\n  - { match: a, admit: singed }\n").unwrap();
    let failure = run(&["gateway", "serve", "--settings", file.to_str().unwrap()]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(failure.to_string().contains("gateway.yaml:3:"), "{failure}");
    assert!(failure.to_string().contains("did you mean `signed`?"), "{failure}");
}

#[tokio::test]
async fn reference_without_a_name_is_wrong_use() {
    let failure = run(&["explain", "retention", "127.0.0.1:1/shop/api"]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
}
