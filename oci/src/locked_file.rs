//! Files that one holder at a time may have: the right to a state folder, or to a file half written.
//!
//! Side effects: advisory locks of whole files (`flock(2)`).
//!
//! Such a lock belongs to the open file, and between `fork` and `exec` a child has every open file of its parent. So
//! closing alone may leave the file locked for a moment, by a child of another thread that has nothing to do with it.
//! Unlocking ends the lock whoever has the file open still; a holder that was killed could not do that.

use std::fs::{File, TryLockError};
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the children of a holder that was killed may take to become programs of their own.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is tried.
const PAUSE: Duration = Duration::from_millis(5);

/// A file that nobody else has; dropping it gives it back.
#[derive(Debug)]
pub struct LockedFile(File);

impl LockedFile {
    /// Locks `file`; `None` when somebody else has it.
    pub fn claim(file: File) -> io::Result<Option<Self>> {
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Makes the file at `path` if need be and locks it, for as long as a service lives; `None` when another has it.
    /// Blocks for up to two seconds: the service before may just have been killed. The file is never written.
    pub fn claim_service(path: &Path) -> io::Result<Option<Self>> {
        let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self(file))),
                Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => sleep(PAUSE),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}

impl Deref for LockedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl DerefMut for LockedFile {
    fn deref_mut(&mut self) -> &mut File {
        &mut self.0
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // The file is closed next, and that gives it back, too.
        drop(self.0.unlock());
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Repeats `round` for as long as other threads start programs without a pause.
    fn among_forks(mut round: impl FnMut()) {
        std::thread::scope(|scope| {
            let start = || (0..400).for_each(|_| assert!(Command::new("true").status().unwrap().success()));
            let starting = [scope.spawn(start), scope.spawn(start)];
            while !starting.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                round();
            }
        });
    }

    #[test]
    fn file_given_back_is_free_at_once_whatever_programs_start_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("partial");
        among_forks(|| {
            let held = LockedFile::claim(File::create(&path).unwrap()).unwrap().expect("nobody has it");
            assert!(LockedFile::claim(File::open(&path).unwrap()).unwrap().is_none());
            drop(held);
        });
    }

    #[test]
    fn service_waits_for_the_children_of_the_one_before_and_not_for_another_service() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        among_forks(|| {
            // The kernel closes the files of a process that was killed, and unlocks nothing.
            let killed = File::create(&path).unwrap();
            killed.lock().unwrap();
            drop(killed);
            LockedFile::claim_service(&path).unwrap().expect("its children close it soon");
        });
        let _living = LockedFile::claim_service(&path).unwrap().unwrap();
        assert!(LockedFile::claim_service(&path).unwrap().is_none());
    }
}
