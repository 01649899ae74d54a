//! A tree as a tar stream, byte for byte as the contract says. Writes to the given writer and to nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::Arc;

use super::content::Content;
use super::path::EntryPath;
use super::tree::{Entry, FileTree, Kind, Meta};

const BLOCK: usize = 512;
/// Longest name in a ustar header; the `prefix` field is never used, so that there is one way to write a path.
const NAME_MAX: usize = 100;
/// Largest number of an octal field of seven digits: ids.
const ID_MAX: u32 = 0o7_777_777;
/// Largest number of an octal field of eleven digits: sizes and times.
const SIZE_MAX: u64 = 0o77_777_777_777;
/// Folders that every Debian system has with a meaning of their own, whoever declares them.
const SPECIAL_FOLDERS: [(&str, u32, u32); 6] = [
    ("root", 0o700, 0),
    ("run/lock", 0o1777, 0),
    ("tmp", 0o1777, 0),
    ("var/local", 0o2775, 50),
    ("var/mail", 0o2775, 8),
    ("var/tmp", 0o1777, 0),
];

/// Writes the whole tree. Times after `latest` become `latest`.
pub fn write_tarball(tree: &FileTree, latest: u64, to: &mut dyn Write) -> io::Result<()> {
    let mut first_names: BTreeMap<*const Content, &EntryPath> = BTreeMap::new();
    let mut written: BTreeSet<EntryPath> = BTreeSet::new();
    for (path, entry) in tree.iter() {
        for parent in missing_parents(path, &written) {
            header(to, &parent, &folder_meta(&parent, Meta::root(0o755, 0)), &BTreeMap::new(), b'5', 0, "")?;
            written.insert(parent);
        }
        let meta = Meta { mtime: entry.meta.mtime.min(latest), ..entry.meta };
        match &entry.kind {
            Kind::Folder => {
                header(to, path, &folder_meta(path, Meta { mtime: 0, ..meta }), &entry.xattrs, b'5', 0, "")?;
                written.insert(path.clone());
            }
            Kind::Link(target) => header(to, path, &Meta { mode: 0o777, ..meta }, &entry.xattrs, b'2', 0, target)?,
            Kind::File(content) => {
                if let Some(first) = first_names.get(&Arc::as_ptr(content)) {
                    header(to, path, &meta, &entry.xattrs, b'1', 0, first.as_str())?;
                } else {
                    file(to, path, &meta, entry, content)?;
                    first_names.insert(Arc::as_ptr(content), path);
                }
            }
        }
    }
    to.write_all(&[0; 2 * BLOCK])
}

fn missing_parents(path: &EntryPath, written: &BTreeSet<EntryPath>) -> Vec<EntryPath> {
    let mut missing = Vec::new();
    let mut parent = path.parent();
    while let Some(folder) = parent.filter(|folder| !written.contains(folder)) {
        parent = folder.parent();
        missing.push(folder);
    }
    missing.reverse();
    missing
}

fn folder_meta(path: &EntryPath, meta: Meta) -> Meta {
    match SPECIAL_FOLDERS.iter().find(|(special, _, _)| *special == path.as_str()) {
        Some((_, mode, gid)) => Meta { mode: *mode, uid: 0, gid: *gid, mtime: meta.mtime },
        None => meta,
    }
}

fn file(to: &mut dyn Write, path: &EntryPath, meta: &Meta, entry: &Entry, content: &Content) -> io::Result<()> {
    let size = content.size();
    header(to, path, meta, &entry.xattrs, b'0', size, "")?;
    content.copy_to(to)?;
    pad(to, size)
}

fn header(
    to: &mut dyn Write,
    path: &EntryPath,
    meta: &Meta,
    xattrs: &BTreeMap<String, Vec<u8>>,
    kind: u8,
    size: u64,
    target: &str,
) -> io::Result<()> {
    let mut name = path.as_str().to_owned();
    if kind == b'5' {
        name.push('/');
    }
    let records = records(&name, meta, xattrs, size, target);
    if !records.is_empty() {
        let length = records.len() as u64;
        to.write_all(&block("././@PaxHeader", &Meta::root(0o644, 0), b'x', length, ""))?;
        to.write_all(&records)?;
        pad(to, length)?;
    }
    to.write_all(&block(&name, meta, kind, size, target))
}

/// The PAX records that this entry needs, in order of their keys.
fn records(name: &str, meta: &Meta, xattrs: &BTreeMap<String, Vec<u8>>, size: u64, target: &str) -> Vec<u8> {
    let mut wanted: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (attribute, value) in xattrs {
        wanted.insert(format!("SCHILY.xattr.{attribute}"), value.clone());
    }
    if meta.gid > ID_MAX {
        wanted.insert("gid".into(), meta.gid.to_string().into());
    }
    if target.len() > NAME_MAX {
        wanted.insert("linkpath".into(), target.into());
    }
    if name.len() > NAME_MAX {
        wanted.insert("path".into(), name.into());
    }
    if size > SIZE_MAX {
        wanted.insert("size".into(), size.to_string().into());
    }
    if meta.uid > ID_MAX {
        wanted.insert("uid".into(), meta.uid.to_string().into());
    }
    wanted.iter().flat_map(|(key, value)| record(key, value)).collect()
}

/// `<length> <key>=<value>\n`, where the length counts itself.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    let mut bytes = format!("{length} {key}=").into_bytes();
    bytes.extend_from_slice(value);
    bytes.push(b'\n');
    bytes
}

fn block(name: &str, meta: &Meta, kind: u8, size: u64, target: &str) -> [u8; BLOCK] {
    let mut block = [0u8; BLOCK];
    text(&mut block[0..100], name);
    octal(&mut block[100..108], u64::from(meta.mode & 0o7777));
    octal(&mut block[108..116], u64::from(if meta.uid > ID_MAX { 0 } else { meta.uid }));
    octal(&mut block[116..124], u64::from(if meta.gid > ID_MAX { 0 } else { meta.gid }));
    octal(&mut block[124..136], if size > SIZE_MAX { 0 } else { size });
    octal(&mut block[136..148], meta.mtime.min(SIZE_MAX));
    block[156] = kind;
    text(&mut block[157..257], target);
    block[257..265].copy_from_slice(b"ustar\x0000");
    // Devices have numbers, nothing else; the fields are there all the same.
    octal(&mut block[329..337], 0);
    octal(&mut block[337..345], 0);
    block[148..156].copy_from_slice(b"        ");
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut block[148..155], sum);
    block[154] = 0;
    block
}

/// What does not fit is in a PAX record, and cut here at a character's end.
fn text(field: &mut [u8], value: &str) {
    let mut end = value.len().min(field.len());
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    field[..end].copy_from_slice(&value.as_bytes()[..end]);
}

fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let written = format!("{value:0digits$o}");
    field[..digits].copy_from_slice(&written.as_bytes()[written.len() - digits..]);
}

fn pad(to: &mut dyn Write, size: u64) -> io::Result<()> {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    if over == 0 { Ok(()) } else { to.write_all(&[0; BLOCK][over..]) }
}
