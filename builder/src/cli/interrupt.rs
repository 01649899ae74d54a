//! Ctrl-C and SIGTERM end the work by dropping it: containers and scratch folders go with their owners.

use std::future::Future;

use nebh_face::{Exit, Failure};
use tokio::signal::unix::{SignalKind, signal};

/// Runs `work`, or gives it up at the first signal that asks for it.
pub(super) async fn until_interrupted<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::Failed, "cannot listen for signals").because(&error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let stopped = || {
        Failure::new(Exit::Interrupted, "interrupted")
            .why("what ran was ended, and what was half made is taken away; fetched inputs are kept")
    };
    tokio::select! {
        result = work => result,
        _ = interrupt.recv() => Err(stopped()),
        _ = terminate.recv() => Err(stopped()),
    }
}
