//! A tree of files as it is declared: paths in order, each with owner, mode, time and content. Layers are written from
//! such trees, never from what a program left on a disk.
//! Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::content::Content;
use super::path::EntryPath;

/// Links followed on the way to one path; more is a loop.
const LINKS_MAX: usize = 16;

/// Owner, mode and time of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits, with set-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: u64,
}

impl Meta {
    /// Owned by root.
    pub const fn root(mode: u32, mtime: u64) -> Self {
        Self { mode, uid: 0, gid: 0, mtime }
    }
}

/// What an entry is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file. Two entries that share one `Arc` are hard links of each other.
    File(Arc<Content>),
    /// A symbolic link with its target as written.
    Link(String),
}

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Owner, mode, time.
    pub meta: Meta,
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// What it is.
    pub kind: Kind,
}

impl Entry {
    /// A folder.
    pub fn folder(meta: Meta) -> Self {
        Self { meta, xattrs: BTreeMap::new(), kind: Kind::Folder }
    }

    /// A file with these bytes.
    pub fn file(meta: Meta, bytes: Vec<u8>) -> Self {
        Self::content(meta, Content::Bytes(bytes))
    }

    /// A file with this content.
    pub fn content(meta: Meta, content: Content) -> Self {
        Self { meta, xattrs: BTreeMap::new(), kind: Kind::File(Arc::new(content)) }
    }

    /// A symbolic link owned by root.
    pub fn link(target: impl Into<String>, mtime: u64) -> Self {
        Self { meta: Meta::root(0o777, mtime), xattrs: BTreeMap::new(), kind: Kind::Link(target.into()) }
    }
}

/// A tree of files.
#[derive(Clone, Debug, Default)]
pub struct FileTree {
    entries: BTreeMap<EntryPath, Entry>,
}

/// Why trees do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A file stands where a folder is needed, or the other way round.
    #[error("`{path}` is both a folder and something else")]
    Conflict {
        /// The path.
        path: EntryPath,
    },
    /// Links lead in a circle or out of the tree.
    #[error("the links on the way to `{path}` lead nowhere")]
    Links {
        /// The path.
        path: EntryPath,
    },
}

impl FileTree {
    /// Puts an entry, taking the place of what was there. A folder that is there already stays as it is: the first to
    /// declare it decides.
    pub fn insert(&mut self, path: EntryPath, entry: Entry) -> Result<(), TreeError> {
        let is_folder = |entry: &Entry| matches!(entry.kind, Kind::Folder);
        match self.entries.get(&path) {
            Some(old) if is_folder(old) && is_folder(&entry) => return Ok(()),
            Some(old) if is_folder(old) != is_folder(&entry) => return Err(TreeError::Conflict { path }),
            _ => {}
        }
        self.entries.insert(path, entry);
        Ok(())
    }

    /// Puts every entry of another tree.
    pub fn merge(&mut self, other: FileTree) -> Result<(), TreeError> {
        other.entries.into_iter().try_for_each(|(path, entry)| self.insert(path, entry))
    }

    /// The entry at exactly this path.
    pub fn get(&self, path: &EntryPath) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// The content of a file.
    pub fn content(&self, path: &str) -> Option<&Content> {
        match &self.entries.get(&EntryPath::parse(path).ok()?)?.kind {
            Kind::File(content) => Some(content),
            Kind::Folder | Kind::Link(_) => None,
        }
    }

    /// Takes an entry out.
    pub fn remove(&mut self, path: &EntryPath) -> Option<Entry> {
        self.entries.remove(path)
    }

    /// Every entry in order.
    pub fn iter(&self) -> impl Iterator<Item = (&EntryPath, &Entry)> {
        self.entries.iter()
    }

    /// Every entry in order, to be changed in place.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&EntryPath, &mut Entry)> {
        self.entries.iter_mut()
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True without any entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Where a path leads to when the links among its folders are followed inside this tree. The last component is not
    /// followed.
    pub fn resolve(&self, path: &EntryPath) -> Result<EntryPath, TreeError> {
        let lost = || TreeError::Links { path: path.clone() };
        let mut current = path.clone();
        for _ in 0..LINKS_MAX {
            let Some((at, target)) = self.first_link(&current) else { return Ok(current) };
            let rest = current.as_str()[at.as_str().len()..].trim_start_matches('/');
            let base = match target.strip_prefix('/') {
                Some(absolute) => lexical("", absolute),
                None => lexical(at.as_str().rsplit_once('/').map_or("", |(parent, _)| parent), target),
            };
            let joined = if base.is_empty() { rest.to_owned() } else { format!("{base}/{rest}") };
            current = EntryPath::parse(&joined).map_err(|_| lost())?;
        }
        Err(lost())
    }

    /// Every file's place with no link on the way to it: what a careful extractor would make of this tree.
    pub fn resolved(self) -> Result<Self, TreeError> {
        let moved: Vec<(EntryPath, EntryPath)> = self
            .entries
            .keys()
            .map(|path| Ok((path.clone(), self.resolve(path)?)))
            .filter(|pair: &Result<_, TreeError>| pair.as_ref().map_or(true, |(from, to)| from != to))
            .collect::<Result<_, _>>()?;
        let mut tree = self;
        for (from, to) in moved {
            if let Some(entry) = tree.entries.remove(&from) {
                tree.insert(to, entry)?;
            }
        }
        Ok(tree)
    }

    fn first_link(&self, path: &EntryPath) -> Option<(EntryPath, &str)> {
        let text = path.as_str();
        text.match_indices('/').find_map(|(end, _)| {
            let ancestor = EntryPath::parse(&text[..end]).ok()?;
            match &self.entries.get(&ancestor)?.kind {
                Kind::Link(target) => Some((ancestor, target.as_str())),
                Kind::Folder | Kind::File(_) => None,
            }
        })
    }
}

/// `target` seen from the folder `base`, with `.` and `..` taken away; above the root is the root.
fn lexical(base: &str, target: &str) -> String {
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
