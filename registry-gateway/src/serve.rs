//! One running gateway process: opened, listening, sweeping, ended by a signal.

use std::sync::Arc;

use nebh_face::{Exit, Failure, Globals, Out};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::gateway::Gateway;
use crate::http::{router, server};
use crate::settings::{Mode, Settings};
use crate::sweep;

/// Serves until SIGTERM or SIGINT.
pub async fn serve(settings: Settings, globals: &Globals) -> Result<(), Failure> {
    let out = Out::new(globals);
    let listener = TcpListener::bind(settings.listen)
        .await
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot listen on {}", settings.listen)).because(&error))?;
    let address = listener
        .local_addr()
        .map_err(|error| Failure::new(Exit::Failed, "cannot tell the own address").because(&error))?;
    let gateway = Gateway::open(settings).await?;
    let (stop, stopped) = watch::channel(false);
    let signals = tokio::spawn(wait_for_signal(stop));
    let sweeper = tokio::spawn(sweep::run(Arc::clone(&gateway)));
    announce(out, &gateway.settings, &address.to_string());
    server::serve(listener, router(Arc::clone(&gateway)), gateway.settings.limits.connections, stopped).await;
    sweeper.abort();
    signals.abort();
    gateway.db.close().await;
    out.note("gateway ended; everything that was acknowledged is on the disk");
    Ok(())
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
