//! `nebh key`: pairs in cosign's format.

use std::path::PathBuf;

use nebh_face::{Exit, Failure, Globals, Out};
use serde_json::json;

use super::signer::PassphraseArgs;
use crate::keys;

/// Key pairs.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a pair: NAME.key (encrypted, for nobody else to read) and NAME.pub.
    New {
        /// Name of the pair.
        name: String,
        /// What it shall sign: builder, releaser, node, rebuilder, or a role of your own.
        #[arg(long)]
        role: String,
        /// Folder for the two files.
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
        /// Where its passphrase is.
        #[command(flatten)]
        passphrase: PassphraseArgs,
    },
    /// Print the id of a public key.
    Show {
        /// The .pub file.
        file: PathBuf,
    },
}

/// Runs it.
pub fn run(command: &Command, globals: &Globals) -> Result<(), Failure> {
    let out = Out::new(globals);
    match command {
        Command::New { name, role, out: dir, passphrase } => {
            if role.is_empty() || !role.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
                return Err(Failure::new(Exit::Usage, format!("`{role}` is no name for a role")));
            }
            let written = keys::create(dir, name, &passphrase.source())?;
            let id = written.key.id();
            let (private, public) = (written.private.display(), written.public.display());
            let text = format!(
                "{role} key {}: {private} signs, {public} verifies\nin trust.yaml:  roles: {{ {role}: {{ keys: [{public}] }} }}",
                id.short()
            );
            let value = json!({
                "version": 1, "kind": "key", "id": id, "role": role,
                "private": written.private, "public": written.public,
            });
            out.result(&text, &value, &id.to_string());
        }
        Command::Show { file } => {
            let key = keys::open_public(file)?;
            let id = key.id();
            let value = json!({ "version": 1, "kind": "key", "id": id, "public": file });
            out.result(&format!("{id}  ECDSA P-256  {}", file.display()), &value, &id.to_string());
        }
    }
    Ok(())
}
