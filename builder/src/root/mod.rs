//! Root trees made from distribution packages that are only unpacked: no script of a package ever runs. What most
//! scripts would have done is done by small declared finishers.
//!
//! ```text
//!   .deb ─► ar ─► control.tar ─► PackageFacts ─► finish (Pure) ─► FileTree: users, CA bundle, alternatives, …
//!                 data.tar    ─► FileTree ──┬─► layers of an image (assembly)
//!                                           └─► folder of a toolchain (materialize)
//! ```
//!
//! A package is signed by its distribution, yet its bytes are read as foreign input: sizes, counts and paths are bounded,
//! devices are refused, and nothing is ever written through a link.

mod ar;
mod deb;
mod facts;
mod finish;
mod limits;
mod materialize;
mod members;
mod scripts;
mod tar_tree;

pub use ar::{ArError, ArReader};
pub use deb::{Deb, DebError, merged_place, read_deb};
pub use facts::{FACTS_VERSION, PackageFacts};
pub use finish::{FINISHERS, FinishError, finish};
pub use limits::{Limits, TarTreeError};
pub use materialize::{MaterializeError, materialize};
pub use scripts::unhandled_script;
pub use tar_tree::{Place, read_tar_tree};

#[cfg(test)]
pub(crate) mod tests;
