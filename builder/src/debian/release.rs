//! A suite's signed index (`InRelease`), after its signature was checked: what it is, how long it is valid, and the
//! digests of the package lists. Pure.

use std::collections::BTreeMap;

use deb822_fast::borrowed::{BorrowedParagraph, parse_borrowed};
use jiff::Timestamp;
use nebh_oci::digest::Digest;

use crate::spec::Suite;

/// Files that one index may list; Debian's list about 3,000.
const FILES_MAX: usize = 200_000;

/// Why an index is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Not the fields of an index.
    #[error("the signed index of suite `{suite}` is malformed: {what}")]
    Malformed {
        /// The suite that was asked for.
        suite: Suite,
        /// What is wrong.
        what: String,
    },
    /// An index of another suite: the mirror mixed them up, or somebody did.
    #[error("the mirror answered for suite `{asked}` with the signed index of `{got}`")]
    OtherSuite {
        /// The suite that was asked for.
        asked: Suite,
        /// What the index says it is.
        got: String,
    },
    /// Its validity is over.
    #[error("the signed index of suite `{suite}` was valid until {until}")]
    Expired {
        /// The suite.
        suite: Suite,
        /// The end of its validity.
        until: Timestamp,
    },
    /// It is from the future.
    #[error("the signed index of suite `{suite}` is of {date}, which is in the future")]
    Future {
        /// The suite.
        suite: Suite,
        /// Its date.
        date: Timestamp,
    },
}

/// One file that an index lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedFile {
    /// What its bytes must be.
    pub digest: Digest,
    /// How many there must be.
    pub size: u64,
}

/// A suite's index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// When it was made.
    pub date: Timestamp,
    /// When its validity ends, if it says so.
    pub valid_until: Option<Timestamp>,
    /// Files by path under `dists/<suite>/`.
    pub files: BTreeMap<String, ListedFile>,
    /// True if files can be had under their digest, so that a mirror's update never mixes two states.
    pub by_hash: bool,
}

impl Release {
    /// Reads the text of a checked index, which must be that of `suite`.
    pub fn parse(suite: &Suite, text: &str) -> Result<Self, ReleaseError> {
        let malformed = |what: &str| ReleaseError::Malformed { suite: suite.clone(), what: what.to_owned() };
        let paragraphs = parse_borrowed(text).map_err(|error| malformed(&error.to_string()))?;
        let [paragraph] = &paragraphs[..] else { return Err(malformed("it is not one paragraph")) };
        let names: Vec<&str> = ["Codename", "Suite"].iter().filter_map(|name| paragraph.get_single(name)).collect();
        if !names.contains(&suite.as_str()) {
            return Err(ReleaseError::OtherSuite { asked: suite.clone(), got: names.join(", ") });
        }
        let time = |name: &str| match paragraph.get_single(name) {
            Some(text) => parse_date(text).map(Some).ok_or_else(|| malformed(&format!("its field {name} is no time"))),
            None => Ok(None),
        };
        Ok(Self {
            date: time("Date")?.ok_or_else(|| malformed("it has no date"))?,
            valid_until: time("Valid-Until")?,
            files: files(paragraph).map_err(|what| malformed(&what))?,
            by_hash: paragraph.get_single("Acquire-By-Hash") == Some("yes"),
        })
    }

    /// Refuses an index out of its time. Says whether it is expired where that was accepted.
    pub fn check_time(&self, suite: &Suite, now: Timestamp, accept_expired: bool) -> Result<bool, ReleaseError> {
        // A day: clocks differ, and mirrors date their index at the start of a run.
        const SKEW_SECONDS_MAX: i64 = 24 * 3600;
        if self.date.as_second() > now.as_second() + SKEW_SECONDS_MAX {
            return Err(ReleaseError::Future { suite: suite.clone(), date: self.date });
        }
        match self.valid_until {
            Some(until) if until < now && !accept_expired => Err(ReleaseError::Expired { suite: suite.clone(), until }),
            Some(until) => Ok(until < now),
            None => Ok(false),
        }
    }
}

fn files(paragraph: &BorrowedParagraph<'_>) -> Result<BTreeMap<String, ListedFile>, String> {
    let lines = paragraph.get("SHA256").ok_or("it lists no files by SHA-256")?;
    let mut files = BTreeMap::new();
    for line in lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()) {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [hex, size, path] = fields[..] else { return Err(format!("the line `{line}`")) };
        let digest = format!("sha256:{hex}").parse().map_err(|_| format!("the digest of `{path}`"))?;
        let size = size.parse().map_err(|_| format!("the size of `{path}`"))?;
        files.insert(path.to_owned(), ListedFile { digest, size });
        if files.len() > FILES_MAX {
            return Err(format!("it lists more than {FILES_MAX} files"));
        }
    }
    Ok(files)
}

/// `Sat, 06 Sep 2026 09:12:34 UTC`: RFC 2822 but for the name of the zone.
fn parse_date(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let zoned = text.strip_suffix("UTC").map(|rest| format!("{rest}+0000"));
    let parsed = jiff::fmt::rfc2822::DateTimeParser::new()
        .relaxed_weekday(true)
        .parse_timestamp(zoned.as_deref().unwrap_or(text));
    parsed.ok()
}
