//! One running gateway process: opened, listening, sweeping, ended by a signal.

use std::sync::Arc;

use nebh_face::{Exit, Failure, Globals, Out};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::gateway::Gateway;
use crate::http::{router, server};
use crate::settings::{Mode, Settings};
use crate::sweep;

/// Open files beside those of connections: sessions, database, log.
const FILES_BESIDE: u64 = 512;

/// Serves until SIGTERM or SIGINT.
pub async fn serve(settings: Settings, globals: &Globals) -> Result<(), Failure> {
    let out = Out::new(globals);
    let listener = TcpListener::bind(settings.listen)
        .await
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot listen on {}", settings.listen)).because(&error))?;
    let address = listener
        .local_addr()
        .map_err(|error| Failure::new(Exit::Failed, "cannot tell the own address").because(&error))?;
    raise_file_limit(settings.limits.connections);
    let gateway = Gateway::open(settings).await?;
    let (stop, stopped) = watch::channel(false);
    let signals = tokio::spawn(wait_for_signal(stop));
    let sweeper = tokio::spawn(sweep::run(Arc::clone(&gateway)));
    announce(out, &gateway.settings, &address.to_string());
    server::serve(listener, router(Arc::clone(&gateway)), gateway.settings.limits, stopped).await;
    sweeper.abort();
    signals.abort();
    gateway.db.close().await;
    out.note("gateway ended; everything that was acknowledged is on the disk");
    Ok(())
}

/// Each connection may hold a socket and a file; the database and the sessions hold some. What the system gives by
/// default (1024) is not enough for as many connections.
fn raise_file_limit(connections: usize) {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = (connections as u64) * 2 + FILES_BESIDE;
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    limit.current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
    let raised = setrlimit(Resource::Nofile, limit);
    if raised.is_err() || limit.current.is_some_and(|current| current < wanted) {
        tracing::warn!(wanted, allowed = ?limit.current, "few open files are allowed for so many connections");
    }
}

async fn wait_for_signal(stop: watch::Sender<bool>) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("cannot listen to signals");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.send_replace(true);
}

fn announce(out: Out, settings: &Settings, address: &str) {
    let url = format!("http://{address}");
    for rule in &settings.rules {
        let keep =
            rule.keep.map_or("everything".to_owned(), |keep| format!("{} recent versions and every pin", keep.recent));
        let admits = match rule.admit {
            Mode::Open => "ANYTHING: no signature is looked at",
            Mode::Signed => "what the trust policy accepts",
            Mode::Release => "verified releases and channel heads",
        };
        out.note(&format!("repositories {:<20} tags for {admits}; keeps {keep}", rule.pattern.as_str()));
    }
    if settings.rules.iter().any(|rule| rule.admit == Mode::Open) && settings.trust.is_none() {
        out.note("WARNING: this gateway is open. Give it settings with `trust:` and `admit: signed` before anybody relies on it.");
    }
    let value = serde_json::json!({ "version": 1, "kind": "listening", "url": url, "state": settings.state });
    out.result(&format!("gateway listens on {url}, state in {}", settings.state.display()), &value, &url);
}
