//! The contract of a data driver, run against each of them: memory, copy on ext4 or tmpfs, copy on xfs (reflinks),
//! btrfs on a loop file.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// How the suite writes and reads live data of the driver under test.
trait Files {
    fn write(&self, file: &str, bytes: &[u8]);
    fn read(&self, file: &str) -> Option<Vec<u8>>;
}

struct Folder(PathBuf);

impl Files for Folder {
    fn write(&self, file: &str, bytes: &[u8]) {
        fs::write(self.0.join(file), bytes).unwrap();
    }

    fn read(&self, file: &str) -> Option<Vec<u8>> {
        fs::read(self.0.join(file)).ok()
    }
}

struct InMemory<'a>(&'a Memory, &'a Dataset);

impl Files for InMemory<'_> {
    fn write(&self, file: &str, bytes: &[u8]) {
        self.0.write(self.1, file, bytes);
    }

    fn read(&self, file: &str) -> Option<Vec<u8>> {
        self.0.read(self.1, file)
    }
}

fn name(text: &str) -> DataName {
    text.parse().unwrap()
}

fn contract(driver: &dyn DataDriver, dataset: &Dataset, files: &dyn Files) {
    let probed = driver.probe(dataset).unwrap();
    assert!(probed.made);
    assert!(!driver.probe(dataset).unwrap().made, "a second look makes nothing");

    // Snapshot: a point in time; the same name again is the same snapshot.
    files.write("book", b"one");
    let pre = driver.snapshot(dataset, &name("op1-1-pre")).unwrap();
    assert!(pre.changed);
    files.write("book", b"one two");
    let again = driver.snapshot(dataset, &name("op1-1-pre")).unwrap();
    assert_eq!(again, Done { identity: pre.identity.clone(), changed: false });

    // Nothing live has moved by it.
    let before = driver.list(dataset).unwrap();
    assert_eq!(before.snapshots.len(), 1);
    assert!(before.timelines.is_empty());

    // Abandoned first, then the branch from the older snapshot.
    driver.snapshot(dataset, &name("op1-1-abandoned")).unwrap();
    let branch = driver.branch(dataset, &name("op1-1-pre"), &name("tl1")).unwrap();
    assert_eq!(driver.branch(dataset, &name("op1-1-pre"), &name("tl1")).unwrap().identity, branch.identity);
    assert_eq!(files.read("book").unwrap(), b"one two", "a branch is not yet live");

    let refused = driver.branch(dataset, &name("nowhere"), &name("tl2")).unwrap_err();
    assert_eq!(refused.to_string(), "dataset `ledger` has no snapshot `nowhere`");

    // A wrong identity changes nothing.
    let wrong = Exchange { incoming: name("tl1"), identity: Identity::new("other"), left_as: name("tl0") };
    assert!(matches!(driver.exchange(dataset, &wrong), Err(DataError::OtherIdentity { .. })));
    assert_eq!(files.read("book").unwrap(), b"one two");

    // Exchange: old data live, the newer kept whole under its name; a repeat is harmless.
    let step = Exchange { incoming: name("tl1"), identity: branch.identity.clone(), left_as: name("tl0") };
    assert!(driver.exchange(dataset, &step).unwrap().changed);
    assert_eq!(files.read("book").unwrap(), b"one");
    assert!(!driver.exchange(dataset, &step).unwrap().changed);
    assert_eq!(files.read("book").unwrap(), b"one");
    let after = driver.list(dataset).unwrap();
    assert_eq!(after.live, branch.identity);
    assert_eq!(after.timelines.iter().map(|held| held.name.as_str()).collect::<Vec<_>>(), ["tl0"]);
    assert_eq!(after.timelines[0].identity, before.live);
    assert_eq!(after.snapshots.len(), 2, "a rollback removes no snapshot");

    // The left timeline comes back with all that was in it.
    files.write("book", b"one three");
    let back = Exchange { incoming: name("tl0"), identity: before.live.clone(), left_as: name("tl1") };
    driver.exchange(dataset, &back).unwrap();
    assert_eq!(files.read("book").unwrap(), b"one two");
    let end = driver.list(dataset).unwrap();
    assert_eq!(end.live, before.live);
    assert_eq!(end.timelines[0].identity, branch.identity);

    // A name is never reused for something else.
    driver.branch(dataset, &name("op1-1-pre"), &name("tl2")).unwrap();
    let second = driver.list(dataset).unwrap();
    let tl2 = second.timelines.iter().find(|held| held.name == name("tl2")).unwrap();
    let clash = Exchange { incoming: name("tl2"), identity: tl2.identity.clone(), left_as: name("tl1") };
    assert!(matches!(driver.exchange(dataset, &clash), Err(DataError::Taken { .. })));
    assert_eq!(files.read("book").unwrap(), b"one two");
}

/// What only drivers on disk can be asked: the crash between the two renames of an exchange.
fn half_exchange_is_finished(driver: &dyn DataDriver, dataset: &Dataset) {
    let live = driver.list(dataset).unwrap().live;
    driver.snapshot(dataset, &name("half")).unwrap();
    let branch = driver.branch(dataset, &name("half"), &name("tl7")).unwrap();
    let beside = PathBuf::from(format!("{}.nebh/tl/tl7", dataset.path.display()));
    rustix::fs::renameat_with(
        rustix::fs::CWD,
        &dataset.path,
        rustix::fs::CWD,
        &beside,
        rustix::fs::RenameFlags::EXCHANGE,
    )
    .unwrap();
    let step = Exchange { incoming: name("tl7"), identity: branch.identity.clone(), left_as: name("tl6") };
    assert!(driver.exchange(dataset, &step).unwrap().changed);
    let holdings = driver.list(dataset).unwrap();
    assert_eq!(holdings.live, branch.identity);
    let left = holdings.timelines.iter().find(|held| held.name == name("tl6")).unwrap();
    assert_eq!(left.identity, live);
}

fn dataset(path: &Path) -> Dataset {
    Dataset { name: "ledger".to_owned(), path: path.to_owned(), owner: None }
}

/// A crash after the live data were made and before they were given to the program: the next look gives them.
fn half_made_is_finished(driver: &dyn DataDriver, dataset: &Dataset, make: impl Fn(&Path)) {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root gives files to others");
        return;
    }
    let beside = dataset.path.with_extension("nebh");
    fs::create_dir_all(&beside).unwrap();
    make(&beside.join(".newborn"));
    assert!(driver.probe(dataset).unwrap().made);
    let live = fs::metadata(&dataset.path).unwrap();
    assert_eq!((live.uid(), live.gid()), dataset.owner.unwrap());
    assert!(!beside.join(".newborn").exists());
}

#[test]
fn live_data_are_never_there_without_their_owner() {
    let folder = tempfile::tempdir().unwrap();
    let owned = |folder: &Path| Dataset { owner: Some((65532, 65533)), ..dataset(&folder.join("ledger")) };
    half_made_is_finished(&Copy::new(), &owned(folder.path()), |at| fs::create_dir(at).unwrap());
    let Some(disk) = Disk::make("btrfs", 160) else { return };
    half_made_is_finished(&Btrfs::new(), &owned(&disk.path()), |at| {
        btrfs_tool(&["subvolume", "create", at.to_str().unwrap()]);
    });
}

#[test]
fn memory_keeps_the_contract() {
    let driver = Memory::default();
    let dataset = dataset(Path::new("/memory"));
    contract(&driver, &dataset, &InMemory(&driver, &dataset));
}

#[test]
fn copy_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(&folder.path().join("ledger"));
    contract(&Copy::new(), &dataset, &Folder(dataset.path.clone()));
    half_exchange_is_finished(&Copy::new(), &dataset);
}

#[test]
fn copy_with_reflinks_keeps_the_contract() {
    let Some(disk) = Disk::make("xfs", 320) else { return };
    let dataset = dataset(&disk.path().join("ledger"));
    contract(&Copy::new(), &dataset, &Folder(dataset.path.clone()));
    assert_eq!(Copy::new().probe(&dataset).unwrap().snapshot_bytes, 0, "blocks are shared");
}

#[test]
fn btrfs_keeps_the_contract() {
    let Some(disk) = Disk::make("btrfs", 160) else { return };
    let dataset = dataset(&disk.path().join("ledger"));
    contract(&Btrfs::new(), &dataset, &Folder(dataset.path.clone()));
    half_exchange_is_finished(&Btrfs::new(), &dataset);
}

#[test]
fn btrfs_snapshot_is_read_only() {
    let Some(disk) = Disk::make("btrfs", 160) else { return };
    let dataset = dataset(&disk.path().join("ledger"));
    Btrfs::new().probe(&dataset).unwrap();
    Btrfs::new().snapshot(&dataset, &name("pre")).unwrap();
    let held = &Btrfs::new().list(&dataset).unwrap().snapshots[0];
    assert_eq!(fs::write(held.path.join("x"), b"x").unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn btrfs_elsewhere_or_nested_is_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = Btrfs::new().probe(&dataset(&folder.path().join("ledger"))).unwrap_err().to_string();
    assert!(elsewhere.ends_with("is not on btrfs; use `driver: copy`"), "{elsewhere}");

    let Some(disk) = Disk::make("btrfs", 160) else { return };
    let nested = dataset(&disk.path().join("ledger"));
    Btrfs::new().probe(&nested).unwrap();
    btrfs_tool(&["subvolume", "create", nested.path.join("inner").to_str().unwrap()]);
    let error = Btrfs::new().probe(&nested).unwrap_err().to_string();
    assert!(error.contains("is nested in it, and a snapshot would leave it out"), "{error}");

    let plain = dataset(&disk.path().join("plain"));
    fs::create_dir(&plain.path).unwrap();
    let error = Btrfs::new().probe(&plain).unwrap_err().to_string();
    assert!(error.contains("it is a plain folder"), "{error}");
}

#[test]
fn copy_keeps_owner_mode_links_attributes_and_holes() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(&folder.path().join("ledger"));
    Copy::new().probe(&dataset).unwrap();
    let live = &dataset.path;
    fs::create_dir(live.join("inner")).unwrap();
    fs::write(live.join("inner/file"), b"bytes").unwrap();
    fs::hard_link(live.join("inner/file"), live.join("second")).unwrap();
    std::os::unix::fs::symlink("inner/file", live.join("link")).unwrap();
    fs::set_permissions(live.join("inner/file"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(live.join("inner"), fs::Permissions::from_mode(0o2550)).unwrap();
    let with_attributes = xattr::set(live.join("inner/file"), "user.kind", b"ledger").is_ok();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(live.join("inner/file"), Some(65532), Some(65532)).unwrap();
    }
    let sparse = fs::File::create(live.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (64 << 20) - 3).unwrap();
    drop(sparse);

    Copy::new().snapshot(&dataset, &name("pre")).unwrap();
    let held = Copy::new().list(&dataset).unwrap().snapshots[0].path.clone();
    for file in ["inner", "inner/file", "second", "link", "sparse"] {
        let was = fs::symlink_metadata(live.join(file)).unwrap();
        let is = fs::symlink_metadata(held.join(file)).unwrap();
        assert_eq!(
            (is.mode(), is.uid(), is.gid(), is.len(), is.mtime(), is.mtime_nsec()),
            (was.mode(), was.uid(), was.gid(), was.len(), was.mtime(), was.mtime_nsec()),
            "{file}"
        );
    }
    let (first, second) = (fs::metadata(held.join("inner/file")).unwrap(), fs::metadata(held.join("second")).unwrap());
    assert_eq!(first.ino(), second.ino());
    assert_ne!(first.ino(), fs::metadata(live.join("second")).unwrap().ino());
    assert_eq!(fs::read_link(held.join("link")).unwrap(), Path::new("inner/file"));
    assert!(fs::metadata(held.join("sparse")).unwrap().blocks() < 2048, "the hole stays a hole");
    assert!(fs::read(held.join("sparse")).unwrap().ends_with(b"end"));
    if with_attributes {
        assert_eq!(xattr::get(held.join("inner/file"), "user.kind").unwrap().unwrap(), b"ledger");
    }
}

#[test]
fn copy_on_a_full_disk_says_so_and_leaves_nothing_half() {
    let Some(disk) = Disk::make("ext4", 24) else { return };
    let dataset = dataset(&disk.path().join("ledger"));
    Copy::new().probe(&dataset).unwrap();
    fs::write(dataset.path.join("big"), vec![7; 12 << 20]).unwrap();
    let free = place::free_bytes(&dataset.path).unwrap();
    let error = Copy::new().snapshot(&dataset, &name("pre")).unwrap_err();
    assert!(error.is_full(), "{error:?}");
    assert!(Copy::new().list(&dataset).unwrap().snapshots.is_empty());
    assert!(place::free_bytes(&dataset.path).unwrap() + (1 << 20) > free, "the half copy gave its space back");
}

#[test]
fn names_that_are_paths_are_refused() {
    for text in ["", ".", "..", "a/b", ".unfinished-x", "A", "-x", "a b"] {
        assert!(text.parse::<DataName>().is_err(), "{text:?}");
    }
}

fn btrfs_tool(arguments: &[&str]) {
    assert!(Command::new("btrfs").args(arguments).output().unwrap().status.success());
}

/// A file system on a loop file, unmounted when dropped.
pub(crate) struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    pub(crate) fn make(kind: &str, mebibytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("disk");
        fs::File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        fs::create_dir(folder.path().join("mount")).unwrap();
        let run = |program: &str, arguments: &[&std::ffi::OsStr]| {
            Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
        };
        let quiet: &[&std::ffi::OsStr] = &["-q".as_ref(), image.as_os_str()];
        let made = run(&format!("mkfs.{kind}"), quiet)
            && run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), folder.path().join("mount").as_ref()]);
        if made {
            return Some(Self { folder });
        }
        assert!(std::env::var_os("NEBH_REQUIRE_PEERS").is_none(), "{kind} cannot be made and mounted here");
        println!("SKIPPED: {kind} cannot be made and mounted here; that driver is untested");
        None
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("mount")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Another test's child may hold a copy of a descriptor in here for a moment.
        for _ in 0..100 {
            if Command::new("umount").arg(self.path()).output().is_ok_and(|output| output.status.success()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        drop(Command::new("umount").arg("--lazy").arg(self.path()).status());
    }
}
