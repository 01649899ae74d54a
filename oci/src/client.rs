//! The distribution client: how every part of Nebh-X speaks with a registry.
//!
//! ```text
//!   manifests  GET PUT HEAD DELETE ─┐
//!   blobs      fetch │ push ────────┼─► call: URL ─► authorization ─► send ─► redirect? retry? ─► answer or ClientError
//!   referrers  API │ fallback tag ──┘                (auth)           (http)
//!   images     layout ◄─► registry, blobs in parallel
//! ```
//!
//! Owns: sockets, and the files that a caller names. Whatever arrives is hashed before anybody sees it, and never more
//! of it is read than was announced. Errors say which repository, which digest and which URL, and keep apart: not
//! there, denied, unreachable, and *not the bytes that were asked for*.
//!
//! Every future here may be dropped at any await point: a file half fetched keeps its `.partial` for the next try, an
//! upload half sent is forgotten by the registry.
//!
//! Rejected designs: `oci-client` for blobs (no size caps, no resume, follows descriptor `urls`); believing
//! `Docker-Content-Digest` (a header is not a hash); taking an error for "no signatures" (then whoever breaks the
//! registry unsigns every image).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::names::RegistryHost;

mod auth;
mod blob_fetch;
mod blob_push;
mod credentials;
mod error;
mod fallback;
mod http;
mod images;
mod manifests;
mod partial;
mod referrers;
mod retry;
mod transport;

pub use credentials::Credentials;
pub use error::{ClientError, ClientErrorKind};
pub use manifests::ManifestName;
pub use referrers::{ATTACHED_LAYER_MAX, ATTACHED_MANIFESTS_MAX};

/// How a client behaves. `ClientSettings::default()` suits a server on a good network.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Registries besides loopback ones that are spoken to in plain HTTP.
    pub plain_http: BTreeSet<RegistryHost>,
    /// Who we are, for each registry.
    pub credentials: BTreeMap<RegistryHost, Credentials>,
    /// A `config.json` of docker (or `auth.json` of podman) with more of the same.
    pub docker_config: Option<PathBuf>,
    /// Certificate authorities besides the machine's own, in PEM.
    pub extra_authorities: Vec<Vec<u8>>,
    /// How many blobs move at once.
    pub parallel: usize,
    /// How often a failed request is sent again: on connection errors, 5xx and 429 only.
    pub retries: u32,
    /// The first wait between two tries; doubled each time, with jitter, up to [`BACK_OFF_MAX`].
    pub back_off: Duration,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long the other side may be silent.
    pub idle_timeout: Duration,
    /// The largest blob that is fetched at all, whatever a manifest announces.
    pub blob_size_max: u64,
}

/// No wait between two tries is longer, whatever `Retry-After` says.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(30);

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            plain_http: BTreeSet::new(),
            credentials: BTreeMap::new(),
            docker_config: None,
            extra_authorities: Vec::new(),
            parallel: 4,
            retries: 4,
            back_off: Duration::from_millis(250),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(1),
            blob_size_max: 64 << 30,
        }
    }
}

/// A client of any number of registries. Cheap to clone; clones share connections and tokens.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: ClientSettings,
    http: transport::Transport,
    keyring: auth::Keyring,
    /// Fallback lists are read, changed and written: one at a time at least within this process.
    fallback: tokio::sync::Mutex<()>,
}

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientSettingsError {
    /// The HTTP engine refuses the settings (say, a certificate that is none).
    #[error("HTTP client cannot be set up")]
    Http(#[source] reqwest::Error),
    /// The credentials file cannot be read.
    #[error("credentials file `{path}` cannot be read: {why}")]
    Credentials {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

impl Client {
    /// Makes a client. No connection is opened yet.
    pub fn new(mut settings: ClientSettings) -> Result<Self, ClientSettingsError> {
        if let Some(path) = &settings.docker_config {
            for (host, credentials) in credentials::read_docker_config(path)? {
                settings.credentials.entry(host).or_insert(credentials);
            }
        }
        let http = transport::Transport::new(&settings)?;
        let keyring = auth::Keyring::new(settings.credentials.clone());
        Ok(Self { inner: Arc::new(Inner { settings, http, keyring, fallback: tokio::sync::Mutex::new(()) }) })
    }
}
