//! Debian archives: from the signed index of a suite to the set of packages that fulfils a request.
//!
//! ```text
//!   InRelease ─► keyring (signature) ─► release (suite, validity, digests) ─► Packages.xz by digest ─► packages
//!   packages of several suites ─► universe (pins, providers) ─► solve (resolvo) ─► the set, in order of name
//! ```
//!
//! Nothing is taken from a mirror that does not follow, by digest, from a signature of the keyring.

pub mod index;
pub mod keyring;
pub mod packages;
pub mod relation;
pub mod release;
pub mod solve;
pub mod universe;

#[cfg(test)]
mod tests;
