//! Reads the trust policy and its keys from disk. The same file serves gateway, builder and host.
//!
//! Side effects: reads `trust.yaml` and the key files that it names, relative to it.

use std::path::Path;

use nebh_face::{Exit, Failure};
use nebh_trust::policy::TrustPolicy;

/// Reads the policy as it stands today.
pub(crate) fn read(path: &Path) -> Result<TrustPolicy, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(Exit::Usage, format!("cannot read the trust policy `{}`", path.display())).because(&error)
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    TrustPolicy::parse(&path.display().to_string(), &text, &mut |key| {
        let key = folder.join(key);
        std::fs::read_to_string(&key).map_err(|error| format!("{}: {error}", key.display()))
    })
}
