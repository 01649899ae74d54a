//! Whether a lock still answers its buildspec, and if not, which input changed. Pure.

use nebh_face::{Exit, Failure};
use nebh_oci::digest::Digest;

use super::{LOCK_FILE, Lock, LockedLanguage, Request};
use crate::spec::{Buildspec, PackageRequest};

/// How a lock is stale.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// The buildspec asks for a package that the lock does not have.
    #[error("package `{0}` is asked for, but the lock was made without it")]
    PackageAdded(PackageRequest),
    /// The lock has a package asked for that the buildspec asks for no more.
    #[error("package `{0}` is asked for no more, but the lock was made with it")]
    PackageRemoved(PackageRequest),
    /// Base, toolchain or accepted suites differ.
    #[error("`{field}` is `{now}` in the buildspec, but the lock was made for `{locked}`")]
    Changed {
        /// The field of the buildspec.
        field: &'static str,
        /// Its value now.
        now: String,
        /// Its value when the lock was made.
        locked: String,
    },
    /// `Cargo.lock` has other bytes than when the lock was made.
    #[error("`Cargo.lock` has digest {now}, but the lock was made for {locked}")]
    CargoLock {
        /// Its digest now.
        now: Digest,
        /// Its digest when the lock was made.
        locked: Digest,
    },
    /// The step needs `Cargo.lock`, and the commit has none.
    #[error("`Cargo.lock` is not in the commit")]
    CargoLockMissing,
    /// There was no Rust step when the lock was made.
    #[error("`Cargo.lock` is not covered: the lock was made without a rust step")]
    CargoLockNotCovered,
}

impl Lock {
    /// Refuses a lock that does not answer this buildspec and this `Cargo.lock`, naming the input.
    pub fn check_fresh(&self, buildspec: &Buildspec, cargo_lock: Option<&[u8]>) -> Result<(), Failure> {
        self.stale(buildspec, cargo_lock).map_err(|stale| {
            Failure::new(Exit::Failed, format!("{LOCK_FILE} is stale"))
                .why(stale.to_string())
                .next("run `nebh lock` and commit its result")
        })
    }

    /// [`Lock::check_fresh`] as a typed answer.
    pub fn stale(&self, buildspec: &Buildspec, cargo_lock: Option<&[u8]>) -> Result<(), Stale> {
        let now = Request::of(buildspec);
        changed("base", now.base.to_string(), self.request.base.to_string())?;
        packages(&now.packages, &self.request.packages)?;
        let text = |toolchain: &Option<crate::spec::Toolchain>| match toolchain {
            Some(toolchain) => toolchain.to_string(),
            None => "none".to_owned(),
        };
        changed("toolchain", text(&now.toolchain), text(&self.request.toolchain))?;
        packages(&now.toolchain_packages, &self.request.toolchain_packages)?;
        let list = |suites: &[crate::spec::Suite]| {
            suites.iter().map(crate::spec::Suite::as_str).collect::<Vec<_>>().join(", ")
        };
        changed("accept-expired", list(&now.accept_expired), list(&self.request.accept_expired))?;
        if buildspec.rust().is_none() {
            return Ok(());
        }
        let now = Digest::sha256(cargo_lock.ok_or(Stale::CargoLockMissing)?);
        match &self.language {
            None => Err(Stale::CargoLockNotCovered),
            Some(LockedLanguage::Rust { cargo_lock: locked, .. }) if *locked != now => {
                Err(Stale::CargoLock { now, locked: *locked })
            }
            Some(LockedLanguage::Rust { .. }) => Ok(()),
        }
    }
}

fn changed(field: &'static str, now: String, locked: String) -> Result<(), Stale> {
    if now == locked { Ok(()) } else { Err(Stale::Changed { field, now, locked }) }
}

fn packages(now: &[PackageRequest], locked: &[PackageRequest]) -> Result<(), Stale> {
    if let Some(added) = now.iter().find(|request| !locked.contains(request)) {
        return Err(Stale::PackageAdded(added.clone()));
    }
    match locked.iter().find(|request| !now.contains(request)) {
        Some(removed) => Err(Stale::PackageRemoved(removed.clone())),
        None => Ok(()),
    }
}
