//! The build service: a pushed commit becomes a signed image, a pushed version tag becomes a release.
//!
//! ```text
//!   POST /hooks/<project> ─► webhook (PURE) ─► ledger ─► intake ─► queue ─► worker ─► Maker
//!                            signed? which ref?  SQLite   git       SQLite   lease     pipeline, publish, release
//!   clock ─► renewal ─► head of each channel, signed anew before it expires
//! ```
//!
//! Invariants:
//! * nothing of a payload is acted on but the name of a reference, and only one that the settings list;
//! * repository and commit come from the settings and from the repository;
//! * a reference at a commit is built once, whatever is sent how often, and whenever the service ends;
//! * one service per state folder: a lock says so.

pub mod http;
pub mod intake;
pub mod maker;
pub mod queue;
pub mod reference;
pub mod remote;
pub mod renewal;
pub mod settings;
pub mod webhook;
pub mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nebh_face::{Exit, Failure};
use nebh_oci::locked_file::LockedFile;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use self::queue::Queue;
use self::settings::{Project, Settings};
use self::worker::Maker;

/// Webhooks that are read at once: bounds what senders without a signature can take of our memory.
const PLACES: usize = 16;
/// Time for open connections to end when the service is asked to.
const FAREWELL: Duration = Duration::from_secs(2);

/// What all parts of the running service share.
#[derive(Debug)]
pub struct Service {
    /// Settings.
    pub settings: Settings,
    /// The queue.
    pub queue: Queue,
    places: Semaphore,
    /// Held for as long as the service lives.
    _lock: LockedFile,
}

impl Service {
    /// Opens the state folder, takes its lock, and puts back what an ended service left running.
    pub async fn open(settings: Settings) -> Result<Self, Failure> {
        let state = settings.state.clone();
        let lock = lock(&state)?;
        let failed = |error: queue::QueueError| {
            Failure::new(Exit::Failed, format!("cannot open the queue in {}", state.display())).because(&error)
        };
        let queue = Queue::open(&state.join("builds.sqlite")).await.map_err(failed)?;
        // We hold the lock, so no other service is alive, and whatever a lease says is over.
        let put_back = queue.recover(Timestamp::MAX, Timestamp::now()).await.map_err(failed)?;
        if put_back > 0 {
            tracing::warn!(builds = put_back, "an ended service left builds running: put back");
        }
        Ok(Self { settings, queue, places: Semaphore::new(PLACES), _lock: lock })
    }

    /// The project of this name.
    pub fn project(&self, name: &str) -> Option<&Project> {
        self.settings.projects.get(&name.parse().ok()?)
    }

    /// Where copies of the projects' repositories are kept.
    pub fn mirrors(&self) -> PathBuf {
        self.settings.mirrors()
    }
}

fn lock(state: &Path) -> Result<LockedFile, Failure> {
    let failed = |error: &dyn std::error::Error| {
        Failure::new(Exit::Failed, format!("cannot use the state folder {}", state.display())).because(error)
    };
    std::fs::create_dir_all(state).map_err(|error| failed(&error))?;
    LockedFile::claim_service(&state.join("lock")).map_err(|error| failed(&error))?.ok_or_else(|| {
        Failure::new(Exit::Failed, format!("another build service uses {}", state.display()))
            .next("end it, or give this one a `state` of its own")
    })
}

/// Serves on `listener` until `stop` turns true.
pub async fn serve<M: Maker>(
    service: Arc<Service>,
    maker: Arc<M>,
    listener: TcpListener,
    stop: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let intake = tokio::spawn(intake::run(service.clone()));
    let renewal = tokio::spawn(renewal::run(service.clone(), maker.clone()));
    let worker = tokio::spawn(worker::run(service.clone(), maker, stop.clone()));
    let asked = |mut stop: watch::Receiver<bool>| async move { worker::asked_to_stop(&mut stop).await };
    let serving = axum::serve(listener, http::router(service)).with_graceful_shutdown(asked(stop.clone()));
    let result = tokio::select! {
        result = serving.into_future() => result,
        // Readers of events would keep the service for as long as they read.
        () = async { asked(stop).await; tokio::time::sleep(FAREWELL).await } => Ok(()),
    };
    for task in [intake, renewal] {
        task.abort();
        drop(task.await);
    }
    drop(worker.await);
    result.map_err(|error| Failure::new(Exit::Failed, "the build service stopped serving").because(&error))
}

#[cfg(test)]
mod tests;
