//! Locks by digest: who holds one, holds up whoever wants the same digest, and a few others that share it.

use nebh_oci::digest::Digest;
use tokio::sync::{Mutex, MutexGuard};

/// More would only use memory: a lock is held for a few syncs or one reading of a blob.
const LOCKS: usize = 64;

/// A row of locks.
#[derive(Debug)]
pub struct DigestLocks(Vec<Mutex<()>>);

impl Default for DigestLocks {
    fn default() -> Self {
        Self((0..LOCKS).map(|_| Mutex::new(())).collect())
    }
}

impl DigestLocks {
    /// Waits for the lock of this digest. Never for two at once: they may be one.
    pub async fn lock(&self, digest: &Digest) -> MutexGuard<'_, ()> {
        let at = usize::from(digest.bytes().first().copied().unwrap_or(0)) % LOCKS;
        self.0[at].lock().await
    }
}
