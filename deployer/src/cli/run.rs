//! `nebh node run`: the agent of this node. Owns the process's signals.

use std::collections::BTreeMap;
use std::sync::Arc;

use nebh_face::{Exit, Failure, Globals, Out};
use tokio::signal::unix::{SignalKind, signal};

use super::state_default;
use crate::agent;
use crate::api::server::{self, Node};
use crate::host::LocalNode;
use crate::settings::Settings;

/// Drives the node until SIGTERM or SIGINT.
pub(super) async fn serve(globals: &Globals) -> Result<(), Failure> {
    let file = globals.settings.as_ref().ok_or_else(|| {
        Failure::new(Exit::Usage, "`nebh node run` needs the node's settings")
            .next("name them with --settings node.yaml")
    })?;
    let settings = Settings::read(file, &state_default(globals))?;
    let cannot = |what: String, error: &dyn std::error::Error| Failure::new(Exit::Failed, what).because(error);
    std::fs::create_dir_all(&settings.state)
        .map_err(|error| cannot(format!("cannot make `{}`", settings.state.display()), &error))?;
    let program =
        std::env::current_exe().map_err(|error| cannot("cannot find this program's own file".to_owned(), &error))?;
    // The socket first: a second agent is refused before it touches anything.
    let listener = server::bind(&settings.socket())?;
    let local = LocalNode::start(settings.clone(), &program).await?;
    let mut running = Vec::new();
    let mut apps = BTreeMap::new();
    for app in &settings.apps {
        let host = local.host(&app.name).await?;
        let started = agent::start(app.clone(), &settings.app_dir(&app.name), host);
        apps.insert(app.name.clone(), started.handle.clone());
        running.push(started);
    }
    let out = Out::new(globals);
    out.note(&format!(
        "node {} drives {} application(s); socket {}",
        settings.node,
        apps.len(),
        settings.socket().display()
    ));
    let node = Arc::new(Node { name: settings.node.clone(), apps });
    let ended = tokio::select! {
        served = server::serve(listener, node) => {
            served.map_err(|error| cannot("the agent's socket failed".to_owned(), &error))
        }
        stopped = stop_signal() => stopped,
    };
    for app in running {
        app.stop().await;
    }
    // A path that stays behind is replaced by the next agent.
    drop(std::fs::remove_file(settings.socket()));
    ended
}

async fn stop_signal() -> Result<(), Failure> {
    let cannot = |error: std::io::Error| Failure::new(Exit::Failed, "cannot listen for signals").because(&error);
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
