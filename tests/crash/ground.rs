//! What a story stands on: a folder, or a file system of its own whose power can be cut.
//!
//! ext4 and xfs have an ioctl that ends them as a power cut does: what was not made durable is gone. Making that call is
//! unsafe in Rust and this house has no unsafe code, so perl makes it, which every Debian has. btrfs has no such call;
//! there the power fails by going on with a copy of what had reached the device at that moment.
//!
//! Side effects: loop mounts below a scratch folder, taken away with it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::{has_program, peer, succeed};

/// `EXT4_IOC_SHUTDOWN` and `XFS_IOC_GOINGDOWN` are one number; 2 is "without flushing the log".
const CUT: &str = "open(my $f, '<', $ARGV[0]) or die; my $how = pack('L', 2); ioctl($f, 0x8004587d, $how) or die $!";
/// Sparse; btrfs wants at least 109 MiB.
const DEVICE: &str = "320M";
/// Looks whether the last user of a mount is gone.
const UNMOUNT_TRIES: usize = 400;

/// A kind of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ext4,
    Xfs,
    Btrfs,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Ext4, Self::Xfs, Self::Btrfs];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
}

/// Where a story's files are.
pub(super) struct Ground {
    scratch: tempfile::TempDir,
    kind: Option<Kind>,
}

impl Ground {
    /// A folder: a death takes the process alone.
    pub(super) fn folder_only() -> Self {
        Self { scratch: tempfile::tempdir().expect("a scratch folder"), kind: None }
    }

    /// A file system of its own: with a death the power goes too. `None` where that cannot be had.
    pub(super) fn cut_with(kind: Kind) -> Option<Self> {
        let maker = format!("mkfs.{}", kind.name());
        let tools = ["perl", "mount", "losetup", maker.as_str()].into_iter().all(has_program);
        if !peer("root", rustix::process::geteuid().is_root()) || !peer(&maker, tools) {
            return None;
        }
        let ground = Self { scratch: tempfile::tempdir().expect("a scratch folder"), kind: Some(kind) };
        std::fs::create_dir(ground.folder()).expect("a folder to mount at");
        succeed(Command::new("truncate").args(["-s", DEVICE]).arg(ground.device()));
        succeed(Command::new(maker).arg("-q").arg(ground.device()));
        ground.mount();
        Some(ground)
    }

    /// Where the files go.
    pub(super) fn folder(&self) -> PathBuf {
        self.scratch.path().join("ground")
    }

    /// Stands before the names of points.
    pub(super) fn prefix(&self) -> String {
        self.kind.map(|kind| format!("power, {}: ", kind.name())).unwrap_or_default()
    }

    /// True if a death takes the power with it.
    pub(super) fn cuts(&self) -> bool {
        self.kind.is_some()
    }

    fn device(&self) -> PathBuf {
        self.scratch.path().join("device")
    }

    fn mount(&self) {
        succeed(Command::new("mount").args(["-o", "loop"]).arg(self.device()).arg(self.folder()));
    }

    /// Waits until nobody has the device any more: a container that is just being made, by whomever, may have seen the
    /// mount in its first moments, and a dead file system would be mounted once more.
    fn released(&self) {
        for _ in 0..UNMOUNT_TRIES {
            if succeed(Command::new("losetup").arg("--associated").arg(self.device())).is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("{} stays in use", self.device().display());
    }

    /// The power goes and comes back, if this ground has a power of its own. Whoever used it has died before.
    pub(super) fn cut(&self) {
        let Some(kind) = self.kind else { return };
        let copy = self.scratch.path().join("device.copy");
        if kind == Kind::Btrfs {
            succeed(Command::new("cp").arg("--sparse=always").arg(self.device()).arg(&copy));
        } else {
            succeed(Command::new("perl").args(["-e", CUT]).arg(self.folder()));
        }
        unmount(&self.folder());
        self.released();
        if kind == Kind::Btrfs {
            std::fs::rename(&copy, self.device()).expect("the copy takes the place");
        }
        self.mount();
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if self.cuts() {
            let _gone = rustix::mount::unmount(self.folder(), rustix::mount::UnmountFlags::DETACH);
        }
    }
}

fn unmount(place: &Path) {
    for _ in 0..UNMOUNT_TRIES {
        match rustix::mount::unmount(place, rustix::mount::UnmountFlags::empty()) {
            Ok(()) => return,
            Err(rustix::io::Errno::BUSY) => std::thread::sleep(Duration::from_millis(25)),
            Err(error) => panic!("cannot unmount {}: {error}", place.display()),
        }
    }
    panic!("{} stays in use", place.display());
}
