//! Where cargo downloads crates from: the `dl` of its registry's `config.json`.
//! Side effects: reads cargo's configuration; may run `cargo fetch` in a folder of ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use url::Url;

use super::UpstreamError;

/// Bytes of a configuration file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A download address with markers, as cargo's registries define it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(String);

impl Template {
    pub(super) fn new(text: &str) -> Result<Self, UpstreamError> {
        // Without a marker, cargo appends the usual path.
        let text = if text.contains('{') {
            text.to_owned()
        } else {
            format!("{}/{{crate}}/{{version}}/download", text.trim_end_matches('/'))
        };
        let template = Self(text);
        template.address("probe", "1.0.0", "00")?;
        Ok(template)
    }

    pub(super) fn address(&self, name: &str, version: &str, sha256_hex: &str) -> Result<Url, UpstreamError> {
        let text = self
            .0
            .replace("{crate}", name)
            .replace("{version}", version)
            .replace("{prefix}", &prefix(name))
            .replace("{lowerprefix}", &prefix(&name.to_lowercase()))
            .replace("{sha256-checksum}", sha256_hex);
        let url = Url::parse(&text).map_err(|_| UpstreamError::Address(text.clone()))?;
        if matches!(url.scheme(), "http" | "https") && url.has_host() {
            Ok(url)
        } else {
            Err(UpstreamError::Address(text))
        }
    }
}

/// The folder of a crate in an index: by its first letters.
fn prefix(name: &str) -> String {
    match name.len() {
        0..=1 => "1".to_owned(),
        2 => "2".to_owned(),
        3 => format!("3/{}", &name[..1]),
        _ => format!("{}/{}", &name[..2], &name[2..4]),
    }
}

#[derive(Deserialize)]
struct IndexConfig {
    dl: String,
    #[serde(default, rename = "auth-required")]
    auth_required: bool,
}

/// Asks cargo itself, in a home of ours that has the person's configuration: its only index is then the default one, or
/// what replaces it.
pub(super) fn template_of_machine(state: &Path) -> Result<Template, UpstreamError> {
    let person = home();
    if let Some(person) = &person
        && !has_configuration(person)
    {
        // Without configuration and with one index there is nothing to tell apart.
        let found = index_configs(person);
        if let [one] = &found[..] {
            return template(one);
        }
    }
    let ours = state.join("cargo-probe");
    if index_configs(&ours).is_empty() || person.as_deref().is_some_and(has_configuration) {
        probe(&ours, person.as_deref()).map_err(UpstreamError::NoCrates)?;
    }
    match &index_configs(&ours)[..] {
        [one] => template(one),
        found => Err(UpstreamError::NoCrates(format!("cargo has {} indexes with a download address", found.len()))),
    }
}

fn template(config: &IndexConfig) -> Result<Template, UpstreamError> {
    if config.auth_required {
        return Err(UpstreamError::NoCrates(
            "cargo's registry asks for a token, which this version does not send".to_owned(),
        ));
    }
    Template::new(&config.dl)
}

fn home() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    from("CARGO_HOME").or_else(|| Some(from("HOME")?.join(".cargo")))
}

fn configuration(home: &Path) -> Option<PathBuf> {
    ["config.toml", "config"].iter().map(|name| home.join(name)).find(|path| path.is_file())
}

fn has_configuration(home: &Path) -> bool {
    configuration(home).is_some()
}

fn index_configs(home: &Path) -> Vec<IndexConfig> {
    let Ok(entries) = fs::read_dir(home.join("registry/index")) else { return Vec::new() };
    let read = |path: PathBuf| {
        let small = fs::metadata(&path).ok()?.len() <= FILE_BYTES_MAX;
        small.then(|| serde_json::from_slice(&fs::read(&path).ok()?).ok())?
    };
    entries.filter_map(|entry| read(entry.ok()?.path().join("config.json"))).collect()
}

/// Lets cargo read the index entry of one small crate, with the person's configuration and none of a foreign tree's.
fn probe(ours: &Path, person: Option<&Path>) -> Result<(), String> {
    let io = |error: std::io::Error| format!("cannot prepare `{}`: {error}", ours.display());
    drop(fs::remove_dir_all(ours));
    let package = ours.join("package");
    fs::create_dir_all(package.join("src")).map_err(io)?;
    fs::write(package.join("src/lib.rs"), "").map_err(io)?;
    let manifest = "[package]\nname = \"probe\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n[dependencies]\ncfg-if = \"1\"\n\n[workspace]\n";
    fs::write(package.join("Cargo.toml"), manifest).map_err(io)?;
    if let Some(configuration) = person.and_then(configuration) {
        fs::copy(&configuration, ours.join("config.toml")).map_err(io)?;
    }
    let mut command = Command::new("cargo");
    command.args(["generate-lockfile", "--quiet"]).current_dir(&package).env("CARGO_HOME", ours);
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("cannot run `cargo`: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint: String =
        String::from_utf8_lossy(&output.stderr).chars().filter(|c| !c.is_control()).take(500).collect();
    Err(format!("cargo could not read its registry: {complaint}"))
}
