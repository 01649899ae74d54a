//! The folder of one run, and the end of everything that names it: after a run, after a signal, and, for a run that could
//! not, at the start of the next one.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use crate::leftovers::{named, sweep, unmount_below};
use crate::measure::tree;
use crate::say;

const PREFIX: &str = "bench-";
/// Time for a daemon to end its own, before everything is killed.
const GRACE: Duration = Duration::from_secs(10);
/// How often a folder is tried that something still writes to.
const TRIES: usize = 5;
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Said of a run by a shell whose program ended by SIGINT.
const INTERRUPTED: i32 = 130;
/// Held by whoever clears: the end of the program and a signal may meet.
static CLEARING: Mutex<()> = Mutex::new(());
/// Set before the first process is told to end.
static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// A folder on a real disk, locked as long as its run lives, and one with a short path of the same name.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// A new one below the target folder. Clears what killed runs left there.
    pub(crate) fn new(target: &Path) -> Result<Self> {
        for entry in std::fs::read_dir(target).with_context(|| format!("listing {}", target.display()))? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with(PREFIX) || !entry.file_type()?.is_dir() {
                continue;
            }
            let Ok(folder) = File::open(entry.path()) else { continue };
            if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
                say(&format!("clears {}, which a run left behind", entry.path().display()));
                clear(&entry.path(), &[]);
            }
        }
        let path = tempfile::Builder::new().prefix(PREFIX).tempdir_in(target)?.keep();
        let lock = File::open(&path)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        let scratch = Self { path, _lock: lock };
        let short = short(scratch.path());
        std::fs::create_dir_all(&short).with_context(|| format!("making {}", short.display()))?;
        scratch.clear_on_signals()?;
        Ok(scratch)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    #[expect(clippy::disallowed_methods, reason = "the main thread may wait for a program that does not end")]
    fn clear_on_signals(&self) -> Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let path = self.path.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        drop(entered);
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => (),
                    _ = terminate.recv() => (),
                    _ = hangup.recv() => (),
                }
            });
            IS_INTERRUPTED.store(true, Ordering::SeqCst);
            let _held = CLEARING.lock().unwrap_or_else(PoisonError::into_inner);
            say("interrupted: ends what runs and clears the scratch folder");
            clear(&path, &[std::process::id()]);
            std::process::exit(INTERRUPTED);
        });
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _held = CLEARING.lock().unwrap_or_else(PoisonError::into_inner);
        clear(&self.path, &[]);
    }
}

/// The folder with a short path that belongs to a scratch folder: sockets lie in it.
pub(crate) fn short(scratch: &Path) -> PathBuf {
    std::env::temp_dir().join(scratch.file_name().unwrap_or_default())
}

/// An error once a signal came: whoever is about to start a program asks, lest one begin while the others are ended.
pub(crate) fn goes_on() -> Result<()> {
    ensure!(!IS_INTERRUPTED.load(Ordering::SeqCst), "interrupted");
    Ok(())
}

/// Ends the processes below `roots` and those that name the folder, unmounts and removes it.
fn clear(folder: &Path, roots: &[u32]) {
    end_processes(folder, roots);
    sweep(folder);
    let short = short(folder);
    for folder in [folder, &short] {
        unmount_below(folder);
        for attempt in 1..=TRIES {
            match std::fs::remove_dir_all(folder) {
                Err(error) if folder.exists() && attempt == TRIES => say(&format!("{}: {error}", folder.display())),
                Err(_) if folder.exists() => std::thread::sleep(LOOK_EVERY),
                _ => break,
            }
        }
    }
}

/// SIGTERM first, so that a daemon ends its containers and a build takes its own away; what they start for that is let be.
fn end_processes(folder: &Path, roots: &[u32]) {
    let own = std::process::id();
    let here = || {
        let mut here = tree(&[roots, &named(folder)].concat());
        // What has ended counts as gone, even if nobody waits for it.
        here.retain(|pid| {
            *pid != own && std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
        });
        here
    };
    let tell = |signal| {
        for pid in here() {
            let _gone = i32::try_from(pid).ok().and_then(Pid::from_raw).map(|pid| kill_process(pid, signal));
        }
    };
    for signal in [Signal::TERM, Signal::KILL] {
        tell(signal);
        let end = Instant::now() + GRACE;
        while !here().is_empty() && Instant::now() < end {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}
