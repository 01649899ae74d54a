//! Manifests that were looked up, remembered for as long as nothing is written. A host that asks what a tag leads to is
//! answered without a word to the engine, whose two task switches cost more than all the rest of the answer.
//!
//! ```text
//!   begun  0 ────── 1 ─────────────── 2 ──── …     a writing transaction begins: nothing remembered holds any more
//!   over   0 ─────────── 1 ───────────────── …     it is over: from here on lookups are remembered again, anew
//! ```
//!
//! Never answered from an old line: a line holds only for the number under which its lookup *began*, and only while that
//! number is both the last begun and over. A commit is over before the writer is told, so whoever was told sees it. A
//! commit whose outcome nobody waited for is never called over; then nothing is remembered until the next one.
//!
//! It rests on this process being the only writer (`gateway.lock`). A database that several gateways share has none.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nebh_oci::names::Repository;

use super::manifests::{ManifestHead, StoredManifest};
use crate::Name;

/// Manifests remembered at once; then all are forgotten.
const LINES_MAX: usize = 1024;
/// The largest manifest whose bytes are remembered. With [`LINES_MAX`] of them: 16 MiB.
const BYTES_MAX: usize = 16 << 10;

/// What is remembered, and whether it holds.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    begun: AtomicU64,
    over: AtomicU64,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    /// The number for which they hold.
    number: u64,
    heads: HashMap<String, ManifestHead>,
    manifests: HashMap<String, StoredManifest>,
}

/// A moment at which nothing was being written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quiet(u64);

/// One writing transaction, from its beginning until it is over.
#[derive(Debug)]
pub(super) struct Turn {
    of: Arc<Remembered>,
    number: u64,
    /// The commit is on its way: until its outcome is known, the database may be in either state.
    pub(super) ending: bool,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.ending {
            self.of.over.fetch_max(self.number, Ordering::SeqCst);
        }
    }
}

fn key(repository: &Repository, name: &Name) -> String {
    match name {
        Name::Tag(tag) => format!("{repository}:{tag}"),
        Name::Digest(digest) => format!("{repository}@{digest}"),
    }
}

impl Remembered {
    /// A transaction began; nothing of it can be seen yet.
    pub(super) fn begin(self: &Arc<Self>) -> Turn {
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        Turn { of: Arc::clone(self), number, ending: false }
    }

    /// To be asked before a lookup begins; nothing while somebody writes.
    pub(super) fn quiet(&self) -> Option<Quiet> {
        let begun = self.begun.load(Ordering::SeqCst);
        (self.over.load(Ordering::SeqCst) == begun).then_some(Quiet(begun))
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A manifest's line.
    pub(super) fn head(&self, quiet: Quiet, repository: &Repository, name: &Name) -> Option<ManifestHead> {
        let lines = self.lines();
        (lines.number == quiet.0).then(|| lines.heads.get(&key(repository, name)).cloned())?
    }

    /// A manifest with its bytes.
    pub(super) fn manifest(&self, quiet: Quiet, repository: &Repository, name: &Name) -> Option<StoredManifest> {
        let lines = self.lines();
        (lines.number == quiet.0).then(|| lines.manifests.get(&key(repository, name)).cloned())?
    }

    /// Remembers a line whose lookup began at `quiet`.
    pub(super) fn keep_head(&self, quiet: Quiet, repository: &Repository, name: &Name, found: &ManifestHead) {
        if let Some(mut lines) = self.room(quiet) {
            lines.heads.insert(key(repository, name), found.clone());
        }
    }

    /// Remembers a manifest whose lookup began at `quiet`.
    pub(super) fn keep_manifest(&self, quiet: Quiet, repository: &Repository, name: &Name, found: &StoredManifest) {
        if found.bytes.len() <= BYTES_MAX
            && let Some(mut lines) = self.room(quiet)
        {
            lines.manifests.insert(key(repository, name), found.clone());
        }
    }

    /// The lines of this number; nothing if there are later ones.
    fn room(&self, quiet: Quiet) -> Option<MutexGuard<'_, Lines>> {
        let mut lines = self.lines();
        if lines.number > quiet.0 {
            return None;
        }
        if lines.number < quiet.0 || lines.heads.len() >= LINES_MAX || lines.manifests.len() >= LINES_MAX {
            *lines = Lines { number: quiet.0, ..Lines::default() };
        }
        Some(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> (Repository, Name) {
        ("a/b".parse().unwrap(), Name::Tag("v1".parse().unwrap()))
    }

    fn found() -> ManifestHead {
        ManifestHead { digest: nebh_oci::digest::Digest::sha256(b"x"), media_type: "m".to_owned(), size: 1 }
    }

    #[test]
    fn nothing_is_remembered_while_somebody_writes_nor_of_before() {
        let (remembered, (repository, name)) = (Arc::new(Remembered::default()), asked());
        let before = remembered.quiet().unwrap();
        remembered.keep_head(before, &repository, &name, &found());
        assert!(remembered.head(before, &repository, &name).is_some());
        let turn = remembered.begin();
        assert!(remembered.quiet().is_none());
        drop(turn);
        let after = remembered.quiet().unwrap();
        assert!(remembered.head(after, &repository, &name).is_none());
        // A slow lookup of before comes back only now.
        remembered.keep_head(before, &repository, &name, &found());
        assert!(remembered.head(after, &repository, &name).is_none());
        remembered.keep_head(after, &repository, &name, &found());
        remembered.keep_head(before, &repository, &name, &found());
        assert!(remembered.head(after, &repository, &name).is_some());
    }

    #[test]
    fn commit_that_nobody_waited_for_is_never_called_over() {
        let remembered = Arc::new(Remembered::default());
        let mut turn = remembered.begin();
        turn.ending = true;
        drop(turn);
        assert!(remembered.quiet().is_none());
        drop(remembered.begin());
        assert!(remembered.quiet().is_some());
    }

    #[test]
    fn many_manifests_are_forgotten_together_and_large_ones_never_kept() {
        let (remembered, (repository, _)) = (Remembered::default(), asked());
        let quiet = remembered.quiet().unwrap();
        let of = |nth: usize| Name::Tag(format!("v{nth}").parse().unwrap());
        for nth in 0..=LINES_MAX {
            remembered.keep_head(quiet, &repository, &of(nth), &found());
        }
        assert!(remembered.head(quiet, &repository, &of(0)).is_none());
        assert!(remembered.head(quiet, &repository, &of(LINES_MAX)).is_some());
        let bytes = vec![0; BYTES_MAX + 1];
        let large = StoredManifest { digest: found().digest, media_type: "m".to_owned(), bytes };
        remembered.keep_manifest(quiet, &repository, &of(0), &large);
        assert!(remembered.manifest(quiet, &repository, &of(0)).is_none());
    }
}
