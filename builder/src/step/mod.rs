//! The typed steps: how each kind of source becomes files of an image.
//!
//! ```text
//!   files: source ────────────────────────────────► FileTree
//!   rust:  crates ─► vendor ─┐
//!          manifests ─► skeleton ─► dependencies ─► (kept by lock, toolchain, flags) ─┐
//!          source ────────────────────────────────► cargo in the sandbox ◄────────────┘ ─► FileTree
//! ```
//!
//! A step's output is a tree that we declare ourselves: which files, which modes, which owner. What else a program left in
//! its output folder is not looked at.

pub mod cargo;
mod collect;
mod dependencies;
mod files;
mod manifest;
mod rust;
mod vendor;

pub use cargo::RustInputs;
pub use files::files;
pub use rust::rust;

#[cfg(test)]
mod tests;
