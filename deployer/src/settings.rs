//! `node.yaml`: what a person writes about this node, parsed into validated settings. Relative paths are relative to
//! the file. Reads that one file; creates nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nebh_face::{Exit, Failure, document};
use nebh_oci::names::{RegistryHost, RepositoryAddress};
use serde::Deserialize;

use crate::data::DriverKind;
use crate::machine::{AppName, DatasetName, GroupName, NodeName};

/// Prepared generations that are kept besides the live one and its way back, unless the file says otherwise.
const KEEP_RECENT: u32 = 2;
/// Pace of asking for a new channel head, unless the file says otherwise: slow enough for thousands of nodes.
const FOLLOW_EVERY: Duration = Duration::from_secs(10);

/// The node's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of this node.
    pub node: NodeName,
    /// Where everything of this agent is kept.
    pub state: PathBuf,
    /// The trust policy, read again at every start of a container.
    pub trust: PathBuf,
    /// Groups that the node belongs to.
    pub groups: Vec<GroupName>,
    /// The node's own signing key, for manifests of data snapshots.
    pub key: Option<NodeKey>,
    /// Docker's `config.json` with the credentials of registries.
    pub credentials: Option<PathBuf>,
    /// Registries that may be spoken to without TLS; loopback always may.
    pub plain_http: Vec<RegistryHost>,
    /// The applications.
    pub apps: Vec<AppSettings>,
}

/// The node's key in cosign's format.
#[derive(Clone, Debug)]
pub struct NodeKey {
    /// The key file.
    pub file: PathBuf,
    /// File with its passphrase; absent means that the environment has it.
    pub passphrase_file: Option<PathBuf>,
}

/// One application.
#[derive(Clone, Debug)]
pub struct AppSettings {
    /// Its name.
    pub name: AppName,
    /// Where its releases come from.
    pub repository: RepositoryAddress,
    /// The channel to follow, if any.
    pub channel: Option<String>,
    /// How often to ask for a new head.
    pub follow_every: Duration,
    /// Prepared generations that are kept besides the live one and its way back.
    pub keep_recent: u32,
    /// Config layers, later ones over earlier ones.
    pub config: Vec<PathBuf>,
    /// Its datasets.
    pub datasets: BTreeMap<DatasetName, DatasetSettings>,
    /// Port in the container → address of the entrance.
    pub ports: BTreeMap<u16, SocketAddr>,
    /// Whether a prepared release waits for a person.
    pub switch: SwitchMode,
}

/// One dataset on this node.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DatasetSettings {
    /// How it is cut.
    pub driver: DriverKind,
    /// Where it lives; the driver keeps snapshots beside the live data in here.
    pub path: PathBuf,
}

/// Who says "Go!".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwitchMode {
    /// A person.
    #[default]
    Manual,
    /// The agent, as soon as the followed release is prepared.
    Auto,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    node: NodeName,
    state: Option<PathBuf>,
    trust: PathBuf,
    #[serde(default)]
    groups: Vec<GroupName>,
    key: Option<PathBuf>,
    #[expect(clippy::struct_field_names, reason = "the field is named as in the file")]
    key_passphrase_file: Option<PathBuf>,
    credentials: Option<PathBuf>,
    #[serde(default)]
    plain_http: Vec<RegistryHost>,
    apps: Vec<AppFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct AppFile {
    name: AppName,
    follow: FollowFile,
    #[serde(default)]
    config: Vec<PathBuf>,
    #[serde(default)]
    datasets: BTreeMap<DatasetName, DatasetSettings>,
    #[serde(default)]
    ports: BTreeMap<String, SocketAddr>,
    #[serde(default)]
    switch: SwitchMode,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FollowFile {
    repository: RepositoryAddress,
    channel: Option<String>,
    every: Option<String>,
    keep: Option<KeepFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct KeepFile {
    recent: u32,
}

impl Settings {
    /// Reads and checks the file. `state_default` is used where the file names no state folder.
    pub fn read(path: &Path, state_default: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new(Exit::Usage, format!("cannot read the node's settings `{}`", path.display()))
                .because(&error)
                .next("name them with --settings FILE or NEBH_SETTINGS")
        })?;
        let base = path.parent().unwrap_or(Path::new(""));
        let base = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
        Self::parse(&path.display().to_string(), &text, &base, state_default)
    }

    /// Checks the text of the file; relative paths are made to begin at `base`.
    pub fn parse(file: &str, text: &str, base: &Path, state_default: &Path) -> Result<Self, Failure> {
        let raw: File = document::parse(file, text)?;
        let mut apps = Vec::with_capacity(raw.apps.len());
        for app in raw.apps {
            apps.push(app.settings(file, base)?);
        }
        let mut names: Vec<_> = apps.iter().map(|app: &AppSettings| app.name.clone()).collect();
        names.sort();
        if let Some([name, _]) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Failure::new(Exit::Usage, format!("{file}: application `{name}` is listed twice")));
        }
        Ok(Self {
            node: raw.node,
            state: raw.state.map_or_else(|| state_default.to_owned(), |state| base.join(state)),
            trust: base.join(raw.trust),
            groups: raw.groups,
            key: raw.key.map(|key| NodeKey {
                file: base.join(key),
                passphrase_file: raw.key_passphrase_file.map(|file| base.join(file)),
            }),
            credentials: raw.credentials.map(|file| base.join(file)),
            plain_http: raw.plain_http,
            apps,
        })
    }

    /// The agent's socket.
    pub fn socket(&self) -> PathBuf {
        self.state.join("agent.sock")
    }

    /// Everything of one application: its journal, generations, entrance.
    pub fn app_dir(&self, app: &AppName) -> PathBuf {
        self.state.join("apps").join(app.file_name())
    }
}

impl AppFile {
    fn settings(self, file: &str, base: &Path) -> Result<AppSettings, Failure> {
        let wrong = |text: String| Failure::new(Exit::Usage, format!("{file}: application `{}`: {text}", self.name));
        let mut ports = BTreeMap::new();
        for (port, address) in self.ports {
            let number = port.parse().ok().filter(|number| *number != 0);
            let number: u16 = number.ok_or_else(|| wrong(format!("`{port}` is not a port of the container")))?;
            ports.insert(number, address);
        }
        let follow_every = match &self.follow.every {
            None => FOLLOW_EVERY,
            Some(text) => duration(text).ok_or_else(|| wrong(format!("`{text}` is not a duration like 10s")))?,
        };
        let datasets = self
            .datasets
            .into_iter()
            .map(|(name, dataset)| (name, DatasetSettings { driver: dataset.driver, path: base.join(dataset.path) }));
        Ok(AppSettings {
            repository: self.follow.repository,
            channel: self.follow.channel,
            follow_every,
            keep_recent: self.follow.keep.map_or(KEEP_RECENT, |keep| keep.recent),
            config: self.config.iter().map(|layer| base.join(layer)).collect(),
            datasets: datasets.collect(),
            ports,
            switch: self.switch,
            name: self.name,
        })
    }
}

/// `500ms`, `10s`, `5m`; nothing shorter than a tenth of a second.
fn duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let number: u32 = number.parse().ok()?;
    let unit = match unit {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_mins(1),
        _ => return None,
    };
    Some(unit * number).filter(|duration| *duration >= Duration::from_millis(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"
node: n1
state: state
trust: trust.yaml
groups: [front]
apps:
  - name: shop/api
    follow: { repository: 127.0.0.1:5000/shop/api, channel: stable, every: 1s, keep: { recent: 3 } }
    config: [config/defaults, /etc/shop]
    datasets: { ledger: { driver: btrfs, path: /srv/ledger } }
    ports: { "8080": 127.0.0.1:18080 }
    switch: manual
"#;

    #[test]
    fn the_published_example_is_read() {
        let settings = Settings::parse("node.yaml", FULL, Path::new("/etc/nebh"), Path::new("/x")).unwrap();
        assert_eq!(settings.socket(), Path::new("/etc/nebh/state/agent.sock"));
        let app = &settings.apps[0];
        assert_eq!(app.config, [Path::new("/etc/nebh/config/defaults"), Path::new("/etc/shop")]);
        assert_eq!((app.keep_recent, app.switch, app.follow_every), (3, SwitchMode::Manual, Duration::from_secs(1)));
        assert_eq!(app.ports[&8080].port(), 18080);
    }

    #[test]
    fn a_misspelt_field_is_named_with_its_place() {
        let text = FULL.replace("datasets:", "dataset:");
        let failure = Settings::parse("node.yaml", &text, Path::new("/"), Path::new("/x")).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.to_string().starts_with("node.yaml:10:5: unknown field `dataset`"), "{failure}");
    }

    #[test]
    fn a_wrong_port_and_a_double_name_are_refused() {
        for (from, to, want) in [("\"8080\"", "\"http\"", "not a port"), ("every: 1s", "every: 1", "not a duration")] {
            let text = FULL.replace(from, to);
            let failure = Settings::parse("node.yaml", &text, Path::new("/"), Path::new("/x")).unwrap_err();
            assert!(failure.to_string().contains(want), "{failure}");
        }
        let app = FULL.split_once("apps:\n").unwrap().1;
        let failure = Settings::parse("n", &format!("{FULL}{app}"), Path::new("/"), Path::new("/x")).unwrap_err();
        assert!(failure.to_string().contains("listed twice"), "{failure}");
    }
}
