//! The buildspec: what a person writes, parsed once into values that need no further checks.
//!
//! ```text
//!   buildspec.yaml ─► document (serde, positions) ─► check ─► Buildspec
//! ```

mod check;
mod document;
mod nouns;

pub use document::{
    BUILDSPEC_FILE, Base, Buildspec, CopyRule, FilesStep, ImageSpec, Port, Profile, RustStep, Step, Toolchain, User,
};
pub use nouns::{BinName, ImagePath, NounError, PackageName, PackageRequest, Suite, TreePath};

#[cfg(test)]
mod tests;
