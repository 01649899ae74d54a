//! The only reader of the network in a build. It runs nobody's code: it brings bytes whose digest is known, and keeps
//! none that are others.
//!
//! ```text
//!   Lock::inputs() ─► missing in the archive? ─► address ─► stream ─► size and SHA-256 ─► archive
//! ```
//!
//! Dropping the future stops the fetch at any point; what was half there is taken up by the next.

mod http;

use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use nebh_face::{Exit, Failure};
use nebh_oci::digest::Digest;

pub use http::Http;

use crate::archive::{ArchiveError, InputArchive};
use crate::lock::{Input, Lock, Place};
use crate::upstream::{UpstreamError, Upstreams};

/// Downloads at once: enough to hide the latency of small files, few enough for a mirror's patience.
const PARALLEL: usize = 8;
/// Names of missing inputs that are written out.
const NAMED_MAX: usize = 10;

/// Why an input is not there.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Other bytes than the lock says.
    #[error("input `{input}` has digest {actual}, but the lock expects {expected}")]
    WrongDigest {
        /// The input.
        input: String,
        /// What the lock says.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// Another number of bytes than the lock says.
    #[error("input `{input}` has {actual} bytes, but {expected} are expected")]
    WrongSize {
        /// The input.
        input: String,
        /// How many there must be.
        expected: u64,
        /// How many came.
        actual: u64,
    },
    /// The upstream did not answer, or broke off.
    #[error("cannot download `{input}` from {url}")]
    Download {
        /// The input.
        input: String,
        /// Its address.
        url: String,
        /// Why.
        #[source]
        cause: reqwest::Error,
    },
    /// The upstream answered with something else than bytes.
    #[error("cannot download `{input}`: {url} answers {status}")]
    Status {
        /// The input.
        input: String,
        /// Its address.
        url: String,
        /// What came.
        status: u16,
    },
    /// Offline, and not everything is here.
    #[error("offline, and {} of the inputs are not in the archive: {}", .missing.len(), shown(.missing))]
    Offline {
        /// What is missing.
        missing: Vec<String>,
    },
    /// Where inputs come from is not known.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The archive could not take an input.
    #[error("cannot keep `{input}`")]
    Archive {
        /// The input.
        input: String,
        /// Why.
        #[source]
        cause: ArchiveError,
    },
    /// No client for http can be made.
    #[error("cannot make a client for http")]
    Client(#[source] reqwest::Error),
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        let (exit, next) = match &error {
            FetchError::WrongDigest { .. } | FetchError::WrongSize { .. } => (
                Exit::Refused,
                Some("the upstream has other bytes under this name: find out why before you run `nebh lock --update`"),
            ),
            FetchError::Download { .. } | FetchError::Status { .. } => (
                Exit::Unreachable,
                Some(
                    "a build whose inputs are all in the archive needs no upstream: `nebh build --offline` says which are not",
                ),
            ),
            FetchError::Offline { .. } => (Exit::Failed, Some("run it once without --offline")),
            FetchError::Upstream(_) => {
                (Exit::Failed, Some("name it in the settings, under `upstreams:`, and give them by --settings"))
            }
            FetchError::Archive { .. } | FetchError::Client(_) => (Exit::Failed, None),
        };
        let failure = Failure::new(exit, error.to_string());
        let failure = match std::error::Error::source(&error) {
            Some(cause) => failure.because(cause),
            None => failure,
        };
        match next {
            Some(next) => failure.next(next),
            None => failure,
        }
    }
}

fn shown(missing: &[String]) -> String {
    let mut text = missing[..missing.len().min(NAMED_MAX)].join(", ");
    if missing.len() > NAMED_MAX {
        text.push_str(", …");
    }
    text
}

/// How a fetch gets on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchEvent {
    /// It is known what is missing.
    Planned {
        /// Inputs of the lock.
        inputs: usize,
        /// Inputs that are not here yet.
        missing: usize,
        /// Bytes of those, where the lock knows them.
        bytes: u64,
    },
    /// One more is here.
    Arrived {
        /// Its name.
        input: String,
        /// Its bytes.
        bytes: u64,
    },
}

/// The inputs of one lock, all of them in the archive. Made by [`fetch`] alone.
#[derive(Clone, Debug)]
pub struct FetchedInputs {
    archive: InputArchive,
    inputs: Vec<Input>,
}

impl FetchedInputs {
    /// Every input.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// The file of an input.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.archive.path(digest)
    }

    /// The archive that holds them.
    pub fn archive(&self) -> &InputArchive {
        &self.archive
    }
}

/// Brings every input of a lock into the archive. `state` is a folder for what has to be found out about upstreams.
pub async fn fetch(
    lock: &Lock,
    upstreams: &Upstreams,
    archive: &InputArchive,
    state: &Path,
    offline: bool,
    events: &(dyn Fn(FetchEvent) + Sync),
) -> Result<FetchedInputs, FetchError> {
    let inputs = lock.inputs();
    let missing: Vec<&Input> = inputs.iter().filter(|input| !archive.has(&input.digest)).collect();
    let bytes = missing.iter().filter_map(|input| input.size).sum();
    events(FetchEvent::Planned { inputs: inputs.len(), missing: missing.len(), bytes });
    if !missing.is_empty() {
        if offline {
            return Err(FetchError::Offline { missing: missing.iter().map(|input| input.name.to_string()).collect() });
        }
        let needs_crates = missing.iter().any(|input| matches!(input.place, Place::Crate { .. }));
        let addresses = upstreams.addresses(needs_crates, state)?;
        let http = Http::new()?;
        let download = async |input: &Input| {
            let url = addresses.of(&input.place, &input.digest.hex())?;
            let name = input.name.to_string();
            let bytes = http.download(&name, &url, &input.digest, input.size, archive).await?;
            events(FetchEvent::Arrived { input: name, bytes });
            Ok::<(), FetchError>(())
        };
        let mut downloads = futures_util::stream::iter(missing.into_iter().map(download)).buffer_unordered(PARALLEL);
        while let Some(done) = downloads.next().await {
            done?;
        }
    }
    Ok(FetchedInputs { archive: archive.clone(), inputs })
}

#[cfg(test)]
pub(crate) mod tests;
