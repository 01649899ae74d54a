//! One run: a container of one generation from `create` to its end, and the folder that tells of it.
//!
//! Side effects: starts `nebh attend`, runs `runc start` and `runc delete`, signals the container's first process,
//! writes below the run's folder.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nebh_oci::runtime::{Bundle, BundleError, BundleSpec, ContainerStatus, Runtime, RuntimeError};
use rustix::process::Signal;

use super::record::{Created, Exit, read_record};
use crate::process::{self, Process};

/// How long `create` may take on a machine that is very busy.
const CREATE_STEPS_MAX: u32 = 30_000;
/// How long after a process its record may come: its attendant has one small file to write.
const RECORD_STEPS_MAX: u32 = 2_000;
const STEP: Duration = Duration::from_millis(1);
/// After SIGKILL only the kernel can be in the way (a process in an uninterruptible wait).
const KILLED_WITHIN: Duration = Duration::from_secs(10);

/// Why a run did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file operation failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// The verb.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        #[source]
        cause: io::Error,
    },
    /// The bundle could not be written.
    #[error("cannot describe container `{id}`")]
    Bundle {
        /// The container.
        id: String,
        /// The cause.
        #[source]
        cause: BundleError,
    },
    /// The runtime refused.
    #[error("container `{id}`")]
    Runtime {
        /// The container.
        id: String,
        /// The cause.
        #[source]
        cause: RuntimeError,
    },
    /// Its attendant said why it could not be created.
    #[error("cannot create container `{id}`: {why}")]
    NotCreated {
        /// The container.
        id: String,
        /// Why.
        why: String,
    },
    /// It ended before it was started.
    #[error("container `{id}` has ended and cannot be started again")]
    Over {
        /// The container.
        id: String,
    },
    /// Even SIGKILL did not end it.
    #[error("container `{id}` (process {pid}) does not end, not even by SIGKILL: it waits in the kernel")]
    Unkillable {
        /// The container.
        id: String,
        /// Its first process.
        pid: u32,
    },
}

/// One run of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    folder: PathBuf,
    logs: PathBuf,
    id: String,
}

impl Run {
    /// Run `number` of the generation in this folder; `stem` begins its container id.
    pub fn of(generation: &Path, stem: &str, number: u32) -> Self {
        Self {
            folder: generation.join("runs").join(number.to_string()),
            logs: generation.to_owned(),
            id: format!("{stem}-r{number}"),
        }
    }

    /// Every run of the generation in this folder, the oldest first.
    pub fn all(generation: &Path, stem: &str) -> Vec<Self> {
        let entries = fs::read_dir(generation.join("runs")).into_iter().flatten().flatten();
        let mut numbers: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        numbers.sort_unstable();
        numbers.into_iter().map(|number| Self::of(generation, stem, number)).collect()
    }

    /// A run that does not exist yet.
    pub fn next(generation: &Path, stem: &str) -> Self {
        let last = Self::all(generation, stem).last().and_then(|run| run.folder.file_name()?.to_str()?.parse().ok());
        Self::of(generation, stem, last.unwrap_or(0) + 1)
    }

    /// Its container id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its first process, if it was created.
    pub fn process(&self) -> Option<Process> {
        match read_record(&self.folder, "created.json") {
            Some(Created::Process(process)) => Some(process),
            Some(Created::Failed { .. }) | None => None,
        }
    }

    /// True if it can be started: created, never started, still there.
    pub fn is_spare(&self) -> bool {
        !self.is_started() && self.process().is_some_and(Process::is_there)
    }

    /// True if its program may be running: it was told to start, and its process is there.
    pub fn may_run(&self) -> bool {
        self.is_started() && self.process().is_some_and(Process::is_there)
    }

    /// True if its program was told to start, whatever became of it.
    pub fn is_started(&self) -> bool {
        self.folder.join("started").exists()
    }

    /// How it ended, if that is known.
    pub fn exit(&self) -> Option<Exit> {
        read_record(&self.folder, "exit.json")
    }

    /// Waits for its end; `None` if nobody could see how. Safe to drop.
    pub async fn ended(&self) -> Option<Exit> {
        let process = self.process()?;
        if let Err(error) = process.ended().await {
            tracing::warn!(container = self.id, %error, "cannot wait for the process");
            while process.is_there() {
                tokio::time::sleep(STEP * 100).await;
            }
        }
        for _ in 0..RECORD_STEPS_MAX {
            if let Some(exit) = self.exit() {
                return Some(exit);
            }
            tokio::time::sleep(STEP).await;
        }
        None
    }

    fn io(&self, doing: &'static str, cause: io::Error) -> RunError {
        RunError::Io { doing, path: self.folder.clone(), cause }
    }
}

/// What creates, starts and ends runs.
#[derive(Clone, Debug)]
pub struct Runner {
    runtime: Runtime,
    program: PathBuf,
}

impl Runner {
    /// With this runtime; `program` is this very program, for the attendants.
    pub fn new(runtime: Runtime, program: PathBuf) -> Self {
        Self { runtime, program }
    }

    /// The runtime.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Creates the run up to the point where its program would start. One that is created already is left alone.
    pub async fn create(&self, run: &Run, spec: &BundleSpec) -> Result<Process, RunError> {
        if run.is_spare()
            && let Some(process) = run.process()
        {
            return Ok(process);
        }
        self.discard(run).await?;
        fs::create_dir_all(&run.folder).map_err(|cause| run.io("create", cause))?;
        Bundle::write(&run.folder.join("bundle"), &run.id, spec)
            .map_err(|cause| RunError::Bundle { id: run.id.clone(), cause })?;
        let kind = self.runtime.kind().to_string();
        let arguments: [&OsStr; 13] = [
            "attend".as_ref(),
            "--folder".as_ref(),
            run.folder.as_ref(),
            "--id".as_ref(),
            run.id.as_ref(),
            "--logs".as_ref(),
            run.logs.as_ref(),
            "--runtime".as_ref(),
            kind.as_ref(),
            "--program".as_ref(),
            self.runtime.program().as_ref(),
            "--state".as_ref(),
            self.runtime.state_folder().as_ref(),
        ];
        let log = run.folder.join("attend.log");
        process::detach(&self.program, &arguments, &log).map_err(|cause| run.io("attend", cause))?;
        for _ in 0..CREATE_STEPS_MAX {
            match read_record(&run.folder, "created.json") {
                Some(Created::Process(process)) => return Ok(process),
                Some(Created::Failed { why }) => return Err(RunError::NotCreated { id: run.id.clone(), why }),
                None => tokio::time::sleep(STEP).await,
            }
        }
        let why = fs::read_to_string(&log).unwrap_or_default();
        Err(RunError::NotCreated { id: run.id.clone(), why: format!("its attendant says nothing {}", why.trim()) })
    }

    /// Starts the program of a created run. One that runs already is left alone.
    pub async fn start(&self, run: &Run) -> Result<Process, RunError> {
        let over = || RunError::Over { id: run.id.clone() };
        let process = run.process().filter(|process| process.is_there()).ok_or_else(over)?;
        if run.is_started() && self.is_running(run).await? {
            return Ok(process);
        }
        File::create(run.folder.join("started")).map_err(|cause| run.io("mark as started", cause))?;
        self.runtime.start(&run.id).await.map_err(|cause| RunError::Runtime { id: run.id.clone(), cause })?;
        File::create(run.folder.join("running")).map_err(|cause| run.io("mark as running", cause))?;
        Ok(process)
    }

    /// True if its program runs: told to start, there, and past the point where an agent could have died between.
    pub async fn is_running(&self, run: &Run) -> Result<bool, RunError> {
        if !run.may_run() {
            return Ok(false);
        }
        if run.folder.join("running").exists() {
            return Ok(true);
        }
        let state = self.runtime.state(&run.id).await;
        let state = state.map_err(|cause| RunError::Runtime { id: run.id.clone(), cause })?;
        Ok(state.is_some_and(|state| state.status != ContainerStatus::Created))
    }

    /// Ends a run that may be running: the signal, its grace, then SIGKILL. The container's other processes end with
    /// its first one, before that one's end is seen: the kernel does so for a process namespace.
    pub async fn stop(&self, run: &Run, signal: Signal, grace: Duration) -> Result<(), RunError> {
        let Some(process) = run.process().filter(|_| run.may_run()) else { return Ok(()) };
        let failed = |cause| run.io("signal", cause);
        if !self.is_running(run).await? {
            // Created, told to start, never started: there is no program that could end by itself.
            return self.kill(run, process).await;
        }
        if !process.signal(signal).map_err(failed)? {
            return Ok(());
        }
        match tokio::time::timeout(grace, process.ended()).await {
            Ok(ended) => ended.map_err(failed),
            Err(_) => self.kill(run, process).await,
        }
    }

    async fn kill(&self, run: &Run, process: Process) -> Result<(), RunError> {
        let failed = |cause| run.io("kill", cause);
        if !process.signal(Signal::KILL).map_err(failed)? {
            return Ok(());
        }
        match tokio::time::timeout(KILLED_WITHIN, process.ended()).await {
            Ok(ended) => ended.map_err(failed),
            Err(_) => Err(RunError::Unkillable { id: run.id.clone(), pid: process.pid }),
        }
    }

    /// Removes the container of a run that has ended, and keeps the run's records.
    pub async fn forget(&self, run: &Run) -> Result<(), RunError> {
        self.runtime.delete(&run.id, true).await.map_err(|cause| RunError::Runtime { id: run.id.clone(), cause })
    }

    /// Removes a run with its container, whatever it does; its output stays with the generation.
    pub async fn discard(&self, run: &Run) -> Result<(), RunError> {
        if !run.folder.exists() {
            return Ok(());
        }
        self.runtime.delete(&run.id, true).await.map_err(|cause| RunError::Runtime { id: run.id.clone(), cause })?;
        if let Some(process) = run.process() {
            drop(tokio::time::timeout(KILLED_WITHIN, process.ended()).await);
            // Its attendant is about to write the record of the end into this folder.
            for _ in 0..RECORD_STEPS_MAX {
                if run.exit().is_some() || run.process().is_none() {
                    break;
                }
                tokio::time::sleep(STEP).await;
            }
        }
        fs::remove_dir_all(&run.folder).map_err(|cause| run.io("remove", cause))
    }
}
