//! The administrative API under `/api/v1/`: JSON in, JSON out. What it tells is what the commands print.
//!
//! Orders need a JSON content type, which no page of somebody else can send from a person's browser without asking,
//! and come from this machine only until there are users.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use nebh_oci::digest::Digest;
use nebh_oci::manifest::RawManifest;
use nebh_oci::names::{Repository, RepositoryAddress, Tag};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::error::{Code, Refusal};
use super::manifests::facts_refusal;
use super::permit::permits_administration;
use crate::Name;
use crate::admit::{self, Facts};
use crate::db::pins::{HostUse, PinKind};
use crate::db::tags::TagState;
use crate::gateway::Gateway;
use crate::retention::ApplyError;
use crate::{crash, db, facts, retention, sweep};

/// Bytes of one order or report. A host's report names a few hundred digests.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Releases that one host holds of one application.
const RELEASES_MAX: usize = 1024;
/// Length of a node's name.
const NODE_LENGTH_MAX: usize = 128;
/// Length of a reason.
const REASON_LENGTH_MAX: usize = 1000;
/// Events of one answer.
const EVENTS_MAX: u32 = 500;

/// What proxies add to a request of somebody else.
const PROXY_HEADERS: [&str; 4] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];

type Answer = Result<Response, Refusal>;

/// All addresses of the API.
pub fn router() -> Router<Arc<Gateway>> {
    let orders = Router::new()
        .route("/pins", post(pin))
        .route("/unpin", post(unpin))
        .route("/retention/apply", post(apply))
        .route("/retention/restore", post(restore))
        .route("/sweep", post(sweep_now))
        .layer(axum::middleware::from_fn(from_here));
    Router::new()
        .merge(orders)
        .route("/pins", get(pins))
        .route("/retention/plan", get(plan))
        .route("/explain/admission", get(explain_admission))
        .route("/explain/retention", get(explain_retention))
        .route("/events", get(events))
        .route("/hosts", get(hosts))
        .route("/hosts/{node}/report", post(report))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

async fn from_here(request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    // A proxy on this machine makes everybody come from here.
    let proxied = PROXY_HEADERS.iter().any(|name| request.headers().contains_key(*name));
    match permits_administration(peer.filter(|_| !proxied)) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn answer(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn wrong(message: impl Into<String>) -> Refusal {
    Refusal::new(Code::Unknown, message).status(StatusCode::BAD_REQUEST)
}

fn body<T: DeserializeOwned>(headers: &HeaderMap, bytes: &Bytes) -> Result<T, Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/json") {
        let refusal = wrong("the body must be `application/json`");
        return Err(refusal.status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    serde_json::from_slice(bytes).map_err(|error| wrong(format!("the body is not what this address takes: {error}")))
}

/// Words that are shown on terminals later: short, and without what would make a terminal do something.
fn is_plain(text: &str) -> bool {
    text.len() <= REASON_LENGTH_MAX && !text.chars().any(char::is_control)
}

/// A repository with a tag or a digest.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    repository: Repository,
    /// A tag, or a digest.
    name: String,
}

impl Named {
    fn name(&self) -> Result<Name, Refusal> {
        if self.name.contains(':') {
            return self.name.parse().map(Name::Digest).map_err(|error| wrong(format!("{error}")));
        }
        self.name.parse().map(Name::Tag).map_err(|error| wrong(format!("{error}")))
    }

    /// The manifest that the name leads to.
    async fn find(&self, gateway: &Gateway) -> Result<(Digest, RawManifest), Refusal> {
        let found = gateway.db.manifest(&self.repository, &self.name()?).await?;
        let found = found.ok_or_else(|| {
            Refusal::new(Code::ManifestUnknown, format!("there is no `{}` in `{}`", self.name, self.repository))
        })?;
        let manifest = RawManifest::parse(found.bytes, Some(&found.media_type))
            .map_err(|error| Refusal::new(Code::ManifestInvalid, error.to_string()))?;
        Ok((found.digest, manifest))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPin {
    repository: Repository,
    name: String,
    reason: String,
}

async fn pins(State(gateway): State<Arc<Gateway>>) -> Answer {
    Ok(answer(&json!({ "version": 1, "pins": gateway.db.pins(None).await? })))
}

async fn pin(State(gateway): State<Arc<Gateway>>, headers: HeaderMap, bytes: Bytes) -> Answer {
    let NewPin { repository, name, reason } = body(&headers, &bytes)?;
    if reason.trim().is_empty() || !is_plain(&reason) {
        return Err(wrong(format!("a pin needs a reason: one line of at most {REASON_LENGTH_MAX} characters")));
    }
    let named = Named { repository, name };
    let (digest, _) = named.find(&gateway).await?;
    let now = Timestamp::now();
    let mut tx = gateway.db.write().await?;
    // What was looked up may have moved or gone meanwhile; from here on it cannot.
    let stays = match named.name()? {
        Name::Tag(tag) => db::tags::state_locked(&mut tx, &named.repository, &tag).await?.present == Some(digest),
        Name::Digest(digest) => db::dropped::is_live(&mut tx, &named.repository, &digest).await?,
    };
    if !stays {
        let message = format!("`{}` of `{}` changed just now; look again", named.name, named.repository);
        return Err(wrong(message).status(StatusCode::CONFLICT));
    }
    db::pins::pin(&mut tx, &named.repository, &named.name, &digest, PinKind::Manual, &reason, now).await?;
    db::events::record(&mut tx, "pinned", Some(&named.repository), &named.name, &reason, now).await?;
    crash::point("pin-written");
    db::commit(tx).await?;
    crash::point("pin-recorded");
    Ok(answer(&json!({ "version": 1, "repository": named.repository, "name": named.name, "digest": digest })))
}

async fn unpin(State(gateway): State<Arc<Gateway>>, headers: HeaderMap, bytes: Bytes) -> Answer {
    let named: Named = body(&headers, &bytes)?;
    let now = Timestamp::now();
    let mut tx = gateway.db.write().await?;
    if !db::pins::unpin(&mut tx, &named.repository, &named.name).await? {
        let message = format!("`{}` of `{}` is not pinned", named.name, named.repository);
        return Err(Refusal::new(Code::ManifestUnknown, message));
    }
    db::events::record(&mut tx, "unpinned", Some(&named.repository), &named.name, "by request", now).await?;
    crash::point("unpin-written");
    db::commit(tx).await?;
    crash::point("unpin-recorded");
    Ok(answer(&json!({ "version": 1, "repository": named.repository, "name": named.name })))
}

async fn plan(State(gateway): State<Arc<Gateway>>) -> Answer {
    let plan = retention::plan(&gateway, Timestamp::now()).await?;
    let repositories: Vec<Value> = plan
        .repositories
        .iter()
        .map(|one| {
            let verdicts: Vec<Value> = one.verdicts.iter().map(verdict).collect();
            let (versions, dropped) = one.versions();
            json!({
                "repository": one.repository, "keep": one.keep, "versions": versions,
                "versions_dropped": dropped, "verdicts": verdicts,
            })
        })
        .collect();
    Ok(answer(&json!({
        "version": plan.version, "digest": plan.digest, "repositories": repositories,
        "needs_confirmation": plan.large, "share_max": gateway.settings.share_max,
    })))
}

fn verdict(verdict: &crate::retain::Verdict) -> Value {
    json!({
        "digest": verdict.digest(), "tags": verdict.tags(), "fate": if verdict.drops() { "drop" } else { "keep" },
        "because": retention::word(verdict), "reason": verdict.reason(),
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Apply {
    digest: Digest,
    #[serde(default)]
    confirm: bool,
}

async fn apply(State(gateway): State<Arc<Gateway>>, headers: HeaderMap, bytes: Bytes) -> Answer {
    let Apply { digest, confirm } = body(&headers, &bytes)?;
    match retention::apply(&gateway, digest, confirm, Timestamp::now()).await {
        Ok(applied) => Ok(answer(&json!({ "version": 1, "digest": digest, "applied": applied }))),
        Err(ApplyError::Db(error)) => Err(error.into()),
        Err(error @ ApplyError::Stale { .. }) => Err(wrong(error.to_string()).status(StatusCode::CONFLICT)),
        Err(error @ ApplyError::NeedsConfirmation { .. }) => {
            Err(wrong(error.to_string()).status(StatusCode::PRECONDITION_REQUIRED))
        }
    }
}

async fn restore(State(gateway): State<Arc<Gateway>>, headers: HeaderMap, bytes: Bytes) -> Answer {
    let named: Named = body(&headers, &bytes)?;
    let Name::Tag(tag) = named.name()? else {
        return Err(wrong("restore by tag: its manifest and all that hangs under it comes back with it"));
    };
    if !retention::restore(&gateway, &named.repository, &tag, Timestamp::now()).await? {
        let message = format!("`{}:{tag}` is not among what was dropped and can be restored", named.repository);
        return Err(Refusal::new(Code::ManifestUnknown, message));
    }
    Ok(answer(&json!({ "version": 1, "repository": named.repository, "name": named.name })))
}

async fn sweep_now(State(gateway): State<Arc<Gateway>>) -> Answer {
    match sweep::pass(&gateway, Timestamp::now()).await {
        Ok(swept) => Ok(answer(&json!({ "version": 1, "swept": swept }))),
        Err(sweep::SweepError::Db(error)) => Err(error.into()),
        Err(sweep::SweepError::Store(error)) => Err(error.into()),
    }
}

async fn explain_admission(State(gateway): State<Arc<Gateway>>, Query(named): Query<Named>) -> Answer {
    let (digest, manifest) = named.find(&gateway).await?;
    let Named { repository, .. } = &named;
    let rule = gateway
        .settings
        .rule(repository)
        .ok_or_else(|| Refusal::new(Code::NameUnknown, format!("no rule matches `{repository}`")))?;
    let gathered = facts::gather(&gateway, repository, &digest, &manifest).await.map_err(facts_refusal)?;
    let judge = gateway.judge().await?;
    let facts = Facts {
        mode: rule.admit,
        rule: rule.pattern.as_str(),
        repository,
        name: digest,
        subject: &gathered.subject,
        layers: &gathered.layers,
        children: &gathered.children,
        cut: gathered.cut,
        judge: &judge,
    };
    let (tag, state) = match named.name()? {
        Name::Tag(tag) => {
            let state = gateway.db.tag_state(repository, &tag).await?;
            (tag, state)
        }
        // By digest: the question is whether an ordinary tag would be granted.
        Name::Digest(_) => (any_tag(&manifest)?, TagState::default()),
    };
    let outcome = admit::admit(&facts, &tag, &state, Timestamp::now());
    let (admitted, kind, reason) = match &outcome {
        Ok(grant) => (true, "admitted", grant.to_string()),
        Err(refused) => (false, refused.kind(), refused.to_string()),
    };
    let history = gateway.db.events(Some(repository), Some(&named.name), EVENTS_MAX).await?;
    Ok(answer(&json!({
        "version": 1, "repository": repository, "name": named.name, "digest": digest, "mode": rule.admit,
        "rule": rule.pattern.as_str(), "admitted": admitted, "kind": kind, "reason": reason,
        "attached": gathered.subject.attached.len(), "events": history,
    })))
}

/// The tag that a manifest would ask for: its version if it is a release.
fn any_tag(manifest: &RawManifest) -> Result<Tag, Refusal> {
    let version = nebh_trust::release::read_release(manifest).map(|index| index.version.to_string());
    version.unwrap_or_else(|_| "any".to_owned()).parse().map_err(|error| wrong(format!("{error}")))
}

async fn explain_retention(State(gateway): State<Arc<Gateway>>, Query(named): Query<Named>) -> Answer {
    let (digest, _) = named.find(&gateway).await?;
    let found = retention::explain(&gateway, &named.repository, &digest, Timestamp::now()).await?;
    let found = found.ok_or_else(|| Refusal::new(Code::ManifestUnknown, format!("{digest} was just dropped")))?;
    Ok(answer(&json!({
        "version": 1, "repository": named.repository, "name": named.name, "verdict": verdict(&found),
    })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    repository: Option<Repository>,
    subject: Option<String>,
    limit: Option<u32>,
}

async fn events(State(gateway): State<Arc<Gateway>>, Query(which): Query<Which>) -> Answer {
    let limit = which.limit.unwrap_or(EVENTS_MAX).min(EVENTS_MAX);
    let found = gateway.db.events(which.repository.as_ref(), which.subject.as_deref(), limit).await?;
    Ok(answer(&json!({ "version": 1, "events": found })))
}

async fn hosts(State(gateway): State<Arc<Gateway>>) -> Answer {
    Ok(answer(&json!({ "version": 1, "uses": gateway.db.host_uses().await? })))
}

/// What a host tells of one application. A newer host may tell more; that is passed over.
#[derive(Debug, Deserialize)]
struct Report {
    app: String,
    repository: RepositoryAddress,
    releases: Vec<ReportedRelease>,
}

/// One release that a host holds.
#[derive(Debug, Deserialize)]
struct ReportedRelease {
    release: Digest,
    image: Option<Digest>,
    version: Option<String>,
    role: String,
}

async fn report(
    State(gateway): State<Arc<Gateway>>,
    Path(node): Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Answer {
    let Report { app, repository, releases } = body(&headers, &bytes)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if node.is_empty() || node.len() > NODE_LENGTH_MAX || !node.bytes().all(plain) {
        return Err(wrong("a node's name has letters, digits, `-`, `_` and `.` only"));
    }
    let plain = |one: &ReportedRelease| is_plain(&one.role) && one.version.as_deref().is_none_or(is_plain);
    if !is_plain(&app) || releases.len() > RELEASES_MAX || !releases.iter().all(plain) {
        return Err(wrong(format!("a report names at most {RELEASES_MAX} releases, each in a few words")));
    }
    let mut uses = Vec::new();
    for one in releases {
        let why = [one.version.as_deref().unwrap_or_default(), &one.role].join(" ").trim().to_owned();
        for digest in std::iter::once(one.release).chain(one.image) {
            uses.push(HostUse { repository: repository.repository().clone(), digest, why: why.clone() });
        }
    }
    let now = Timestamp::now();
    let mut tx = gateway.db.write().await?;
    db::pins::report(&mut tx, &node, &app, &uses, now).await?;
    crash::point("report-written");
    db::commit(tx).await?;
    crash::point("report-recorded");
    Ok(answer(&json!({ "version": 1, "node": node, "app": app, "uses": uses.len() })))
}
