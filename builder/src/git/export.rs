//! A commit's files written into a fresh folder: fixed modes, fixed times, links that stay inside.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::command::GitError;
use super::links;
use super::source::{Commit, Source};
use super::tree::{EntryKind, Tree, TreeEntry, is_lfs_pointer, refused};

/// Bytes of a link's target; the kernel's own limit.
const LINK_BYTES_MAX: u64 = 4095;
/// The start of a file in which a pointer of LFS is looked for.
const POINTER_LOOK_BYTES: u64 = 1024;

impl Source {
    /// Writes the commit's files into `folder`, which must be empty or absent. Files are 0644 or 0755, folders 0755, and
    /// every time is the commit's. `folder` must be in a place that nobody else writes to.
    pub fn export(&self, commit: &Commit, folder: &Path) -> Result<Tree, GitError> {
        let tree = self.tree(commit)?;
        fs::create_dir_all(folder).map_err(io_at("create", folder))?;
        if fs::read_dir(folder).map_err(io_at("list", folder))?.next().is_some() {
            return Err(GitError::Io {
                action: "export into",
                path: folder.to_owned(),
                cause: io::ErrorKind::DirectoryNotEmpty.into(),
            });
        }
        let links = self.links(&tree)?;
        links::check(&links)?;
        let folders = folders(&tree);
        for inner in &folders {
            make_folder(&folder.join(inner))?;
        }
        let mut blobs = self.blobs()?;
        for entry in tree.entries().filter(|entry| entry.kind != EntryKind::Link) {
            let path = folder.join(&entry.path);
            let mut file = create(&path, entry)?;
            let mut small = Vec::new();
            if entry.size <= POINTER_LOOK_BYTES {
                blobs.copy(entry, &mut small)?;
                if is_lfs_pointer(&small) {
                    return Err(refused(&entry.path, "is a Git LFS pointer, whose bytes are not in the commit"));
                }
                file.write_all(&small).map_err(io_at("write", &path))?;
            } else {
                blobs.copy(entry, &mut file)?;
            }
            stamp(&path, commit)?;
        }
        // Links come last, so that no file is ever written through one.
        for (path, target) in &links {
            let path = folder.join(path);
            std::os::unix::fs::symlink(target, &path).map_err(io_at("link", &path))?;
            stamp(&path, commit)?;
        }
        for inner in folders.iter().rev() {
            stamp(&folder.join(inner), commit)?;
        }
        fs::set_permissions(folder, Permissions::from_mode(0o755)).map_err(io_at("set the mode of", folder))?;
        stamp(folder, commit)?;
        Ok(tree)
    }

    fn links(&self, tree: &Tree) -> Result<BTreeMap<String, String>, GitError> {
        let mut links = BTreeMap::new();
        let mut blobs = None;
        for entry in tree.entries().filter(|entry| entry.kind == EntryKind::Link) {
            if entry.size > LINK_BYTES_MAX {
                return Err(refused(&entry.path, "is a link with a target of more than 4095 bytes"));
            }
            let mut target = Vec::new();
            let blobs = match &mut blobs {
                Some(blobs) => blobs,
                none => none.insert(self.blobs()?),
            };
            blobs.copy(entry, &mut target)?;
            let target =
                String::from_utf8(target).map_err(|_| refused(&entry.path, "is a link to a name that is not UTF-8"))?;
            links.insert(entry.path.clone(), target);
        }
        Ok(links)
    }
}

/// Every folder that an entry lies in, parents first.
fn folders(tree: &Tree) -> BTreeSet<String> {
    let of = |entry: &TreeEntry| {
        entry.path.match_indices('/').map(|(at, _)| entry.path[..at].to_owned()).collect::<Vec<_>>()
    };
    tree.entries().flat_map(of).collect()
}

fn io_at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> GitError {
    let path = path.to_owned();
    move |cause| GitError::Io { action, path, cause }
}

fn make_folder(path: &Path) -> Result<(), GitError> {
    fs::create_dir(path).map_err(io_at("create", path))?;
    fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(io_at("set the mode of", path))
}

fn create(path: &Path, entry: &TreeEntry) -> Result<File, GitError> {
    let mode = if entry.kind == EntryKind::Executable { 0o755 } else { 0o644 };
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(io_at("create", path))?;
    // The mode of `open` passes through the umask of whoever builds.
    file.set_permissions(Permissions::from_mode(mode)).map_err(io_at("set the mode of", path))?;
    Ok(file)
}

fn stamp(path: &Path, commit: &Commit) -> Result<(), GitError> {
    let time = Timespec { tv_sec: commit.time.as_second(), tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|cause| io_at("set the time of", path)(cause.into()))
}
