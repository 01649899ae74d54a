//! One repository and the folder in it that a build looks at.

use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use jiff::Timestamp;

use super::command::{Git, GitError};
use super::tree::{EntryKind, ObjectId, Tree, TreeEntry, refused};

/// Bytes of a file that is read into memory (buildspec, lock files).
const READ_BYTES_MAX: u64 = 64 << 20;
/// Characters of a revision: names of branches, tags, `HEAD~2`, object ids.
const REVISION_LENGTH_MAX: usize = 250;

/// A commit's own id: names it, in provenance and everywhere.
pub type CommitId = ObjectId;

/// One commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its id.
    pub id: CommitId,
    /// The committer's time: the clock of the build.
    pub time: Timestamp,
}

/// What is in the work tree but not in the commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Files of the commit that were changed, removed or staged otherwise.
    pub changed: Vec<String>,
    /// Files that the commit does not have and no ignore file names.
    pub untracked: Vec<String>,
}

impl Changes {
    /// True if the commit says all that matters: new files are not part of it in any case.
    pub fn is_clean(&self) -> bool {
        self.changed.is_empty()
    }
}

/// A repository on this machine, and a folder in it.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where git runs: the top of the work tree, or the bare repository.
    folder: PathBuf,
    /// The source's folder in the tree, with a slash at the end, or empty.
    prefix: String,
    is_bare: bool,
}

impl Source {
    /// The repository that holds `folder`; the source is that folder and what is below it.
    pub fn open(folder: &Path) -> Result<Self, GitError> {
        let io = |cause| GitError::Io { action: "open", path: folder.to_owned(), cause };
        let folder = fs::canonicalize(folder).map_err(io)?;
        // Found by looking for `.git`, so that git's own search up to the root of the machine never decides.
        let top = folder.ancestors().find(|candidate| candidate.join(".git").exists());
        if let Some(top) = top {
            let inner = folder.strip_prefix(top).unwrap_or(Path::new(""));
            let inner = inner.to_str().ok_or_else(|| GitError::NoRepository(folder.clone()))?;
            let prefix = if inner.is_empty() { String::new() } else { format!("{inner}/") };
            return Ok(Self { folder: top.to_owned(), prefix, is_bare: false });
        }
        if folder.join("objects").is_dir() && folder.join("HEAD").is_file() {
            return Ok(Self::bare(folder));
        }
        Err(GitError::NoRepository(folder))
    }

    /// A bare repository; the source is its whole tree.
    pub(super) fn bare(folder: PathBuf) -> Self {
        Self { folder, prefix: String::new(), is_bare: true }
    }

    /// The same repository, looked at in another folder of its tree.
    #[must_use]
    pub fn at(&self, folder: &str) -> Self {
        let prefix = if folder.is_empty() { String::new() } else { format!("{}/", folder.trim_end_matches('/')) };
        Self { prefix, ..self.clone() }
    }

    /// The source's folder inside the repository; empty at its top.
    pub fn folder_in_repository(&self) -> &str {
        self.prefix.trim_end_matches('/')
    }

    /// The folder on disk, if there is a work tree.
    pub fn work_tree(&self) -> Option<PathBuf> {
        (!self.is_bare).then(|| self.folder.join(&self.prefix))
    }

    pub(super) fn git(&self) -> Git<'_> {
        Git::local(&self.folder)
    }

    /// The commit that a revision names.
    pub fn commit(&self, revision: &str) -> Result<Commit, GitError> {
        let odd = revision.is_empty()
            || revision.len() > REVISION_LENGTH_MAX
            || revision.starts_with('-')
            || revision.chars().any(|c| c.is_control() || c.is_whitespace());
        if odd {
            return Err(GitError::NoCommit(revision.escape_debug().collect()));
        }
        let wanted = format!("{revision}^{{commit}}");
        let answer = self.git().ask(["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted]);
        let answer = match answer {
            // Asked to be quiet, git says nothing of a name that it does not know.
            Err(GitError::Failed { complaint, .. })
                if complaint.is_empty() || complaint.contains("expected commit type") =>
            {
                return Err(GitError::NoCommit(revision.to_owned()));
            }
            other => other?,
        };
        let id = std::str::from_utf8(&answer).ok().and_then(|text| ObjectId::parse(text.trim_end()));
        let id = id.ok_or(GitError::Answer("rev-parse"))?;
        let raw = self.git().ask(["cat-file", "commit", id.as_str()])?;
        let time = committer_time(&raw).ok_or(GitError::Answer("cat-file"))?;
        Ok(Commit { id, time })
    }

    /// The files and links of a commit below the source's folder.
    pub fn tree(&self, commit: &Commit) -> Result<Tree, GitError> {
        let whole = format!("{}:{}", commit.id, self.folder_in_repository());
        let answer = self.git().ask(["ls-tree", "-r", "-z", "-l", "--full-tree", &whole]);
        match answer {
            Err(GitError::Failed { .. }) if !self.prefix.is_empty() => {
                Err(GitError::NoFile(self.folder_in_repository().to_owned()))
            }
            other => Tree::parse(&other?),
        }
    }

    /// The bytes of one file of a commit. Links are not followed.
    pub fn read(&self, tree: &Tree, path: &str) -> Result<Vec<u8>, GitError> {
        let entry = tree.get(path).ok_or_else(|| GitError::NoFile(path.to_owned()))?;
        if entry.kind == EntryKind::Link {
            return Err(refused(path, "is a link, and a file is needed"));
        }
        if entry.size > READ_BYTES_MAX {
            return Err(GitError::TooMuch { what: "bytes of a file", max: READ_BYTES_MAX });
        }
        let mut bytes = Vec::new();
        let mut blobs = self.blobs()?;
        blobs.copy(entry, &mut bytes)?;
        Ok(bytes)
    }

    /// What is in the work tree but not in `commit`, by comparing bytes: git's own answer would run filters that the
    /// repository names.
    pub fn changes(&self, commit: &Commit) -> Result<Changes, GitError> {
        let Some(top) = self.work_tree() else { return Ok(Changes::default()) };
        let tree = self.tree(commit)?;
        let mut changes = Changes::default();
        let mut blobs = self.blobs()?;
        let mut bytes = Vec::new();
        for entry in tree.entries() {
            let here = read_here(&top.join(&entry.path), entry);
            bytes.clear();
            let same = match here {
                Some(here) => {
                    blobs.copy(entry, &mut bytes)?;
                    here == bytes
                }
                None => false,
            };
            if !same {
                changes.changed.push(entry.path.clone());
            }
        }
        let others = self.git_in(&top).ask(["ls-files", "-z", "--others", "--exclude-standard"])?;
        changes.untracked = names(&others);
        let staged = self.git_in(&top).ask(["ls-files", "-z", "--cached"])?;
        changes.changed.extend(names(&staged).into_iter().filter(|name| tree.get(name).is_none()));
        Ok(changes)
    }

    fn git_in<'a>(&'a self, folder: &'a Path) -> Git<'a> {
        Git { folder, ..self.git() }
    }

    pub(super) fn blobs(&self) -> Result<Blobs, GitError> {
        let mut command = self.git().command();
        command.args(["cat-file", "--batch"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(GitError::Start)?;
        let (Some(ask), Some(answer)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(GitError::Answer("cat-file"));
        };
        Ok(Blobs { child, ask: Some(ask), answer: BufReader::new(answer) })
    }
}

fn names(answer: &[u8]) -> Vec<String> {
    let names = answer.split(|b| *b == 0).filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

/// What stands in the work tree at the place of `entry`, if it is of its kind and size.
fn read_here(path: &Path, entry: &TreeEntry) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::PermissionsExt;
    let there = fs::symlink_metadata(path).ok()?;
    let executable = there.permissions().mode() & 0o100 != 0;
    match entry.kind {
        EntryKind::Link if there.is_symlink() => Some(fs::read_link(path).ok()?.into_os_string().into_vec()),
        EntryKind::File | EntryKind::Executable
            if there.is_file() && there.len() == entry.size && executable == (entry.kind == EntryKind::Executable) =>
        {
            fs::read(path).ok()
        }
        _ => None,
    }
}

/// Seconds of the line `committer NAME <MAIL> SECONDS ZONE` of a raw commit.
fn committer_time(raw: &[u8]) -> Option<Timestamp> {
    let head = raw.split(|b| *b == b'\n').take_while(|line| !line.is_empty());
    let line = head.into_iter().find_map(|line| line.strip_prefix(b"committer "))?;
    let after = &line[line.iter().rposition(|b| *b == b'>')? + 1..];
    let seconds = std::str::from_utf8(after).ok()?.split_ascii_whitespace().next()?;
    Timestamp::from_second(seconds.parse().ok()?).ok()
}

/// One `git cat-file --batch`: many blobs, one process.
#[derive(Debug)]
pub(super) struct Blobs {
    child: Child,
    ask: Option<ChildStdin>,
    answer: BufReader<ChildStdout>,
}

impl Blobs {
    /// Writes the bytes of one entry to `to`.
    pub(super) fn copy(&mut self, entry: &TreeEntry, to: &mut dyn Write) -> Result<(), GitError> {
        const ODD: GitError = GitError::Answer("cat-file");
        let ask = self.ask.as_mut().ok_or(ODD)?;
        writeln!(ask, "{}", entry.object).and_then(|()| ask.flush()).map_err(GitError::Start)?;
        let mut head = String::new();
        self.answer.by_ref().take(256).read_line(&mut head).map_err(|_| ODD)?;
        if head.trim_end() != format!("{} blob {}", entry.object, entry.size) {
            return Err(ODD);
        }
        let mut blob = self.answer.by_ref().take(entry.size);
        let copied = io::copy(&mut blob, to);
        let copied = copied.map_err(|cause| GitError::Io { action: "write", path: (&entry.path).into(), cause })?;
        let mut end = [0];
        self.answer.read_exact(&mut end).map_err(|_| ODD)?;
        if copied == entry.size && end == *b"\n" { Ok(()) } else { Err(ODD) }
    }
}

impl Drop for Blobs {
    fn drop(&mut self) {
        // The end of its input ends git; a process that still writes gets a closed pipe.
        self.ask.take();
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}
