//! Names of branches and tags as they arrive from outside, by git's own rules for names. Pure.

use std::fmt;

/// Longest reference that is looked at: git itself stops near the file system's limit of 255 a component.
const REFERENCE_BYTES_MAX: usize = 255;

/// A full reference name: a branch (`refs/heads/…`) or a tag (`refs/tags/…`). Nothing else ever builds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefName {
    kind: RefKind,
    full: String,
}

/// What a reference name points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefKind {
    /// `refs/heads/…`
    Branch,
    /// `refs/tags/…`
    Tag,
}

/// Why a text is no reference name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not the full name of a branch or a tag")]
pub struct RefNameError {
    text: String,
}

impl RefName {
    /// The reference of a branch.
    pub fn branch(name: &str) -> Result<Self, RefNameError> {
        format!("refs/heads/{name}").parse()
    }

    /// The reference of a tag.
    pub fn tag(name: &str) -> Result<Self, RefNameError> {
        format!("refs/tags/{name}").parse()
    }

    /// Branch or tag.
    pub fn kind(&self) -> RefKind {
        self.kind
    }

    /// The name as git stores it, `refs/…`.
    pub fn full(&self) -> &str {
        &self.full
    }

    /// The name as people say it, without `refs/heads/` or `refs/tags/`.
    pub fn short(&self) -> &str {
        &self.full[self.kind.prefix().len()..]
    }
}

impl RefKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Branch => "refs/heads/",
            Self::Tag => "refs/tags/",
        }
    }
}

impl std::str::FromStr for RefName {
    type Err = RefNameError;

    fn from_str(text: &str) -> Result<Self, RefNameError> {
        let kind = [RefKind::Branch, RefKind::Tag].into_iter().find(|kind| text.starts_with(kind.prefix()));
        match kind {
            Some(kind) if text.len() <= REFERENCE_BYTES_MAX && is_name(&text[kind.prefix().len()..]) => {
                Ok(Self { kind, full: text.to_owned() })
            }
            _ => Err(RefNameError { text: text.chars().take(80).collect() }),
        }
    }
}

impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full)
    }
}

/// The rules of `git check-ref-format`, and no leading dash, so that a name can never be read as an option.
fn is_name(name: &str) -> bool {
    let component = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && std::path::Path::new(part).extension().is_none_or(|extension| extension != "lock")
    };
    let forbidden = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
        && name != "@"
        && !name.contains(forbidden)
        && name.split('/').all(component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_git_are_taken() {
        for (text, short) in
            [("refs/heads/main", "main"), ("refs/heads/feature/a-b", "feature/a-b"), ("refs/tags/v1.0.0", "v1.0.0")]
        {
            assert_eq!(text.parse::<RefName>().unwrap().short(), short);
        }
    }

    #[test]
    fn names_that_git_refuses_or_that_could_be_options_are_refused() {
        for text in [
            "main",
            "refs/heads/",
            "refs/pull/1/head",
            "refs/heads/--upload-pack=x",
            "refs/heads/a..b",
            "refs/heads/a b",
            "refs/heads/a:b",
            "refs/heads/.a",
            "refs/heads/a.lock",
            "refs/heads/a//b",
            "refs/heads/a\nb",
            "refs/heads/a@{1}",
            "refs/heads/*",
        ] {
            assert!(text.parse::<RefName>().is_err(), "{text}");
        }
        assert!(format!("refs/heads/{}", "a".repeat(300)).parse::<RefName>().is_err());
    }
}
