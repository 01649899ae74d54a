//! Paths of members: what may stand in one, and how a layer's paths lie to each other. Pure.

use std::collections::BTreeSet;

use super::UnpackError;

/// The kernel's own limit for a path.
const PATH_LENGTH_MAX: usize = 4096;
/// The file systems' limit for one name.
const NAME_LENGTH_MAX: usize = 255;

/// A path below the root: components joined by single slashes, none of them empty, `.`, `..` or with NUL; the root
/// itself is empty. One piece of memory, because a layer may have millions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MemberPath(Vec<u8>);

impl MemberPath {
    pub(super) fn parse(bytes: &[u8], depth_max: usize) -> Result<Self, UnpackError> {
        let refuse = |why| Err(UnpackError::Refused { member: escape(bytes), why });
        if bytes.contains(&0) {
            return refuse("its name contains NUL");
        }
        if bytes.starts_with(b"/") {
            return refuse("its name is absolute");
        }
        if bytes.len() > PATH_LENGTH_MAX {
            return refuse("its name is longer than a path may be");
        }
        let mut path = Vec::with_capacity(bytes.len());
        let mut depth = 0;
        for part in bytes.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".") {
            depth += 1;
            if part == b".." {
                return refuse("its name leaves the root by `..`");
            }
            if part.len() > NAME_LENGTH_MAX {
                return refuse("a part of its name is longer than a name may be");
            }
            if depth > depth_max {
                return refuse("it lies deeper than the limit");
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part);
        }
        Ok(Self(path))
    }

    /// The directory and the name in it; `None` for the root itself.
    pub(super) fn split(&self) -> Option<(Self, &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        Some(match self.0.iter().rposition(|b| *b == b'/') {
            Some(slash) => (Self(self.0[..slash].to_vec()), &self.0[slash + 1..]),
            None => (Self(Vec::new()), &self.0),
        })
    }

    pub(super) fn join(&self, name: &[u8]) -> Self {
        if self.0.is_empty() {
            return Self(name.to_vec());
        }
        Self([self.0.as_slice(), name].join(&b'/'))
    }

    /// Every path on the way from the root to this one, this one included.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.0.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        ends.chain((!self.0.is_empty()).then_some(self.0.len())).map(|end| &self.0[..end])
    }

    /// Whether `paths` has this one or something below it.
    pub(super) fn leads_into(&self, paths: &BTreeSet<Self>) -> bool {
        // Between a directory and what is in it, names such as `a-b` may stand.
        let below = self.join(b"");
        paths.contains(self) || paths.range(&below..).next().is_some_and(|next| next.0.starts_with(&below.0))
    }

    /// The number of bytes that it takes.
    pub(super) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// The text for system calls; `.` for the root.
    pub(super) fn bytes(&self) -> &[u8] {
        if self.0.is_empty() { b"." } else { &self.0 }
    }
}

impl std::fmt::Display for MemberPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&escape(self.bytes()))
    }
}

pub(super) fn escape(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
