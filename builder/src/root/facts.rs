//! What is remembered about a package once it was unpacked: all that the finishers look at, so that a package whose layer
//! is kept need not be unpacked again.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use serde::{Deserialize, Deserializer, Serializer};

/// The form of kept facts; a change makes older ones unknown, not wrong.
pub const FACTS_VERSION: u32 = 2;

/// Folders whose files the finishers read.
const READ_BELOW: [&str; 5] = [
    "usr/share/base-passwd/",
    "usr/lib/sysusers.d/",
    "usr/share/ca-certificates/",
    "etc/ld.so.conf.d/",
    "usr/lib/tmpfiles.d/",
];
/// Folders whose names the finishers look at.
const NAMED_BELOW: [&str; 3] = ["usr/bin/", "usr/sbin/", "usr/share/nginx/modules-available/"];

/// One package, as the finishers see it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PackageFacts {
    /// [`FACTS_VERSION`].
    pub version: u32,
    /// Name of the package.
    pub name: String,
    /// Its control paragraph.
    pub control: String,
    /// Its maintainer scripts by name.
    pub scripts: BTreeMap<String, String>,
    /// Programs, and other files that only have to be there.
    pub programs: BTreeSet<String>,
    /// Content of the files that a finisher reads.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub files: BTreeMap<String, Vec<u8>>,
    /// The latest time in the package, in seconds since 1970.
    pub latest: u64,
}

impl PackageFacts {
    /// The facts of a package whose data was not read yet. The name is empty if the control paragraph has none.
    pub(super) fn new(control: String, scripts: BTreeMap<String, String>) -> Self {
        let mut facts = Self {
            version: FACTS_VERSION,
            name: String::new(),
            control,
            scripts,
            programs: BTreeSet::new(),
            files: BTreeMap::new(),
            latest: 0,
        };
        let name = facts.field("Package").unwrap_or_default().to_owned();
        facts.name = name;
        facts
    }

    /// True if a finisher reads the file at `path`.
    pub(super) fn reads(path: &str) -> bool {
        READ_BELOW.iter().any(|folder| path.starts_with(folder))
    }

    /// True if a finisher wants to know that `path` is there.
    pub(super) fn names(path: &str) -> bool {
        NAMED_BELOW.iter().any(|folder| path.starts_with(folder))
    }

    /// A field of the control paragraph, on one line.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.control.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

fn to_base64<S: Serializer>(files: &BTreeMap<String, Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    let engine = base64::engine::general_purpose::STANDARD;
    serializer.collect_map(files.iter().map(|(path, bytes)| (path, engine.encode(bytes))))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Vec<u8>>, D::Error> {
    let engine = base64::engine::general_purpose::STANDARD;
    BTreeMap::<String, String>::deserialize(deserializer)?
        .into_iter()
        .map(|(path, text)| Ok((path, engine.decode(text).map_err(serde::de::Error::custom)?)))
        .collect()
}
