//! The listening socket and its connections: bounded in number, in header size, and in how long they may be silent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

use super::reading::Reading;
use crate::settings::Limits;

/// A request's line and headers must be complete after this long, or after the longest silence if that is shorter: what
/// drips longer is no client. An idle connection is closed after it too.
const HEADER_TIME_MAX: Duration = Duration::from_secs(30);
/// Bytes of a request's line and headers. A query with a hundred tags fits.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Headers of one request.
const HEADERS_MAX: usize = 100;
/// How long running requests may go on after the gateway was told to end.
const GRACE: Duration = Duration::from_secs(20);
/// Pause after a failed accept: out of file descriptors is not mended by asking again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` turns true, then lets running requests end.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut running = JoinSet::new();
    loop {
        // The place first: with none left, clients wait in the kernel's queue instead of in our memory.
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = told(&mut stop) => break,
        };
        let Ok(place) = place else { break };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = told(&mut stop) => break,
        };
        let (router, stop) = (router.clone(), stop.clone());
        running.spawn(async move {
            connection(stream, peer, router, limits.stall_max, stop).await;
            drop(place);
        });
        while running.try_join_next().is_some() {}
    }
    drop(listener);
    let ended = tokio::time::timeout(GRACE, async { while running.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!("some requests were still running and are cut off");
        running.shutdown().await;
    }
}

/// Returns when the gateway is told to end, or nobody is left who could tell.
async fn told(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    stall_max: Duration,
    mut stop: watch::Receiver<bool>,
) {
    // Small answers must not wait for more to be said.
    drop(stream.set_nodelay(true));
    let service = router.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.map(axum::body::Body::new)
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX.min(stall_max))
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let mut connection = std::pin::pin!(
        builder.serve_connection(TokioIo::new(Reading::new(stream, stall_max)), TowerToHyperService::new(service))
    );
    let mut stopping = false;
    loop {
        tokio::select! {
            outcome = connection.as_mut() => {
                if let Err(error) = outcome {
                    tracing::debug!(%peer, %error, "a connection ended");
                }
                return;
            }
            () = told(&mut stop), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
