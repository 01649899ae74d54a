//! Small file systems of their own: to be filled up and to go read-only, which nobody would do to a machine's real ones.

use std::path::PathBuf;
use std::process::Command;

use rustix::fs::statvfs;

use super::peer;

/// A mounted file system, unmounted when dropped.
pub(crate) struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// A file system in memory. `None` where it cannot be mounted.
    pub(crate) fn in_memory(mebibytes: u64) -> Option<Self> {
        let size = format!("size={mebibytes}m,mode=755");
        Self::mount(&["-t", "tmpfs", "-o", &size, "tmpfs"], None)
    }

    /// btrfs on a loop file. `None` where it cannot be made or mounted.
    pub(crate) fn btrfs(mebibytes: u64) -> Option<Self> {
        Self::mount(&["-o", "loop"], Some(mebibytes))
    }

    fn mount(options: &[&str], image: Option<u64>) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let disk = Self { folder };
        std::fs::create_dir(disk.path()).expect("a mount point");
        let file = disk.folder.path().join("image");
        let mut made = true;
        if let Some(mebibytes) = image {
            let sized = std::fs::File::create(&file).and_then(|image| image.set_len(mebibytes << 20));
            sized.expect("an image file");
            made = runs(Command::new("mkfs.btrfs").arg("-q").arg(&file));
        }
        let mut mount = Command::new("mount");
        mount.args(options).args(image.is_some().then_some(&file)).arg(disk.path());
        let kind = if image.is_some() { "btrfs on a loop file" } else { "tmpfs" };
        peer(&format!("the right to mount {kind}"), made && runs(&mut mount)).then_some(disk)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    /// Turns it read-only, as a file system does by itself when its disk begins to fail.
    pub(crate) fn go_read_only(&self) {
        self.remount("ro");
    }

    /// Turns it writable again.
    pub(crate) fn go_writable(&self) {
        self.remount("rw");
    }

    fn remount(&self, how: &str) {
        let mount = || runs(Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(self.path()));
        // A program that writes right now has a file open for it.
        for _ in 0..200 {
            if mount() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{} cannot be made {how}", self.path().display());
    }

    /// Fills it up until so many bytes are left. Removing the file that this gives back makes room again.
    pub(crate) fn fill(&self, left: u64) -> PathBuf {
        let filler = self.path().join("filler");
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&filler).expect("a file");
        let (has, more) = (file.metadata().expect("its length").len(), self.free().saturating_sub(left));
        if more > 0 {
            let all = rustix::fs::FallocateFlags::empty();
            rustix::fs::fallocate(&file, all, has, more).expect("the space that is free");
        }
        filler
    }

    /// Free bytes.
    pub(crate) fn free(&self) -> u64 {
        let stat = statvfs(self.path()).expect("figures of the file system");
        stat.f_bavail.saturating_mul(stat.f_frsize)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A child of another test may hold a copy of a descriptor in here for a moment.
        for _ in 0..100 {
            if runs(Command::new("umount").arg(self.path())) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        drop(Command::new("umount").arg("--lazy").arg(self.path()).output());
    }
}

fn runs(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
