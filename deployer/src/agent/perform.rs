//! Performing effects: those of the row one after another, those beside it each in a task of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::{Message, View, fresh_op};
use crate::crash::{self, Side};
use crate::host::{Host, Progress};
use crate::machine::{Effect, Event, GenerationId, Stage, State, TroubleKind, shelf};
use crate::settings::AppSettings;

/// First pause before an absent gateway is told again; doubles every time.
const REPORT_AGAIN: Duration = Duration::from_secs(1);
/// Longest pause.
const REPORT_AGAIN_MAX: Duration = Duration::from_mins(1);

async fn perform<H: Host>(host: &H, effect: Effect, progress: &Progress) -> Option<Event> {
    let name = effect.name();
    crash::point("effect-", name, Side::Before);
    let began = Instant::now();
    let outcome = host.perform(effect, progress).await;
    crash::point("effect-", name, Side::After);
    tracing::info!(effect = name, ms = began.elapsed().as_millis(), "performed");
    if outcome.is_none() {
        tracing::error!(effect = name, "the host does not know this effect");
    }
    outcome
}

/// The row's performer: strictly one after another, so that a stop never overtakes the start before it.
pub(super) async fn row<H: Host>(
    host: Arc<H>,
    mut orders: mpsc::UnboundedReceiver<Effect>,
    inbox: mpsc::Sender<Message>,
    progress: impl Fn(GenerationId) -> Progress + Send + Sync + 'static,
) {
    drop(progress);
    while let Some(effect) = orders.recv().await {
        if let Some(event) = perform(&*host, effect, &Progress::silent()).await
            && inbox.send(Message::Outcome(event)).await.is_err()
        {
            return;
        }
    }
}

/// One effect beside the row.
pub(super) async fn beside<H: Host>(
    host: Arc<H>,
    effect: Effect,
    inbox: mpsc::Sender<Message>,
    progress: impl Fn(GenerationId) -> Progress + Send + Sync + 'static,
) {
    let outcome = match effect {
        Effect::Wait { step, ms } => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Some(Event::Waited { step })
        }
        Effect::Prepare { generation, .. } => perform(&*host, effect, &progress(generation)).await,
        effect => perform(&*host, effect, &Progress::silent()).await,
    };
    if let Some(event) = outcome {
        drop(inbox.send(Message::Outcome(event)).await);
    }
}

/// Watches one generation until it is lost or this is aborted.
pub(super) async fn watch<H: Host>(host: Arc<H>, generation: GenerationId, inbox: mpsc::Sender<Message>) {
    let began = Instant::now();
    let why = host.watch(generation).await;
    let after_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let event = Event::Lost { op: fresh_op(), generation, why, after_ms };
    drop(inbox.send(Message::Outcome(event)).await);
}

/// Publishes manifests that wait and tells the gateway how this node stands, until it was heard. Nobody waits for it: a
/// gateway that is away for an hour is told what happened meanwhile once it is back. Safe to drop.
pub(super) async fn report<H: Host>(
    host: Arc<H>,
    settings: AppSettings,
    view: watch::Receiver<View>,
    inbox: mpsc::Sender<Message>,
) {
    let mut pause = REPORT_AGAIN;
    loop {
        let now = view.borrow().clone();
        let published = publish(&*host, &now.state, &inbox).await;
        let told = match host.report(&wire(&settings, &now.state)).await {
            Ok(()) => true,
            Err(error) => {
                tracing::info!(%error, "the gateway was not told how this node stands");
                // A registry of another make takes no reports, however often.
                error.kind != TroubleKind::Unreachable
            }
        };
        if published && told {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(REPORT_AGAIN_MAX);
    }
}

/// True if no manifest waits any more.
async fn publish<H: Host>(host: &H, state: &State, inbox: &mpsc::Sender<Message>) -> bool {
    let mut all = true;
    for facts in state.data.snapshots.values().filter(|facts| !facts.published && facts.release.is_some()) {
        match host.publish(facts).await {
            Ok(()) => {
                let event = Event::Published { snapshot: facts.name.clone() };
                drop(inbox.send(Message::Outcome(event)).await);
            }
            Err(error) => {
                tracing::info!(snapshot = %facts.name, %error, "a snapshot's manifest is not published yet");
                all = false;
                // What is wrong with one release is not wrong with the next; an absent gateway is absent for all.
                if error.kind == TroubleKind::Unreachable {
                    break;
                }
            }
        }
    }
    all
}

/// What the gateway needs to know so that it drops nothing that this node needs.
fn wire(settings: &AppSettings, state: &State) -> serde_json::Value {
    let needed = shelf::needed(state);
    let releases = state.generations.iter().filter_map(|(id, known)| match &known.stage {
        Stage::Prepared(facts) => {
            let serves = state.phase.serving() == Some(*id);
            let role = if serves {
                "running"
            } else if needed.contains(id) {
                "way-back"
            } else {
                "prepared"
            };
            Some(json!({
                "generation": id,
                "release": facts.release.digest,
                "version": facts.release.version,
                "image": facts.image,
                "role": role,
            }))
        }
        Stage::Preparing | Stage::Retiring(_) => None,
    });
    json!({
        "version": 1,
        "app": settings.name,
        "repository": settings.repository,
        "phase": state.phase.name(),
        "timeline": state.data.current,
        "releases": releases.collect::<Vec<_>>(),
    })
}

/// True while this generation is being made ready.
pub(super) fn is_preparing(state: &State, id: GenerationId) -> bool {
    state.generations.get(&id).is_some_and(|known| known.stage == Stage::Preparing)
}
