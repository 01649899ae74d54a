//! Sources from git, read as data: commits, trees and blobs, never a work tree made by git itself.
//!
//! ```text
//!   folder or address ─► Source ─► commit(rev) ─► Commit{id, time}
//!                                  tree(commit) ─► Tree of entries ─► read(path) · export(folder)
//! ```
//!
//! A repository is foreign input. So git runs without hooks, filters, helpers, attributes or anybody's configuration,
//! may start no transport unless a fetch was asked for, and what it prints is parsed strictly. Names that mean something
//! to a file system (`..`, `.git`, links that leave the tree) are refused, not repaired; submodules and LFS pointers are
//! refused by name, because their bytes are not in the commit. Side effects: processes of `git`, and the files of an
//! export.

mod command;
mod export;
mod links;
mod remote;
mod source;
mod tree;
mod work_tree;

pub use command::GitError;
pub use remote::{Remote, RemoteRef};
pub use source::{Changes, Commit, CommitId, Source};
pub use tree::{EntryKind, ObjectId, Tree, TreeEntry};

#[cfg(test)]
mod tests;
