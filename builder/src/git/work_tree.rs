//! The work tree as it lies there, as a commit that no name points to: so that all that follows reads one kind of thing.
//! Writes loose objects and nothing else; filters and hooks of the repository do not run.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use super::command::{Git, GitError, printable};
use super::source::{Commit, Source};
use super::tree::{ObjectId, refused};

impl Source {
    /// A commit of what the work tree holds below the source's folder: known files and new ones that no ignore file
    /// names. Its time is that of `head`, its parent; so the same files give the same commit.
    pub fn work_tree_commit(&self, head: &Commit) -> Result<Commit, GitError> {
        let Some(top) = self.work_tree() else { return Ok(head.clone()) };
        let git = Git { folder: &top, ..self.git() };
        let listed = git.ask(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
        let mut names: Vec<&[u8]> = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        names.dedup();
        let mut index = Vec::new();
        for name in names {
            let shown = String::from_utf8_lossy(name);
            let path = std::str::from_utf8(name).map_err(|_| refused(&shown, "is not UTF-8"))?;
            let Some((mode, bytes)) = read(&top.join(path))? else { continue };
            let object = ask(&git, &["hash-object", "-w", "--no-filters", "--stdin"], &bytes, &[])?;
            let within = format!("{}{path}", prefix(self));
            index.extend_from_slice(format!("{mode} {} 0\t{within}\0", object_id(&object)?).as_bytes());
        }
        let file = tempfile::tempdir().map_err(|cause| io_error("create", &std::env::temp_dir(), cause))?;
        let index_file = file.path().join("index");
        let place = [("GIT_INDEX_FILE", index_file.to_string_lossy().into_owned())];
        ask(&git, &["update-index", "-z", "--index-info"], &index, &place)?;
        let tree = object_id(&ask(&git, &["write-tree"], &[], &place)?)?;
        let date = format!("{} +0000", head.time.as_second());
        let who = ["AUTHOR", "COMMITTER"].into_iter().flat_map(|role| {
            [
                (format!("GIT_{role}_NAME"), "work tree".to_owned()),
                (format!("GIT_{role}_EMAIL"), "work-tree@nebh.invalid".to_owned()),
                (format!("GIT_{role}_DATE"), date.clone()),
            ]
        });
        let who: Vec<(String, String)> = who.collect();
        let who: Vec<(&str, String)> = who.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let id = ask(&git, &["commit-tree", tree.as_str(), "-p", head.id.as_str(), "-m", "work tree"], &[], &who)?;
        Ok(Commit { id: object_id(&id)?, time: head.time })
    }
}

fn prefix(source: &Source) -> String {
    match source.folder_in_repository() {
        "" => String::new(),
        folder => format!("{folder}/"),
    }
}

/// Mode and bytes as git would store them; `None` for what was removed.
fn read(path: &Path) -> Result<Option<(&'static str, Vec<u8>)>, GitError> {
    let Ok(there) = fs::symlink_metadata(path) else { return Ok(None) };
    if there.is_symlink() {
        let target = fs::read_link(path).map_err(|cause| io_error("read", path, cause))?;
        return Ok(Some(("120000", target.into_os_string().into_vec())));
    }
    if !there.is_file() {
        return Err(refused(&path.to_string_lossy(), "is no file and no link"));
    }
    let bytes = fs::read(path).map_err(|cause| io_error("read", path, cause))?;
    let mode = if there.permissions().mode() & 0o100 == 0 { "100644" } else { "100755" };
    Ok(Some((mode, bytes)))
}

fn ask(git: &Git<'_>, arguments: &[&str], input: &[u8], env: &[(&str, String)]) -> Result<Vec<u8>, GitError> {
    let mut command = git.command();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, value) in env {
        command.env(name, value);
    }
    let mut child = command.spawn().map_err(GitError::Start)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A git that ends early says why on its own; the broken pipe is only its echo.
        drop(stdin.write_all(input));
    }
    let output = child.wait_with_output().map_err(GitError::Start)?;
    if !output.status.success() {
        let verb = arguments.first().copied().unwrap_or_default().to_owned();
        return Err(GitError::Failed { verb, complaint: printable(&output.stderr) });
    }
    Ok(output.stdout)
}

fn object_id(answer: &[u8]) -> Result<ObjectId, GitError> {
    std::str::from_utf8(answer)
        .ok()
        .and_then(|text| ObjectId::parse(text.trim_end()))
        .ok_or(GitError::Answer("the object's id"))
}

fn io_error(action: &'static str, path: &Path, cause: std::io::Error) -> GitError {
    GitError::Io { action, path: path.to_owned(), cause }
}
