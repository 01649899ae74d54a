//! Copies a tree as it is: owner, mode, times, extended attributes, hard links, holes; reflinks where they exist.
//! Every file and folder is durable when `copy` returns.

use std::collections::HashMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, SeekFrom, Timespec, Timestamps};

use super::DataError;
use super::place::{Place, io};

/// Copies the tree at `from` to `to`, which must not exist.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), DataError> {
    // Several names of one file stay one file: the first name of each inode that has more than one.
    let mut linked: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut folders = Vec::new();
    for entry in walkdir::WalkDir::new(from).follow_links(false) {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(from).to_owned();
            io("walk", &path, error.into())
        })?;
        let source = entry.path();
        let target = match source.strip_prefix(from) {
            Ok(inner) if !inner.as_os_str().is_empty() => to.join(inner),
            _ => to.to_owned(),
        };
        let metadata = fs::symlink_metadata(source).map_err(|cause| io("look at", source, cause))?;
        if metadata.is_dir() {
            fs::create_dir(&target).map_err(|cause| io("create", &target, cause))?;
            folders.push((source.to_owned(), target, metadata));
            continue;
        }
        let inode = (metadata.dev(), metadata.ino());
        if metadata.nlink() > 1
            && let Some(first) = linked.get(&inode)
        {
            fs::hard_link(first, &target).map_err(|cause| io("link", &target, cause))?;
            continue;
        }
        one(source, &target, &metadata)?;
        if metadata.nlink() > 1 {
            linked.insert(inode, target);
        }
    }
    // Folders last, deepest first: writing into them changed their times, and a read-only mode would have been in the way.
    for (source, target, metadata) in folders.iter().rev() {
        dress(source, target, metadata)?;
        sync(target)?;
    }
    Ok(())
}

/// Bytes that a plain copy of the tree takes.
pub(super) fn size(path: &Path) -> u64 {
    let mut bytes = 0u64;
    for entry in walkdir::WalkDir::new(path).follow_links(false) {
        // A file that a running program removed meanwhile takes no space.
        if let Ok(metadata) = entry.map_err(std::io::Error::from).and_then(|entry| fs::symlink_metadata(entry.path())) {
            bytes = bytes.saturating_add(metadata.blocks().saturating_mul(512));
        }
    }
    bytes
}

/// Finds out by doing whether the file system shares blocks between files.
pub(super) fn shares_blocks(place: &Place) -> Result<bool, DataError> {
    let folder = place.live().parent().unwrap_or(Path::new("/"));
    let make = || -> std::io::Result<bool> {
        let source = tempfile::tempfile_in(folder)?;
        std::io::Write::write_all(&mut &source, &[1; 4096])?;
        let target = tempfile::tempfile_in(folder)?;
        Ok(rustix::fs::ioctl_ficlone(&target, &source).is_ok())
    };
    make().map_err(|cause| io("try reflinks in", folder, cause))
}

fn one(source: &Path, target: &Path, metadata: &Metadata) -> Result<(), DataError> {
    let kind = metadata.file_type();
    if kind.is_symlink() {
        let link = fs::read_link(source).map_err(|cause| io("read the link", source, cause))?;
        std::os::unix::fs::symlink(link, target).map_err(|cause| io("create", target, cause))?;
    } else if kind.is_file() {
        content(source, target, metadata)?;
    } else if kind.is_fifo() || kind.is_socket() {
        let kind = if kind.is_fifo() { FileType::Fifo } else { FileType::Socket };
        rustix::fs::mknodat(CWD, target, kind, Mode::RUSR | Mode::WUSR, 0)
            .map_err(|cause| io("create", target, cause.into()))?;
    } else {
        let cause = std::io::Error::other("a device file is no data");
        return Err(io("copy", source, cause));
    }
    dress(source, target, metadata)?;
    if metadata.is_file() {
        sync(target)?;
    }
    Ok(())
}

/// The bytes: shared if possible, else copied without filling holes.
fn content(source: &Path, target: &Path, metadata: &Metadata) -> Result<(), DataError> {
    let from = File::open(source).map_err(|cause| io("read", source, cause))?;
    let to = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)
        .map_err(|cause| io("create", target, cause))?;
    if rustix::fs::ioctl_ficlone(&to, &from).is_ok() {
        return Ok(());
    }
    let length = metadata.len();
    to.set_len(length).map_err(|cause| io("size", target, cause))?;
    let mut at = 0;
    while at < length {
        let start = match rustix::fs::seek(&from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(cause) => return Err(io("read", source, cause.into())),
        };
        let end = rustix::fs::seek(&from, SeekFrom::Hole(start)).map_err(|cause| io("read", source, cause.into()))?;
        range(&from, &to, start, end).map_err(|cause| io("copy to", target, cause))?;
        at = end;
    }
    Ok(())
}

fn range(from: &File, to: &File, start: u64, end: u64) -> std::io::Result<()> {
    let (mut read_at, mut write_at) = (start, start);
    while read_at < end {
        let length = usize::try_from(end - read_at).unwrap_or(usize::MAX);
        if rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), length)? == 0 {
            // The source got shorter under us; the rest is a hole.
            break;
        }
    }
    Ok(())
}

/// Owner, mode, extended attributes and times.
fn dress(source: &Path, target: &Path, metadata: &Metadata) -> Result<(), DataError> {
    std::os::unix::fs::lchown(target, Some(metadata.uid()), Some(metadata.gid()))
        .map_err(|cause| io("own", target, cause))?;
    if !metadata.file_type().is_symlink() {
        for name in xattr::list(source).map_err(|cause| io("read the attributes of", source, cause))? {
            if let Some(value) =
                xattr::get(source, &name).map_err(|cause| io("read the attributes of", source, cause))?
            {
                xattr::set(target, &name, &value).map_err(|cause| io("write the attributes of", target, cause))?;
            }
        }
        fs::set_permissions(target, metadata.permissions()).map_err(|cause| io("set the mode of", target, cause))?;
    }
    let at = |seconds: i64, nanoseconds: i64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps {
        last_access: at(metadata.atime(), metadata.atime_nsec()),
        last_modification: at(metadata.mtime(), metadata.mtime_nsec()),
    };
    rustix::fs::utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|cause| io("set the times of", target, cause.into()))
}

fn sync(path: &Path) -> Result<(), DataError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|cause| io("sync", path, cause))
}
