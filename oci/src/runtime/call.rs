//! One exec of the runtime program, and what can go wrong with it. Owns that child process's log file.

use std::path::PathBuf;
use std::process::Stdio as ProcessStdio;
use std::time::Duration;

use tokio::process::Command;

use super::process::logged_error;
use super::program::Runtime;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The program could not be started, or its files not be used.
    #[error("cannot {verb} container `{id}`")]
    Io {
        /// What was asked.
        verb: &'static str,
        /// Of which container.
        id: String,
        /// Cause.
        #[source]
        cause: std::io::Error,
    },
    /// The program refused.
    #[error("{program} cannot {verb} container `{id}`: {message}")]
    Refused {
        /// The runtime program.
        program: String,
        /// What was asked.
        verb: &'static str,
        /// Of which container.
        id: String,
        /// Its own words.
        message: String,
    },
    /// The program answered with something that cannot be read.
    #[error("cannot read what {program} says about container `{id}`")]
    Answer {
        /// The runtime program.
        program: String,
        /// Of which container.
        id: String,
        /// Cause.
        #[source]
        cause: serde_json::Error,
    },
    /// A program inside did not end in time, and was killed.
    #[error("the program in container `{id}` did not end within {} ms", within.as_millis())]
    TimedOut {
        /// The container.
        id: String,
        /// The bound.
        within: Duration,
    },
}

/// One call of the runtime program, with a log file of its own: its output streams belong to the container.
pub(super) struct Call {
    verb: &'static str,
    id: String,
    pub(super) dir: tempfile::TempDir,
}

impl Call {
    pub(super) fn new(runtime: &Runtime, verb: &'static str, id: &str) -> Result<Self, RuntimeError> {
        let io = |cause| RuntimeError::Io { verb, id: id.to_owned(), cause };
        std::fs::create_dir_all(&runtime.state).map_err(io)?;
        let dir = tempfile::Builder::new().prefix("nebh-runtime-").tempdir().map_err(io)?;
        Ok(Self { verb, id: id.to_owned(), dir })
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    pub(super) fn command(&self, runtime: &Runtime) -> Command {
        let mut command = Command::new(&runtime.program);
        command.arg("--root").arg(&runtime.state).arg("--log").arg(self.log()).args(["--log-format", "json"]);
        command.stdin(ProcessStdio::null());
        command
    }

    pub(super) fn io(&self, cause: std::io::Error) -> RuntimeError {
        RuntimeError::Io { verb: self.verb, id: self.id.clone(), cause }
    }

    pub(super) fn answer(&self, runtime: &Runtime, cause: serde_json::Error) -> RuntimeError {
        RuntimeError::Answer { program: runtime.kind.to_string(), id: self.id.clone(), cause }
    }

    pub(super) fn refused(&self, runtime: &Runtime, said: &str) -> RuntimeError {
        let message = logged_error(&self.log()).unwrap_or_else(|| match said.trim() {
            "" => "no reason given".to_owned(),
            said => said.to_owned(),
        });
        RuntimeError::Refused { program: runtime.kind.to_string(), verb: self.verb, id: self.id.clone(), message }
    }
}

/// Ends a foreground container whose caller lost interest.
pub(super) struct DeleteOnDrop<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) id: &'a str,
    pub(super) armed: bool,
}

impl Drop for DeleteOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            // Nothing can wait here but a blocking call; it takes some ten milliseconds.
            drop(
                std::process::Command::new(&self.runtime.program)
                    .arg("--root")
                    .arg(&self.runtime.state)
                    .args(["delete", "--force", self.id])
                    .stdin(ProcessStdio::null())
                    .stdout(ProcessStdio::null())
                    .stderr(ProcessStdio::null())
                    .status(),
            );
        }
    }
}
