//! `nebh attend`: creates one container, stays its parent, writes down how it ended. A few lines that outlive the
//! agent, so that an agent that was away still learns by which signal a program died.
//!
//! Side effects: runs `runc create`, reaps, writes `created.json` and `exit.json` of one run.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use nebh_oci::runtime::{Bundle, Runtime, RuntimeKind, Stdio};
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus};

use super::record::{Created, Exit, write_record};
use crate::process::Process;

/// What one attendant is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Attendance {
    /// Folder of the run.
    #[arg(long)]
    pub folder: PathBuf,
    /// Container id.
    #[arg(long)]
    pub id: String,
    /// Folder of the two log files.
    #[arg(long)]
    pub logs: PathBuf,
    /// `runc` or `crun`.
    #[arg(long)]
    pub runtime: String,
    /// Path of that program.
    #[arg(long)]
    pub program: PathBuf,
    /// Where it keeps its containers.
    #[arg(long)]
    pub state: PathBuf,
}

/// Attends one container to its end.
pub async fn attend(attendance: &Attendance) -> io::Result<()> {
    // From here on the container's first process becomes our child when the runtime program has ended.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let process = match create(attendance).await {
        Ok(process) => process,
        Err(error) => {
            let why = nebh_face::failure::chain(&*error);
            return write_record(&attendance.folder, "created.json", &Created::Failed { why });
        }
    };
    write_record(&attendance.folder, "created.json", &Created::Process(process))?;
    let exit = tokio::task::spawn_blocking(move || wait(process.pid)).await.map_err(io::Error::other)??;
    write_record(&attendance.folder, "exit.json", &exit)
}

async fn create(attendance: &Attendance) -> Result<Process, Box<dyn std::error::Error + Send + Sync>> {
    let kind = match attendance.runtime.as_str() {
        "runc" => RuntimeKind::Runc,
        "crun" => RuntimeKind::Crun,
        other => return Err(format!("`{other}` is no runtime program").into()),
    };
    let runtime = Runtime::chosen(kind, attendance.program.clone(), attendance.state.clone());
    let bundle = Bundle::existing(&attendance.folder.join("bundle"), &attendance.id)?;
    let stdio = Stdio::Files {
        stdout: log(&attendance.logs.join("stdout.log"))?,
        stderr: log(&attendance.logs.join("stderr.log"))?,
    };
    let container = runtime.create(&bundle, stdio).await?;
    Ok(Process::of(container.pid)?)
}

fn log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn wait(pid: u32) -> io::Result<Exit> {
    let wanted = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    loop {
        match rustix::process::waitid(WaitId::Pid(wanted), WaitIdOptions::EXITED) {
            Ok(Some(status)) => return Ok(told(&status)),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn told(status: &WaitIdStatus) -> Exit {
    if status.exited() {
        return Exit::Code { code: status.exit_status().unwrap_or_default() };
    }
    match status.terminating_signal() {
        Some(number) => Exit::signal(number),
        None => Exit::Code { code: -1 },
    }
}
