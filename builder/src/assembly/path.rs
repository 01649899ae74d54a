//! The path of one entry of a layer: relative, UTF-8, and nothing that means something to an extractor.
//! Pure.

use std::fmt;

/// Longest path; what Linux takes.
const PATH_BYTES_MAX: usize = 4095;
/// Longest component; what Linux file systems take.
const COMPONENT_BYTES_MAX: usize = 255;
/// Deepest nesting: no package comes near, and recursion in other people's extractors is bounded by it.
const DEPTH_MAX: usize = 64;
/// Names that begin so delete files of the layers below.
const WHITEOUT: &str = ".wh.";

/// A path below the root of an image, without a slash at either end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EntryPath(String);

/// Why a path is no entry path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no path of an image: {rule}", text.escape_debug())]
pub struct PathError {
    text: String,
    rule: &'static str,
}

impl EntryPath {
    /// Parses a path; `./` or `/` at the front and `/` at the end are how archives and people write it.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let wrong = |rule| PathError { text: text.to_owned(), rule };
        let trimmed = text.strip_prefix("./").or_else(|| text.strip_prefix('/')).unwrap_or(text);
        let trimmed = trimmed.strip_suffix('/').unwrap_or(trimmed);
        if trimmed.is_empty() || trimmed == "." {
            return Err(wrong("it is the root itself"));
        }
        if trimmed.len() > PATH_BYTES_MAX {
            return Err(wrong("it is too long"));
        }
        for (depth, component) in trimmed.split('/').enumerate() {
            match component {
                "" => return Err(wrong("it has an empty component")),
                "." | ".." => return Err(wrong("`.` and `..` are not taken")),
                _ if component.contains('\0') => return Err(wrong("it has a NUL")),
                _ if component.len() > COMPONENT_BYTES_MAX => return Err(wrong("a component is too long")),
                _ if component.starts_with(WHITEOUT) => return Err(wrong("it would be read as a deletion")),
                _ if depth >= DEPTH_MAX => return Err(wrong("it is too deep")),
                _ => {}
            }
        }
        Ok(Self(trimmed.to_owned()))
    }

    /// Like [`EntryPath::parse`], but `None` for the root.
    pub fn parse_or_root(text: &str) -> Result<Option<Self>, PathError> {
        if matches!(text, "" | "." | "./" | "/") { Ok(None) } else { Self::parse(text).map(Some) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder that holds it, unless that is the root.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.to_owned()))
    }

    /// Its last component.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(self.0.as_str(), |(_, name)| name)
    }

    /// The path `rest` below this one.
    pub fn join(&self, rest: &str) -> Result<Self, PathError> {
        Self::parse(&format!("{}/{rest}", self.0))
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for EntryPath {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        Self::parse(&text)
    }
}

impl From<EntryPath> for String {
    fn from(path: EntryPath) -> Self {
        path.0
    }
}
