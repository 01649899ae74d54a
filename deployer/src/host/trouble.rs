//! From every error of the host's parts to a [`Trouble`]: its kind decides the exit code, its text names the nouns.
//! Pure.

use std::error::Error;
use std::io;

use nebh_face::failure::chain;
use nebh_face::{Exit, Failure};
use nebh_oci::client::ClientError;
use nebh_trust::rejection::Rejection;

use crate::data::DataError;
use crate::machine::{Trouble, TroubleKind};

/// Anything that has no kind of its own; a full disk is recognised wherever it was met.
pub(super) fn failed(error: &(dyn Error + 'static)) -> Trouble {
    let kind = if is_full(error) { TroubleKind::NoSpace } else { TroubleKind::Failed };
    Trouble::new(kind, chain(error))
}

/// The registry: not there, or not what it should be.
pub(super) fn from_client(error: &ClientError) -> Trouble {
    let kind = if error.is_tampered() {
        TroubleKind::Refused
    } else if error.is_unreachable() {
        TroubleKind::Unreachable
    } else if is_full(error) {
        TroubleKind::NoSpace
    } else {
        TroubleKind::Failed
    };
    let text = chain(error);
    Trouble::new(kind, if error.is_tampered() { format!("tampered with: {text}") } else { text })
}

/// The content of something whose signature verified. A registry that sets damaged bytes aside answers "not found":
/// to whoever wants the right ones that is the same as wrong ones.
pub(super) fn from_content(error: &ClientError) -> Trouble {
    if !error.is_not_found() {
        return from_client(error);
    }
    let text = format!("tampered with, or lost: the registry has not the bytes that were signed: {}", chain(error));
    Trouble::new(TroubleKind::Refused, text)
}

/// Trust said no.
pub(super) fn refused(rejection: &Rejection) -> Trouble {
    Trouble::new(TroubleKind::Refused, rejection.to_string())
}

/// A data driver.
pub(super) fn from_data(error: &DataError) -> Trouble {
    let kind = match error {
        _ if error.is_full() => TroubleKind::NoSpace,
        DataError::Unfit { .. } => TroubleKind::Wrong,
        _ => TroubleKind::Failed,
    };
    Trouble::new(kind, chain(error))
}

/// A failure that was written for a person.
pub(super) fn from_failure(failure: &Failure) -> Trouble {
    let kind = match failure.exit {
        Exit::Usage => TroubleKind::Wrong,
        Exit::Refused => TroubleKind::Refused,
        Exit::Unreachable => TroubleKind::Unreachable,
        Exit::Failed | Exit::ChangedBack | Exit::NeedsOperator | Exit::Interrupted => TroubleKind::Failed,
    };
    Trouble::new(kind, failure.to_string())
}

/// The node cannot do what the release asks for.
pub(super) fn wrong(text: impl Into<String>) -> Trouble {
    Trouble::new(TroubleKind::Wrong, text)
}

fn is_full(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
            return true;
        }
        next = error.source();
    }
    // Where an error crossed a process or a thread as text, only the kernel's words are left.
    let text = chain(error);
    text.contains("No space left on device") || text.contains("Disk quota exceeded")
}
