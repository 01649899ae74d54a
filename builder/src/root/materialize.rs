//! Writes a tree into a fresh folder, for a toolchain's root. Owns that folder; nothing is written through a link,
//! because the tree is resolved first and each folder is made by us.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::assembly::{Content, EntryPath, FileTree, Kind, TreeError};

/// Why a tree was not written.
#[derive(Debug, thiserror::Error)]
pub enum MaterializeError {
    /// The tree contradicts itself.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The file system said no.
    #[error("cannot write `{}`", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Cause.
        #[source]
        cause: io::Error,
    },
}

/// Writes `tree` below `folder`, which must be empty and of which nobody else knows. Set-id bits are dropped. Owners are
/// kept if we may give files away, else everything is ours.
pub fn materialize(tree: FileTree, folder: &Path) -> Result<(), MaterializeError> {
    let tree = tree.resolved()?;
    let give_away = rustix::process::geteuid().is_root();
    let mut written: BTreeMap<*const Content, PathBuf> = BTreeMap::new();
    let mut folders = Vec::new();
    let mut made = BTreeSet::new();
    open(folder).map_err(|cause| MaterializeError::Io { path: folder.to_owned(), cause })?;
    for (path, entry) in tree.iter() {
        let at = folder.join(path.as_str());
        let failed = |cause| MaterializeError::Io { path: at.clone(), cause };
        make_parents(folder, path, &mut made).map_err(failed)?;
        match &entry.kind {
            Kind::Folder => {
                make_folder(folder, path, &mut made).map_err(failed)?;
                folders.push((at.clone(), entry.meta.mode));
            }
            Kind::Link(target) => symlink(target, &at).map_err(failed)?,
            Kind::File(content) => {
                // Hard links are rare: only content that is shared is looked up.
                let shared = Arc::strong_count(content) > 1;
                if let Some(first) = written.get(&Arc::as_ptr(content)).filter(|_| shared) {
                    fs::hard_link(first, &at).map_err(failed)?;
                    continue;
                }
                let mut file = File::create_new(&at).map_err(failed)?;
                content.copy_to(&mut file).map_err(failed)?;
                file.set_permissions(Permissions::from_mode(entry.meta.mode & 0o777)).map_err(failed)?;
                let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(entry.meta.mtime);
                file.set_modified(time).map_err(failed)?;
                if shared {
                    written.insert(Arc::as_ptr(content), at.clone());
                }
            }
        }
        if give_away && (entry.meta.uid, entry.meta.gid) != (0, 0) {
            lchown(&at, Some(entry.meta.uid), Some(entry.meta.gid)).map_err(failed)?;
        }
    }
    // Last, so that a folder without the write bit does not stop us.
    for (at, mode) in folders.into_iter().rev() {
        fs::set_permissions(&at, Permissions::from_mode(mode & 0o1777))
            .map_err(|cause| MaterializeError::Io { path: at.clone(), cause })?;
    }
    Ok(())
}

fn make_parents(top: &Path, path: &EntryPath, made: &mut BTreeSet<EntryPath>) -> io::Result<()> {
    match path.parent() {
        Some(parent) => make_folder(top, &parent, made),
        None => Ok(()),
    }
}

/// A folder with its parents, open to readers whatever the umask of whoever builds.
fn make_folder(top: &Path, path: &EntryPath, made: &mut BTreeSet<EntryPath>) -> io::Result<()> {
    if made.contains(path) {
        return Ok(());
    }
    make_parents(top, path, made)?;
    let at = top.join(path.as_str());
    fs::create_dir(&at)?;
    made.insert(path.clone());
    open(&at)
}

fn open(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o755))
}
