//! A btrfs of its own in a loop file, for the data of every side. Owns the mount, which ends with the value.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use rustix::mount::{UnmountFlags, unmount};

use crate::command::run;

/// Room for a thousand snapshots of the payments.
const BYTES: u64 = 2 << 30;
/// What the data hold before the first payment: a snapshot must not cost by size.
const FILLER_BYTES: usize = 64 << 20;

/// The mounted volume.
#[derive(Debug)]
pub(crate) struct Volume {
    place: PathBuf,
}

impl Volume {
    /// Makes and mounts it below `folder`.
    pub(crate) fn mount(folder: &Path) -> Result<Self> {
        let (file, place) = (folder.join("data.img"), folder.join("data"));
        std::fs::File::create(&file)?.set_len(BYTES)?;
        std::fs::create_dir_all(&place)?;
        run(Command::new("mkfs.btrfs").arg("-q").arg(&file))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&file).arg(&place))?;
        Ok(Self { place })
    }

    /// A new subvolume with content that belongs to `user`.
    pub(crate) fn subvolume(&self, name: &str, user: u32) -> Result<PathBuf> {
        let path = self.place.join(name);
        run(Command::new("btrfs").args(["-q", "subvolume", "create"]).arg(&path))?;
        std::fs::write(path.join("filler"), vec![7; FILLER_BYTES])?;
        std::os::unix::fs::chown(&path, Some(user), Some(user))?;
        Ok(path)
    }

    /// The payments in every book of the volume: live data, snapshots, and timelines that were left.
    pub(crate) fn payments(&self) -> Result<std::collections::BTreeSet<String>> {
        let mut found = std::collections::BTreeSet::new();
        let mut folders = vec![self.place.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else if entry.file_name() == "book" {
                    found.extend(std::fs::read_to_string(entry.path())?.lines().map(str::to_owned));
                }
            }
        }
        Ok(found)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _gone_already = unmount(&self.place, UnmountFlags::DETACH);
    }
}
