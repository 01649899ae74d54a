//! Whole builds of made-up packages and files: no network, no compiler, real git, real layouts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nebh_oci::digest::Digest;

use super::*;
use crate::git::Source;
use crate::lock::{DebianArchive, LockedPackage, LockedSuite, Request};
use crate::root::tests::{FILE, deb, put};
use crate::source::Revision;

struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    /// A repository with a site and one package, all of it committed at a fixed time.
    fn new() -> Self {
        let project = Self { dir: tempfile::tempdir().unwrap() };
        project.git(&["init", "-q", "-b", "main"]);
        project.write("site/index.html", "<p>hello</p>\n");
        project.write("run.sh", "#!/bin/sh\n");
        fs::set_permissions(project.path().join("run.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .unwrap();
        project.buildspec("tool");
        project.commit();
        project
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The buildspec with one package, and the lock that answers it for the package `tool`.
    fn buildspec(&self, package: &str) {
        let text = format!(
            "name: shop/web\nbuild:\n  files: {{ copy: [{{ from: site, to: /srv/web }}, {{ from: run.sh, to: /lib/run }}] }}\n\
             image:\n  base: debian/trixie\n  packages: [{package}]\n  entrypoint: [/usr/bin/tool]\n  env: {{ B: two, A: one }}\n"
        );
        self.write(BUILDSPEC_FILE, &text);
        if package != "tool" {
            return;
        }
        let buildspec = Buildspec::parse(BUILDSPEC_FILE, &text).unwrap();
        let bytes = package_bytes();
        let lock = Lock {
            request: Request::of(&buildspec),
            architecture: "amd64".into(),
            suites: vec![LockedSuite {
                suite: "trixie".parse().unwrap(),
                archive: DebianArchive::Debian,
                release: Digest::sha256(b"release"),
                date: jiff::Timestamp::UNIX_EPOCH,
                signed_by: vec!["A".repeat(40)],
                expired: false,
            }],
            image_packages: vec![LockedPackage {
                name: "pp".into(),
                version: "1".into(),
                architecture: "amd64".into(),
                suite: "trixie".parse().unwrap(),
                size: bytes.len() as u64,
                sha256: Digest::sha256(&bytes),
                path: "pool/main/p/pp/pp_1_amd64.deb".into(),
            }],
            toolchain: Vec::new(),
            language: None,
        };
        self.write(LOCK_FILE, &lock.to_text());
    }

    fn git(&self, arguments: &[&str]) {
        let mut command = Command::new("git");
        command.current_dir(self.path()).env_clear().env("PATH", std::env::var("PATH").unwrap());
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "t").env(format!("GIT_{who}_EMAIL"), "t@test.invalid");
            command.env(format!("GIT_{who}_DATE"), "1700000000 +0000");
        }
        assert!(command.args(arguments).status().unwrap().success(), "{arguments:?}");
    }

    fn commit(&self) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", "work"]);
    }

    fn checkout(&self) -> Checkout {
        let revision = Revision::Commit { revision: "HEAD".into(), clean: true };
        Checkout::open(Source::open(self.path()).unwrap(), &revision).unwrap()
    }
}

fn package_bytes() -> Vec<u8> {
    deb("pp", |builder| {
        put(builder, "./usr/bin/tool", FILE, "", b"#!/bin/true\n");
        put(builder, "./lib/data", FILE, "", &vec![7; 100_000]);
    })
}

struct Machine {
    dir: tempfile::TempDir,
    store: Store,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("state")).unwrap();
        InputArchive::open(store.inputs()).unwrap().put_bytes(&package_bytes()).unwrap();
        Self { dir, store }
    }

    async fn build(&self, project: &Project) -> Result<BuiltImage, Failure> {
        let options = BuildOptions { offline: true, again: false, upstreams: UpstreamSettings::default() };
        build(project.checkout(), &self.store, &options, &Events::none()).await
    }

    fn scratch(&self) -> usize {
        fs::read_dir(self.dir.path().join("state/work")).unwrap().count()
    }
}

fn names_of(image: &BuiltImage) -> Vec<String> {
    let mut names = Vec::new();
    for layer in &image.manifest.image().unwrap().layers {
        let blob = image.layout.open_blob(&layer.digest).unwrap();
        let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(blob));
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            names.push(format!(
                "{} {:o} {}",
                entry.path().unwrap().display(),
                entry.header().mode().unwrap(),
                entry.header().mtime().unwrap()
            ));
        }
    }
    names
}

/// The digest of the whole made-up image under `assembly: 1`.
const GOLDEN: &str = "sha256:a4d19de6d2e3969aa7bcdada22a8f243770c5dcf24ebf19640ade99a9a95c5be";

#[tokio::test]
async fn same_commit_is_the_same_image_in_two_places() {
    let (first, second) = (Project::new(), Project::new());
    // What the commit does not say must not matter.
    fs::set_permissions(second.path().join("site"), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    second.write("untracked", "x");
    let (one, other) = (Machine::new().build(&first).await.unwrap(), Machine::new().build(&second).await.unwrap());
    assert_eq!(one.manifest.digest(), other.manifest.digest());
    assert_eq!(one.manifest.digest().to_string(), GOLDEN);
}

#[tokio::test]
async fn image_holds_packages_and_files_where_they_belong() {
    let (machine, project) = (Machine::new(), Project::new());
    let image = machine.build(&project).await.unwrap();
    let names = names_of(&image);
    for expected in [
        "usr/bin/tool 644 1000",
        // Not `lib/…`: that would put a folder in the place of the link `/lib`.
        "usr/lib/data 644 1000",
        "usr/lib/run 755 1700000000",
        "srv/web/index.html 644 1700000000",
        "var/lib/dpkg/status.d/pp 644 1000",
        "lib 777 1000",
    ] {
        assert!(names.iter().any(|name| name == expected), "no {expected} in {names:#?}");
    }
    let config = image.layout.read(&image.manifest.image().unwrap().config.digest, 1 << 20).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");
    assert_eq!(config["config"]["Env"][0], "A=one");
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 3);
    assert_eq!(machine.scratch(), 0);
}

#[tokio::test]
async fn known_plan_answers_without_inputs_and_a_lost_blob_makes_it_unknown() {
    let (machine, project) = (Machine::new(), Project::new());
    let first = machine.build(&project).await.unwrap();
    fs::remove_dir_all(machine.store.inputs()).unwrap();
    let second = machine.build(&project).await.unwrap();
    assert!(!first.known && second.known);
    assert_eq!(first.manifest.digest(), second.manifest.digest());
    let layer = first.manifest.image().unwrap().layers[0].digest;
    fs::remove_file(machine.store.images().blob_path(&layer)).unwrap();
    let failure = machine.build(&project).await.unwrap_err();
    assert!(failure.to_string().contains("package pp 1"), "{failure}");
    InputArchive::open(machine.store.inputs()).unwrap().put_bytes(&package_bytes()).unwrap();
    let third = machine.build(&project).await.unwrap();
    assert_eq!((third.known, third.manifest.digest()), (false, first.manifest.digest()));
}

#[tokio::test]
async fn change_of_a_file_moves_the_last_layer_only() {
    let (machine, project) = (Machine::new(), Project::new());
    let first = machine.build(&project).await.unwrap();
    project.write("site/index.html", "<p>goodbye</p>\n");
    project.commit();
    let second = machine.build(&project).await.unwrap();
    let layers = |image: &BuiltImage| {
        image.manifest.image().unwrap().layers.iter().map(|layer| layer.digest).collect::<Vec<_>>()
    };
    let (first, second) = (layers(&first), layers(&second));
    assert_eq!(first[..2], second[..2]);
    assert_ne!(first[2], second[2]);
}

#[tokio::test]
async fn missing_input_is_named_and_nothing_is_left() {
    let (machine, project) = (Machine::new(), Project::new());
    fs::remove_dir_all(machine.store.inputs()).unwrap();
    let failure = machine.build(&project).await.unwrap_err();
    assert!(failure.to_string().contains("package pp 1"), "{failure}");
    assert_eq!(machine.scratch(), 0);
    assert!(machine.store.images().index().unwrap().manifests.is_empty());
}

#[tokio::test]
async fn spoilt_package_is_named() {
    let (machine, project) = (Machine::new(), Project::new());
    let path: PathBuf = InputArchive::open(machine.store.inputs()).unwrap().path(&Digest::sha256(&package_bytes()));
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    fs::write(&path, b"!<arch>\nrubbish").unwrap();
    let failure = machine.build(&project).await.unwrap_err();
    assert!(failure.to_string().starts_with("package pp "), "{failure}");
}

#[tokio::test]
async fn stale_or_missing_lock_is_an_error_that_says_so() {
    let (machine, project) = (Machine::new(), Project::new());
    project.buildspec("tool, other");
    project.commit();
    let failure = machine.build(&project).await.unwrap_err();
    assert!(failure.to_string().contains("`other` is asked for, but the lock was made without it"), "{failure}");
    fs::remove_file(project.path().join(LOCK_FILE)).unwrap();
    project.commit();
    let failure = machine.build(&project).await.unwrap_err();
    assert!(failure.to_string().contains("buildspec.lock is not in commit"), "{failure}");
}

#[test]
fn uncommitted_change_is_refused_and_a_work_tree_is_marked() {
    let project = Project::new();
    project.write("site/index.html", "changed");
    let source = || Source::open(project.path()).unwrap();
    let revision = Revision::Commit { revision: "HEAD".into(), clean: true };
    let failure = Checkout::open(source(), &revision).unwrap_err();
    assert!(failure.to_string().contains("`site/index.html` has uncommitted changes"), "{failure}");
    project.write("site/new.html", "new");
    let checkout = Checkout::open(source(), &Revision::WorkTree).unwrap();
    assert!(checkout.is_work_tree());
    assert_eq!(checkout.read("site/index.html").unwrap().unwrap(), b"changed");
    assert_eq!(checkout.read("site/new.html").unwrap().unwrap(), b"new");
    let again = Checkout::open(source(), &Revision::WorkTree).unwrap();
    assert_eq!(checkout.commit().id, again.commit().id);
    assert!(ask(&checkout).unwrap().plan.work_tree);
    // The repository's own state is as it was.
    assert_eq!(source().commit("HEAD").unwrap().time.as_second(), 1_700_000_000);
    project.git(&["checkout", "-q", "--", "site/index.html"]);
    fs::remove_file(project.path().join("site/new.html")).unwrap();
    assert!(!Checkout::open(source(), &Revision::WorkTree).unwrap().is_work_tree());
}

#[tokio::test]
async fn full_disk_is_an_error_that_says_so_and_leaves_nothing() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: a small file system needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    rustix::mount::mount("small", &state, "tmpfs", rustix::mount::MountFlags::empty(), Some(c"size=192k")).unwrap();
    let result = {
        let store = Store::open(&state).unwrap();
        InputArchive::open(store.inputs()).unwrap().put_bytes(&package_bytes()).unwrap();
        let options = BuildOptions { offline: true, again: false, upstreams: UpstreamSettings::default() };
        build(Project::new().checkout(), &store, &options, &Events::none()).await
    };
    let left: Vec<_> = ["work", "kept/plans", "kept/layers"]
        .iter()
        .filter_map(|folder| fs::read_dir(state.join(folder)).ok())
        .flat_map(|entries| entries.map(|entry| entry.unwrap().path()))
        .collect();
    rustix::mount::unmount(&state, rustix::mount::UnmountFlags::DETACH).unwrap();
    let failure = result.unwrap_err();
    assert!(failure.to_string().contains("No space left on device"), "{failure}");
    assert!(left.is_empty(), "{left:?}");
}
