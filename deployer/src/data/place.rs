//! Where a dataset's snapshots and timelines lie, and the steps that every directory driver shares: listing,
//! the atomic exchange, durability of a rename. The only room of `data` with path grammar.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};

use super::{DataError, DataName, Dataset, Done, Exchange, Held, Holdings, Identity};

/// Live data that are not at their place yet.
const NEWBORN: &str = ".newborn";

/// The folders of one dataset.
pub(super) struct Place {
    live: PathBuf,
    beside: PathBuf,
}

impl Place {
    /// The folders for a dataset; nothing is touched.
    pub(super) fn of(dataset: &Dataset) -> Self {
        let mut beside = dataset.path.clone().into_os_string();
        beside.push(".nebh");
        Self { live: dataset.path.clone(), beside: beside.into() }
    }

    /// The live data.
    pub(super) fn live(&self) -> &Path {
        &self.live
    }

    /// Makes the folders beside the live data.
    pub(super) fn make(&self) -> Result<(), DataError> {
        for folder in [self.snapshots(), self.timelines()] {
            fs::create_dir_all(&folder).map_err(|cause| io("create", &folder, cause))?;
        }
        self.settle()
    }

    /// Makes live data where there is none: made beside its place by `create`, given to the program that will write it,
    /// and only then put there, so that a crash leaves no live data that the program cannot write.
    pub(super) fn found(
        &self,
        dataset: &Dataset,
        create: impl FnOnce(&Path) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        self.make()?;
        let newborn = self.beside.join(NEWBORN);
        if !newborn.exists() {
            create(&newborn)?;
        }
        if let Some((user, group)) = dataset.owner {
            std::os::unix::fs::chown(&newborn, Some(user), Some(group)).map_err(|cause| io("own", &newborn, cause))?;
        }
        File::open(&newborn).and_then(|folder| folder.sync_all()).map_err(|cause| io("sync", &newborn, cause))?;
        rustix::fs::renameat_with(CWD, &newborn, CWD, &self.live, RenameFlags::NOREPLACE)
            .map_err(|cause| io("create", &self.live, cause.into()))?;
        self.settle()
    }

    /// Path of a snapshot.
    pub(super) fn snapshot(&self, name: &DataName) -> PathBuf {
        self.snapshots().join(name.as_str())
    }

    /// Path of a timeline that is not live.
    pub(super) fn timeline(&self, name: &DataName) -> PathBuf {
        self.timelines().join(name.as_str())
    }

    /// A place for what is not whole yet: names starting with a dot are never listed.
    pub(super) fn unfinished(&self, name: &DataName) -> PathBuf {
        self.beside.join(format!(".unfinished-{name}"))
    }

    fn snapshots(&self) -> PathBuf {
        self.beside.join("snap")
    }

    fn timelines(&self) -> PathBuf {
        self.beside.join("tl")
    }

    /// Everything that is held, by the driver's way of telling an identity.
    pub(super) fn list(&self, identity: impl Fn(&Path) -> Result<Identity, DataError>) -> Result<Holdings, DataError> {
        let held = |folder: PathBuf| -> Result<Vec<Held>, DataError> {
            let mut found = Vec::new();
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(found),
                Err(cause) => return Err(io("list", &folder, cause)),
            };
            for entry in entries {
                let entry = entry.map_err(|cause| io("list", &folder, cause))?;
                // A name that no verb here could have given is somebody else's folder.
                let Some(name) = entry.file_name().to_str().and_then(|text| text.parse().ok()) else { continue };
                let path = entry.path();
                found.push(Held { name, identity: identity(&path)?, path });
            }
            found.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(found)
        };
        Ok(Holdings {
            live: identity(&self.live)?,
            snapshots: held(self.snapshots())?,
            timelines: held(self.timelines())?,
        })
    }

    /// The exchange, in two renames that can each be the last one before a crash:
    ///
    /// ```text
    ///   live = A   tl/in = B               nothing done
    ///   live = B   tl/in = A               crash window: A lies under the wrong name, found by its identity
    ///   live = B   tl/left = A             done
    /// ```
    pub(super) fn exchange(
        &self,
        dataset: &Dataset,
        exchange: &Exchange,
        identity: impl Fn(&Path) -> Result<Identity, DataError>,
    ) -> Result<Done, DataError> {
        let incoming = self.timeline(&exchange.incoming);
        let left = self.timeline(&exchange.left_as);
        let mut changed = false;
        if identity(&self.live)? != exchange.identity {
            if !incoming.exists() {
                let (dataset, name) = (dataset.name.clone(), exchange.incoming.clone());
                return Err(DataError::Missing { dataset, kind: "timeline", name });
            }
            let found = identity(&incoming)?;
            if found != exchange.identity {
                let (dataset, name, expected) =
                    (dataset.name.clone(), exchange.incoming.clone(), exchange.identity.clone());
                return Err(DataError::OtherIdentity { dataset, name, found, expected });
            }
            if exchange.left_as != exchange.incoming && left.exists() {
                return Err(DataError::Taken { dataset: dataset.name.clone(), name: exchange.left_as.clone() });
            }
            rustix::fs::renameat_with(CWD, &self.live, CWD, &incoming, RenameFlags::EXCHANGE)
                .map_err(|cause| io("exchange", &self.live, cause.into()))?;
            changed = true;
        }
        if exchange.left_as != exchange.incoming && incoming.exists() {
            rustix::fs::renameat_with(CWD, &incoming, CWD, &left, RenameFlags::NOREPLACE)
                .map_err(|cause| io("name the left timeline", &left, cause.into()))?;
            changed = true;
        }
        self.settle()?;
        Ok(Done { identity: exchange.identity.clone(), changed })
    }

    /// Makes every rename so far durable.
    pub(super) fn settle(&self) -> Result<(), DataError> {
        for folder in [self.live.parent(), Some(&*self.beside), Some(&*self.timelines()), Some(&*self.snapshots())] {
            let Some(folder) = folder.filter(|folder| !folder.as_os_str().is_empty()) else { continue };
            match File::open(folder).and_then(|folder| folder.sync_all()) {
                Ok(()) => {}
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
                Err(cause) => return Err(io("sync", folder, cause)),
            }
        }
        Ok(())
    }
}

/// Free bytes at a path.
pub(super) fn free_bytes(path: &Path) -> Result<u64, DataError> {
    let stat = rustix::fs::statvfs(path).map_err(|cause| io("measure", path, cause.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// A file error with its nouns.
pub(super) fn io(doing: &'static str, path: &Path, cause: std::io::Error) -> DataError {
    DataError::Io { doing, path: path.to_owned(), cause }
}
