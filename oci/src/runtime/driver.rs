//! The driver: one method per verb of the OCI runtime, by exec of the program that the probe chose. Owns child processes,
//! and below its state directory what the runtime program keeps there.
//!
//! Dropping the future of `run` ends the container; dropping that of any other verb leaves the container as it is.

use std::path::PathBuf;
use std::process::Stdio as ProcessStdio;
use std::time::Duration;

use tokio::sync::mpsc;

use super::bundle::Bundle;
use super::call::{Call, DeleteOnDrop, RuntimeError};
use super::process::{ExitReason, OutputLine, Stream, logged_error, pump};
use super::program::{Runtime, RuntimeKind};

/// Where a created container's output goes. Its input is always empty.
#[derive(Debug)]
pub enum Stdio {
    /// Nowhere.
    Null,
    /// To these files; they may be the same one.
    Files {
        /// Standard output.
        stdout: std::fs::File,
        /// Standard error.
        stderr: std::fs::File,
    },
}

/// A container that was created and not yet started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its first process, on the host.
    pub pid: u32,
}

/// What the runtime says about a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerState {
    /// Its id.
    pub id: String,
    /// Where it is in its life.
    pub status: ContainerStatus,
    /// Its first process, on the host; none once it stopped.
    pub pid: Option<u32>,
    /// Its bundle.
    pub bundle: PathBuf,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerStatus {
    /// Being made.
    Creating,
    /// Made; its program has not been started.
    Created,
    /// Its program runs.
    Running,
    /// Frozen.
    Paused,
    /// Its program ended.
    Stopped,
}

/// What a program run inside a container said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    /// How it ended.
    pub exit: ExitReason,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

#[derive(serde::Deserialize)]
struct WireState {
    id: String,
    status: ContainerStatus,
    #[serde(default)]
    pid: u32,
    #[serde(default)]
    bundle: PathBuf,
}

impl From<WireState> for ContainerState {
    fn from(wire: WireState) -> Self {
        Self { id: wire.id, status: wire.status, pid: (wire.pid != 0).then_some(wire.pid), bundle: wire.bundle }
    }
}

impl Runtime {
    /// Makes the container of a bundle, up to the point where its program would start.
    pub async fn create(&self, bundle: &Bundle, stdio: Stdio) -> Result<Container, RuntimeError> {
        let (verb, id) = ("create", bundle.id());
        let call = Call::new(self, verb, id)?;
        let pid_file = call.dir.path().join("pid");
        let mut command = call.command(self);
        command.arg(verb).arg("--bundle").arg(bundle.dir()).arg("--pid-file").arg(&pid_file).arg(id);
        match stdio {
            Stdio::Null => command.stdout(ProcessStdio::null()).stderr(ProcessStdio::null()),
            Stdio::Files { stdout, stderr } => command.stdout(stdout).stderr(stderr),
        };
        let status = command.status().await.map_err(|cause| call.io(cause))?;
        if !status.success() {
            return Err(call.refused(self, ""));
        }
        let text = std::fs::read_to_string(&pid_file).map_err(|cause| call.io(cause))?;
        let pid = text.trim().parse().map_err(|_| call.refused(self, "no process id"))?;
        Ok(Container { id: id.to_owned(), pid })
    }

    /// Starts the program of a created container.
    pub async fn start(&self, id: &str) -> Result<(), RuntimeError> {
        // Seen with runc; crun is asked, because it was not.
        if self.kind == RuntimeKind::Runc && super::gate::open(&self.state.join(id)).await {
            return Ok(());
        }
        self.simple("start", id, &[]).await
    }

    /// What the runtime knows about a container; `None` if it knows none of that id.
    pub async fn state(&self, id: &str) -> Result<Option<ContainerState>, RuntimeError> {
        if !self.knows(id) {
            return Ok(None);
        }
        let call = Call::new(self, "state", id)?;
        let output = call.command(self).args(["state", id]).output().await.map_err(|cause| call.io(cause))?;
        if !output.status.success() {
            // It may have been deleted between the two looks.
            return if self.knows(id) {
                Err(call.refused(self, &String::from_utf8_lossy(&output.stderr)))
            } else {
                Ok(None)
            };
        }
        let wire: WireState = serde_json::from_slice(&output.stdout).map_err(|cause| call.answer(self, cause))?;
        Ok(Some(wire.into()))
    }

    /// Sends a signal (`TERM`, `KILL`, …) to the first process of a container.
    pub async fn kill(&self, id: &str, signal: &str) -> Result<(), RuntimeError> {
        self.simple("kill", id, &[signal]).await
    }

    /// Freezes a container.
    pub async fn pause(&self, id: &str) -> Result<(), RuntimeError> {
        self.simple("pause", id, &[]).await
    }

    /// Thaws a container.
    pub async fn resume(&self, id: &str) -> Result<(), RuntimeError> {
        self.simple("resume", id, &[]).await
    }

    /// Removes a stopped container, or with `force` whatever it does. Removing what is not there is done already.
    pub async fn delete(&self, id: &str, force: bool) -> Result<(), RuntimeError> {
        if !self.knows(id) {
            return Ok(());
        }
        let call = Call::new(self, "delete", id)?;
        let mut command = call.command(self);
        command.arg("delete");
        if force {
            command.arg("--force");
        }
        let output = command.arg(id).output().await.map_err(|cause| call.io(cause))?;
        if output.status.success() || !self.knows(id) {
            return Ok(());
        }
        Err(call.refused(self, &String::from_utf8_lossy(&output.stderr)))
    }

    /// Runs a container in the foreground until its program ends, and removes it. Output goes line by line to `lines`.
    pub async fn run(&self, bundle: &Bundle, lines: mpsc::Sender<OutputLine>) -> Result<ExitReason, RuntimeError> {
        let id = bundle.id();
        let call = Call::new(self, "run", id)?;
        let mut command = call.command(self);
        command.args(["run", "--bundle"]).arg(bundle.dir()).arg(id);
        command.stdout(ProcessStdio::piped()).stderr(ProcessStdio::piped()).kill_on_drop(true);
        let mut guard = DeleteOnDrop { runtime: self, id, armed: true };
        let mut child = command.spawn().map_err(|cause| call.io(cause))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let pumps = async {
            tokio::join!(
                async {
                    if let Some(from) = stdout {
                        pump(from, Stream::Stdout, lines.clone()).await;
                    }
                },
                async {
                    if let Some(from) = stderr {
                        pump(from, Stream::Stderr, lines.clone()).await;
                    }
                },
            )
        };
        let (_, status) = tokio::join!(pumps, child.wait());
        let status = status.map_err(|cause| call.io(cause))?;
        guard.armed = self.knows(id);
        if !status.success()
            && let Some(message) = logged_error(&call.log())
        {
            return Err(call.refused(self, &message));
        }
        Ok(match status.code() {
            Some(code) => ExitReason::from_runtime_code(code),
            None => ExitReason::Signal(std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(9)),
        })
    }

    /// Runs one more program inside a running container, as the user of its first process, and waits for it at most `within`.
    pub async fn exec(&self, id: &str, args: &[String], within: Duration) -> Result<ExecOutput, RuntimeError> {
        let call = Call::new(self, "exec", id)?;
        let pid_file = call.dir.path().join("pid");
        let mut command = call.command(self);
        command.arg("exec").arg("--pid-file").arg(&pid_file).arg(id).args(args).kill_on_drop(true);
        let Ok(done) = tokio::time::timeout(within, command.output()).await else {
            // The program that we asked to exec is gone; what it started inside is not.
            if let Ok(text) = std::fs::read_to_string(&pid_file)
                && let Some(pid) = text.trim().parse().ok().and_then(rustix::process::Pid::from_raw)
            {
                let _already_gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            return Err(RuntimeError::TimedOut { id: id.to_owned(), within });
        };
        let output = done.map_err(|cause| call.io(cause))?;
        if !output.status.success()
            && let Some(message) = logged_error(&call.log())
        {
            return Err(call.refused(self, &message));
        }
        let exit = ExitReason::from_runtime_code(output.status.code().unwrap_or(-1));
        Ok(ExecOutput { exit, stdout: output.stdout, stderr: output.stderr })
    }

    /// Every container below the state directory.
    pub async fn list(&self) -> Result<Vec<ContainerState>, RuntimeError> {
        let call = Call::new(self, "list", "*")?;
        let output =
            call.command(self).args(["list", "--format", "json"]).output().await.map_err(|cause| call.io(cause))?;
        if !output.status.success() {
            return Err(call.refused(self, &String::from_utf8_lossy(&output.stderr)));
        }
        let wire: Option<Vec<WireState>> =
            serde_json::from_slice(&output.stdout).map_err(|cause| call.answer(self, cause))?;
        Ok(wire.unwrap_or_default().into_iter().map(ContainerState::from).collect())
    }

    async fn simple(&self, verb: &'static str, id: &str, more: &[&str]) -> Result<(), RuntimeError> {
        let call = Call::new(self, verb, id)?;
        let output = call.command(self).arg(verb).arg(id).args(more).output().await.map_err(|cause| call.io(cause))?;
        if output.status.success() {
            return Ok(());
        }
        Err(call.refused(self, &String::from_utf8_lossy(&output.stderr)))
    }

    /// Both programs keep one directory per container.
    fn knows(&self, id: &str) -> bool {
        self.state.join(id).is_dir()
    }
}
