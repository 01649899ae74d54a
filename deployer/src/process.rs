//! Processes by number and start, so that a later one with the same number is never taken for them.
//!
//! Side effects: reads `/proc`, sends signals through pidfds, starts programs that outlive this one.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// How often a waiting thread looks whether anybody still wants to know.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in the kernel's ticks since boot.
    pub started: u64,
}

impl Process {
    /// The process that has this number now.
    pub fn of(pid: u32) -> io::Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let stat = std::fs::read_to_string(&path)?;
        // The name may hold blanks and brackets; fields count from behind the last one. Start time is field 22.
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect::<Vec<_>>());
        let fields = fields.unwrap_or_default();
        // Field 3 is the state; a process that waits for its parent to notice its end has ended.
        if matches!(fields.first(), Some(&"Z" | &"X")) {
            return Err(io::ErrorKind::NotFound.into());
        }
        match fields.get(19).and_then(|text| text.parse().ok()) {
            Some(started) => Ok(Self { pid, started }),
            None => Err(io::Error::other(format!("{path} cannot be read"))),
        }
    }

    /// True while that very process runs.
    pub fn is_there(self) -> bool {
        Self::of(self.pid).is_ok_and(|now| now == self)
    }

    /// Sends a signal; `false` if the process has ended.
    pub fn signal(self, signal: Signal) -> io::Result<bool> {
        let Some(handle) = self.handle()? else { return Ok(false) };
        match rustix::process::pidfd_send_signal(&handle, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns when the process has ended. Safe to drop.
    pub async fn ended(self) -> io::Result<()> {
        let Some(handle) = self.handle()? else { return Ok(()) };
        let (tell, told) = oneshot::channel();
        std::thread::Builder::new().name(format!("wait-{}", self.pid)).spawn(move || {
            while !tell.is_closed() {
                // A pidfd becomes readable when its process has ended.
                match rustix::event::poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&LOOK_EVERY)) {
                    Ok(0) | Err(rustix::io::Errno::INTR) => {}
                    result => {
                        drop(tell.send(result.map(drop).map_err(io::Error::from)));
                        return;
                    }
                }
            }
        })?;
        told.await.map_err(io::Error::other)?
    }

    /// A handle to this very process; none if it has ended.
    fn handle(self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            // The number could have changed hands before the handle was opened, not after.
            Ok(handle) => Ok(self.is_there().then_some(handle)),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Starts a program that outlives this one: a process group of its own, its words in a log file.
pub fn detach(program: &Path, arguments: &[&OsStr], log: &Path) -> io::Result<()> {
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    let mut child = Command::new(program)
        .args(arguments)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    // Only reaps: one that ends while this process lives must not stay as a zombie.
    std::thread::Builder::new().name("reaper".to_owned()).spawn(move || drop(child.wait()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_process_with_the_same_number_is_another() {
        let process = Process::of(std::process::id()).unwrap();
        assert!(process.is_there());
        assert!(!Process { started: process.started + 1, ..process }.is_there());
    }

    #[tokio::test]
    async fn the_end_is_seen_also_of_a_process_that_nobody_reaps() {
        let mut child = std::process::Command::new("sleep").arg("3600").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(process.signal(Signal::TERM).unwrap());
        process.ended().await.unwrap();
        assert!(!process.is_there());
        process.ended().await.unwrap();
        child.wait().unwrap();
        assert!(!process.signal(Signal::TERM).unwrap());
    }
}
