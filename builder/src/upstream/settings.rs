//! The `upstreams:` part of a settings file. Pure.

use std::path::PathBuf;

use serde::Deserialize;

use nebh_face::{Failure, document};

/// Where inputs come from, as a person writes it; what is left out, the machine's clients say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct UpstreamSettings {
    /// Debian's archives.
    #[serde(default)]
    pub debian: DebianSettings,
    /// The registry of crates.
    #[serde(default)]
    pub crates: CratesSettings,
}

/// Where Debian's archives are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DebianSettings {
    /// Address of the main archive.
    pub mirror: Option<String>,
    /// Address of the security archive.
    pub security: Option<String>,
    /// Keyrings that may sign suites, instead of those that apt accepts.
    #[serde(default)]
    pub keyrings: Vec<PathBuf>,
}

/// Where crates are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CratesSettings {
    /// Address template of downloads, with cargo's own markers: `{crate}`, `{version}`, `{prefix}`, …
    pub download: Option<String>,
}

impl UpstreamSettings {
    /// Reads the part out of a settings file, whatever else is in it.
    pub fn parse(file: &str, text: &str) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Part {
            upstreams: Option<UpstreamSettings>,
        }
        let part: Part = document::parse(file, text)?;
        Ok(part.upstreams.unwrap_or_default())
    }
}
