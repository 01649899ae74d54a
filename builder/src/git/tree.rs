//! The entries of one commit's tree, parsed from `git ls-tree` and checked. Pure.

use std::collections::BTreeMap;
use std::fmt;

use super::command::GitError;

/// Entries of one tree: the largest public repositories have a tenth of it.
const ENTRIES_MAX: usize = 1_000_000;
/// Bytes of all files of one tree.
const TREE_BYTES_MAX: u64 = 8 << 30;
/// Bytes of one path; the kernel's own limit.
const PATH_BYTES_MAX: usize = 4096;
/// Folders above one file.
const DEPTH_MAX: usize = 128;

/// An object of the repository: SHA-1 or SHA-256, as the repository has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(String);

impl ObjectId {
    /// Lower-case hexadecimal digits: 40 or 64.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (matches!(text.len(), 40 | 64) && text.bytes().all(hex)).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file.
    File,
    /// A file that may be run.
    Executable,
    /// A symbolic link.
    Link,
}

/// One file or link of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeEntry {
    /// Path from the source's folder, with `/`.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Its bytes in the repository.
    pub object: ObjectId,
    /// How many bytes it has.
    pub size: u64,
}

/// All files and links of one commit, in order of path. Folders are implied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    entries: BTreeMap<String, TreeEntry>,
}

impl Tree {
    /// Every entry, in order of path.
    pub fn entries(&self) -> impl Iterator<Item = &TreeEntry> {
        self.entries.values()
    }

    /// The entry at a path.
    pub fn get(&self, path: &str) -> Option<&TreeEntry> {
        self.entries.get(path)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True without any entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Parses the output of `git ls-tree -r -z -l`: `<mode> <type> <object> <size>\t<path>\0`.
    pub(super) fn parse(answer: &[u8]) -> Result<Self, GitError> {
        let mut entries = BTreeMap::new();
        let mut bytes: u64 = 0;
        for record in answer.split(|b| *b == 0).filter(|record| !record.is_empty()) {
            let entry = parse_entry(record)?;
            bytes = bytes.saturating_add(entry.size);
            if bytes > TREE_BYTES_MAX {
                return Err(GitError::TooMuch { what: "bytes of a tree", max: TREE_BYTES_MAX });
            }
            if entries.len() >= ENTRIES_MAX {
                return Err(GitError::TooMuch { what: "entries of a tree", max: ENTRIES_MAX as u64 });
            }
            if let Some(twice) = entries.insert(entry.path.clone(), entry) {
                return Err(refused(&twice.path, "is in the tree twice"));
            }
        }
        let tree = Self { entries };
        tree.check_no_file_is_a_folder()?;
        Ok(tree)
    }

    /// A hand-made tree can hold a link `a` and a file `a/b`: writing the second would follow the first.
    fn check_no_file_is_a_folder(&self) -> Result<(), GitError> {
        for path in self.entries.keys() {
            for (at, _) in path.match_indices('/') {
                if self.entries.contains_key(&path[..at]) {
                    return Err(refused(&path[..at], "is a file and a folder in the same tree"));
                }
            }
        }
        Ok(())
    }
}

fn parse_entry(record: &[u8]) -> Result<TreeEntry, GitError> {
    const ODD: GitError = GitError::Answer("ls-tree");
    let tab = record.iter().position(|b| *b == b'\t').ok_or(ODD)?;
    let head = std::str::from_utf8(&record[..tab]).map_err(|_| ODD)?;
    let shown = String::from_utf8_lossy(&record[tab + 1..]);
    let path = std::str::from_utf8(&record[tab + 1..]).map_err(|_| refused(&shown, "is not UTF-8"))?;
    check_path(path)?;
    let fields: Vec<&str> = head.split_ascii_whitespace().collect();
    let [mode, _, object, size] = fields[..] else { return Err(ODD) };
    let kind = match mode {
        "100644" | "100664" => EntryKind::File,
        "100755" => EntryKind::Executable,
        "120000" => EntryKind::Link,
        "160000" => {
            return Err(refused(path, "is a submodule, whose bytes are not in the commit; put them in the tree"));
        }
        _ => return Err(refused(path, &format!("has the mode {mode}"))),
    };
    Ok(TreeEntry {
        path: path.to_owned(),
        kind,
        object: ObjectId::parse(object).ok_or(ODD)?,
        size: size.parse().map_err(|_| ODD)?,
    })
}

/// Git itself refuses most of these only on checkout, which we never do.
fn check_path(path: &str) -> Result<(), GitError> {
    if path.len() > PATH_BYTES_MAX {
        return Err(refused(path, "has a path of more than 4096 bytes"));
    }
    if path.chars().any(char::is_control) {
        return Err(refused(path, "has a control character in its path"));
    }
    let parts: Vec<&str> = path.split('/').collect();
    if parts.len() > DEPTH_MAX {
        return Err(refused(path, "lies more than 128 folders deep"));
    }
    for part in parts {
        if part.is_empty() || part == "." || part == ".." || part.len() > 255 {
            return Err(refused(path, "is not a path inside the tree"));
        }
        if part.eq_ignore_ascii_case(".git") {
            return Err(refused(path, "is named like git's own folder"));
        }
    }
    Ok(())
}

pub(super) fn refused(path: &str, why: &str) -> GitError {
    GitError::Refused { path: path.escape_debug().collect(), why: why.to_owned() }
}

/// A pointer of Git LFS stands in the commit for bytes that are somewhere else.
pub(super) fn is_lfs_pointer(bytes: &[u8]) -> bool {
    const POINTER_BYTES_MAX: usize = 1024;
    bytes.len() <= POINTER_BYTES_MAX
        && bytes.starts_with(b"version ")
        && std::str::from_utf8(bytes).is_ok_and(|text| {
            let mut lines = text.lines();
            lines.next().is_some_and(|first| first.contains("git-lfs"))
                && lines.any(|line| line.starts_with("oid sha256:"))
        })
}
