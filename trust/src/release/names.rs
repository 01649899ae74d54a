//! Names of a release's parts, each parsed once. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Characters of a path; what the ustar header can hold.
const PATH_LENGTH_MAX: usize = 255;
/// Characters of a dataset's name: it becomes part of snapshot names and of labels.
const DATASET_LENGTH_MAX: usize = 40;

/// Why a text is no such name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum NounError {
    #[error("`{0}` is not an absolute path without `.` and `..`, e.g. `/etc/shop`")]
    Absolute(String),
    #[error("`{0}` is not a relative path without `.` and `..`, e.g. `config/app.toml`")]
    Relative(String),
    #[error(
        "`{0}` is not a dataset name: lower-case letters, digits and `-`, beginning with a letter, at most {DATASET_LENGTH_MAX}"
    )]
    Dataset(String),
    #[error("`{0}` is not a commit: 40 or 64 lower-case hexadecimal digits")]
    Commit(String),
}

fn components_are_plain(path: &str) -> bool {
    path.len() <= PATH_LENGTH_MAX
        && !path.chars().any(char::is_control)
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

/// A path in a container, from its root, in one spelling.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AbsolutePath(String);

impl AbsolutePath {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AbsolutePath {
    type Err = NounError;

    fn from_str(text: &str) -> Result<Self, NounError> {
        let wrong = || NounError::Absolute(text.to_owned());
        let rest = text.strip_prefix('/').ok_or_else(wrong)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if components_are_plain(rest) { Ok(Self(format!("/{rest}"))) } else { Err(wrong()) }
    }
}

/// A path below some folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativePath(String);

impl RelativePath {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RelativePath {
    type Err = NounError;

    fn from_str(text: &str) -> Result<Self, NounError> {
        let path = text.strip_suffix('/').unwrap_or(text);
        if components_are_plain(path) { Ok(Self(path.to_owned())) } else { Err(NounError::Relative(text.to_owned())) }
    }
}

/// A dataset's name in a release and on every node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatasetName(String);

impl DatasetName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DatasetName {
    type Err = NounError;

    fn from_str(text: &str) -> Result<Self, NounError> {
        let fits = text.len() <= DATASET_LENGTH_MAX
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if fits { Ok(Self(text.to_owned())) } else { Err(NounError::Dataset(text.to_owned())) }
    }
}

/// The commit that a release was made from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(String);

impl CommitId {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CommitId {
    type Err = NounError;

    fn from_str(text: &str) -> Result<Self, NounError> {
        let fits = matches!(text.len(), 40 | 64)
            && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if fits { Ok(Self(text.to_owned())) } else { Err(NounError::Commit(text.to_owned())) }
    }
}

macro_rules! by_text {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
by_text!(AbsolutePath, RelativePath, DatasetName, CommitId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_where_they_belong() {
        assert_eq!("/var/lib/shop/".parse::<AbsolutePath>().unwrap().as_str(), "/var/lib/shop");
        assert_eq!("config/".parse::<RelativePath>().unwrap().as_str(), "config");
        for wrong in ["", "/", "etc", "/a/../b", "/a//b", "/./a", "/a\nb"] {
            assert!(wrong.parse::<AbsolutePath>().is_err(), "{wrong:?}");
        }
        for wrong in ["", "/", "/a", "../a", "a/../b", "a//b", "."] {
            assert!(wrong.parse::<RelativePath>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn dataset_names_fit_snapshot_names() {
        assert!("ledger-2".parse::<DatasetName>().is_ok());
        for wrong in ["", "Ledger", "2a", "-a", "a_b", "a/b", &"a".repeat(41)] {
            assert!(wrong.parse::<DatasetName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn commits_are_full_length() {
        assert!("0123456789abcdef0123456789abcdef01234567".parse::<CommitId>().is_ok());
        for wrong in ["0123456", "G123456789abcdef0123456789abcdef01234567", "main"] {
            assert!(wrong.parse::<CommitId>().is_err(), "{wrong}");
        }
    }
}
