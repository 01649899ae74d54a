//! The limit: the same work without a container, a journal or a signature, by a hand that makes no mistake. The
//! listening socket is held here and given to each program, so that what waits is served by the next one.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::{Pid, Signal, kill_process};

use super::{Side, answers};
use crate::command::run;

/// One program at a time on a held listener.
#[derive(Debug)]
pub(crate) struct ByHand {
    listener: TcpListener,
    program: PathBuf,
    live: PathBuf,
    child: Child,
    cuts: u32,
    before_switch: PathBuf,
}

impl ByHand {
    /// Serves version 1 from `live`.
    pub(crate) fn start(program: &Path, live: &Path) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let child = spawn(program, &listener, live, 1)?;
        let port = listener.local_addr()?.port();
        answers(port)?;
        Ok(Self {
            listener,
            program: program.to_owned(),
            live: live.to_owned(),
            child,
            cuts: 0,
            before_switch: PathBuf::new(),
        })
    }

    fn stop(&mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, Signal::TERM)?;
        self.child.wait()?;
        Ok(())
    }

    fn beside(&self, name: &str) -> PathBuf {
        let mut path = self.live.clone().into_os_string();
        path.push(format!(".{name}-{}", self.cuts));
        path.into()
    }

    fn cut(&mut self) -> Result<PathBuf> {
        self.cuts += 1;
        let at = self.beside("cut");
        run(Command::new("btrfs").args(["subvolume", "snapshot", "-r"]).arg(&self.live).arg(&at))?;
        Ok(at)
    }

    fn serve(&mut self, version: u32) -> Result<()> {
        self.child = spawn(&self.program, &self.listener, &self.live, version)?;
        answers(self.port())
    }
}

impl Side for ByHand {
    fn port(&self) -> u16 {
        self.listener.local_addr().map_or(0, |address| address.port())
    }

    fn switch(&mut self) -> Result<()> {
        self.stop()?;
        self.before_switch = self.cut()?;
        self.serve(2)
    }

    fn back(&mut self) -> Result<()> {
        self.stop()?;
        drop(self.cut()?);
        self.serve(1)
    }

    fn back_with_old_data(&mut self) -> Result<()> {
        self.stop()?;
        drop(self.cut()?);
        let branch = self.beside("branch");
        run(Command::new("btrfs").args(["subvolume", "snapshot"]).arg(&self.before_switch).arg(&branch))?;
        renameat_with(CWD, &self.live, CWD, &branch, RenameFlags::EXCHANGE)?;
        self.serve(1)
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(program: &Path, listener: &TcpListener, live: &Path, version: u32) -> Result<Child> {
    let queue = OwnedFd::from(listener.try_clone()?);
    Command::new(program)
        .env("VERSION", version.to_string())
        .env("BOOK", live.join("book"))
        .stdin(Stdio::from(queue))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("starting the till")
}
