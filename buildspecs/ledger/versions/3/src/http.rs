//! The four routes: alive, version, take a payment, list payments.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::signal::unix::{SignalKind, signal};

use crate::settings::Settings;
use crate::statistics;
use crate::store::{Accepted, Order, Store};
use crate::version::VERSION;

#[derive(Clone, Debug)]
struct App {
    settings: Settings,
    store: Store,
}

/// Serves until SIGTERM, then ends the open requests.
pub async fn serve(settings: Settings, store: Store) -> Result<(), String> {
    let listener = tokio::net::TcpListener::bind(&settings.listen)
        .await
        .map_err(|error| format!("{}: {error}", settings.listen))?;
    let mut term = signal(SignalKind::terminate()).map_err(|error| format!("SIGTERM: {error}"))?;
    println!("ledger {}: listens on {}, schema {}", VERSION, settings.listen, store.schema);
    let app = Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/version", get(version))
        .route("/payments", get(list).post(pay))
        .with_state(App { settings, store });
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            term.recv().await;
        })
        .await
        .map_err(|error| error.to_string())
}

async fn version(State(app): State<App>) -> Json<serde_json::Value> {
    Json(serde_json::json!({
        "version": VERSION, "schema": app.store.schema,
        "node": app.settings.node, "currency": app.settings.currency,
    }))
}

async fn list(State(app): State<App>) -> Response {
    match tokio::task::spawn_blocking(move || app.store.list()).await {
        Ok(Ok(payments)) => Json(payments).into_response(),
        Ok(Err(error)) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

async fn pay(State(app): State<App>, headers: HeaderMap, Json(order): Json<Order>) -> Response {
    let Some(key) = headers.get("idempotency-key").and_then(|value| value.to_str().ok()).map(str::to_owned) else {
        return refuse(StatusCode::BAD_REQUEST, "the header Idempotency-Key is missing");
    };
    if order.amount <= 0 || order.amount > app.settings.amount_max {
        let text = format!("the amount must be between 1 and {}", app.settings.amount_max);
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, &text);
    }
    match tokio::task::spawn_blocking(move || {
        let accepted = app.store.accept(&key, &order);
        statistics::count();
        accepted
    })
    .await
    {
        Ok(Ok(Accepted::New(payment))) => (StatusCode::CREATED, Json(payment)).into_response(),
        Ok(Ok(Accepted::Again(payment))) => Json(payment).into_response(),
        Ok(Ok(Accepted::Conflict)) => refuse(StatusCode::CONFLICT, "this Idempotency-Key belongs to another payment"),
        Ok(Err(error)) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, Json(serde_json::json!({ "error": why }))).into_response()
}
