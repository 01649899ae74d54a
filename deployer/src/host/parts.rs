//! What the applications of one node share, and where on its disk that lies.

use std::path::PathBuf;

use nebh_oci::client::Client;
use nebh_oci::digest::Digest;
use nebh_oci::layout::Layout;
use nebh_trust::key::PrivateKey;
use tokio::sync::Mutex;

use crate::container::Runner;
use crate::entrance::{Entrance, Keeper};
use crate::settings::Settings;

pub(super) struct Parts {
    pub(super) settings: Settings,
    pub(super) client: Client,
    pub(super) store: Layout,
    pub(super) runner: Runner,
    pub(super) entrance: Entrance,
    pub(super) key: Option<PrivateKey>,
    /// Whoever adds to or removes from what generations share. One at a time: removal looks at everything.
    pub(super) disk: Mutex<()>,
    /// Ends the entrance only with the last of them.
    pub(super) _keeper: Keeper,
}

impl Parts {
    /// Unpacked images.
    pub(super) fn roots(&self) -> PathBuf {
        self.settings.state.join("roots")
    }

    /// The unpacked image with this digest, whole if it is there.
    pub(super) fn root(&self, image: &Digest) -> PathBuf {
        self.roots().join(image.hex())
    }

    /// Rendered config.
    pub(super) fn configs(&self) -> PathBuf {
        self.settings.state.join("config")
    }

    /// The rendered config with this digest, whole if it is there.
    pub(super) fn config(&self, config: &Digest) -> PathBuf {
        self.configs().join(config.hex())
    }
}
