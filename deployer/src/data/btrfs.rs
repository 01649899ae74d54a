//! btrfs: a dataset is one subvolume; a snapshot is one transaction of the file system.
//!
//! Side effects: runs `btrfs`, makes subvolumes beside the live one, exchanges paths.
//!
//! Rejected designs: `fsfreeze` before the snapshot (a frozen btrfs blocks its own snapshot); nested subvolumes
//! (a snapshot does not descend, so data would be lost without a word: refused by `probe`); the ioctls by hand
//! (they need unsafe code; the tool costs 3 ms); `btrfs subvolume show` for every identity (callers wait for it, and
//! on a busy machine each start of a program is tens of milliseconds).

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use super::place::{self, Place, io};
use super::{DataDriver, DataError, DataName, Dataset, Done, Exchange, Holdings, Identity, Probed};

/// `statfs` type of btrfs.
const BTRFS_MAGIC: u64 = 0x9123_683E;
/// Inode number of every subvolume's root.
const SUBVOLUME_INODE: u64 = 256;

/// The driver.
#[derive(Debug, Default)]
pub struct Btrfs(());

impl Btrfs {
    /// The driver; it keeps nothing.
    pub fn new() -> Self {
        Self(())
    }
}

impl DataDriver for Btrfs {
    fn probe(&self, dataset: &Dataset) -> Result<Probed, DataError> {
        let place = Place::of(dataset);
        let parent = dataset.path.parent().unwrap_or(Path::new("/"));
        let stat = rustix::fs::statfs(parent).map_err(|cause| io("measure", parent, cause.into()))?;
        if u64::try_from(stat.f_type).ok() != Some(BTRFS_MAGIC) {
            return Err(unfit(dataset, format!("{} is not on btrfs; use `driver: copy`", parent.display())));
        }
        let made = !dataset.path.exists();
        if made {
            place.found(dataset, |at| btrfs(&["subvolume", "create"], &[at]).map(drop))?;
        }
        if !is_subvolume(&dataset.path)? {
            let path = dataset.path.display();
            return Err(unfit(
                dataset,
                format!("it is a plain folder; move it aside and run `btrfs subvolume create {path}`"),
            ));
        }
        let nested = btrfs(&["subvolume", "list", "-o"], &[&dataset.path])?;
        if let Some(first) = nested.lines().next().and_then(|line| line.rsplit_once(" path ")) {
            return Err(unfit(
                dataset,
                format!("the subvolume {} is nested in it, and a snapshot would leave it out", first.1),
            ));
        }
        place.make()?;
        Ok(Probed { instant: true, free_bytes: place::free_bytes(&dataset.path)?, snapshot_bytes: 0, made })
    }

    fn snapshot(&self, dataset: &Dataset, name: &DataName) -> Result<Done, DataError> {
        let place = Place::of(dataset);
        let target = place.snapshot(name);
        let changed = !target.exists();
        if changed {
            // The tool returns when the transaction is committed: the snapshot is whole and durable, or absent.
            btrfs(&["subvolume", "snapshot", "-r"], &[place.live(), &target])?;
        }
        Ok(Done { identity: identity(&target)?, changed })
    }

    fn branch(&self, dataset: &Dataset, from: &DataName, name: &DataName) -> Result<Done, DataError> {
        let place = Place::of(dataset);
        let (source, target) = (place.snapshot(from), place.timeline(name));
        if !source.exists() {
            return Err(DataError::Missing { dataset: dataset.name.clone(), kind: "snapshot", name: from.clone() });
        }
        let changed = !target.exists();
        if changed {
            btrfs(&["subvolume", "snapshot"], &[&source, &target])?;
        }
        // What this call made is of that source; of what was found it has to be seen.
        if !changed && parent(&target)?.as_deref() != Some(uuid(&source)?.as_str()) {
            return Err(DataError::Taken { dataset: dataset.name.clone(), name: name.clone() });
        }
        Ok(Done { identity: identity(&target)?, changed })
    }

    fn exchange(&self, dataset: &Dataset, exchange: &Exchange) -> Result<Done, DataError> {
        Place::of(dataset).exchange(dataset, exchange, identity)
    }

    fn list(&self, dataset: &Dataset) -> Result<Holdings, DataError> {
        Place::of(dataset).list(identity)
    }
}

/// The number of the file system with that of the subvolume in it, as the kernel mixes them. Numbers of subvolumes are
/// never given twice, and a subvolume keeps its own whatever it is called.
fn identity(path: &Path) -> Result<Identity, DataError> {
    if !is_subvolume(path)? {
        let command = format!("btrfs subvolume show {}", path.display());
        return Err(DataError::Tool { command, stderr: "it is no subvolume".to_owned() });
    }
    let stat = rustix::fs::statvfs(path).map_err(|cause| io("measure", path, cause.into()))?;
    Ok(Identity::new(format!("btrfs-{:016x}", stat.f_fsid)))
}

fn uuid(path: &Path) -> Result<String, DataError> {
    let missing = || DataError::Tool {
        command: format!("btrfs subvolume show {}", path.display()),
        stderr: "it names no UUID".to_owned(),
    };
    shown(path, "UUID")?.ok_or_else(missing)
}

/// The UUID of what it was made from; nothing for one that was not made from another.
fn parent(path: &Path) -> Result<Option<String>, DataError> {
    shown(path, "Parent UUID")
}

fn shown(path: &Path, field: &str) -> Result<Option<String>, DataError> {
    let text = btrfs(&["subvolume", "show"], &[path])?;
    let mut fields = text.lines().filter_map(|line| line.trim().split_once(':'));
    Ok(fields.find(|(key, _)| *key == field).map(|(_, value)| value.trim().to_owned()).filter(|value| value != "-"))
}

fn is_subvolume(path: &Path) -> Result<bool, DataError> {
    let metadata = std::fs::symlink_metadata(path).map_err(|cause| io("look at", path, cause))?;
    Ok(metadata.is_dir() && metadata.ino() == SUBVOLUME_INODE)
}

fn btrfs(verb: &[&str], paths: &[&Path]) -> Result<String, DataError> {
    let words: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let command = || format!("btrfs {} {}", verb.join(" "), words.join(" "));
    let output = Command::new("btrfs")
        .args(verb)
        .args(paths)
        .env("LC_ALL", "C")
        .output()
        .map_err(|cause| DataError::Tool { command: command(), stderr: format!("cannot run it: {cause}") })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(DataError::Tool { command: command(), stderr });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn unfit(dataset: &Dataset, why: String) -> DataError {
    DataError::Unfit { driver: "btrfs", dataset: dataset.name.clone(), path: dataset.path.clone(), why }
}
