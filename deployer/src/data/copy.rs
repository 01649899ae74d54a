//! A copied tree: works on every file system, instant on none. Blocks are shared where the file system has
//! reflinks (xfs, btrfs), so that only the number of files costs.
//!
//! Side effects: copies trees beside the live data, exchanges paths. A copy becomes visible under its name only
//! when it is whole and durable; a half-made one lies under a dotted name and is begun anew.

use std::fs;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, RenameFlags, StatxFlags};

use super::place::{self, Place, io};
use super::{DataDriver, DataError, DataName, Dataset, Done, Exchange, Holdings, Identity, Probed, tree};

/// The driver.
#[derive(Debug, Default)]
pub struct Copy(());

impl Copy {
    /// The driver; it keeps nothing.
    pub fn new() -> Self {
        Self(())
    }

    fn copy(place: &Place, from: &Path, to: &Path, name: &DataName) -> Result<Done, DataError> {
        if to.exists() {
            return Ok(Done { identity: identity(to)?, changed: false });
        }
        let unfinished = place.unfinished(name);
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(|cause| io("clear the half-made copy", &unfinished, cause))?;
        }
        if let Err(error) = tree::copy(from, &unfinished) {
            // A full disk must not be left full by our own half copy.
            drop(fs::remove_dir_all(&unfinished));
            return Err(error);
        }
        rustix::fs::renameat_with(CWD, &unfinished, CWD, to, RenameFlags::NOREPLACE)
            .map_err(|cause| io("name the copy", to, cause.into()))?;
        place.settle()?;
        Ok(Done { identity: identity(to)?, changed: true })
    }
}

impl DataDriver for Copy {
    fn probe(&self, dataset: &Dataset) -> Result<Probed, DataError> {
        let place = Place::of(dataset);
        let made = !dataset.path.exists();
        if made {
            place.found(dataset, |at| fs::create_dir(at).map_err(|cause| io("create", at, cause)))?;
        }
        if !dataset.path.is_dir() {
            return Err(unfit(dataset, "it is not a folder".to_owned()));
        }
        place.make()?;
        let shares_blocks = tree::shares_blocks(&place)?;
        let snapshot_bytes = if shares_blocks { 0 } else { tree::size(&dataset.path) };
        Ok(Probed { instant: false, free_bytes: place::free_bytes(&dataset.path)?, snapshot_bytes, made })
    }

    fn snapshot(&self, dataset: &Dataset, name: &DataName) -> Result<Done, DataError> {
        let place = Place::of(dataset);
        Self::copy(&place, place.live(), &place.snapshot(name), name)
    }

    fn branch(&self, dataset: &Dataset, from: &DataName, name: &DataName) -> Result<Done, DataError> {
        let place = Place::of(dataset);
        let source = place.snapshot(from);
        if !source.exists() {
            return Err(DataError::Missing { dataset: dataset.name.clone(), kind: "snapshot", name: from.clone() });
        }
        Self::copy(&place, &source, &place.timeline(name), name)
    }

    fn exchange(&self, dataset: &Dataset, exchange: &Exchange) -> Result<Done, DataError> {
        Place::of(dataset).exchange(dataset, exchange, identity)
    }

    fn list(&self, dataset: &Dataset) -> Result<Holdings, DataError> {
        Place::of(dataset).list(identity)
    }
}

/// Inode and birth of the folder: they stay when it is renamed, and nothing has to be written into the data.
fn identity(path: &Path) -> Result<Identity, DataError> {
    let mask = StatxFlags::INO | StatxFlags::BTIME;
    let stat = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, mask)
        .map_err(|cause| io("look at", path, cause.into()))?;
    Ok(Identity::new(format!("{}-{}.{:09}", stat.stx_ino, stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)))
}

fn unfit(dataset: &Dataset, why: String) -> DataError {
    DataError::Unfit { driver: "copy", dataset: dataset.name.clone(), path: dataset.path.clone(), why }
}
