//! The files that one build starts from: a commit, or (asked for, and marked) the work tree as it lies there. Reads git;
//! for a work tree it writes loose objects that no name points to, which git's own housekeeping takes away.

use std::path::Path;

use jiff::Timestamp;
use nebh_face::{Exit, Failure};
use nebh_oci::digest::Digest;
use nebh_oci::json;

use crate::git::{Commit, EntryKind, GitError, Source, Tree};
use crate::lock::LOCK_FILE;
use crate::spec::BUILDSPEC_FILE;

/// What a build starts from.
#[derive(Clone, Debug)]
pub struct Checkout {
    source: Source,
    commit: Commit,
    tree: Tree,
    is_work_tree: bool,
}

/// Which files to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revision {
    /// A commit. With `clean`, uncommitted changes beside it are an error: somebody means to build them.
    Commit {
        /// Its name or id.
        revision: String,
        /// Whether the work tree must say the same.
        clean: bool,
    },
    /// The work tree, committed or not.
    WorkTree,
}

impl Checkout {
    /// Looks up the files.
    pub fn open(source: Source, revision: &Revision) -> Result<Self, Failure> {
        let (commit, is_work_tree) = match revision {
            Revision::Commit { revision, clean } => {
                let commit = source.commit(revision).map_err(|error| failure(&error))?;
                if *clean {
                    refuse_changes(&source, &commit)?;
                }
                (commit, false)
            }
            Revision::WorkTree => {
                let head = source.commit("HEAD").map_err(|error| failure(&error))?;
                let clean = source.changes(&head).map_err(|error| failure(&error))?;
                let is_work_tree = !clean.changed.is_empty() || !clean.untracked.is_empty();
                let commit =
                    if is_work_tree { source.work_tree_commit(&head).map_err(|error| failure(&error))? } else { head };
                (commit, is_work_tree)
            }
        };
        let tree = source.tree(&commit).map_err(|error| failure(&error))?;
        Ok(Self { source, commit, tree, is_work_tree })
    }

    /// The repository.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The commit; for a work tree one that nobody else has.
    pub fn commit(&self) -> &Commit {
        &self.commit
    }

    /// True if these are files that no commit of anybody holds.
    pub fn is_work_tree(&self) -> bool {
        self.is_work_tree
    }

    /// The entries.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The time of the build: seconds of the commit's time, never before 1970.
    pub fn time(&self) -> u64 {
        u64::try_from(self.commit.time.as_second()).unwrap_or(0)
    }

    /// The same as a timestamp.
    pub fn timestamp(&self) -> Timestamp {
        self.commit.time
    }

    /// A file's bytes; `None` if there is no such file.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Failure> {
        if self.tree.get(path).is_none() {
            return Ok(None);
        }
        self.source.read(&self.tree, path).map(Some).map_err(|error| failure(&error))
    }

    /// A text file that a build cannot do without.
    pub fn text(&self, path: &str) -> Result<String, Failure> {
        let named = self.named(path);
        let bytes = self.read(path)?.ok_or_else(|| {
            let failure = Failure::new(Exit::Usage, format!("{named} is not in commit {}", self.commit.id));
            match path {
                LOCK_FILE => failure.next("run `nebh lock` and commit its result"),
                BUILDSPEC_FILE => {
                    failure.next(format!("write {BUILDSPEC_FILE} and commit it, or name the folder that has it"))
                }
                _ => failure,
            }
        })?;
        String::from_utf8(bytes).map_err(|_| Failure::new(Exit::Usage, format!("{named} is not UTF-8")))
    }

    /// A path as a person of this repository knows it.
    pub fn named(&self, path: &str) -> String {
        match self.source.folder_in_repository() {
            "" => path.to_owned(),
            folder => format!("{folder}/{path}"),
        }
    }

    /// The digest of all paths, kinds and bytes: what a step can see of the source.
    pub fn digest(&self) -> Result<Digest, Failure> {
        let list: Vec<(&str, &str, &str)> = self
            .tree
            .entries()
            .map(|entry| {
                let kind = match entry.kind {
                    EntryKind::File => "file",
                    EntryKind::Executable => "executable",
                    EntryKind::Link => "link",
                };
                (entry.path.as_str(), kind, entry.object.as_str())
            })
            .collect();
        let bytes = json::canonical(&list)
            .map_err(|error| Failure::new(Exit::Failed, "cannot hash the source's list of files").because(&error))?;
        Ok(Digest::sha256(&bytes))
    }

    /// Writes all files into `folder`, with fixed modes and the commit's time.
    pub fn export(&self, folder: &Path) -> Result<(), Failure> {
        self.source.export(&self.commit, folder).map(drop).map_err(|error| failure(&error))
    }
}

fn refuse_changes(source: &Source, commit: &Commit) -> Result<(), Failure> {
    let changes = source.changes(commit).map_err(|error| failure(&error))?;
    if changes.is_clean() {
        return Ok(());
    }
    let first = changes.changed.first().map_or("", String::as_str);
    let what = match changes.changed.len() {
        1 => format!("`{first}` has uncommitted changes"),
        count => format!("`{first}` and {} more files have uncommitted changes", count - 1),
    };
    Err(Failure::new(Exit::Usage, what)
        .why("a build is tied to a commit")
        .next("commit them, name a commit with `--commit HEAD`, or build them marked and unsigned with `--worktree`"))
}

/// A failure of git at the edge.
pub fn failure(error: &GitError) -> Failure {
    Failure::new(Exit::Usage, "cannot read the source").because(error)
}
