//! The agent's end of the API. Owns the socket; only the socket's owner (and root) may speak to it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use nebh_face::{Exit, Failure};
use tokio::net::UnixListener;

use super::wire::{self, Fault, VERSION};
use crate::agent::{AppHandle, AskError, View, fresh_op};
use crate::host::Host;
use crate::machine::{
    AppName, Author, DataMove, DataWish, Event, GenerationId, Kind, NodeName, Plan, PrepareSource, RollbackWish, Stage,
    State, Trouble, TroubleKind, choices, plan,
};

/// Most bytes of a program's output that are shown at once.
const LOGS_BYTES_MAX: u64 = 1 << 20;
/// Longest time that a wish waits for the agent to have looked after what runs.
const RECOVERY_MAX: Duration = Duration::from_secs(5);

/// What the API speaks for.
#[derive(Debug)]
pub struct Node<H> {
    /// The node.
    pub name: NodeName,
    /// Its applications.
    pub apps: BTreeMap<AppName, Arc<AppHandle<H>>>,
}

/// Binds the socket. One that nobody answers on is a leftover of a dead agent and replaced.
pub fn bind(path: &Path) -> Result<UnixListener, Failure> {
    let cannot = |error: &std::io::Error| {
        Failure::new(Exit::Failed, format!("cannot listen on `{}`", path.display())).because(error)
    };
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        let next = "end the other agent first, or give this one a state folder of its own";
        return Err(Failure::new(Exit::Failed, format!("an agent listens on `{}` already", path.display())).next(next));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(cannot(&error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(|error| cannot(&error))?;
    let owner_only = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, owner_only).map_err(|error| cannot(&error))?;
    Ok(listener)
}

/// Serves until dropped.
pub async fn serve<H: Host>(listener: UnixListener, node: Arc<Node<H>>) -> std::io::Result<()> {
    let routes = Router::new()
        .route(wire::STATUS, get(status))
        .route(wire::NEWS, get(news))
        .route(wire::PREPARE, post(prepare))
        .route(wire::SWITCH, post(switch))
        .route(wire::COMMIT, post(commit))
        .route(wire::ROLLBACK, post(rollback))
        .route(wire::ROLLBACK_PLAN, post(rollback_plan))
        .route(wire::ADOPT, post(adopt))
        .route(wire::LOGS, get(logs))
        .with_state(node);
    axum::serve(listener, routes).await
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let status = match self.exit {
            2 => StatusCode::BAD_REQUEST,
            4 => StatusCode::BAD_GATEWAY,
            _ => StatusCode::CONFLICT,
        };
        (status, Json(self)).into_response()
    }
}

type Reply<T> = Result<Json<T>, Fault>;

impl<H: Host> Node<H> {
    fn app(&self, name: Option<&AppName>) -> Result<&Arc<AppHandle<H>>, Fault> {
        let known = || self.apps.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match name {
            Some(name) => self.apps.get(name).ok_or_else(|| {
                let what = format!("there is no application `{name}` on {}", self.name);
                Failure::new(Exit::Usage, what).next(format!("there is: {}", known())).into()
            }),
            None if self.apps.len() == 1 => self.apps.values().next().ok_or_else(none),
            None if self.apps.is_empty() => Err(none()),
            None => Err(Failure::new(Exit::Usage, "this node has more than one application")
                .next(format!("name one with --app: {}", known()))
                .into()),
        }
    }
}

fn none() -> Fault {
    Failure::new(Exit::Usage, "this node has no application").into()
}

fn shown<H: Host>(app: &AppHandle<H>, view: View) -> wire::AppStatus {
    let choices = choices(&view.state).into_iter().map(|(command, gives)| wire::Choice { command, gives });
    wire::AppStatus {
        app: app.settings.name.clone(),
        seq: view.seq,
        phase: view.state.phase.name().to_owned(),
        choices: choices.collect(),
        state: State::clone(&view.state),
        head: view.head.map(|head| wire::HeadStatus { counter: head.counter, current: head.current }),
        progress: view.progress,
        damaged: view.damaged,
    }
}

fn not_taken(error: AskError) -> Fault {
    match error {
        AskError::Refused(refused) => Failure::new(Exit::Failed, refused.why).into(),
        AskError::Full(why) => {
            let next =
                "make room on the disk of the node's state; what serves is not touched, and a rollback needs no room";
            Failure::new(Exit::Failed, "nothing was begun: there is no space to write down how it ends")
                .why(why)
                .next(next)
                .into()
        }
        AskError::Journal(why) => {
            let next = "look at the journal's folder; nothing was changed since";
            Failure::new(Exit::NeedsOperator, "the application is not driven").why(why).next(next).into()
        }
        AskError::Gone => Failure::new(Exit::Unreachable, "the agent is going down").into(),
    }
}

fn troubled(what: &str, trouble: &Trouble) -> Fault {
    let exit = match trouble.kind {
        TroubleKind::Refused => Exit::Refused,
        TroubleKind::Unreachable => Exit::Unreachable,
        TroubleKind::Wrong => Exit::Usage,
        TroubleKind::NoSpace | TroubleKind::Failed => Exit::Failed,
    };
    Failure::new(exit, what).why(trouble.text.clone()).into()
}

async fn status<H: Host>(Shared(node): Shared<Arc<Node<H>>>) -> Json<wire::Status> {
    let apps = node.apps.values().map(|app| shown(app, app.view())).collect();
    Json(wire::Status { version: VERSION, node: node.name.clone(), apps })
}

async fn news<H: Host>(Shared(node): Shared<Arc<Node<H>>>, Query(query): Query<wire::NewsQuery>) -> Reply<wire::News> {
    let app = node.app(query.app.as_ref())?;
    let mut changes = app.watch();
    let wait = Duration::from_millis(query.wait_ms.min(wire::WAIT_MS_MAX));
    let news = changes.wait_for(|view| view.seq > query.after || view.damaged.is_some());
    // Nothing new in time, or an agent that is going down: what is known is the answer.
    drop(tokio::time::timeout(wait, news).await.map(|found| found.map(drop)));
    // Up to where the view stands: who has heard of a record asks only for what comes behind it, and would wait for a
    // status that fits it.
    let view = app.view();
    let entries = app.entries(query.after, view.seq);
    let is_told = view.damaged.is_some() || !view.state.phase.holds();
    let status = is_told.then(|| shown(app, view));
    Ok(Json(wire::News { version: VERSION, entries, status }))
}

async fn prepare<H: Host>(Shared(node): Shared<Arc<Node<H>>>, Json(asked): Json<wire::Prepare>) -> Reply<wire::Taken> {
    let app = node.app(asked.app.as_ref())?;
    let source = match (asked.mix, asked.to) {
        (Some((binary, config)), _) => PrepareSource::Mix { binary, config },
        (None, Some(wanted)) => {
            let release = app.host.resolve(&wanted).await;
            let what = format!("`{wanted}` is not a release that this node can find");
            PrepareSource::Release { release: release.map_err(|trouble| troubled(&what, &trouble))? }
        }
        (None, None) => {
            let unseen = || Failure::new(Exit::Usage, "no channel head was seen yet").next("name a release with --to");
            PrepareSource::Release { release: app.view().head.ok_or_else(unseen)?.current }
        }
    };
    let first_new = app.view().state.next_generation;
    let asked = app.ask(Event::PrepareAsked { source: source.clone(), by: Author::Person }).await;
    let view = app.view();
    let mut same = view.state.generations.iter().rev().filter(|(_, known)| known.source == source);
    let seq = match asked {
        Ok(seq) => seq,
        // Somebody else had asked for the same: their work is ours.
        Err(AskError::Refused(_)) if same.clone().any(|(_, known)| known.stage == Stage::Preparing) => view.seq,
        Err(error) => return Err(not_taken(error)),
    };
    let made = same.find(|(id, known)| **id >= first_new || known.stage == Stage::Preparing).map(|(id, _)| *id);
    // Failed already: its number is what the caller will find in the news.
    let generation = made.unwrap_or(first_new);
    Ok(Json(wire::Taken { version: VERSION, app: app.settings.name.clone(), seq, op: None, generation }))
}

/// An agent that just came to life looks after what runs first; a wish waits for that rather than being refused.
async fn after_recovery<H: Host>(app: &AppHandle<H>) {
    let mut changes = app.watch();
    let recovered = changes.wait_for(|view| {
        let change = view.state.phase.change();
        let restarts = change.is_some_and(|change| matches!(change.kind, Kind::Restart { .. }));
        view.damaged.is_some() || (view.looked && !restarts)
    });
    // If it takes longer, the machine's own refusal says what is going on.
    drop(tokio::time::timeout(RECOVERY_MAX, recovered).await.map(|found| found.map(drop)));
}

/// The prepared generation that a person means.
fn meant<H: Host>(app: &AppHandle<H>, to: Option<&str>) -> Result<GenerationId, Fault> {
    let view = app.view();
    let state = &view.state;
    let prepared = || state.generations.keys().rev().copied().filter(|id| state.facts(*id).is_some());
    let found = match to {
        Some(text) => prepared().find(|id| {
            let named = id.to_string() == text;
            let is = |release: &crate::machine::ReleaseRef| {
                release.version.as_text() == text || release.digest.to_string() == text
            };
            named || state.release(*id).is_some_and(is)
        }),
        None => view.head.and_then(|head| state.prepared(&head.current.digest)).or_else(|| {
            let live = state.phase.serving();
            let good = |id: &GenerationId| state.release(*id).is_some_and(|of| !state.bad.contains_key(&of.digest));
            prepared().find(|id| good(id) && live.is_none_or(|live| *id > live))
        }),
    };
    found.ok_or_else(|| {
        let what = match to {
            Some(text) => format!("{text} is not prepared on this node"),
            None => "nothing newer is prepared on this node".to_owned(),
        };
        Fault { unprepared: true, ..Failure::new(Exit::Failed, what).next("nebh node prepare --to VERSION").into() }
    })
}

async fn switch<H: Host>(Shared(node): Shared<Arc<Node<H>>>, Json(asked): Json<wire::Switch>) -> Reply<wire::Taken> {
    let app = node.app(asked.app.as_ref())?;
    after_recovery(app).await;
    let to = meant(app, asked.to.as_deref())?;
    let op = fresh_op();
    let seq = app.ask(Event::SwitchAsked { op: op.clone(), to, by: Author::Person }).await.map_err(not_taken)?;
    Ok(Json(wire::Taken { version: VERSION, app: app.settings.name.clone(), seq, op: Some(op), generation: to }))
}

async fn commit<H: Host>(Shared(node): Shared<Arc<Node<H>>>, Json(asked): Json<wire::Commit>) -> Reply<wire::Taken> {
    let app = node.app(asked.app.as_ref())?;
    // Only what is on probation is committed. Looked at before: a moment later it may have died.
    let live = app.view().state.phase.serving();
    let seq = app.ask(Event::CommitAsked).await.map_err(not_taken)?;
    let live = live.or_else(|| app.view().state.phase.serving());
    let live = live.ok_or_else(|| Fault::from(Failure::new(Exit::Failed, "committed, and nothing serves any more")))?;
    Ok(Json(wire::Taken { version: VERSION, app: app.settings.name.clone(), seq, op: None, generation: live }))
}

async fn rollback<H: Host>(
    Shared(node): Shared<Arc<Node<H>>>,
    Json(asked): Json<wire::Rollback>,
) -> Reply<wire::Taken> {
    let app = node.app(asked.app.as_ref())?;
    after_recovery(app).await;
    go_back(app, asked.want).await
}

async fn go_back<H: Host>(app: &AppHandle<H>, want: RollbackWish) -> Reply<wire::Taken> {
    let to = match plan(&app.view().state, &want) {
        Ok(Plan::Ready { to, .. }) => to,
        Ok(Plan::Mix { binary, config }) => {
            let what = format!("the program of {binary} with the config of {config} is not prepared");
            let fault = Failure::new(Exit::Failed, what).next("nebh node rollback prepares it first");
            return Err(Fault { unprepared: true, ..fault.into() });
        }
        Err(why) => return Err(Failure::new(Exit::Failed, why).into()),
    };
    let op = fresh_op();
    let seq = app.ask(Event::RollbackAsked { op: op.clone(), want }).await.map_err(not_taken)?;
    Ok(Json(wire::Taken { version: VERSION, app: app.settings.name.clone(), seq, op: Some(op), generation: to }))
}

async fn rollback_plan<H: Host>(
    Shared(node): Shared<Arc<Node<H>>>,
    Json(asked): Json<wire::Rollback>,
) -> Reply<wire::Planned> {
    let app = node.app(asked.app.as_ref())?;
    let state = app.view().state;
    let planned = plan(&state, &asked.want).map_err(|why| Fault::from(Failure::new(Exit::Failed, why)))?;
    let (to, mix, data, text) = match planned {
        Plan::Ready { to, data } => {
            let with = match &data {
                DataMove::Keep => format!("the live data ({})", state.data.current),
                DataMove::Branch { snapshot, timeline } => {
                    format!("{timeline}, a branch of {snapshot}; what is live now is kept as {}", state.data.current)
                }
            };
            (Some(to), None, data, format!("{} ({to}) would serve with {with}", state.version(to)))
        }
        Plan::Mix { binary, config } => {
            let text = format!("the program of {binary} with the config of {config} would be prepared, then serve");
            (None, Some((binary, config)), DataMove::Keep, text)
        }
    };
    Ok(Json(wire::Planned { version: VERSION, app: app.settings.name.clone(), to, mix, data, text }))
}

async fn adopt<H: Host>(Shared(node): Shared<Arc<Node<H>>>, Json(asked): Json<wire::Adopt>) -> Reply<wire::Taken> {
    let app = node.app(asked.app.as_ref())?;
    after_recovery(app).await;
    let state = app.view().state;
    if state.data.current == asked.timeline {
        return Err(Failure::new(Exit::Failed, format!("{} is live already", asked.timeline)).into());
    }
    // The program stays what it is, where there is one.
    let want = RollbackWish {
        to: state.phase.serving(),
        data: Some(DataWish::Timeline(asked.timeline)),
        ..RollbackWish::default()
    };
    go_back(app, want).await
}

async fn logs<H: Host>(
    Shared(node): Shared<Arc<Node<H>>>,
    Query(query): Query<wire::LogsQuery>,
) -> Result<Vec<u8>, Fault> {
    let app = node.app(query.app.as_ref())?;
    let state = app.view().state;
    let latest = || state.phase.serving().or_else(|| state.phase.change().and_then(|change| change.to));
    let generation = query.generation.or_else(latest);
    let generation = generation.ok_or_else(|| Fault::from(Failure::new(Exit::Failed, "nothing runs")))?;
    let output = app.host.output(generation, LOGS_BYTES_MAX).await;
    output.map_err(|trouble| troubled(&format!("there is no output of {generation}"), &trouble))
}
