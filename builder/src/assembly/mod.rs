//! The assembly contract: everything that decides the bytes of a layer and of an image, under one number.
//!
//! ```text
//!   EntryPath ─► FileTree (declared content, in order) ─► tarball ─► gzip ─► layer in a layout ─► image
//! ```
//!
//! `assembly: 1` says, in the files of this folder and nowhere else:
//! * paths are relative UTF-8, in byte order, folders with a slash at the end, parents that nobody declared added;
//! * owners are numbers without names; modes are twelve bits; times are whole seconds, at most the commit's; a folder's
//!   time is 0, because it says nothing but would change with every package beside it;
//! * ustar headers, PAX records only where ustar has no room, two zero blocks at the end;
//! * gzip members of 1 MiB each, libdeflate level 6, no name, time 0;
//! * canonical JSON for the image config and the manifest.
//!
//! A change of any output byte is a new number; the golden digests in the tests hold this one.

mod content;
mod gzip;
mod layer;
mod path;
mod tarball;
mod tree;

pub use content::{Content, ContentError, Spill};
pub use gzip::{COMPRESSOR, LayerSink};
pub use layer::{AssemblyError, Layer, write_layer};
pub use path::{EntryPath, PathError};
pub use tarball::write_tarball;
pub use tree::{Entry, FileTree, Kind, Meta, TreeError};

/// The number of the contract.
pub const ASSEMBLY: u32 = 1;

#[cfg(test)]
mod tests;
