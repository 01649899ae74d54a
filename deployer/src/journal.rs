//! The journal of one application: the truth about it. One file, only appended to, one writer.
//!
//! ```text
//!   <16 hex digits of SHA-256 over the rest of the line> {"version":1,"seq":7,"at":…,"boot":…,"record":"open","event":{…}}
//! ```
//!
//! Owns `journal`, `journal.lock` and `journal.reserve` in the application's folder.
//!
//! Crash windows: a record that was being written when the power went is a last line that is short or does not fit its
//! digest; it is cut off, because nothing was done on its account yet. A line that does not fit with good lines
//! behind it is damage: nobody can say what was done, and the application waits for a person.
//!
//! Rejected designs: a database (more moving parts than one file that `less` reads); storing states instead of
//! events (a state does not say how it came about).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nebh_oci::digest::Digest;
use nebh_oci::locked_file::LockedFile;
use serde::{Deserialize, Serialize};

use crate::machine::{Event, Record, Refused, State, Transition, step};

/// Version of the line format.
pub(crate) const VERSION: u32 = 1;
/// Hex digits of the digest in front of a line: enough against torn and flipped bytes; it guards no secret.
const DIGITS: usize = 16;
/// A record holds names and reasons, never content.
const RECORD_BYTES_MAX: usize = 256 << 10;
/// Space kept aside so that a full disk cannot keep a rollback from being written down.
const RESERVE_BYTES: u64 = 256 << 10;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Format version.
    pub version: u32,
    /// Counts from 1 without gaps.
    pub seq: u64,
    /// When it was written, by this node's clock; for display and deadlines only.
    #[serde(with = "crate::machine::stamp")]
    pub at: Timestamp,
    /// The boot it was written in.
    pub boot: String,
    /// What it means.
    pub record: Record,
    /// What happened.
    pub event: Event,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system said no.
    #[error("cannot {what} the journal `{path}`")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// Another agent has it.
    #[error("the journal `{path}` is in use by another agent")]
    Locked {
        /// Which file.
        path: PathBuf,
    },
    /// A line in the middle is not what was written.
    #[error("the journal `{path}` is damaged in line {line}: {why}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

/// An open journal: the right to append.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    seq: u64,
    boot: String,
    _lock: LockedFile,
}

impl Journal {
    /// Opens or creates the journal in `dir` and reads every record. A torn last record is cut off.
    pub fn open(dir: &Path) -> Result<(Self, Vec<Entry>), JournalError> {
        let path = dir.join("journal");
        let io = |what| {
            let path = path.clone();
            move |source| JournalError::Io { what, path, source }
        };
        std::fs::create_dir_all(dir).map_err(io("make the folder of"))?;
        let Some(lock) = LockedFile::claim_service(&dir.join("journal.lock")).map_err(io("lock"))? else {
            return Err(JournalError::Locked { path });
        };
        let mut options = OpenOptions::new();
        let mut file = options.create(true).read(true).append(true).open(&path).map_err(io("open"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io("read"))?;
        let (entries, length) = read(&path, &bytes)?;
        if length < bytes.len() as u64 {
            tracing::warn!(path = %path.display(), "the last journal record was torn and is cut off");
            file.set_len(length).map_err(io("cut"))?;
        }
        file.sync_all().map_err(io("sync"))?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("sync the folder of"))?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(io("name the boot in"))?;
        let seq = entries.last().map_or(0, |entry| entry.seq);
        let journal = Self { path, file, length, seq, boot: boot.trim().to_owned(), _lock: lock };
        if let Err(error) = journal.keep_space() {
            tracing::warn!(error = nebh_face::failure::chain(&error), "no space can be kept aside for the journal");
        }
        Ok((journal, entries))
    }

    /// Id of the present boot.
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// Appends one record; durable ones are on the disk when this returns. After an error the journal is as before.
    pub fn append(&mut self, record: Record, event: &Event, at: Timestamp) -> Result<Entry, JournalError> {
        let entry =
            Entry { version: VERSION, seq: self.seq + 1, at, boot: self.boot.clone(), record, event: event.clone() };
        let line = line(&entry).map_err(|source| self.error("write", source))?;
        if let Err(source) = self.write(&line, record.is_durable()) {
            if source.kind() != io::ErrorKind::StorageFull {
                return Err(self.error("write", source));
            }
            // A full disk: give back the space that is kept for this moment and try once more.
            drop(std::fs::remove_file(self.reserve_path()));
            self.write(&line, record.is_durable()).map_err(|source| self.error("write", source))?;
        }
        self.length += line.len() as u64;
        self.seq = entry.seq;
        Ok(entry)
    }

    fn write(&mut self, line: &[u8], durable: bool) -> io::Result<()> {
        let written = self.file.write_all(line).and_then(|()| if durable { self.file.sync_data() } else { Ok(()) });
        if written.is_err() {
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::End(0))?;
        }
        written
    }

    fn error(&self, what: &'static str, source: io::Error) -> JournalError {
        JournalError::Io { what, path: self.path.clone(), source }
    }

    fn reserve_path(&self) -> PathBuf {
        self.path.with_extension("reserve")
    }

    /// Keeps space aside for the moment when the disk is full, unless it is kept already. What begins something new asks
    /// for this first: its end, or the way back from it, could not be written down otherwise.
    pub fn keep_space(&self) -> Result<(), JournalError> {
        let path = self.reserve_path();
        if std::fs::metadata(&path).is_ok_and(|found| found.len() == RESERVE_BYTES) {
            return Ok(());
        }
        let blank = vec![0_u8; usize::try_from(RESERVE_BYTES).unwrap_or(0)];
        std::fs::write(&path, blank).map_err(|source| {
            // A part of it would only take space from what is needed more.
            drop(std::fs::remove_file(&path));
            self.error("keep space aside for", source)
        })
    }
}

/// One entry as it stands in the file.
pub(crate) fn line(entry: &Entry) -> io::Result<Vec<u8>> {
    let json = serde_json::to_string(entry)?;
    if json.len() > RECORD_BYTES_MAX {
        return Err(io::Error::other(format!("a record of {} bytes, more than {RECORD_BYTES_MAX}", json.len())));
    }
    Ok(format!("{} {json}\n", digits(json.as_bytes())).into_bytes())
}

fn digits(bytes: &[u8]) -> String {
    let mut hex = Digest::sha256(bytes).hex();
    hex.truncate(DIGITS);
    hex
}

/// All good records, and how many bytes they take.
fn read(path: &Path, bytes: &[u8]) -> Result<(Vec<Entry>, u64), JournalError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut good = 0_usize;
    let mut torn: Option<(usize, String)> = None;
    for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if let Some((line, why)) = torn {
            return Err(JournalError::Damaged { path: path.to_owned(), line, why });
        }
        let seq = entries.last().map_or(0, |entry: &Entry| entry.seq) + 1;
        match entry(line) {
            Ok(entry) if entry.seq == seq => {
                entries.push(entry);
                good += line.len();
            }
            // A whole, unharmed line in the wrong place was not torn by a power cut.
            Ok(entry) => {
                let why = format!("record {} stands where {seq} belongs", entry.seq);
                return Err(JournalError::Damaged { path: path.to_owned(), line: number + 1, why });
            }
            Err(Unfit::Newer(version)) => {
                let why = format!("it was written by a newer nebh (version {version})");
                return Err(JournalError::Damaged { path: path.to_owned(), line: number + 1, why });
            }
            Err(Unfit::Broken(why)) => torn = Some((number + 1, why)),
        }
    }
    Ok((entries, good as u64))
}

enum Unfit {
    Broken(String),
    Newer(u32),
}

#[derive(Deserialize)]
struct Head {
    version: u32,
}

fn entry(line: &[u8]) -> Result<Entry, Unfit> {
    let broken = |why: &str| Unfit::Broken(why.to_owned());
    let line = line.strip_suffix(b"\n").ok_or_else(|| broken("it has no end"))?;
    let text = std::str::from_utf8(line).map_err(|_| broken("it is not text"))?;
    let (mark, json) = text.split_once(' ').ok_or_else(|| broken("it has no digest"))?;
    if mark != digits(json.as_bytes()) {
        return Err(broken("it does not fit its digest"));
    }
    let head: Head = serde_json::from_str(json).map_err(|_| broken("it has no version"))?;
    if head.version > VERSION {
        return Err(Unfit::Newer(head.version));
    }
    serde_json::from_str(json).map_err(|error| broken(&error.to_string()))
}

/// The state that these records lead to.
pub fn fold(entries: &[Entry], now: Timestamp) -> Result<State, (u64, Refused)> {
    let mut state = State::new(entries.first().map_or(now, |entry| entry.at));
    for entry in entries {
        let Transition { next, .. } = step(&state, &entry.event, entry.at).map_err(|refused| (entry.seq, refused))?;
        state = next;
    }
    Ok(state)
}

#[cfg(test)]
mod tests;
