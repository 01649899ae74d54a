//! Repositories as people have them, and tools to make others by hand (`git hash-object`, `git mktree`).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::*;

mod hostile;

struct Repository {
    dir: tempfile::TempDir,
}

impl Repository {
    fn new() -> Self {
        let repository = Self { dir: tempfile::tempdir().unwrap() };
        repository.git(&["init", "-q", "-b", "main"]);
        repository
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn git_with(&self, arguments: &[&str], input: &[u8]) -> String {
        use std::io::Write;
        let mut command = Command::new("git");
        command.current_dir(self.path()).env_clear().env("PATH", std::env::var("PATH").unwrap());
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("LC_ALL", "C");
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "T > T").env(format!("GIT_{who}_EMAIL"), "t@test.invalid");
            command.env(format!("GIT_{who}_DATE"), "1700000000 +0530");
        }
        command.args(["-c", "protocol.file.allow=always"]).args(arguments);
        command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn git(&self, arguments: &[&str]) -> String {
        self.git_with(arguments, b"")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn commit(&self) -> Commit {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "work"]);
        Source::open(self.path()).unwrap().commit("HEAD").unwrap()
    }

    fn blob(&self, bytes: &[u8]) -> String {
        self.git_with(&["hash-object", "-w", "--stdin", "--literally", "-t", "blob"], bytes)
    }

    /// A tree object of exactly these entries, legal or not.
    fn tree(&self, entries: &[(&str, &str, &str)]) -> String {
        let mut raw = Vec::new();
        for (mode, name, object) in entries {
            raw.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            raw.extend(hex::decode(object).unwrap());
        }
        self.git_with(&["hash-object", "-w", "--stdin", "--literally", "-t", "tree"], &raw)
    }

    fn commit_of(&self, tree: &str) -> Commit {
        let id = self.git_with(&["commit-tree", tree], b"made by hand");
        Source::open(self.path()).unwrap().commit(&id).unwrap()
    }

    fn refusal(&self, commit: &Commit) -> String {
        let out = tempfile::tempdir().unwrap();
        let error = Source::open(self.path()).unwrap().export(commit, &out.path().join("x")).unwrap_err();
        error.to_string()
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn commit_has_its_id_and_the_committers_time() {
    let repository = Repository::new();
    let commit = repository.commit();
    assert_eq!(commit.id.as_str(), repository.git(&["rev-parse", "HEAD"]));
    assert_eq!(commit.time.as_second(), 1_700_000_000);
}

#[test]
fn export_has_fixed_modes_and_times_whatever_the_umask() {
    let repository = Repository::new();
    repository.write("a/b/tool", "#!/bin/sh\n");
    repository.write("a/text", "text");
    fs::set_permissions(repository.path().join("a/b/tool"), fs::Permissions::from_mode(0o775)).unwrap();
    std::os::unix::fs::symlink("../text", repository.path().join("a/b/link")).unwrap();
    let commit = repository.commit();
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().join("x");
    let tree = Source::open(repository.path()).unwrap().export(&commit, &folder).unwrap();
    assert_eq!(tree.entries().map(|entry| entry.path.as_str()).collect::<Vec<_>>(), ["a/b/link", "a/b/tool", "a/text"]);
    assert_eq!(fs::read_to_string(folder.join("a/b/link")).unwrap(), "text");
    assert_eq!(
        (mode(&folder.join("a/b/tool")), mode(&folder.join("a/text")), mode(&folder.join("a"))),
        (0o755, 0o644, 0o755)
    );
    for path in ["", "a", "a/b", "a/b/link", "a/b/tool", "a/text"] {
        use std::os::unix::fs::MetadataExt;
        assert_eq!(fs::symlink_metadata(folder.join(path)).unwrap().mtime(), 1_700_000_000, "{path}");
    }
}

#[test]
fn source_is_the_folder_that_was_named() {
    let repository = Repository::new();
    repository.write("apps/web/buildspec.yaml", "name: web\n");
    repository.write("other", "x");
    let commit = repository.commit();
    let source = Source::open(&repository.path().join("apps/web")).unwrap();
    let tree = source.tree(&commit).unwrap();
    assert_eq!(tree.len(), 1);
    assert_eq!(source.read(&tree, "buildspec.yaml").unwrap(), b"name: web\n");
    assert!(matches!(source.read(&tree, "other"), Err(GitError::NoFile(_))));
    assert_eq!(source.folder_in_repository(), "apps/web");
}

#[test]
fn changes_of_the_work_tree_are_named() {
    let repository = Repository::new();
    for name in ["same", "edited", "removed", "mode"] {
        repository.write(name, "1");
    }
    repository.write(".gitignore", "target/\n");
    let commit = repository.commit();
    let source = Source::open(repository.path()).unwrap();
    assert_eq!(source.changes(&commit).unwrap(), Changes::default());
    repository.write("edited", "2");
    repository.write("new", "1");
    repository.write("staged", "1");
    repository.write("target/x", "1");
    repository.git(&["add", "staged"]);
    fs::remove_file(repository.path().join("removed")).unwrap();
    fs::set_permissions(repository.path().join("mode"), fs::Permissions::from_mode(0o755)).unwrap();
    let changes = source.changes(&commit).unwrap();
    assert_eq!(changes.changed, ["edited", "mode", "removed", "staged"]);
    assert_eq!(changes.untracked, ["new"]);
    assert!(!changes.is_clean());
}

#[test]
fn export_goes_into_an_empty_folder_only() {
    let repository = Repository::new();
    let commit = repository.commit();
    let out = tempfile::tempdir().unwrap();
    fs::write(out.path().join("there"), "x").unwrap();
    assert!(matches!(Source::open(repository.path()).unwrap().export(&commit, out.path()), Err(GitError::Io { .. })));
}

#[test]
fn folder_without_a_repository_is_said() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Source::open(dir.path()), Err(GitError::NoRepository(_))));
}

#[test]
fn remote_gives_refs_and_one_commit_without_history() {
    let repository = Repository::new();
    repository.write("a", "1");
    let first = repository.commit();
    repository.write("a", "2");
    let second = repository.commit();
    repository.git(&["-c", "user.name=t", "-c", "user.email=t", "tag", "-a", "v1", "-m", "x", first.id.as_str()]);
    let cache = tempfile::tempdir().unwrap();
    let remote = Remote::parse(&format!("file://{}", repository.path().display())).unwrap();
    let refs = remote.refs(cache.path()).unwrap();
    let find = |name: &str| refs.iter().find(|one| one.name == name).map(|one| one.commit.clone());
    assert_eq!(find("refs/heads/main"), Some(second.id.clone()));
    assert_eq!(find("refs/tags/v1"), Some(first.id.clone()), "a tag stands for the commit it was put on");
    for (revision, expected) in [("v1", &first), ("main", &second), ("HEAD", &second), (first.id.as_str(), &first)] {
        let (source, commit) = remote.fetch(revision, cache.path()).unwrap();
        assert_eq!(&commit, expected, "{revision}");
        let tree = source.tree(&commit).unwrap();
        assert_eq!(tree.len(), 1);
    }
    assert!(matches!(remote.fetch("nowhere", cache.path()), Err(GitError::NoCommit(_))));
}
