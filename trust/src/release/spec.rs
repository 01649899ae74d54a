//! `release.yaml`: what a person says about a release. Pure.

use std::collections::BTreeMap;

use nebh_face::{Exit, Failure, document};
use nebh_oci::names::Repository;
use serde::{Deserialize, Serialize};

use super::names::{AbsolutePath, DatasetName, RelativePath};
use super::probe::{Alive, Live};
use super::units::{ByteSize, Cpus, Signal, Span};

/// Datasets of one release.
const DATASETS_MAX: usize = 32;
/// Ports of one release.
const PORTS_MAX: usize = 32;

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseSpec {
    /// Name of the application, which is its repository.
    pub name: Repository,
    /// Where its config comes from, and where it is seen.
    #[serde(default)]
    pub config: Option<ConfigSpec>,
    /// Its datasets.
    #[serde(default)]
    pub data: BTreeMap<DatasetName, DatasetSpec>,
    /// How it runs.
    #[serde(default)]
    pub run: RunSpec,
}

/// `config:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigSpec {
    /// Folder in the source whose files are the snapshot's first layer.
    pub from: RelativePath,
    /// Where the rendered files are seen in the container.
    pub mount: AbsolutePath,
    /// Program of the image that checks the rendered files; empty for none.
    #[serde(default)]
    pub check: Vec<String>,
}

/// One dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    /// Where it is seen in the container.
    pub mount: AbsolutePath,
    /// What may happen to it in a rollback.
    pub class: DataClass,
    /// Which schemas this release writes and reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaWindow>,
}

/// What a dataset is, as far as going back is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataClass {
    /// A record of what happened: never goes back by itself once the entrance was open.
    Ledger,
    /// Goes back with the binary.
    Paired,
    /// Can be made again from elsewhere.
    Derived,
    /// Nobody misses it.
    Scratch,
}

/// What the program does to the data's schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SchemaFile")]
pub struct SchemaWindow {
    /// The schema that data has after this release ran.
    pub writes: u32,
    /// The schemas that it can run on; `writes` is one of them.
    pub reads: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SchemaFile {
    writes: u32,
    reads: Vec<u32>,
}

impl TryFrom<SchemaFile> for SchemaWindow {
    type Error = String;

    fn try_from(raw: SchemaFile) -> Result<Self, String> {
        if !raw.reads.contains(&raw.writes) {
            return Err(format!(
                "`reads` has to contain {}, which it `writes`: else it could not start twice",
                raw.writes
            ));
        }
        Ok(Self { writes: raw.writes, reads: raw.reads })
    }
}

/// `run:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunSpec {
    /// In which order old and new change places.
    pub switch: Switch,
    /// Ports that it listens on, inside the container.
    pub ports: Vec<u16>,
    /// Which way out it has.
    pub network: Network,
    /// How it is asked to end.
    pub stop: Stop,
    /// The check after the switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alive: Option<Alive>,
    /// The check while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<Live>,
    /// How long it is watched before it is committed.
    pub probation: Span,
    /// What it may use.
    pub limits: Limits,
    /// Environment, beyond that of the image.
    pub env: BTreeMap<String, String>,
}

impl Default for RunSpec {
    fn default() -> Self {
        Self {
            switch: Switch::StopFirst,
            ports: Vec::new(),
            network: Network::None,
            stop: Stop::default(),
            alive: None,
            live: None,
            probation: Span::seconds(60),
            limits: Limits::default(),
            env: BTreeMap::new(),
        }
    }
}

/// In which order old and new change places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// The old one ends before the new one begins; connections are held meanwhile.
    StopFirst,
    /// Both run for a moment.
    Overlap,
}

/// Which way out a container has. The way in is always the entrance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// None but its own loopback.
    None,
    /// The host's.
    Host,
}

/// How a program is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    /// The signal.
    pub signal: Signal,
    /// How long it may take before it is killed.
    pub grace: Span,
}

impl Default for Stop {
    fn default() -> Self {
        Self { signal: Signal::Term, grace: Span::seconds(10) }
    }
}

/// What a container may use; no limit where none is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// Processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Cpus>,
}

impl ReleaseSpec {
    /// Reads `release.yaml`.
    pub fn parse(file: &str, text: &str) -> Result<Self, Failure> {
        let spec: Self = document::parse(file, text)?;
        spec.coherent().map_err(|what| Failure::new(Exit::Usage, format!("{file}: {what}")))?;
        Ok(spec)
    }

    /// What no single field can know.
    pub(super) fn coherent(&self) -> Result<(), String> {
        if self.data.len() > DATASETS_MAX {
            return Err(format!("{} datasets, more than {DATASETS_MAX}", self.data.len()));
        }
        mounts_apart(self.config.as_ref().map(|config| &config.mount), &self.data)?;
        self.run.coherent()
    }
}

impl RunSpec {
    pub(super) fn coherent(&self) -> Result<(), String> {
        if self.ports.len() > PORTS_MAX {
            return Err(format!("{} ports, more than {PORTS_MAX}", self.ports.len()));
        }
        for (at, port) in self.ports.iter().enumerate() {
            if *port == 0 || self.ports[..at].contains(port) {
                return Err(format!("run.ports: {port} is no port, or stands there twice"));
            }
        }
        match self.env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            Some(name) => Err(format!("run.env: `{name}` is no name of a variable")),
            None => Ok(()),
        }
    }
}

/// What is mounted at or below something else would be hidden by it, or hide it.
pub(super) fn mounts_apart(
    config: Option<&AbsolutePath>,
    data: &BTreeMap<DatasetName, DatasetSpec>,
) -> Result<(), String> {
    let mut mounts: BTreeMap<&str, &str> = BTreeMap::new();
    let config = config.iter().map(|mount| ("config", *mount));
    let data = data.iter().map(|(name, dataset)| (name.as_str(), &dataset.mount));
    for (owner, mount) in config.chain(data) {
        if let Some((other_mount, other)) = mounts.iter().find(|(other, _)| nested(mount.as_str(), other)) {
            return Err(format!(
                "`{owner}` and `{other}` are mounted at or below one another ({mount}, {other_mount})"
            ));
        }
        mounts.insert(mount.as_str(), owner);
    }
    Ok(())
}

fn nested(one: &str, other: &str) -> bool {
    let below = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    below(one, other) || below(other, one)
}

#[cfg(test)]
mod tests {
    use super::super::probe::Probe;
    use super::*;

    /// The example of the design, to the letter.
    const EXAMPLE: &str = r#"
name: shop/api
config: { from: config/, mount: /etc/shop, check: [/usr/bin/shop-api, --check-config] }
data:
  ledger: { mount: /var/lib/shop, class: ledger, schema: { writes: 12, reads: [11, 12] } }
run:
  switch: stop-first            # or overlap
  ports: [8080]
  stop: { signal: TERM, grace: 10s }
  alive: { http: ":8080/healthz", within: 30s }     # the Check after Switch: http | tcp | exec
  live:  { http: ":8080/healthz", every: 5s, failures: 3 }
  probation: 60s
  limits: { memory: 512MiB, cpus: 1.5 }
"#;

    #[test]
    fn example_of_the_design_is_read() {
        let spec = ReleaseSpec::parse("release.yaml", EXAMPLE).unwrap();
        let ledger = &spec.data[&"ledger".parse().unwrap()];
        assert_eq!(ledger.class, DataClass::Ledger);
        assert_eq!(ledger.schema.as_ref().unwrap().reads, [11, 12]);
        assert_eq!(spec.run.stop.grace, Span::seconds(10));
        assert_eq!(spec.run.limits.memory.unwrap().bytes(), 512 << 20);
        assert_eq!(spec.run.limits.cpus.unwrap().thousandths(), 1500);
        let alive = spec.run.alive.unwrap();
        assert_eq!(alive.probe, Probe::Http { port: 8080, path: "/healthz".to_owned() });
        assert_eq!(spec.config.unwrap().from.as_str(), "config");
    }

    #[test]
    fn shortest_file_is_enough() {
        let spec = ReleaseSpec::parse("release.yaml", "name: shop/web\n").unwrap();
        assert_eq!(spec.run, RunSpec::default());
    }

    #[test]
    fn misspelt_field_names_place_and_nearest() {
        let text = EXAMPLE.replace("probation", "probaton");
        let failure = ReleaseSpec::parse("release.yaml", &text).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.to_string().contains("release.yaml:12:3: unknown field `probaton`"), "{failure}");
        assert!(failure.to_string().contains("did you mean `probation`?"), "{failure}");
    }

    #[test]
    fn wrong_units_name_their_place() {
        for (from, to, line) in
            [("grace: 10s", "grace: 10", 9), ("512MiB", "512MB", 13), ("signal: TERM", "signal: KILL", 9)]
        {
            let failure = ReleaseSpec::parse("release.yaml", &EXAMPLE.replace(from, to)).unwrap_err();
            assert!(failure.to_string().starts_with(&format!("release.yaml:{line}:")), "{failure}");
        }
    }

    #[test]
    fn release_that_cannot_read_what_it_writes_is_refused() {
        let failure = ReleaseSpec::parse("release.yaml", &EXAMPLE.replace("[11, 12]", "[11]")).unwrap_err();
        assert!(failure.to_string().contains("has to contain 12"), "{failure}");
    }

    #[test]
    fn nested_mounts_are_refused() {
        let failure =
            ReleaseSpec::parse("release.yaml", &EXAMPLE.replace("/var/lib/shop", "/etc/shop/data")).unwrap_err();
        assert!(failure.to_string().contains("mounted at or below"), "{failure}");
    }
}
