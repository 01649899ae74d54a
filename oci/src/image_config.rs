//! The image configuration: what a container of this image runs, and which layers it is made of. Pure.
//!
//! Written in canonical JSON, every map sorted, so that the same content has the same digest. Read leniently: the
//! field is full of configs with `null`, with Docker's extra members and with odd dates.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::DiffId;
use crate::json::{self, JsonError};

/// Docker refuses configs above 8 MB; ours have a few KB.
pub const CONFIG_SIZE_MAX: u64 = 8 << 20;

/// The document behind the `config` descriptor of an image manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made; ours say the commit's time.
    #[serde(default, with = "lenient_time", skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// `amd64`, as Go spells it.
    pub architecture: String,
    /// `v8`, where the architecture has variants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// `linux`.
    pub os: String,
    /// What a container runs by default.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: ContainerConfig,
    /// The layers.
    pub rootfs: RootFs,
    /// How the layers came about, for people.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

/// Defaults of a container: all of them optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// `user`, `uid`, `user:group` or `uid:gid`.
    #[serde(deserialize_with = "empty_is_none", skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// `NAME=value`, in order.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// What is run, always.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Its arguments, unless others are given.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Where it starts.
    #[serde(deserialize_with = "empty_is_none", skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// `8080/tcp`; information, not permission.
    #[serde(with = "keys_of_empty_objects", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// Free words about it.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `SIGTERM`, or another.
    #[serde(deserialize_with = "empty_is_none", skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
}

/// The layers of an image, by the digests of their uncompressed tars, lowest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: RootFsKind,
    /// One for each layer of the manifest.
    #[serde(deserialize_with = "null_is_default")]
    pub diff_ids: Vec<DiffId>,
}

/// The only kind that the specification has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RootFsKind {
    /// A stack of layers.
    #[default]
    Layers,
}

/// One step of how an image came about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When.
    #[serde(default, with = "lenient_time", skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// By what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether this step made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

impl ImageConfig {
    /// A config with what it must have.
    pub fn new(architecture: impl Into<String>, os: impl Into<String>, diff_ids: Vec<DiffId>) -> Self {
        Self {
            created: None,
            author: None,
            architecture: architecture.into(),
            variant: None,
            os: os.into(),
            config: ContainerConfig::default(),
            rootfs: RootFs { kind: RootFsKind::Layers, diff_ids },
            history: Vec::new(),
        }
    }

    /// Reads a config. Unknown members are passed over, duplicate keys are not.
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        json::parse_strict(bytes)
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, JsonError> {
        json::canonical(self)
    }
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Docker writes `""` where the specification leaves the member out.
fn empty_is_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()))
}

/// Dates of images decide nothing, so an odd one is no date rather than an error.
mod lenient_time {
    use super::{Deserialize, Deserializer, Serializer, Timestamp};

    #[expect(clippy::ref_option, reason = "the signature that serde's `with` asks for")]
    pub(super) fn serialize<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.collect_str(time),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.and_then(|text| text.parse().ok()))
    }
}

/// Go's spelling of a set: an object whose values are all `{}`.
mod keys_of_empty_objects {
    use serde::ser::SerializeMap;

    use super::{BTreeMap, BTreeSet, Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(keys: &BTreeSet<String>, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(keys.len()))?;
        for key in keys {
            map.serialize_entry(key, &serde_json::Map::new())?;
        }
        map.end()
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
        let map = Option::<BTreeMap<String, serde_json::Value>>::deserialize(deserializer)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn config_is_written_in_canonical_form() {
        let mut config = ImageConfig::new("amd64", "linux", vec![DiffId(Digest::sha256(b"layer"))]);
        config.created = Some("2026-01-02T03:04:05Z".parse().unwrap());
        config.config.entrypoint = vec!["/usr/bin/a".into()];
        config.config.exposed_ports.insert("8080/tcp".into());
        config.config.labels.insert("b".into(), "2".into());
        config.config.labels.insert("a".into(), "1".into());
        let expected = format!(
            concat!(
                r#"{{"architecture":"amd64","config":{{"Entrypoint":["/usr/bin/a"],"ExposedPorts":{{"8080/tcp":{{}}}},"#,
                r#""Labels":{{"a":"1","b":"2"}}}},"created":"2026-01-02T03:04:05Z","os":"linux","#,
                r#""rootfs":{{"diff_ids":["{}"],"type":"layers"}}}}"#
            ),
            Digest::sha256(b"layer")
        );
        let bytes = config.to_bytes().unwrap();
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), expected);
        assert_eq!(ImageConfig::parse(&bytes).unwrap(), config);
        oci_spec::image::ImageConfiguration::from_reader(bytes.as_slice()).unwrap();
    }

    #[test]
    fn config_of_docker_with_nulls_and_extras_is_read() {
        let text = br#"{"architecture":"amd64","os":"linux","created":"yesterday","container":"x","docker_version":"20",
            "config":{"User":"","Env":null,"Cmd":["sh"],"ExposedPorts":null,"Labels":null,"OnBuild":null,"Volumes":{"/d":{}}},
            "history":[{"created":"2024-05-01T10:00:00.5+02:00","empty_layer":true,"created_by":"x"}],
            "rootfs":{"type":"layers","diff_ids":null}}"#;
        let config = ImageConfig::parse(text).unwrap();
        assert_eq!(config.created, None);
        assert_eq!(config.config.user, None);
        assert_eq!(config.config.cmd, ["sh"]);
        assert_eq!(config.history[0].created.unwrap().to_string(), "2024-05-01T08:00:00.5Z");
        assert!(
            ImageConfig::parse(
                br#"{"architecture":"a","os":"b","config":null,"rootfs":{"type":"layers","diff_ids":[]}}"#
            )
            .is_ok()
        );
    }

    #[test]
    fn config_with_another_kind_of_root_is_refused() {
        let text = br#"{"architecture":"a","os":"b","rootfs":{"type":"layers+base","diff_ids":[]}}"#;
        assert!(ImageConfig::parse(text).is_err());
    }
}
