//! Reads one `.deb`: its control paragraph and scripts as facts, its data as a tree. Owns the reading; large files go
//! to the given spill.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use super::ar::{ArError, ArReader};
use super::facts::{FACTS_VERSION, PackageFacts};
use crate::assembly::{ContentError, Entry, EntryPath, FileTree, Kind, Meta, PathError, Spill, TreeError};

/// What one package may be: far above the largest of a distribution, far below what hurts.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Entries.
    pub entries: usize,
    /// Bytes of control files together.
    pub control_bytes: u64,
    /// Memory of the xz decoder.
    pub decoder_memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 8 << 30, entries: 400_000, control_bytes: 32 << 20, decoder_memory: 512 << 20 }
    }
}

/// A package, read.
#[derive(Debug)]
pub struct Deb {
    /// What finishers look at.
    pub facts: PackageFacts,
    /// `md5sums` of the control archive, for `/var/lib/dpkg`.
    pub md5sums: Option<String>,
    /// Its files.
    pub tree: FileTree,
}

/// Why a package could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// The outer archive.
    #[error("it is no Debian package")]
    Outer(#[source] ArError),
    /// The members are not those of a package.
    #[error("it is no Debian package: {0}")]
    Members(String),
    /// An inner archive is broken or cut short.
    #[error("its `{member}` cannot be read")]
    Inner {
        /// The member.
        member: String,
        /// Cause.
        #[source]
        cause: io::Error,
    },
    /// More than allowed.
    #[error("its `{member}` has more {what} than the limit of {limit}")]
    Limit {
        /// The member.
        member: String,
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A path that no package should have.
    #[error(transparent)]
    Path(#[from] PathError),
    /// An entry that is no file, folder or link.
    #[error("its entry `{path}` is a {kind}, which packages may not bring")]
    Special {
        /// The path.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// A hard link whose target is not an earlier file.
    #[error("its entry `{path}` is a hard link to `{target}`, which is no file before it")]
    HardLink {
        /// The path.
        path: String,
        /// The target.
        target: String,
    },
    /// Content could not be kept.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// Entries contradict each other.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Reads a package from `from`.
pub fn read_deb(from: impl Read, spill: &Spill, limits: &Limits) -> Result<Deb, DebError> {
    let mut archive = ArReader::new(from).map_err(DebError::Outer)?;
    let mut next = |archive: &mut ArReader<_>| archive.next_member().map_err(DebError::Outer);
    match next(&mut archive)? {
        Some((name, size)) if name == "debian-binary" => {
            let mut version = String::new();
            (&mut archive).take(16).read_to_string(&mut version).map_err(inner(&name))?;
            if size > 16 || !version.starts_with("2.") {
                return Err(DebError::Members(format!("format version `{}`", version.trim())));
            }
        }
        _ => return Err(DebError::Members("it does not begin with `debian-binary`".into())),
    }
    let mut control = None;
    loop {
        let Some((name, _)) = next(&mut archive)? else {
            return Err(DebError::Members("it has no data".into()));
        };
        if name.starts_with("control.tar") {
            control = Some(read_control(&name, decoder(&name, &mut archive, limits)?, limits)?);
        } else if name.starts_with("data.tar") {
            let (control, scripts, md5sums) =
                control.ok_or_else(|| DebError::Members("its data comes before its control files".into()))?;
            let mut facts = PackageFacts {
                version: FACTS_VERSION,
                name: String::new(),
                control,
                scripts,
                programs: std::collections::BTreeSet::new(),
                files: BTreeMap::new(),
                latest: 0,
            };
            facts.name = facts
                .field("Package")
                .ok_or_else(|| DebError::Members("its control file names no package".into()))?
                .to_owned();
            let reader = DataReader { member: &name, spill, limits, left: limits.bytes };
            let tree = reader.read(decoder(&name, &mut archive, limits)?)?;
            gather(&tree, &mut facts)?;
            return Ok(Deb { facts, md5sums, tree });
        } else if !name.starts_with('_') {
            return Err(DebError::Members(format!("unknown member `{name}`")));
        }
    }
}

fn inner(member: &str) -> impl Fn(io::Error) -> DebError {
    move |cause| DebError::Inner { member: member.to_owned(), cause }
}

fn decoder<'a>(name: &str, from: impl Read + 'a, limits: &Limits) -> Result<Box<dyn Read + 'a>, DebError> {
    Ok(match name.split_once(".tar").map(|(_, suffix)| suffix) {
        Some("") => Box::new(from),
        Some(".gz") => Box::new(flate2::read::MultiGzDecoder::new(from)),
        Some(".xz") => {
            let stream = liblzma::stream::Stream::new_stream_decoder(limits.decoder_memory, liblzma::stream::CONCATENATED)
                .map_err(|error| inner(name)(error.into()))?;
            Box::new(liblzma::read::XzDecoder::new_stream(from, stream))
        }
        Some(".zst") => {
            let mut decoder = zstd::stream::read::Decoder::new(from).map_err(inner(name))?;
            // 128 MiB windows: what dpkg itself takes.
            decoder.window_log_max(27).map_err(inner(name))?;
            Box::new(decoder)
        }
        _ => return Err(DebError::Members(format!("`{name}` is packed in an unknown way"))),
    })
}

type Control = (String, BTreeMap<String, String>, Option<String>);

fn read_control(member: &str, from: impl Read, limits: &Limits) -> Result<Control, DebError> {
    let mut left = limits.control_bytes;
    let mut archive = tar::Archive::new(from);
    let (mut control, mut scripts, mut md5sums) = (None, BTreeMap::new(), None);
    for entry in archive.entries().map_err(inner(member))? {
        let entry = entry.map_err(inner(member))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        let limit = || DebError::Limit { member: member.to_owned(), what: "bytes", limit: limits.control_bytes };
        left = left.checked_sub(entry.size()).ok_or_else(limit)?;
        let mut bytes = Vec::new();
        entry.take(limits.control_bytes).read_to_end(&mut bytes).map_err(inner(member))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        match name.as_str() {
            "control" => control = Some(text),
            "md5sums" => md5sums = Some(text),
            "preinst" | "postinst" | "triggers" | "conffiles" => drop(scripts.insert(name, text)),
            _ => {}
        }
    }
    let control = control.ok_or_else(|| DebError::Members(format!("`{member}` has no control file")))?;
    Ok((control, scripts, md5sums))
}

struct DataReader<'a> {
    member: &'a str,
    spill: &'a Spill,
    limits: &'a Limits,
    left: u64,
}

impl DataReader<'_> {
    fn read(mut self, from: impl Read) -> Result<FileTree, DebError> {
        let mut archive = tar::Archive::new(from);
        let mut tree = FileTree::default();
        for (count, entry) in archive.entries().map_err(inner(self.member))?.enumerate() {
            if count >= self.limits.entries {
                return Err(self.limit("entries", self.limits.entries as u64));
            }
            let mut entry = entry.map_err(inner(self.member))?;
            let written = self.text(&entry.path_bytes())?;
            let Some(path) = EntryPath::parse_or_root(&written)? else { continue };
            let parsed = self.entry(&path, &mut entry, &tree)?;
            tree.insert(merged_usr(&path)?, parsed)?;
        }
        Ok(tree)
    }

    fn entry(&mut self, path: &EntryPath, from: &mut tar::Entry<'_, impl Read>, tree: &FileTree) -> Result<Entry, DebError> {
        let meta = self.meta(from.header())?;
        let target = |this: &Self| match from.link_name_bytes() {
            Some(bytes) => this.text(&bytes),
            None => Err(inner(this.member)(io::Error::other(format!("`{path}` has no link target")))),
        };
        let kind = from.header().entry_type();
        if kind.is_dir() {
            return Ok(Entry::folder(meta));
        }
        if kind.is_symlink() {
            return Ok(Entry::link(target(self)?, meta.mtime));
        }
        if kind.is_hard_link() {
            let target = target(self)?;
            let lost = || DebError::HardLink { path: path.to_string(), target: target.clone() };
            return match tree.get(&merged_usr(&EntryPath::parse(&target)?)?).ok_or_else(lost)? {
                same @ Entry { kind: Kind::File(_), .. } => Ok(same.clone()),
                Entry { kind: Kind::Folder | Kind::Link(_), .. } => Err(lost()),
            };
        }
        if kind.is_file() {
            let size = from.size();
            self.left = self.left.checked_sub(size).ok_or_else(|| self.limit("bytes", self.limits.bytes))?;
            return Ok(Entry::content(meta, self.spill.take(from, size)?));
        }
        let kind = if kind.is_character_special() || kind.is_block_special() { "device" } else { "special entry" };
        Err(DebError::Special { path: path.to_string(), kind })
    }

    fn meta(&self, header: &tar::Header) -> Result<Meta, DebError> {
        let id = |id: io::Result<u64>| {
            u32::try_from(id.map_err(inner(self.member))?)
                .map_err(|_| inner(self.member)(io::Error::other("an owner is out of range")))
        };
        Ok(Meta {
            mode: header.mode().map_err(inner(self.member))? & 0o7777,
            uid: id(header.uid())?,
            gid: id(header.gid())?,
            mtime: header.mtime().map_err(inner(self.member))?,
        })
    }

    fn text(&self, bytes: &[u8]) -> Result<String, DebError> {
        String::from_utf8(bytes.to_vec()).map_err(|_| inner(self.member)(io::Error::other("a path is not UTF-8")))
    }

    fn limit(&self, what: &'static str, limit: u64) -> DebError {
        DebError::Limit { member: self.member.to_owned(), what, limit }
    }
}

/// Where a path lies once `/bin`, `/lib` and `/sbin` are links into `/usr`, which they are in every root we make.
fn merged_usr(path: &EntryPath) -> Result<EntryPath, PathError> {
    let (first, rest) = path.as_str().split_once('/').unwrap_or((path.as_str(), ""));
    match first {
        "bin" | "sbin" | "lib" | "lib32" | "lib64" | "libx32" if !rest.is_empty() => {
            EntryPath::parse(&format!("usr/{first}/{rest}"))
        }
        _ => Ok(path.clone()),
    }
}

fn gather(tree: &FileTree, facts: &mut PackageFacts) -> Result<(), DebError> {
    for (path, entry) in tree.iter() {
        facts.latest = facts.latest.max(entry.meta.mtime);
        if matches!(entry.kind, Kind::Folder) {
            continue;
        }
        if PackageFacts::names(path.as_str()) {
            facts.programs.insert(path.to_string());
        }
        if let Kind::File(content) = &entry.kind
            && PackageFacts::reads(path.as_str())
        {
            let content = Arc::clone(content);
            let bytes = content.to_vec().map_err(|cause| ContentError::Io { size: content.size(), cause })?;
            facts.files.insert(path.to_string(), bytes);
        }
    }
    Ok(())
}
