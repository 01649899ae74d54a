//! Repositories as an attacker would make them.
//!
//! | attack (what it stands for) | test |
//! |---|---|
//! | submodules with links and odd line ends (CVE-2025-48384, CVE-2018-11235, CVE-2024-32002) | `submodules_are_refused_by_name`, `names_that_mean_something_else_are_refused`; no work tree is ever made by git |
//! | hooks, filters, attributes, `fsmonitor`, pagers (CVE-2021-21300, CVE-2022-24765) | `programs_that_a_repository_names_are_not_run` |
//! | every other key that names a program; included files; promised objects fetched from `ext::` | `programs_of_every_configuration_key_are_dead` |
//! | a bare repository among the files of a commit | `repository_that_a_commit_holds_is_not_the_one_that_is_asked` |
//! | options and other programs in addresses (`ext::`, `-oProxyCommand`, gix CVE-2024-32884) | `addresses_that_are_commands_or_guesses_are_refused` |
//! | options in revisions | `revisions_that_are_none_are_refused` |
//! | `..`, `.git`, control characters, odd modes (CVE-2024-35186 and its kin) | `names_that_mean_something_else_are_refused`, `modes_that_are_no_files_are_refused` |
//! | links out of the tree, files through links (CVE-2024-32020, -32021) | `links_that_leave_are_refused_by_name`, `file_through_a_link_is_refused`, `links::tests` |
//! | a folder that escapes the repository (CVE-2026-33748) | a folder is looked up inside the tree object: `super::source_is_the_folder_that_was_named` |
//! | bytes that are somewhere else (LFS) | `lfs_pointers_are_refused_by_name` |
//! | `export-subst`, `eol`, `ident`: bytes that depend on the client | `programs_that_a_repository_names_are_not_run` compares bytes |
//! | trees of ten thousand million files, packs without end | `tree_of_ten_thousand_million_files_is_given_up`, `pack_that_is_larger_than_any_source…` |
//! | a server that is silent, or talks for ever | `server_that_never_answers_is_given_up`, `command::tests` |
//! | bundle addresses (CVE-2025-48385), redirects with credentials (CVE-2024-50349) | switched off for every run: `transfer.bundleURI`, `http.followRedirects`, `credential.helper`; a password in an address is refused |
//! | escape sequences in what a server says (CVE-2024-52005) | `command::printable` keeps no control character |
//! | SHA-1 collisions (CVE-2025-31130) | git's own hash detects them; a commit is named by its id |
//! | moved tags, names of refs in keys | only ids are keys; a release's tag is never moved: `release::tests` |

use super::*;

#[test]
fn revisions_that_are_none_are_refused() {
    let repository = Repository::new();
    repository.commit();
    let source = Source::open(repository.path()).unwrap();
    source.commit("main").unwrap();
    for revision in ["nowhere", "--upload-pack=x", "", "a b", "main\n", "HEAD^{tree}"] {
        let error = source.commit(revision).unwrap_err();
        assert!(matches!(error, GitError::NoCommit(_)), "{revision}: {error}");
    }
}

#[test]
fn programs_that_a_repository_names_are_not_run() {
    let repository = Repository::new();
    let mark = repository.path().join("ran");
    let script = repository.path().join(".git/hooks/evil");
    fs::write(&script, format!("#!/bin/sh\ntouch {}\ncat\n", mark.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    for hook in ["post-checkout", "post-index-change", "reference-transaction", "fsmonitor-watchman"] {
        fs::copy(&script, repository.path().join(".git/hooks").join(hook)).unwrap();
    }
    repository.write("text", "one\n");
    repository.write(".gitattributes", "* filter=evil diff=evil text eol=crlf export-subst ident\n");
    repository.git(&["add", "-A"]);
    repository.git(&["-c", "core.hooksPath=/dev/null", "commit", "-q", "-m", "x"]);
    drop(fs::remove_file(&mark));
    let evil = script.to_str().unwrap();
    for key in [
        "filter.evil.smudge",
        "filter.evil.clean",
        "filter.evil.process",
        "diff.evil.textconv",
        "core.fsmonitor",
        "core.sshCommand",
        "core.pager",
        "uploadpack.packObjectsHook",
    ] {
        repository.git(&["config", key, evil]);
    }
    let source = Source::open(repository.path()).unwrap();
    let commit = source.commit("HEAD").unwrap();
    repository.write("text", "two\n");
    let out = tempfile::tempdir().unwrap();
    source.export(&commit, &out.path().join("x")).unwrap();
    assert_eq!(source.changes(&commit).unwrap().changed, ["text"]);
    let remote = Remote::parse(&format!("file://{}", repository.path().display())).unwrap();
    remote.fetch("main", &out.path().join("cache")).unwrap();
    assert_eq!(fs::read_to_string(out.path().join("x/text")).unwrap(), "one\n", "attributes change nothing");
    assert!(!mark.exists(), "a program of the repository ran");
}

/// Every key of a repository's own configuration that names a program, and what it would take to run it.
#[test]
fn programs_of_every_configuration_key_are_dead() {
    let repository = Repository::new();
    repository.write("text", "one\n");
    let commit = repository.commit();
    let blob = repository.git(&["rev-parse", "HEAD:text"]);
    let mark = repository.path().join("ran");
    let script = repository.path().join(".git/evil");
    fs::write(&script, format!("#!/bin/sh\ntouch {}\n", mark.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let evil = script.to_str().unwrap();
    let included = repository.path().join(".git/more");
    fs::write(&included, format!("[core]\n\tfsmonitor = {evil}\n\thooksPath = {}\n", repository.path().display()))
        .unwrap();
    for (key, value) in [
        ("include.path", included.to_str().unwrap()),
        ("core.gitProxy", evil),
        ("core.askPass", evil),
        ("core.editor", evil),
        ("core.alternateRefsCommand", evil),
        ("credential.helper", evil),
        ("diff.external", evil),
        ("gpg.program", evil),
        ("alias.ls-tree", &format!("!{evil}")),
        ("alias.rev-parse", &format!("!{evil}")),
        ("protocol.allow", "always"),
        ("protocol.ext.allow", "always"),
        ("extensions.partialClone", "evil"),
        ("remote.evil.promisor", "true"),
        ("remote.evil.url", &format!("ext::{evil}")),
        ("remote.evil.uploadpack", evil),
    ] {
        repository.git(&["config", key, value]);
    }
    // A promised object that is not here would be fetched from wherever the repository says.
    fs::remove_file(repository.path().join(".git/objects").join(&blob[..2]).join(&blob[2..])).unwrap();
    let source = Source::open(repository.path()).unwrap();
    let out = tempfile::tempdir().unwrap();
    source.commit("HEAD").unwrap();
    source.export(&commit, &out.path().join("x")).unwrap_err();
    source.changes(&commit).unwrap_err();
    repository.write("other", "new\n");
    drop(source.work_tree_commit(&commit));
    assert!(!mark.exists(), "a program of the repository ran");
}

#[test]
fn repository_that_a_commit_holds_is_not_the_one_that_is_asked() {
    let repository = Repository::new();
    for (path, text) in [
        ("app/HEAD", "ref: refs/heads/main\n"),
        ("app/config", "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"),
        ("app/objects/keep", ""),
        ("app/refs/keep", ""),
        ("app/text", "one\n"),
    ] {
        repository.write(path, text);
    }
    let commit = repository.commit();
    repository.write("app/new", "x");
    let source = Source::open(&repository.path().join("app")).unwrap();
    let changes = source.changes(&commit).unwrap();
    assert_eq!((changes.changed, changes.untracked), (Vec::<String>::new(), vec!["new".to_owned()]));
    assert_eq!(source.tree(&source.work_tree_commit(&commit).unwrap()).unwrap().len(), 6);
}

#[test]
fn tree_of_ten_thousand_million_files_is_given_up() {
    use crate::git::command::{Bounds, Git};
    let repository = Repository::new();
    let mut tree = repository.tree(&[("100644", "file", &repository.blob(b"x"))]);
    for _ in 0..10 {
        let names: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        let entries: Vec<_> = names.iter().map(|name| ("40000", name.as_str(), tree.as_str())).collect();
        tree = repository.tree(&entries);
    }
    let git = Git { bounds: Bounds { answer_bytes: 1 << 20, ..Bounds::DEFAULT }, ..Git::local(repository.path()) };
    let error = git.ask(["ls-tree", "-r", "-z", "-l", "--full-tree", &tree]).unwrap_err();
    assert!(matches!(error, GitError::TooMuch { what: "bytes of an answer of git", .. }), "{error}");
}

#[test]
fn server_that_never_answers_is_given_up() {
    use crate::git::command::Bounds;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x.git", listener.local_addr().unwrap());
    let bounds = Bounds { within: std::time::Duration::from_millis(500), ..Bounds::DEFAULT };
    let cache = tempfile::tempdir().unwrap();
    let error = Remote::parse(&url).unwrap().within(bounds).refs(cache.path()).unwrap_err();
    assert!(matches!(error, GitError::TooMuch { what: "seconds of a fetch", .. }), "{error}");
}

#[test]
fn pack_that_is_larger_than_any_source_is_given_up_and_leaves_nothing() {
    use crate::git::command::Bounds;
    let repository = Repository::new();
    let noise: String = (0..200_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_string()).collect();
    repository.write("big", &noise);
    repository.commit();
    let bounds = Bounds { file_bytes: 100 << 10, ..Bounds::DEFAULT };
    let cache = tempfile::tempdir().unwrap();
    let remote = Remote::parse(&format!("file://{}", repository.path().display())).unwrap();
    let error = remote.clone().within(bounds).fetch("main", cache.path()).unwrap_err();
    assert!(matches!(error, GitError::TooMuch { what: "bytes of a pack", .. }), "{error}");
    let inner = fs::read_dir(cache.path()).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read_dir(inner.join("objects/pack")).unwrap().count(), 0);
    remote.fetch("main", cache.path()).unwrap();
}

#[test]
fn submodules_are_refused_by_name() {
    let repository = Repository::new();
    let head = repository.commit();
    let tree = repository.tree(&[("160000", "sub", head.id.as_str())]);
    let commit = repository.commit_of(&tree);
    assert!(repository.refusal(&commit).starts_with("`sub`: is a submodule"));
}

#[test]
fn lfs_pointers_are_refused_by_name() {
    let repository = Repository::new();
    let pointer = format!("version https://git-lfs.invalid/spec/v1\noid sha256:{}\nsize 5\n", "0".repeat(64));
    repository.write("big.bin", &pointer);
    let commit = repository.commit();
    assert!(repository.refusal(&commit).starts_with("`big.bin`: is a Git LFS pointer"));
}

#[test]
fn names_that_mean_something_else_are_refused() {
    let repository = Repository::new();
    let blob = repository.blob(b"x");
    let inner = repository.tree(&[("100644", "config", &blob)]);
    for (name, expected) in [
        ("..", "is not a path inside the tree"),
        (".", "is not a path inside the tree"),
        (".git", "is named like git's own folder"),
        (".GIT", "is named like git's own folder"),
    ] {
        let tree = repository.tree(&[("40000", name, &inner)]);
        let commit = repository.commit_of(&tree);
        assert!(repository.refusal(&commit).contains(expected), "{name}");
    }
    for name in ["a\rb", "a\nb", "a\u{1b}[31m"] {
        let commit = repository.commit_of(&repository.tree(&[("100644", name, &blob)]));
        assert!(repository.refusal(&commit).contains("has a control character"), "{name:?}");
    }
}

#[test]
fn links_that_leave_are_refused_by_name() {
    let repository = Repository::new();
    for target in ["/etc/passwd", "../../etc/passwd", "a/../../../x"] {
        let blob = repository.blob(target.as_bytes());
        let inner = repository.tree(&[("120000", "link", &blob)]);
        let commit = repository.commit_of(&repository.tree(&[("40000", "dir", &inner)]));
        let refusal = repository.refusal(&commit);
        assert!(refusal.starts_with("`dir/link`: is a"), "{refusal}");
    }
}

#[test]
fn file_through_a_link_is_refused() {
    let repository = Repository::new();
    let target = repository.blob(b"/tmp");
    let inner = repository.tree(&[("100644", "file", &repository.blob(b"x"))]);
    let commit = repository.commit_of(&repository.tree(&[("120000", "a", &target), ("40000", "a", &inner)]));
    assert_eq!(repository.refusal(&commit), "`a`: is a file and a folder in the same tree");
}

#[test]
fn modes_that_are_no_files_are_refused() {
    let repository = Repository::new();
    let blob = repository.blob(b"x");
    let commit = repository.commit_of(&repository.tree(&[("104755", "suid", &blob)]));
    // Git reads any odd file mode as one of its own two: the bit never reaches us.
    let out = tempfile::tempdir().unwrap();
    let result = Source::open(repository.path()).unwrap().export(&commit, &out.path().join("x"));
    if result.is_ok() {
        assert_eq!(mode(&out.path().join("x/suid")) & 0o7000, 0);
    }
}

#[test]
fn addresses_that_are_commands_or_guesses_are_refused() {
    for url in [
        "ext::sh -c touch% /tmp/x",
        "ext::sh",
        "/srv/git/x.git",
        "../x",
        "git@host:path",
        "git://host/x",
        "http://example.invalid/x",
        "ftp://host/x",
        "ssh://-oProxyCommand=x/y",
        "ssh://-oProxyCommand=x@host/y",
        "https://user:secret@host/x",
        "https://host/x\n",
        "https://host/x y",
        "file://host/x",
        "file://",
        "https://host/x#sub",
    ] {
        assert!(Remote::parse(url).is_err(), "{url}");
    }
    for url in
        ["https://host.invalid/x.git", "ssh://git@host.invalid:22/x", "file:///srv/x.git", "http://127.0.0.1:80/x"]
    {
        Remote::parse(url).unwrap();
    }
}
