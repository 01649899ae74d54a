//! The commands of this part: parse, call, report. No decision lives here; all but `serve` speak to a running gateway.

pub mod client;

use std::path::{Path, PathBuf};

use nebh_face::{Exit, Failure, Globals, Out};
use nebh_oci::digest::Digest;
use nebh_oci::names::Reference;
use serde_json::{Value, json};

use self::client::Client;
use crate::serve;
use crate::settings::Settings;

/// Top-level commands of this part.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// The registry gateway.
    Gateway {
        /// What to do.
        #[command(subcommand)]
        command: GatewayCommand,
    },
    /// Pin something that is pushed: its tag cannot move, and retention never drops it.
    Pin {
        /// `host:port/repository:tag` or `…@digest`.
        reference: Reference,
        /// Why.
        #[arg(long)]
        reason: String,
        /// Which gateway.
        #[command(flatten)]
        at: At,
    },
    /// Take a pin away.
    Unpin {
        /// `host:port/repository:tag` or `…@digest`, as it was pinned.
        reference: Reference,
        /// Which gateway.
        #[command(flatten)]
        at: At,
    },
    /// Say why something is as it is.
    Explain {
        /// What to do.
        #[command(subcommand)]
        command: ExplainCommand,
    },
}

/// `nebh gateway …`.
#[derive(Debug, clap::Subcommand)]
pub enum GatewayCommand {
    /// Serve. Without settings: 127.0.0.1:5000, everything admitted.
    Serve,
    /// What retention would drop, and dropping it.
    Retention {
        /// What to do.
        #[command(subcommand)]
        command: RetentionCommand,
    },
    /// Remove the bytes that nothing needs any more, now.
    Sweep {
        /// Which gateway.
        #[command(flatten)]
        at: At,
    },
}

/// `nebh gateway retention …`.
#[derive(Debug, clap::Subcommand)]
pub enum RetentionCommand {
    /// Show what would be kept and dropped, and why.
    Plan {
        /// Which gateway.
        #[command(flatten)]
        at: At,
    },
    /// Drop what the plan says; it can be restored for a time.
    Apply {
        /// The digest of the plan that you looked at; without it, the plan as it is now.
        plan: Option<Digest>,
        /// Which gateway.
        #[command(flatten)]
        at: At,
    },
    /// Bring a dropped tag back, with all that hangs under it.
    Restore {
        /// `host:port/repository:tag`.
        reference: Reference,
        /// Which gateway.
        #[command(flatten)]
        at: At,
    },
}

/// `nebh explain …`.
#[derive(Debug, clap::Subcommand)]
pub enum ExplainCommand {
    /// Why a tag is granted, or would not be.
    Admission {
        /// `host:port/repository:tag` or `…@digest`.
        reference: Reference,
        /// Which gateway.
        #[command(flatten)]
        at: At,
    },
    /// Why retention keeps or drops it.
    Retention {
        /// `host:port/repository:tag` or `…@digest`.
        reference: Reference,
        /// Which gateway.
        #[command(flatten)]
        at: At,
    },
}

/// Which gateway.
#[derive(Debug, clap::Args)]
pub struct At {
    /// Address of the gateway; else the settings' `url`, else the host of the reference, else this machine's.
    #[arg(long, value_name = "URL", env = "NEBH_GATEWAY")]
    gateway: Option<String>,
}

/// Runs one command.
pub async fn run(command: Command, globals: &Globals) -> Result<(), Failure> {
    match command {
        Command::Gateway { command: GatewayCommand::Serve } => serve::serve(settings(globals)?, globals).await,
        Command::Gateway { command: GatewayCommand::Retention { command } } => retention(command, globals).await,
        Command::Gateway { command: GatewayCommand::Sweep { at } } => sweep(&at, globals).await,
        Command::Pin { reference, reason, at } => pin(&reference, &reason, &at, globals).await,
        Command::Unpin { reference, at } => unpin(&reference, &at, globals).await,
        Command::Explain { command: ExplainCommand::Admission { reference, at } } => {
            explain_admission(&reference, &at, globals).await
        }
        Command::Explain { command: ExplainCommand::Retention { reference, at } } => {
            explain_retention(&reference, &at, globals).await
        }
    }
}

/// `--settings FILE`, else what is built in.
fn settings(globals: &Globals) -> Result<Settings, Failure> {
    let state = globals.state(rustix::process::geteuid().is_root()).join("gateway");
    match &globals.settings {
        Some(path) => read_settings(path, &state),
        None => Settings::embedded(&state),
    }
}

fn read_settings(path: &PathBuf, state: &Path) -> Result<Settings, Failure> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(Exit::Usage, format!("cannot read settings `{file}`")).because(&error))?;
    Settings::parse(&file, &text, path.parent().unwrap_or(Path::new("")), state)
}

fn connect(at: &At, reference: Option<&Reference>, globals: &Globals) -> Result<Client, Failure> {
    let url = match (&at.gateway, &globals.settings, reference) {
        (Some(url), ..) => url.clone(),
        (None, Some(_), _) => settings(globals)?.url,
        (None, None, Some(reference)) => {
            let host = &reference.address().registry();
            let scheme = if host.is_loopback() { "http" } else { "https" };
            format!("{scheme}://{}", host.as_str())
        }
        (None, None, None) => format!("http://{}", crate::settings::LISTEN_DEFAULT),
    };
    Client::new(&url)
}

/// The tag of a reference, else its digest, as the gateway's API names things.
fn name(reference: &Reference) -> Result<String, Failure> {
    match (reference.tag(), reference.digest()) {
        (Some(tag), _) => Ok(tag.to_string()),
        (None, Some(digest)) => Ok(digest.to_string()),
        (None, None) => Err(Failure::new(Exit::Usage, format!("`{reference}` names neither a tag nor a digest"))
            .next("write host:port/repository:tag")),
    }
}

fn named(reference: &Reference) -> Result<Value, Failure> {
    Ok(json!({ "repository": reference.address().repository(), "name": name(reference)? }))
}

async fn pin(reference: &Reference, reason: &str, at: &At, globals: &Globals) -> Result<(), Failure> {
    let mut order = named(reference)?;
    order["reason"] = json!(reason);
    let done = connect(at, Some(reference), globals)?.post("pins", &order).await?;
    let digest = text(&done, "digest");
    let line = format!("pinned   {reference} ({digest}): it stays and cannot move until `nebh unpin {reference}`");
    Out::new(globals).result(&line, &done, &digest);
    Ok(())
}

async fn unpin(reference: &Reference, at: &At, globals: &Globals) -> Result<(), Failure> {
    let done = connect(at, Some(reference), globals)?.post("unpin", &named(reference)?).await?;
    let line = format!("unpinned {reference}: from now on it may move, and retention may drop it");
    Out::new(globals).result(&line, &done, &reference.to_string());
    Ok(())
}

async fn sweep(at: &At, globals: &Globals) -> Result<(), Failure> {
    let done = connect(at, None, globals)?.post("sweep", &json!({})).await?;
    let swept = &done["swept"];
    let line = format!(
        "swept    {} blobs gone ({} bytes), {} condemned, {} manifests forgotten, {} abandoned uploads, {} left by a crash",
        swept["removed"], swept["bytes"], swept["condemned"], swept["forgotten"], swept["uploads"], swept["orphans"]
    );
    Out::new(globals).result(&line, &done, &swept["removed"].to_string());
    Ok(())
}

async fn retention(command: RetentionCommand, globals: &Globals) -> Result<(), Failure> {
    match command {
        RetentionCommand::Plan { at } => {
            let plan = connect(&at, None, globals)?.get("retention/plan", &[]).await?;
            show_plan(&plan, globals);
            Ok(())
        }
        RetentionCommand::Apply { plan, at } => apply(plan, &at, globals).await,
        RetentionCommand::Restore { reference, at } => {
            let done = connect(&at, Some(&reference), globals)?.post("retention/restore", &named(&reference)?).await?;
            let line = format!("restored {reference}, with its signatures and all that hangs under it");
            Out::new(globals).result(&line, &done, &reference.to_string());
            Ok(())
        }
    }
}

async fn apply(plan: Option<Digest>, at: &At, globals: &Globals) -> Result<(), Failure> {
    let client = connect(at, None, globals)?;
    let digest = match plan {
        Some(digest) => digest.to_string(),
        None => text(&client.get("retention/plan", &[]).await?, "digest"),
    };
    let done = client.post("retention/apply", &json!({ "digest": digest, "confirm": globals.yes })).await?;
    let applied = &done["applied"];
    let tags = applied["tags"].as_array().cloned().unwrap_or_default();
    let mut lines: Vec<String> = tags.iter().filter_map(Value::as_str).map(|tag| format!("dropped  {tag}")).collect();
    lines.push(format!(
        "retention dropped {} tags and {} manifests; `nebh gateway retention restore` brings them back until {}",
        tags.len(),
        applied["manifests"],
        text(applied, "restorable_until")
    ));
    Out::new(globals).result(&lines.join("\n"), &done, &tags.len().to_string());
    Ok(())
}

fn show_plan(plan: &Value, globals: &Globals) {
    let mut lines = Vec::new();
    for one in plan["repositories"].as_array().into_iter().flatten() {
        lines.push(format!(
            "{}: {} versions, {} go",
            text(one, "repository"),
            one["versions"],
            one["versions_dropped"]
        ));
        let mut followers = [0, 0];
        for verdict in one["verdicts"].as_array().into_iter().flatten() {
            if !globals.verbose && is_follower(verdict) {
                followers[usize::from(text(verdict, "fate") == "drop")] += 1;
                continue;
            }
            let tags: Vec<&str> = tag_names(verdict).collect();
            let digest: String = text(verdict, "digest").chars().take(19).collect();
            let name = if tags.is_empty() { digest } else { format!("{} ({digest})", tags.join(", ")) };
            lines.push(format!("  {:<4}  {name}: {}", text(verdict, "fate"), text(verdict, "reason")));
        }
        let [kept, dropped] = followers;
        if kept + dropped > 0 {
            lines.push(format!(
                "  and their signatures, attestations and parts: {kept} stay, {dropped} go (-v lists them)"
            ));
        }
    }
    for large in plan["needs_confirmation"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        lines.push(format!("{large}: more than {} % of the versions go, so applying needs --yes", plan["share_max"]));
    }
    let digest = text(plan, "digest");
    lines.push(format!("plan {digest}\n  to apply exactly this:  nebh gateway retention apply {digest}"));
    Out::new(globals).result(&lines.join("\n"), plan, &digest);
}

fn tag_names(verdict: &Value) -> impl Iterator<Item = &str> {
    verdict["tags"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// What has no fate of its own.
fn is_follower(verdict: &Value) -> bool {
    let own = tag_names(verdict).any(|tag| !matches!(crate::tag_kind(tag), crate::retain::TagKind::Attached(_)));
    !own && ["part-of", "attached", "with"].contains(&verdict["because"].as_str().unwrap_or_default())
}

async fn explain_admission(reference: &Reference, at: &At, globals: &Globals) -> Result<(), Failure> {
    let client = connect(at, Some(reference), globals)?;
    let repository = reference.address().repository().to_string();
    let name = name(reference)?;
    let query = [("repository", repository.as_str()), ("name", name.as_str())];
    // A tag that was refused leads nowhere; its story is in the events.
    let found = match client.get("explain/admission", &query).await {
        Ok(found) => found,
        Err(failure) => {
            let events = history(&client, &repository, &name).await?.ok_or(failure)?;
            json!({
                "version": 1, "repository": repository, "name": name, "admitted": false,
                "kind": "no-such-tag", "reason": "the tag leads nowhere", "events": events,
            })
        }
    };
    let verdict = if found["admitted"] == json!(true) { "admitted" } else { "refused " };
    let mut lines = vec![format!("{verdict} {reference}: {}", text(&found, "reason"))];
    for event in found["events"].as_array().into_iter().flatten() {
        lines.push(format!("  {}  {:<9} {}", text(event, "at"), text(event, "kind"), text(event, "detail")));
    }
    Out::new(globals).result(&lines.join("\n"), &found, verdict.trim());
    Ok(())
}

async fn explain_retention(reference: &Reference, at: &At, globals: &Globals) -> Result<(), Failure> {
    let client = connect(at, Some(reference), globals)?;
    let repository = reference.address().repository().to_string();
    let name = name(reference)?;
    let query = [("repository", repository.as_str()), ("name", name.as_str())];
    let found = match client.get("explain/retention", &query).await {
        Ok(found) => found,
        // What was dropped is not there to be judged; why it went is in the events.
        Err(failure) => {
            let events = history(&client, &repository, &name).await?;
            let dropped = events.iter().filter_map(Value::as_array).flatten();
            let dropped = dropped.into_iter().find(|event| text(event, "kind") == "dropped").ok_or(failure)?;
            let reason = format!("{} (at {})", text(dropped, "detail"), text(dropped, "at"));
            json!({ "version": 1, "verdict": { "fate": "dropped", "digest": "", "reason": reason } })
        }
    };
    let verdict = &found["verdict"];
    let fate = text(verdict, "fate");
    let digest = text(verdict, "digest");
    let name = if digest.is_empty() { reference.to_string() } else { format!("{reference} ({digest})") };
    Out::new(globals).result(&format!("{fate}  {name}: {}", text(verdict, "reason")), &found, &fate);
    Ok(())
}

/// What happened to a name, if anything did.
async fn history(client: &Client, repository: &str, name: &str) -> Result<Option<Value>, Failure> {
    let found = client.get("events", &[("repository", repository), ("subject", name)]).await?;
    let events = found["events"].clone();
    Ok(events.as_array().is_some_and(|events| !events.is_empty()).then_some(events))
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}
