//! Where inputs come from. No address stands in this program: settings say it, else the machine's own clients do.
//!
//! ```text
//!   settings `upstreams:` ─┐
//!   apt sources ───────────┼─► Upstreams{mirrors, keyrings, crates template} ─► addresses of inputs
//!   cargo's configuration ─┘
//! ```
//!
//! Side effects: reads the configuration of apt and cargo; where cargo has fetched nothing yet, lets cargo fetch the
//! index entry of one small crate into a folder of ours, never inside a foreign tree.

mod apt;
mod cargo;
mod settings;

use std::path::PathBuf;

use url::Url;

use crate::debian::keyring::Keyring;
use crate::lock::{DebianArchive, Place};
use crate::spec::Suite;

pub use settings::{CratesSettings, DebianSettings, UpstreamSettings};

/// Why it is not known where inputs come from.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Neither settings nor the machine name a mirror of that archive.
    #[error("no mirror of the {archive} archive is known: neither settings nor apt's sources name one")]
    NoMirror {
        /// The archive.
        archive: &'static str,
    },
    /// No keyring for a suite.
    #[error("no keyring is known that may sign suite `{0}`")]
    NoKeyring(Suite),
    /// A keyring that cannot be read.
    #[error("cannot read keyring `{path}`")]
    Keyring {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// A keyring that holds something else.
    #[error(transparent)]
    MalformedKeyring(#[from] crate::debian::keyring::SignatureError),
    /// Cargo's registry is not known.
    #[error("it is not known where crates are downloaded from: {0}")]
    NoCrates(String),
    /// An address that cannot be fetched from.
    #[error("`{0}` is not an http or https address")]
    Address(String),
}

/// Where inputs come from.
#[derive(Clone, Debug)]
pub struct Upstreams {
    settings: UpstreamSettings,
    sources: Vec<apt::Source>,
}

impl Upstreams {
    /// What settings say, and for all else what this machine's clients are set up to use.
    pub fn from_machine(settings: UpstreamSettings) -> Self {
        Self { settings, sources: apt::sources(&apt::Folders::of_machine()) }
    }

    /// The address of one of the archives of Debian; ends with a slash.
    pub fn mirror(&self, archive: DebianArchive) -> Result<Url, UpstreamError> {
        let (told, what) = match archive {
            DebianArchive::Debian => (&self.settings.debian.mirror, "Debian"),
            DebianArchive::DebianSecurity => (&self.settings.debian.security, "Debian security"),
        };
        if let Some(told) = told {
            return address(told);
        }
        let source = self.sources.iter().find(|source| source.archive() == archive);
        address(&source.ok_or(UpstreamError::NoMirror { archive: what })?.address)
    }

    /// The keys that may sign a suite: those of settings, else those that apt accepts for its mirror, and where apt does
    /// not read that very suite, also Debian's own keyring, because a mirror's next release has keys of its own.
    pub fn keyring(&self, suite: &Suite, archive: DebianArchive) -> Result<Keyring, UpstreamError> {
        let mut keyring = Keyring::default();
        if !self.settings.debian.keyrings.is_empty() {
            for path in &self.settings.debian.keyrings {
                add(&mut keyring, path)?;
            }
            return Ok(keyring);
        }
        let source = self.sources.iter().find(|source| source.archive() == archive);
        let trusted = source.map(|source| &source.signed_by);
        match trusted {
            Some(apt::SignedBy::Files(files)) => {
                for path in files {
                    add(&mut keyring, path)?;
                }
            }
            Some(apt::SignedBy::Keys(armoured)) => keyring.add("Signed-By", armoured.as_bytes())?,
            Some(apt::SignedBy::Trusted) | None => {
                for path in apt::trusted_keyrings() {
                    add(&mut keyring, &path)?;
                }
            }
        }
        let listed = source.is_some_and(|source| source.suites.iter().any(|one| one == suite.as_str()));
        if !listed {
            for path in apt::distribution_keyrings() {
                add(&mut keyring, &path)?;
            }
        }
        if keyring.is_empty() { Err(UpstreamError::NoKeyring(suite.clone())) } else { Ok(keyring) }
    }

    /// The addresses of inputs; asks cargo only if there are crates among them.
    pub fn addresses(&self, needs_crates: bool, state: &std::path::Path) -> Result<Addresses, UpstreamError> {
        let crates = match (needs_crates, &self.settings.crates.download) {
            (false, _) => None,
            (true, Some(told)) => Some(cargo::Template::new(told)?),
            (true, None) => Some(cargo::template_of_machine(state)?),
        };
        let mirror = |archive| self.mirror(archive).ok();
        Ok(Addresses { debian: mirror(DebianArchive::Debian), security: mirror(DebianArchive::DebianSecurity), crates })
    }
}

fn add(keyring: &mut Keyring, path: &std::path::Path) -> Result<(), UpstreamError> {
    let bytes = std::fs::read(path).map_err(|cause| UpstreamError::Keyring { path: path.to_owned(), cause })?;
    Ok(keyring.add(&path.to_string_lossy(), &bytes)?)
}

fn address(text: &str) -> Result<Url, UpstreamError> {
    let wrong = || UpstreamError::Address(text.to_owned());
    let slashed = if text.ends_with('/') { text.to_owned() } else { format!("{text}/") };
    let url = Url::parse(&slashed).map_err(|_| wrong())?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() { Ok(url) } else { Err(wrong()) }
}

/// The address of each input.
#[derive(Clone, Debug)]
pub struct Addresses {
    debian: Option<Url>,
    security: Option<Url>,
    crates: Option<cargo::Template>,
}

impl Addresses {
    /// Where an input lies, or that no upstream of its kind is known.
    pub fn of(&self, place: &Place, sha256_hex: &str) -> Result<Url, UpstreamError> {
        match place {
            Place::Pool { archive, path } => {
                let (mirror, what) = match archive {
                    DebianArchive::Debian => (&self.debian, "Debian"),
                    DebianArchive::DebianSecurity => (&self.security, "Debian security"),
                };
                let mirror = mirror.as_ref().ok_or(UpstreamError::NoMirror { archive: what })?;
                // `+` and `~` are plain in a path; `:` would be read as a scheme in a relative address.
                mirror.join(&format!("./{path}")).map_err(|_| UpstreamError::Address(path.clone()))
            }
            Place::Crate { name, version } => match &self.crates {
                Some(template) => template.address(name, version, sha256_hex),
                None => Err(UpstreamError::NoCrates("nothing asked for it".to_owned())),
            },
        }
    }
}

#[cfg(test)]
mod tests;
