//! The journal against torn, damaged and foreign files.

use super::*;
use crate::machine::{Author, OpId, PrepareSource, ReleaseRef};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn asked(version: &str) -> Event {
    let release = ReleaseRef { version: version.parse().unwrap(), digest: Digest::sha256(version.as_bytes()) };
    Event::PrepareAsked { source: PrepareSource::Release { release }, by: Author::Person }
}

fn written(dir: &Path, records: usize) {
    let (mut journal, _) = Journal::open(dir).unwrap();
    for number in 0..records {
        journal.append(Record::PrepBegin, &asked(&format!("1.{number}")), at(1)).unwrap();
    }
}

#[test]
fn what_was_appended_is_read_again_and_folds() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 3);
    let (mut journal, entries) = Journal::open(dir.path()).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(fold(&entries, at(0)).unwrap().generations.len(), 3);
    assert_eq!(journal.append(Record::PrepBegin, &asked("2"), at(2)).unwrap().seq, 4);
}

#[test]
fn a_second_agent_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let (_held, _) = Journal::open(dir.path()).unwrap();
    assert!(matches!(Journal::open(dir.path()), Err(JournalError::Locked { .. })));
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 2);
    let path = dir.path().join("journal");
    let whole = std::fs::read(&path).unwrap();
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for length in first..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let (_, entries) = Journal::open(dir.path()).unwrap();
        assert_eq!(entries.len(), 1, "cut at {length}");
        assert_eq!(std::fs::read(&path).unwrap(), whole[..first]);
    }
    // A tail of garbage that happens to end in a newline is a torn one as well.
    std::fs::write(&path, [&whole[..first], b"\0\0\0\n"].concat()).unwrap();
    assert_eq!(Journal::open(dir.path()).unwrap().1.len(), 1);
}

#[test]
fn damage_in_the_middle_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 3);
    let path = dir.path().join("journal");
    let whole = std::fs::read(&path).unwrap();
    for byte in [20, 60] {
        let mut flipped = whole.clone();
        flipped[byte] ^= 1;
        std::fs::write(&path, flipped).unwrap();
        let error = Journal::open(dir.path()).unwrap_err();
        assert!(matches!(error, JournalError::Damaged { line: 1, .. }), "{error}");
    }
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    std::fs::write(&path, [lines[0], lines[2]].concat()).unwrap();
    let error = Journal::open(dir.path()).unwrap_err();
    assert!(error.to_string().ends_with("line 2: record 3 stands where 2 belongs"), "{error}");
    std::fs::write(&path, [lines[0], lines[1], lines[1]].concat()).unwrap();
    assert!(matches!(Journal::open(dir.path()), Err(JournalError::Damaged { line: 3, .. })));
}

#[test]
fn a_newer_format_is_not_guessed_at() {
    let dir = tempfile::tempdir().unwrap();
    let json = r#"{"version":9,"seq":1}"#;
    std::fs::write(dir.path().join("journal"), format!("{} {json}\n", digits(json.as_bytes()))).unwrap();
    let error = Journal::open(dir.path()).unwrap_err();
    assert!(error.to_string().contains("a newer nebh (version 9)"), "{error}");
}

#[test]
fn ids_of_one_second_differ() {
    assert_ne!(OpId::compose(1_700_000_000, 1), OpId::compose(1_700_000_000, 2));
    assert!(OpId::compose(1, 0) < OpId::compose(2, 0));
}

/// The life in the fixture: 1.0.0 committed, 1.1.0 died open, the other choice taken, the left timeline adopted.
#[test]
fn a_journal_of_version_1_is_read_and_leads_where_it_did() {
    let text = include_str!("version-1.journal");
    let (entries, length) = read(Path::new("version-1.journal"), text.as_bytes()).unwrap();
    assert_eq!(length, text.len() as u64);
    let state = fold(&entries, at(0)).unwrap();
    let seen = serde_json::to_value(&state).unwrap();
    let wanted: serde_json::Value = serde_json::from_str(include_str!("version-1.state.json")).unwrap();
    assert_eq!(seen, wanted);
}
