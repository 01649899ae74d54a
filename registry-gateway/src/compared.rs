//! Which blobs were compared with their names lately, and which are being compared right now.
//!
//! A comparison hashes a whole file. After a restart nothing was compared yet, and then a fleet asks for one blob at one
//! moment: the first of them has it hashed on its way, the others lean on that. None of them waits for the pace of a
//! client: whoever comes to the last piece while the proof is still owed has the file compared by itself, once for all
//! who wait.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nebh_oci::digest::Digest;

use crate::store::DigestLocks;
use crate::store::read::FileState;

/// Blobs whose comparison is remembered. One line is about a hundred bytes.
const KNOWN_MAX: usize = 65_536;

/// The memory of comparisons.
#[derive(Debug, Default)]
pub struct Compared {
    known: Mutex<HashMap<Digest, (FileState, Instant)>>,
    on_the_way: Mutex<HashSet<Digest>>,
    /// Under which files are compared for those who wait.
    locks: DigestLocks,
}

/// The right to hash a blob on its way to a client. Given back when dropped, whatever came of it.
#[derive(Debug)]
pub struct Turn {
    compared: Arc<Compared>,
    digest: Digest,
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.compared.on_the_way).remove(&self.digest);
    }
}

impl Compared {
    /// How long ago a blob was compared with its name, if its file was not changed since.
    pub fn ago(&self, digest: &Digest, state: FileState) -> Option<Duration> {
        let known = lock(&self.known);
        let (then, at) = known.get(digest)?;
        (*then == state).then(|| at.elapsed())
    }

    /// Remembers that a blob was compared.
    pub fn remember(&self, digest: Digest, state: FileState) {
        let mut known = lock(&self.known);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(digest, (state, Instant::now()));
    }

    /// The turn to hash this blob, unless somebody has it.
    pub fn turn(self: &Arc<Self>, digest: Digest) -> Option<Turn> {
        lock(&self.on_the_way).insert(digest).then(|| Turn { compared: Arc::clone(self), digest })
    }

    /// Held while a file is compared for those who wait. Whoever gets it looks at [`Compared::ago`] first.
    pub async fn one_at_a_time(&self, digest: &Digest) -> tokio::sync::MutexGuard<'_, ()> {
        self.locks.lock(digest).await
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turn_is_for_one_at_a_time_and_comes_back() {
        let compared = Arc::new(Compared::default());
        let (one, other) = (Digest::sha256(b"one"), Digest::sha256(b"other"));
        let turn = compared.turn(one).unwrap();
        assert!(compared.turn(one).is_none());
        assert!(compared.turn(other).is_some());
        drop(turn);
        assert!(compared.turn(one).is_some());
    }
}
