//! The flags that every signing command shares.

use std::path::PathBuf;

use nebh_face::Failure;
use nebh_trust::key::PrivateKey;

use crate::keys::{self, Passphrase};

/// Keys to sign with.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SignArgs {
    /// Key file to sign with; may stand there several times.
    #[arg(long, value_name = "KEY")]
    pub sign_with: Vec<PathBuf>,
    /// Keys.
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

/// Where a passphrase comes from.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PassphraseArgs {
    /// File whose first line is the passphrase; else NEBH_KEY_PASSWORD, COSIGN_PASSWORD, or the terminal.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

impl PassphraseArgs {
    pub(super) fn source(&self) -> Passphrase {
        Passphrase { file: self.passphrase_file.clone() }
    }
}

impl SignArgs {
    /// Opens every key.
    pub fn open(&self) -> Result<Vec<PrivateKey>, Failure> {
        self.sign_with.iter().map(|file| keys::open(file, &self.passphrase.source())).collect()
    }

    /// Opens every key; one at least.
    pub(super) fn open_some(&self) -> Result<Vec<PrivateKey>, Failure> {
        if self.sign_with.is_empty() {
            return Err(Failure::new(nebh_face::Exit::Usage, "nothing to sign with").next("give --sign-with KEY"));
        }
        self.open()
    }
}

/// Keys as a person reads them, `7d41…, 9a00…`.
pub(super) fn names(keys: &[PrivateKey]) -> String {
    keys.iter().map(|key| key.id().short()).collect::<Vec<_>>().join(", ")
}
