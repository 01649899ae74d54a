//! What all applications of one node share: the client, the store, the runtime, the entrance.
//!
//! Side effects: makes `<state>`, probes the runtime, starts the entrance.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nebh_face::{Exit, Failure};
use nebh_oci::client::{Client, ClientSettings};
use nebh_oci::layout::Layout;
use nebh_oci::runtime::Runtime;
use nebh_trust::key::PrivateKey;
use tokio::sync::Mutex;

use super::local::LocalHost;
use super::parts::Parts;
use crate::container::Runner;
use crate::entrance::{Entrance, Keeper};
use crate::machine::AppName;
use crate::settings::{NodeKey, Settings};

/// Where the passphrase of the node's key is looked for, as for every other key of Nebh-X and of cosign.
const PASSPHRASE_VARIABLES: [&str; 2] = ["NEBH_KEY_PASSWORD", "COSIGN_PASSWORD"];

/// One node, ready to host its applications.
#[derive(Clone)]
pub struct LocalNode {
    parts: Arc<Parts>,
}

impl std::fmt::Debug for LocalNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalNode").field("node", &self.parts.settings.node).finish_non_exhaustive()
    }
}

impl LocalNode {
    /// Makes the node ready. `program` is this very program; the entrance and the containers' attendants run it.
    pub async fn start(settings: Settings, program: &Path) -> Result<Self, Failure> {
        let state = settings.state.clone();
        let cannot = |what: &str| Failure::new(Exit::Failed, format!("{what} in `{}`", state.display()));
        let store =
            Layout::create(state.join("store")).map_err(|error| cannot("cannot make the store").because(&error))?;
        let client = Client::new(ClientSettings {
            plain_http: settings.plain_http.iter().cloned().collect(),
            docker_config: settings.credentials.clone(),
            ..ClientSettings::default()
        })
        .map_err(|error| Failure::new(Exit::Usage, "cannot set up the registry client").because(&error))?;
        let runtime = Runtime::probe(&state.join("containers")).await.map_err(|error| {
            Failure::new(Exit::Failed, "no container can run on this node")
                .because(&error)
                .next("install runc or crun, and run the agent as root")
        })?;
        tracing::info!(runtime = %runtime.kind(), why = runtime.why(), "runtime");
        let key = settings.key.as_ref().map(read_key).transpose()?;
        let (keeper, entrance) = Keeper::start(program.to_owned(), entrance_folder(&state))
            .await
            .map_err(|error| cannot("cannot start the entrance").because(&error))?;
        let runner = Runner::new(runtime, program.to_owned());
        let disk = Mutex::new(());
        let parts = Parts { settings, client, store, runner, entrance, key, disk, _keeper: keeper };
        Ok(Self { parts: Arc::new(parts) })
    }

    /// The host of one of its applications: opens its ports.
    pub async fn host(&self, app: &AppName) -> Result<LocalHost, Failure> {
        let settings = self.parts.settings.apps.iter().find(|settings| settings.name == *app);
        let settings = settings.cloned().ok_or_else(|| {
            Failure::new(Exit::Usage, format!("application `{app}` is not in the settings of this node"))
        })?;
        LocalHost::open(Arc::clone(&self.parts), settings).await
    }

    /// The entrance.
    pub fn entrance(&self) -> &Entrance {
        &self.parts.entrance
    }
}

/// Where a node's entrance keeps its socket.
pub fn entrance_folder(state: &Path) -> PathBuf {
    state.join("entrance")
}

fn read_key(key: &NodeKey) -> Result<PrivateKey, Failure> {
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .map_err(|error| Failure::new(Exit::Usage, format!("cannot read `{}`", path.display())).because(&error))
    };
    let passphrase = if let Some(file) = &key.passphrase_file {
        read(file)?
    } else {
        let of = |name| std::env::var(name).ok();
        PASSPHRASE_VARIABLES.into_iter().find_map(of).unwrap_or_default()
    };
    PrivateKey::from_cosign_pem(&read(&key.file)?, passphrase.trim_end_matches(['\r', '\n'])).map_err(|error| {
        Failure::new(Exit::Usage, format!("cannot use the node's key `{}`", key.file.display())).because(&error)
    })
}
