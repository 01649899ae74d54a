//! The nouns of the machine, each a type of its own: parsed at the edge, private inside, `Display` is the wire form.
//! Pure.

use std::fmt;
use std::str::FromStr;

use nebh_oci::digest::Digest;
use serde::{Deserialize, Serialize};

/// Bytes of any name here: every one of them becomes part of a file name (255 at most on Linux) with a suffix.
const NAME_BYTES_MAX: usize = 128;

/// A text that is not the noun it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {noun}: {want}")]
pub struct NotAName {
    text: String,
    noun: &'static str,
    want: &'static str,
}

fn check(
    text: &str,
    noun: &'static str,
    want: &'static str,
    first: fn(char) -> bool,
    rest: fn(char) -> bool,
) -> Result<(), NotAName> {
    let fits = text.len() <= NAME_BYTES_MAX
        && text.chars().next().is_some_and(first)
        && text.chars().all(rest)
        && !text.contains("..")
        && !text.contains("//")
        && !text.ends_with('/');
    if fits { Ok(()) } else { Err(NotAName { text: text.to_owned(), noun, want }) }
}

macro_rules! text_name {
    ($(#[$doc:meta])* $name:ident, $noun:literal, $want:literal, $first:expr, $rest:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The wire form.
            pub fn as_text(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NotAName;
            fn from_str(text: &str) -> Result<Self, NotAName> {
                check(text, $noun, $want, $first, $rest)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NotAName;
            fn try_from(text: String) -> Result<Self, NotAName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

macro_rules! numbered_name {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $noun:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(u32);

        impl $name {
            /// The name with this number.
            pub const fn new(number: u32) -> Self {
                Self(number)
            }
            /// The number.
            pub const fn number(self) -> u32 {
                self.0
            }
            /// The name after this one. Numbers are never used twice.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl FromStr for $name {
            type Err = NotAName;
            fn from_str(text: &str) -> Result<Self, NotAName> {
                let wrong =
                    || NotAName { text: text.to_owned(), noun: $noun, want: concat!("want ", $prefix, "<number>") };
                let digits = text.strip_prefix($prefix).ok_or_else(wrong)?;
                let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
                if !plain || (digits.len() > 1 && digits.starts_with('0')) {
                    return Err(wrong());
                }
                digits.parse().map(Self).map_err(|_| wrong())
            }
        }

        impl TryFrom<String> for $name {
            type Error = NotAName;
            fn try_from(text: String) -> Result<Self, NotAName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

fn lower_or_digit(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

text_name!(
    /// An application on this node; the name that `release.yaml` gives, like `shop/api`.
    AppName,
    "an application name",
    "want small letters, digits and . _ - /, beginning with a letter or digit",
    lower_or_digit,
    |c| lower_or_digit(c) || matches!(c, '.' | '_' | '-' | '/')
);

impl AppName {
    /// The name as one path component. `+` stands for `/` and cannot occur otherwise, so two names never meet.
    pub fn file_name(&self) -> String {
        self.0.replace('/', "+")
    }
}

text_name!(
    /// The node that this agent runs on.
    NodeName,
    "a node name",
    "want small letters, digits and . -",
    lower_or_digit,
    |c| lower_or_digit(c) || matches!(c, '.' | '-')
);

text_name!(
    /// A group that the node belongs to.
    GroupName,
    "a group name",
    "want small letters, digits and . -",
    lower_or_digit,
    |c| lower_or_digit(c) || matches!(c, '.' | '-')
);

text_name!(
    /// A dataset of an application, like `ledger`.
    DatasetName,
    "a dataset name",
    "want small letters, digits and _ -",
    lower_or_digit,
    |c| lower_or_digit(c) || matches!(c, '_' | '-')
);

text_name!(
    /// The version of a release, which is also its tag.
    Version,
    "a version",
    "want letters, digits and . _ - +",
    |c| c.is_ascii_alphanumeric() || c == '_',
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+')
);

text_name!(
    /// One operation: an attempt to change what runs. Every outside effect of it is named from this.
    OpId,
    "an operation id",
    "want small letters and digits",
    lower_or_digit,
    lower_or_digit
);

impl OpId {
    /// A fresh id from the time in seconds and sixteen random bits: sorts by time, and two journals of one
    /// application (an old one lost with its disk) do not give the same names to different snapshots.
    pub fn compose(seconds: i64, random: u16) -> Self {
        Self(format!("{seconds:08x}{random:04x}"))
    }
}

text_name!(
    /// A read-only snapshot of all datasets of an application, cut in one operation.
    SnapshotName,
    "a snapshot name",
    "want <operation>-pre or <operation>-abandoned",
    lower_or_digit,
    |c| lower_or_digit(c) || c == '-'
);

impl SnapshotName {
    /// The one name that this operation's snapshot of this kind has, however often it is tried.
    pub fn of(op: &OpId, kind: SnapshotKind) -> Self {
        Self(format!("{op}-{}", kind.word()))
    }
}

numbered_name!(
    /// One (release, config) pair on this node, numbered in order of preparation.
    GenerationId,
    "g",
    "a generation"
);

numbered_name!(
    /// A line of history of the data. `tl0` is what the first release found or made.
    TimelineId,
    "tl",
    "a timeline"
);

/// Why a snapshot was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotKind {
    /// Before the new generation may touch the data.
    Pre,
    /// Before a rollback moves or keeps the data.
    Abandoned,
}

impl SnapshotKind {
    /// The word in snapshot names.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pre => "pre",
            Self::Abandoned => "abandoned",
        }
    }
}

/// A release by what it is (the digest of its index) and what people call it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReleaseRef {
    /// Its version.
    pub version: Version,
    /// Digest of the release index.
    pub digest: Digest,
}

/// One try of one operation. Outcomes carry it back, so that a late one is known as late.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The operation.
    pub op: OpId,
    /// Counts from 1; grows when a start is tried again.
    pub attempt: u32,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.op, self.attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        for text in ["", "../x", "a/../b", "/a", "a//b", "a/", "A", "a b", ".x"] {
            assert!(text.parse::<AppName>().is_err(), "{text}");
        }
        assert_eq!("shop/api".parse::<AppName>().unwrap().file_name(), "shop+api");
    }

    #[test]
    fn numbered_names_have_one_spelling() {
        assert_eq!("g7".parse::<GenerationId>().unwrap().to_string(), "g7");
        for text in ["7", "g", "g07", "g-1", "g+1", "tl1", "g99999999999"] {
            assert!(text.parse::<GenerationId>().is_err(), "{text}");
        }
        assert_eq!(serde_json::to_string(&TimelineId::new(3)).unwrap(), "\"tl3\"");
    }
}
