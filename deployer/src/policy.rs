//! Reads the trust policy and its keys from disk. The same file serves gateway, builder and host.
//!
//! Side effects: reads `trust.yaml` and the key files that it names, relative to it.

use std::path::Path;

use nebh_face::{Exit, Failure};
use nebh_oci::small_file;
use nebh_trust::policy::TrustPolicy;

/// Reads the policy as it stands today.
pub(crate) fn read(path: &Path) -> Result<TrustPolicy, Failure> {
    let policy = small_file::read(path).map_err(|error| {
        Failure::new(Exit::Usage, format!("cannot read the trust policy `{}`", path.display())).because(&error)
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    TrustPolicy::parse(&path.display().to_string(), &policy, &mut |key| {
        let key = folder.join(key);
        small_file::read(&key).map_err(|error| format!("{}: {error}", key.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_without_an_end_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("trust.yaml");
        let text = "roles:\n  builder: { keys: [/dev/zero] }\nrules:\n  - { match: \"shop/*\", image: builder }\n";
        std::fs::write(&policy, text).unwrap();
        let failure = read(&policy).unwrap_err().to_string();
        assert!(failure.contains("/dev/zero: it has more than 1048576 bytes"), "{failure}");
        let failure = read(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(failure.contains("`/dev/zero`: it has more than"), "{failure}");
    }
}
