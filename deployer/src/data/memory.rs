//! The drivers' twin in memory: the same verbs and refusals without a file system, for tests of what stands on them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{DataDriver, DataError, DataName, Dataset, Done, Exchange, Held, Holdings, Identity, Probed};

/// The driver. Data is a map from file name to bytes.
#[derive(Debug, Default)]
pub struct Memory {
    datasets: Mutex<BTreeMap<String, Kept>>,
}

/// One version of a dataset's data.
#[derive(Clone, Debug, Default)]
struct Piece {
    identity: u64,
    files: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, Default)]
struct Kept {
    count: u64,
    live: Piece,
    snapshots: BTreeMap<DataName, Piece>,
    timelines: BTreeMap<DataName, (DataName, Piece)>,
}

impl Kept {
    fn copy(&mut self, piece: &Piece) -> Piece {
        self.count += 1;
        Piece { identity: self.count, files: piece.files.clone() }
    }
}

impl Memory {
    /// Writes a file of the live data.
    pub fn write(&self, dataset: &Dataset, file: &str, bytes: &[u8]) {
        self.all().entry(dataset.name.clone()).or_default().live.files.insert(file.to_owned(), bytes.to_owned());
    }

    /// Reads a file of the live data.
    pub fn read(&self, dataset: &Dataset, file: &str) -> Option<Vec<u8>> {
        self.all().get(&dataset.name).and_then(|kept| kept.live.files.get(file).cloned())
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.datasets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DataDriver for Memory {
    fn probe(&self, dataset: &Dataset) -> Result<Probed, DataError> {
        let mut all = self.all();
        let made = !all.contains_key(&dataset.name);
        all.entry(dataset.name.clone()).or_default();
        Ok(Probed { instant: true, free_bytes: u64::MAX, snapshot_bytes: 0, made })
    }

    fn snapshot(&self, dataset: &Dataset, name: &DataName) -> Result<Done, DataError> {
        let mut all = self.all();
        let kept = all.entry(dataset.name.clone()).or_default();
        if let Some(piece) = kept.snapshots.get(name) {
            return Ok(Done { identity: told(piece), changed: false });
        }
        let live = kept.live.clone();
        let piece = kept.copy(&live);
        let identity = told(&piece);
        kept.snapshots.insert(name.clone(), piece);
        Ok(Done { identity, changed: true })
    }

    fn branch(&self, dataset: &Dataset, from: &DataName, name: &DataName) -> Result<Done, DataError> {
        let mut all = self.all();
        let kept = all.entry(dataset.name.clone()).or_default();
        let Some(source) = kept.snapshots.get(from).cloned() else {
            return Err(DataError::Missing { dataset: dataset.name.clone(), kind: "snapshot", name: from.clone() });
        };
        match kept.timelines.get(name) {
            Some((origin, piece)) if origin == from => Ok(Done { identity: told(piece), changed: false }),
            Some(_) => Err(DataError::Taken { dataset: dataset.name.clone(), name: name.clone() }),
            None => {
                let piece = kept.copy(&source);
                let identity = told(&piece);
                kept.timelines.insert(name.clone(), (from.clone(), piece));
                Ok(Done { identity, changed: true })
            }
        }
    }

    fn exchange(&self, dataset: &Dataset, exchange: &Exchange) -> Result<Done, DataError> {
        let mut all = self.all();
        let kept = all.entry(dataset.name.clone()).or_default();
        let identity = exchange.identity.clone();
        if told(&kept.live) == identity {
            return Ok(Done { identity, changed: false });
        }
        let Some((_, piece)) = kept.timelines.get(&exchange.incoming) else {
            let (dataset, name) = (dataset.name.clone(), exchange.incoming.clone());
            return Err(DataError::Missing { dataset, kind: "timeline", name });
        };
        let found = told(piece);
        if found != identity {
            let (dataset, name) = (dataset.name.clone(), exchange.incoming.clone());
            return Err(DataError::OtherIdentity { dataset, name, found, expected: identity });
        }
        if exchange.left_as != exchange.incoming && kept.timelines.contains_key(&exchange.left_as) {
            return Err(DataError::Taken { dataset: dataset.name.clone(), name: exchange.left_as.clone() });
        }
        if let Some((origin, piece)) = kept.timelines.remove(&exchange.incoming) {
            let left = std::mem::replace(&mut kept.live, piece);
            kept.timelines.insert(exchange.left_as.clone(), (origin, left));
        }
        Ok(Done { identity, changed: true })
    }

    fn list(&self, dataset: &Dataset) -> Result<Holdings, DataError> {
        let mut all = self.all();
        let kept = all.entry(dataset.name.clone()).or_default();
        let held = |(name, piece): (&DataName, &Piece)| Held {
            name: name.clone(),
            identity: told(piece),
            path: PathBuf::from(format!("/memory/{}/{name}", dataset.name)),
        };
        Ok(Holdings {
            live: told(&kept.live),
            snapshots: kept.snapshots.iter().map(held).collect(),
            timelines: kept.timelines.iter().map(|(name, (_, piece))| held((name, piece))).collect(),
        })
    }
}

fn told(piece: &Piece) -> Identity {
    Identity::new(format!("memory-{}", piece.identity))
}
