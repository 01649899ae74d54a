//! Files that a person, or a stranger's repository, wrote: YAML and locks.

use nebh_builder::lock::{Lock, Request, cargo};
use nebh_builder::spec::Buildspec;
use nebh_face::{Exit, Failure, document};
use nebh_trust::release::ReleaseSpec;
use serde_json::Value;

/// A refusal is the person's to mend, names the file, and cannot speak to a terminal.
fn said(failure: &Failure) {
    assert_eq!(failure.exit, Exit::Usage);
    let text = failure.to_string();
    assert!(text.contains("some.file"), "{text}");
    assert!(!text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t')), "a control character: {text:?}");
    assert!(text.len() < 16 << 10, "{} bytes of message", text.len());
}

/// Any YAML at all.
pub(crate) fn yaml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(failure) = document::parse::<Value>("some.file", text) {
        said(&failure);
    }
}

/// A buildspec says what a lock is made for, always the same.
pub(crate) fn buildspec(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Buildspec::parse("some.file", text) {
        Err(failure) => said(&failure),
        Ok(spec) => {
            let again = Buildspec::parse("some.file", text).expect("as before");
            assert_eq!(Request::of(&spec), Request::of(&again));
        }
    }
}

/// A release's file.
pub(crate) fn release_spec(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match ReleaseSpec::parse("some.file", text) {
        Err(failure) => said(&failure),
        Ok(spec) => {
            let json = serde_json::to_string(&spec).expect("it can be written");
            assert_eq!(serde_json::from_str::<ReleaseSpec>(&json).expect("and read"), spec);
        }
    }
}

/// A lock has one text.
pub(crate) fn lock(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(lock) = Lock::parse("some.file", text) else { return };
    let written = lock.to_text();
    let again = Lock::parse("some.file", &written).expect("what we write is read");
    assert_eq!(again, lock);
    assert_eq!(again.digest(), lock.digest());
    for input in lock.inputs() {
        drop(input);
    }
}

/// Every crate of the lock has a digest, or the lock is refused.
pub(crate) fn cargo_lock(bytes: &[u8]) {
    if let Ok(crates) = cargo::crates(bytes) {
        assert!(crates.is_sorted(), "in order of name and version");
    }
}
