//! The records of a run: small files that are renamed into place whole.
//!
//! Side effects: reads and writes them in the folder of the run.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::process::Process;

/// Version of the records of a run.
const VERSION: u32 = 1;

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exit {
    /// By itself.
    Code {
        /// Its exit code.
        code: i32,
    },
    /// By a signal.
    Signal {
        /// Its number.
        number: i32,
        /// Its name, like `SIGSEGV`.
        name: String,
    },
}

impl Exit {
    /// The end by this signal.
    pub fn signal(number: i32) -> Self {
        const NAMES: [&str; 32] = [
            "",
            "SIGHUP",
            "SIGINT",
            "SIGQUIT",
            "SIGILL",
            "SIGTRAP",
            "SIGABRT",
            "SIGBUS",
            "SIGFPE",
            "SIGKILL",
            "SIGUSR1",
            "SIGSEGV",
            "SIGUSR2",
            "SIGPIPE",
            "SIGALRM",
            "SIGTERM",
            "SIGSTKFLT",
            "SIGCHLD",
            "SIGCONT",
            "SIGSTOP",
            "SIGTSTP",
            "SIGTTIN",
            "SIGTTOU",
            "SIGURG",
            "SIGXCPU",
            "SIGXFSZ",
            "SIGVTALRM",
            "SIGPROF",
            "SIGWINCH",
            "SIGIO",
            "SIGPWR",
            "SIGSYS",
        ];
        let known = usize::try_from(number).ok().and_then(|number| NAMES.get(number)).filter(|name| !name.is_empty());
        let name = known.map_or_else(|| format!("signal {number}"), |name| (*name).to_owned());
        Self::Signal { number, name }
    }
}

/// `created.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Created {
    /// The first process.
    Process(Process),
    /// Why there is none.
    Failed {
        /// The chain of causes.
        why: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Record<T> {
    version: u32,
    record: T,
}

/// Writes one record whole.
pub(super) fn write_record<T: Serialize>(folder: &Path, name: &str, record: &T) -> io::Result<()> {
    let half = folder.join(format!(".{name}.half"));
    let mut file = File::create(&half)?;
    file.write_all(&serde_json::to_vec(&Record { version: VERSION, record })?)?;
    file.sync_data()?;
    fs::rename(&half, folder.join(name))
}

/// Reads one record, if it is there.
pub(super) fn read_record<T: DeserializeOwned>(folder: &Path, name: &str) -> Option<T> {
    // Records are renamed into place whole: one that cannot be read is as good as none.
    let record: Record<T> = serde_json::from_slice(&fs::read(folder.join(name)).ok()?).ok()?;
    (record.version == VERSION).then_some(record.record)
}
