//! Reads a foreign tar stream as a tree: strictly, within limits, and never onto a disk. Large files go to the given spill.

use std::collections::BTreeSet;
use std::io::{self, Read};

use super::limits::{Limits, TarTreeError, broken};
use super::members::{Member, each};
use crate::assembly::{Entry, EntryPath, FileTree, Kind, Meta, PathError, Spill};

/// Latest time of an entry, which is all that a tar header of ours can say: the year 2242.
const TIME_MAX: u64 = 0o77_777_777_777;

/// Where the entry at a path goes; `None` leaves it out.
pub type Place = fn(&EntryPath, &Entry) -> Result<Option<EntryPath>, PathError>;

/// Reads the whole stream. `member` names it in errors.
pub fn read_tar_tree(
    member: &str,
    from: impl Read,
    spill: &Spill,
    limits: &Limits,
    place: Place,
) -> Result<FileTree, TarTreeError> {
    TarReader { member, spill, limits, left: limits.bytes, place }.read(from)
}

struct TarReader<'a> {
    member: &'a str,
    spill: &'a Spill,
    limits: &'a Limits,
    left: u64,
    place: Place,
}

impl TarReader<'_> {
    fn read(mut self, from: impl Read) -> Result<FileTree, TarTreeError> {
        let mut tree = FileTree::default();
        let mut files = BTreeSet::new();
        let (archive, limits) = (self.member, self.limits);
        each(archive, from, limits, |member, content| {
            let Some(path) = EntryPath::parse_or_root(&member.path)? else { return Ok(()) };
            let parsed = self.entry(&path, &member, content, &tree)?;
            // Which of two counts, readers do not agree on.
            if !matches!(parsed.kind, Kind::Folder) && !files.insert(path.clone()) {
                return Err(TarTreeError::Twice { path: path.to_string() });
            }
            if let Some(place) = (self.place)(&path, &parsed)? {
                tree.insert(place, parsed)?;
            }
            Ok(())
        })?;
        Ok(tree)
    }

    fn entry(
        &mut self,
        path: &EntryPath,
        member: &Member,
        content: &mut dyn Read,
        tree: &FileTree,
    ) -> Result<Entry, TarTreeError> {
        let meta = self.meta(&member.header)?;
        let target = || {
            let missing = || broken(self.member)(io::Error::other(format!("`{path}` has no link target")));
            member.target.clone().filter(|target| !target.contains('\0')).ok_or_else(missing)
        };
        let kind = member.header.entry_type();
        if kind.is_dir() {
            return Ok(Entry::folder(meta));
        }
        if kind.is_symlink() {
            return Ok(Entry::link(target()?, meta.mtime));
        }
        if kind.is_hard_link() {
            let target = target()?;
            let lost = || TarTreeError::HardLink { path: path.to_string(), target: target.clone() };
            let file = Entry::file(meta, Vec::new());
            let target = (self.place)(&EntryPath::parse(&target)?, &file)?.ok_or_else(lost)?;
            return match tree.get(&target).ok_or_else(lost)? {
                same @ Entry { kind: Kind::File(_), .. } => Ok(same.clone()),
                Entry { kind: Kind::Folder | Kind::Link(_), .. } => Err(lost()),
            };
        }
        if kind.is_file() {
            let size = member.size;
            self.left = self.left.checked_sub(size).ok_or_else(|| self.limit("bytes", self.limits.bytes))?;
            return Ok(Entry::content(meta, self.spill.take(content, size)?));
        }
        let kind = if kind.is_character_special() || kind.is_block_special() { "device" } else { "special entry" };
        Err(TarTreeError::Special { path: path.to_string(), kind })
    }

    fn meta(&self, header: &tar::Header) -> Result<Meta, TarTreeError> {
        let old = header.as_old();
        // Some packers leave the fields of the owner empty: that is nobody in particular, so root.
        let id = |field: &[u8], id: io::Result<u64>| {
            if field.iter().all(|byte| matches!(byte, 0 | b' ')) {
                return Ok(0);
            }
            u32::try_from(id.map_err(broken(self.member))?)
                .map_err(|_| broken(self.member)(io::Error::other("an owner is out of range")))
        };
        let mtime = header.mtime().map_err(broken(self.member))?;
        if mtime > TIME_MAX {
            return Err(broken(self.member)(io::Error::other("a time is out of range")));
        }
        Ok(Meta {
            mode: header.mode().map_err(broken(self.member))? & 0o7777,
            uid: id(&old.uid, header.uid())?,
            gid: id(&old.gid, header.gid())?,
            mtime,
        })
    }

    fn limit(&self, what: &'static str, limit: u64) -> TarTreeError {
        TarTreeError::Limit { member: self.member.to_owned(), what, limit }
    }
}
