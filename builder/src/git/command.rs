//! How git is run: with an environment of our own and no door to anybody's programs. Side effect: one process a call.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group, prlimit};

/// Bytes of git's own error text that are shown.
const COMPLAINT_BYTES_MAX: u64 = 2000;

/// Why a source could not be read.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The program is not there or cannot start.
    #[error("cannot run `git`")]
    Start(#[source] std::io::Error),
    /// Git refused.
    #[error("`git {verb}` failed: {complaint}")]
    Failed {
        /// What was asked.
        verb: String,
        /// What git said, without control characters.
        complaint: String,
    },
    /// The folder is in no repository.
    #[error("`{0}` is not in a git repository")]
    NoRepository(PathBuf),
    /// The revision names no commit.
    #[error("`{0}` names no commit")]
    NoCommit(String),
    /// The address is not one that we fetch from.
    #[error("`{url}` is not an address to fetch from: {rule}")]
    Address {
        /// The address.
        url: String,
        /// What it should be.
        rule: &'static str,
    },
    /// Something in the tree that no build takes.
    #[error("`{path}`: {why}")]
    Refused {
        /// The path in the tree.
        path: String,
        /// Why it is refused.
        why: String,
    },
    /// No such file in the commit.
    #[error("`{0}` is not in the commit")]
    NoFile(String),
    /// Git printed something else than its documentation says.
    #[error("unexpected answer of `git {0}`")]
    Answer(&'static str),
    /// More than a source may have.
    #[error("{what}: more than {max}")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        max: u64,
    },
    /// A file of an export or of the cache.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        cause: std::io::Error,
    },
}

/// Which transports one run of git may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transports {
    /// None: everything is already here.
    None,
    /// The one that the address names.
    Of(&'static str),
}

/// What one run of git may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// How long it may run: a server that sends a byte now and then must not keep a worker for ever.
    pub(super) within: Duration,
    /// Bytes of one file that it writes, so of one pack.
    pub(super) file_bytes: u64,
    /// Bytes that it may print for one question; blobs are read in another way.
    pub(super) answer_bytes: u64,
}

impl Bounds {
    /// Far above the largest public repositories at depth 1.
    pub(super) const DEFAULT: Self =
        Self { within: Duration::from_hours(1), file_bytes: 16 << 30, answer_bytes: 256 << 20 };
}

/// One run of git in a repository.
#[derive(Debug)]
pub(super) struct Git<'a> {
    /// The top of the work tree, or the bare repository. Git never looks for another one: below it may lie files of a
    /// commit that look like one, with a configuration of its own.
    pub(super) top: &'a Path,
    /// The folder it runs in.
    pub(super) folder: &'a Path,
    /// What it may use.
    pub(super) transports: Transports,
    /// A configuration file of ours, for what git takes from no command line.
    pub(super) config: Option<&'a Path>,
    /// What it may take.
    pub(super) bounds: Bounds,
}

impl<'a> Git<'a> {
    /// A run that reads what is here.
    pub(super) fn local(top: &'a Path) -> Self {
        Self { top, folder: top, transports: Transports::None, config: None, bounds: Bounds::DEFAULT }
    }

    /// The command with everything switched off that could start another program or read another file.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new("git");
        command.current_dir(self.folder).env_clear().stdin(Stdio::null());
        // The keys of ssh are the person's own, and ssh finds them by these.
        for name in ["PATH", "HOME", "SSH_AUTH_SOCK", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", self.config.map_or(OsStr::new("/dev/null"), Path::as_os_str))
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "false")
            .env("SSH_ASKPASS", "false")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_LITERAL_PATHSPECS", "1")
            .env("GIT_PROTOCOL_FROM_USER", "0")
            .env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes -oPermitLocalCommand=no")
            .env(
                "GIT_ALLOW_PROTOCOL",
                match self.transports {
                    Transports::None => "",
                    Transports::Of(scheme) => scheme,
                },
            );
        for setting in [
            "core.hooksPath=/dev/null",
            "core.fsmonitor=false",
            "core.untrackedCache=false",
            "core.attributesFile=/dev/null",
            "core.excludesFile=/dev/null",
            "core.alternateRefsCommand=",
            "credential.helper=",
            "transfer.fsckObjects=true",
            "transfer.bundleURI=false",
            "fetch.recurseSubmodules=false",
            "fetch.unpackLimit=1",
            "submodule.recurse=false",
            "http.followRedirects=false",
            "http.lowSpeedLimit=1000",
            "http.lowSpeedTime=60",
            "gc.auto=0",
            "maintenance.auto=false",
        ] {
            command.args(["-c", setting]);
        }
        let inner = self.top.join(".git");
        if inner.exists() {
            command.env("GIT_DIR", inner).env("GIT_WORK_TREE", self.top);
        } else {
            command.env("GIT_DIR", self.top);
        }
        command.args(["-c", "safe.bareRepository=explicit", "--no-pager", "--no-optional-locks"]);
        command
    }

    /// Runs git and gives what it printed.
    pub(super) fn ask<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Vec<u8>, GitError> {
        let mut command = self.command();
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let verb = verb(&command);
        let fetches = self.transports != Transports::None;
        if fetches {
            // A group of its own: with git end also the helpers that it started.
            command.process_group(0);
        }
        let mut child = command.spawn().map_err(GitError::Start)?;
        let watch = fetches.then(|| self.bound(&child));
        let complaints = child.stderr.take().map(|stderr| std::thread::spawn(move || start_of(stderr)));
        let mut answer = Vec::new();
        let read = match child.stdout.take() {
            Some(stdout) => stdout.take(self.bounds.answer_bytes + 1).read_to_end(&mut answer),
            None => Ok(0),
        };
        let status = child.wait().map_err(GitError::Start)?;
        let in_time = watch.is_none_or(Watch::end);
        let complaint = complaints.and_then(|thread| thread.join().ok()).unwrap_or_default();
        read.map_err(GitError::Start)?;
        if !in_time {
            return Err(GitError::TooMuch { what: "seconds of a fetch", max: self.bounds.within.as_secs() });
        }
        if answer.len() as u64 > self.bounds.answer_bytes {
            return Err(GitError::TooMuch { what: "bytes of an answer of git", max: self.bounds.answer_bytes });
        }
        if !status.success() {
            return Err(GitError::Failed { verb, complaint: printable(&complaint) });
        }
        Ok(answer)
    }

    /// Holds a run to its bounds until the watch ends.
    fn bound(&self, child: &Child) -> Watch {
        let pid = Pid::from_child(child);
        let file = Some(self.bounds.file_bytes);
        if let Err(error) = prlimit(Some(pid), Resource::Fsize, Rlimit { current: file, maximum: file }) {
            tracing::warn!(%error, "a fetch has no limit of its size");
        }
        let (done, ended) = mpsc::channel();
        let within = self.bounds.within;
        let thread = std::thread::spawn(move || {
            let late = ended.recv_timeout(within) == Err(RecvTimeoutError::Timeout);
            if late {
                let _gone_already = kill_process_group(pid, Signal::KILL);
            }
            !late
        });
        Watch { done, thread }
    }
}

/// Somebody who looks at the clock while git runs.
struct Watch {
    done: mpsc::Sender<()>,
    thread: JoinHandle<bool>,
}

impl Watch {
    /// Ends the watch; whether the time sufficed.
    fn end(self) -> bool {
        drop(self.done);
        self.thread.join().unwrap_or(true)
    }
}

/// The start of what git complains of. All of it is read, so that git never waits for us, but a server may talk for ever.
fn start_of(mut stderr: impl Read) -> Vec<u8> {
    let mut text = Vec::new();
    drop(stderr.by_ref().take(COMPLAINT_BYTES_MAX).read_to_end(&mut text));
    drop(std::io::copy(&mut stderr, &mut std::io::sink()));
    text
}

/// The subcommand, for errors: the first argument after our own settings.
fn verb(command: &Command) -> String {
    let mut arguments = command.get_args();
    while let Some(argument) = arguments.next() {
        if argument == "-c" {
            arguments.next();
        } else if !argument.to_string_lossy().starts_with("--") {
            return argument.to_string_lossy().into_owned();
        }
    }
    String::new()
}

/// What another program said, in one line that cannot steer a terminal.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("hint:"));
    lines.collect::<Vec<_>>().join("; ").chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_that_talks_for_ever_fills_no_memory() {
        let talk = std::io::repeat(b'x').take(64 << 20);
        assert_eq!(start_of(talk).len() as u64, COMPLAINT_BYTES_MAX);
    }
}
