//! The nouns of a buildspec, each made only from text that is a legal one. Pure.

use std::fmt;
use std::str::FromStr;

/// Bytes of one path; the kernel's own limit for a whole path.
const PATH_BYTES_MAX: usize = 4096;
/// Bytes of a package, suite or program name: far above any real one, low enough for a file name.
const NAME_BYTES_MAX: usize = 128;

/// Why a text is not the noun it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {noun}: {rule}")]
pub struct NounError {
    noun: &'static str,
    text: String,
    rule: &'static str,
}

impl NounError {
    pub(crate) fn new(noun: &'static str, text: &str, rule: &'static str) -> Self {
        Self { noun, text: text.escape_debug().collect(), rule }
    }
}

macro_rules! noun {
    ($(#[$doc:meta])* $name:ident, $noun:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text as it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NounError;
            fn from_str(text: &str) -> Result<Self, NounError> {
                let check: fn(&str) -> Result<(), &'static str> = $check;
                check(text).map_err(|rule| NounError::new($noun, text, rule))?;
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

noun!(
    /// A Debian package name (Debian policy 5.6.7).
    PackageName, "package name", |text| {
        if text.len() < 2 || text.len() > NAME_BYTES_MAX {
            return Err("it has 2 to 128 characters");
        }
        let first = text.as_bytes()[0];
        if !first.is_ascii_lowercase() && !first.is_ascii_digit() {
            return Err("it starts with a lower-case letter or a digit");
        }
        if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b)) {
            return Err("it has lower-case letters, digits, `+`, `-` and `.` only");
        }
        Ok(())
    }
);

noun!(
    /// A suite of a Debian archive, such as `trixie` or `trixie-backports`.
    Suite, "suite", |text| {
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            return Err("it has 1 to 128 characters");
        }
        if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') || text.starts_with('-') {
            return Err("it has lower-case letters, digits and `-` only");
        }
        Ok(())
    }
);

noun!(
    /// The name of a program that a step makes.
    BinName, "program name", |text| {
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            return Err("it has 1 to 128 characters");
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) || text.starts_with('-') {
            return Err("it has letters, digits, `-` and `_` only");
        }
        Ok(())
    }
);

noun!(
    /// A path inside the project: relative, without `.` and `..`, without a slash at either end.
    TreePath, "path in the project", |text| {
        if text.starts_with('/') {
            return Err("it is relative to the buildspec");
        }
        path(text)
    }
);

noun!(
    /// A path inside the image: absolute, without `.` and `..`.
    ImagePath, "path in the image", |text| {
        let Some(rest) = text.strip_prefix('/') else { return Err("it starts with `/`") };
        if rest.is_empty() { Ok(()) } else { path(rest) }
    }
);

fn path(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > PATH_BYTES_MAX {
        return Err("it has 1 to 4096 bytes");
    }
    if text.chars().any(char::is_control) {
        return Err("it has no control characters");
    }
    if text.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err("it has no empty part, no `.` and no `..`");
    }
    Ok(())
}

/// A package as a person asks for it: `nginx`, or `cargo/trixie-backports` to take it from that suite, as apt writes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageRequest {
    name: PackageName,
    suite: Option<Suite>,
}

impl PackageRequest {
    /// A request for the best version of any suite that is read by default.
    pub fn of(name: PackageName) -> Self {
        Self { name, suite: None }
    }

    /// A request for the version of one suite.
    pub fn from_suite(name: PackageName, suite: Suite) -> Self {
        Self { name, suite: Some(suite) }
    }

    /// The package.
    pub fn name(&self) -> &PackageName {
        &self.name
    }

    /// The suite it has to come from, if one was named.
    pub fn suite(&self) -> Option<&Suite> {
        self.suite.as_ref()
    }
}

impl FromStr for PackageRequest {
    type Err = NounError;
    fn from_str(text: &str) -> Result<Self, NounError> {
        match text.split_once('/') {
            Some((name, suite)) => Ok(Self { name: name.parse()?, suite: Some(suite.parse()?) }),
            None => Ok(Self { name: text.parse()?, suite: None }),
        }
    }
}

impl fmt::Display for PackageRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.suite {
            Some(suite) => write!(f, "{}/{suite}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

impl serde::Serialize for PackageRequest {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for PackageRequest {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <String as serde::Deserialize>::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}
