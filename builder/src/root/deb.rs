//! Reads one `.deb`: its control paragraph and scripts as facts, its data as a tree. Owns the reading; large files go
//! to the given spill.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use super::ar::{ArError, ArReader};
use super::facts::PackageFacts;
use super::limits::{Limits, TarTreeError, broken};
use super::members::each;
use super::tar_tree::read_tar_tree;
use crate::assembly::{ContentError, Entry, EntryPath, FileTree, Kind, PathError, Spill};

/// Control files of one package, links and folders among them.
const CONTROL_ENTRIES_MAX: usize = 1000;
/// Bytes of all files that finishers read: certificates are the most of it, a quarter of a megabyte.
const FACT_BYTES_MAX: u64 = 16 << 20;

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
    /// One of its inner archives.
    #[error(transparent)]
    Inner(#[from] TarTreeError),
}

/// Reads a package from `from`.
pub fn read_deb(from: impl Read, spill: &Spill, limits: &Limits) -> Result<Deb, DebError> {
    let mut archive = ArReader::new(from).map_err(DebError::Outer)?;
    let next = |archive: &mut ArReader<_>| archive.next_member().map_err(DebError::Outer);
    match next(&mut archive)? {
        Some((name, size)) if name == "debian-binary" => {
            let mut version = String::new();
            (&mut archive).take(16).read_to_string(&mut version).map_err(broken(&name))?;
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
            let mut facts = PackageFacts::new(control, scripts);
            if facts.name.is_empty() {
                return Err(DebError::Members("its control file names no package".into()));
            }
            let data = decoder(&name, &mut archive, limits)?;
            let tree = read_tar_tree(&name, data, spill, limits, merged_usr)?;
            gather(&name, &tree, &mut facts)?;
            return Ok(Deb { facts, md5sums, tree });
        } else if !name.starts_with('_') {
            return Err(DebError::Members(format!("unknown member `{name}`")));
        }
    }
}

fn decoder<'a>(name: &str, from: impl Read + 'a, limits: &Limits) -> Result<Box<dyn Read + 'a>, DebError> {
    Ok(match name.split_once(".tar").map(|(_, suffix)| suffix) {
        Some("") => Box::new(from),
        Some(".gz") => Box::new(flate2::read::MultiGzDecoder::new(from)),
        Some(".xz") => {
            let stream =
                liblzma::stream::Stream::new_stream_decoder(limits.decoder_memory, liblzma::stream::CONCATENATED)
                    .map_err(|error| broken(name)(error.into()))?;
            Box::new(liblzma::read::XzDecoder::new_stream(from, stream))
        }
        Some(".zst") => {
            let mut decoder = zstd::stream::read::Decoder::new(from).map_err(broken(name))?;
            // 128 MiB windows: what dpkg itself takes.
            decoder.window_log_max(27).map_err(broken(name))?;
            Box::new(decoder)
        }
        _ => return Err(DebError::Members(format!("`{name}` is packed in an unknown way"))),
    })
}

type Control = (String, BTreeMap<String, String>, Option<String>);

fn read_control(member: &str, from: impl Read, limits: &Limits) -> Result<Control, DebError> {
    let limits = Limits { bytes: limits.control_bytes, entries: CONTROL_ENTRIES_MAX, ..*limits };
    let mut left = limits.bytes;
    let (mut control, mut scripts, mut md5sums) = (None, BTreeMap::new(), None);
    each(member, from, &limits, |entry, content| {
        if !entry.header.entry_type().is_file() {
            return Ok(());
        }
        let name = entry.path.trim_start_matches("./").to_owned();
        let limit = || TarTreeError::Limit { member: member.to_owned(), what: "bytes", limit: limits.bytes };
        left = left.checked_sub(entry.size).ok_or_else(limit)?;
        let mut bytes = Vec::new();
        content.take(entry.size).read_to_end(&mut bytes).map_err(broken(member))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let before = match name.as_str() {
            "control" => control.replace(text),
            "md5sums" => md5sums.replace(text),
            "preinst" | "postinst" | "triggers" | "conffiles" => scripts.insert(name.clone(), text),
            _ => None,
        };
        if before.is_some() { Err(TarTreeError::Twice { path: name }) } else { Ok(()) }
    })?;
    let control = control.ok_or_else(|| DebError::Members(format!("`{member}` has no control file")))?;
    Ok((control, scripts, md5sums))
}

/// Where a path lies in every root we make, in which `/bin`, `/lib`, `/lib64` and `/sbin` are links into `/usr`; `None`
/// for those links themselves, which are the finisher's.
pub(super) fn merged_usr(path: &EntryPath, _entry: &Entry) -> Result<Option<EntryPath>, PathError> {
    merged_place(path)
}

/// The same for a path that somebody else declares.
pub fn merged_place(path: &EntryPath) -> Result<Option<EntryPath>, PathError> {
    let (first, rest) = path.as_str().split_once('/').unwrap_or((path.as_str(), ""));
    match first {
        "bin" | "sbin" | "lib" | "lib64" if rest.is_empty() => Ok(None),
        "bin" | "sbin" | "lib" | "lib64" => EntryPath::parse(&format!("usr/{first}/{rest}")).map(Some),
        // Debian's own links for programs of the time before `/run`.
        "var" if rest.starts_with("run/") || rest.starts_with("lock/") => {
            let place = rest.strip_prefix("run/").map_or_else(|| format!("run/{rest}"), |rest| format!("run/{rest}"));
            EntryPath::parse(&place).map(Some)
        }
        _ => Ok(Some(path.clone())),
    }
}

fn gather(member: &str, tree: &FileTree, facts: &mut PackageFacts) -> Result<(), TarTreeError> {
    let mut left = FACT_BYTES_MAX;
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
            left = left.checked_sub(content.size()).ok_or_else(|| TarTreeError::Limit {
                member: member.to_owned(),
                what: "bytes that are read for users and certificates",
                limit: FACT_BYTES_MAX,
            })?;
            let bytes = content.to_vec().map_err(|cause| ContentError::Io { size: content.size(), cause })?;
            facts.files.insert(path.to_string(), bytes);
        }
    }
    Ok(())
}
