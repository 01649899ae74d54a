//! The trust policy as it is on the disk now: read again as soon as its file or one of its keys changed, so that a
//! revoked key stops admission without a restart. Owns: reading these files.
//!
//! Every admission looks at the files' states first (a few `stat` calls). A policy that cannot be read any more is not
//! replaced by the one before: nothing that needs a signature is admitted until a person mended it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use nebh_face::{Exit, Failure};
use nebh_oci::small_file;
use nebh_trust::policy::TrustPolicy;

use crate::store::read::FileState;

/// A file that changed so shortly before it was read may change once more without a new time of change: such a reading
/// is used once and not remembered.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// The policy could not be read: who asks must refuse.
#[derive(Clone, Debug)]
pub struct Unreadable(Arc<str>);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

type Reading = Result<Arc<TrustPolicy>, Unreadable>;

/// The policy's file, and what was read from it last.
#[derive(Debug)]
pub struct TrustSource {
    path: PathBuf,
    last: Mutex<Option<Last>>,
}

#[derive(Debug)]
struct Last {
    states: Vec<(PathBuf, Option<FileState>)>,
    reading: Reading,
}

impl TrustSource {
    /// Reads the policy for the first time; a gateway does not start with one that is wrong.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        read(path, SystemTime::now()).outcome?;
        Ok(Self { path: path.to_owned(), last: Mutex::new(None) })
    }

    /// The policy as it is now. Blocking.
    pub fn current(&self) -> Reading {
        self.current_at(SystemTime::now())
    }

    fn current_at(&self, now: SystemTime) -> Reading {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = &*last
            && last.states.iter().all(|(path, known)| state(path) == *known)
        {
            return last.reading.clone();
        }
        let found = read(&self.path, now);
        let reading = match found.outcome {
            Ok(policy) => {
                tracing::info!(path = %self.path.display(), "the trust policy was read");
                Ok(Arc::new(policy))
            }
            Err(failure) => {
                tracing::error!(path = %self.path.display(), %failure, "the trust policy cannot be read");
                Err(Unreadable(failure.to_string().into()))
            }
        };
        *last = found.settled.then(|| Last { states: found.states, reading: reading.clone() });
        reading
    }
}

struct Found {
    outcome: Result<TrustPolicy, Failure>,
    /// All files that were read or looked for, as they were *before* they were read: a change in between is seen next.
    states: Vec<(PathBuf, Option<FileState>)>,
    settled: bool,
}

/// Reads the policy and the keys it names; their paths start at the policy's folder.
fn read(path: &Path, now: SystemTime) -> Found {
    let mut states = vec![(path.to_owned(), state(path))];
    let name = path.display().to_string();
    let outcome = small_file::read(path)
        .map_err(|error| Failure::new(Exit::Usage, format!("cannot read trust policy `{name}`")).because(&error))
        .and_then(|text| {
            let folder = path.parent().unwrap_or(Path::new(""));
            TrustPolicy::parse(&name, &text, &mut |key| {
                let key = folder.join(key);
                states.push((key.clone(), state(&key)));
                small_file::read(&key).map_err(|error| error.to_string())
            })
        });
    let settled = states.iter().all(|(_, state)| state.is_none_or(|state| state.is_settled(now, SETTLED_AFTER)));
    Found { outcome, states, settled }
}

fn state(path: &Path) -> Option<FileState> {
    std::fs::metadata(path).ok().map(|found| FileState::of(&found))
}

#[cfg(test)]
mod tests {
    use nebh_trust::key::PrivateKey;

    use super::*;

    const POLICY: &str = "roles:\n  builder: { keys: [a.pub] }\nrules:\n  - { match: \"shop/*\", image: builder }\n";

    /// A folder whose files are old, as files of a running gateway are.
    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            place.write("a.pub", &PrivateKey::generate().unwrap().public().to_pem().unwrap());
            place.write("trust.yaml", POLICY);
            place
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.path(name), text).unwrap();
        }
    }

    #[test]
    fn policy_that_is_wrong_at_the_start_is_refused() {
        let place = Place::new();
        place.write("trust.yaml", "roles: {");
        assert_eq!(TrustSource::open(&place.path("trust.yaml")).unwrap_err().exit, Exit::Usage);
        std::fs::remove_file(place.path("trust.yaml")).unwrap();
        assert_eq!(TrustSource::open(&place.path("trust.yaml")).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn policy_is_read_again_when_its_file_or_a_key_changes_and_never_kept_when_it_cannot_be() {
        let place = Place::new();
        let source = TrustSource::open(&place.path("trust.yaml")).unwrap();
        let first = source.current().unwrap();
        // Replaced key, in place: the file of the policy itself is untouched.
        place.write("a.pub", &PrivateKey::generate().unwrap().public().to_pem().unwrap());
        let second = source.current().unwrap();
        assert_ne!(format!("{first:?}"), format!("{second:?}"));
        std::fs::remove_file(place.path("a.pub")).unwrap();
        assert!(source.current().unwrap_err().to_string().contains("a.pub"));
        place.write("a.pub", &PrivateKey::generate().unwrap().public().to_pem().unwrap());
        source.current().unwrap();
        place.write("trust.yaml", "roles: {");
        source.current().unwrap_err();
        std::fs::remove_file(place.path("trust.yaml")).unwrap();
        source.current().unwrap_err();
    }

    #[test]
    fn policy_that_did_not_change_is_not_read_again() {
        let place = Place::new();
        let source = TrustSource::open(&place.path("trust.yaml")).unwrap();
        let same = |at: SystemTime| {
            let reading = source.current_at(at).unwrap();
            Arc::ptr_eq(&reading, &source.current_at(at).unwrap())
        };
        let written = std::fs::metadata(place.path("trust.yaml")).unwrap().modified().unwrap();
        // A file of this moment may change once more and keep its time; and a time in the future is no ground for trust.
        assert!(!same(written + SETTLED_AFTER / 2) && !same(written - Duration::from_hours(1)));
        assert!(same(written + Duration::from_hours(1)));
        // One that did change is, however long it had been settled.
        place.write("trust.yaml", "roles: {");
        source.current().unwrap_err();
    }

    #[test]
    fn key_file_without_an_end_is_refused() {
        let place = Place::new();
        place.write("trust.yaml", &POLICY.replace("a.pub", "/dev/zero"));
        let failure = TrustSource::open(&place.path("trust.yaml")).unwrap_err();
        assert!(failure.to_string().contains("more than 1048576 bytes"), "{failure}");
    }
}
