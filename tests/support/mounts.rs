//! Mounts that outlive whoever made them. The benchmarks include this file, too.

use std::path::Path;

use rustix::mount::{UnmountFlags, unmount};

/// Unmounts all that is mounted below a folder; a folder with a mount in it is not removed.
pub(crate) fn unmount_below(folder: &Path) {
    let here = format!("{}/", folder.display());
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mut below: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    below.retain(|place| place.starts_with(&here));
    below.sort_unstable_by(|a, b| b.cmp(a));
    for place in below {
        let _gone = unmount(place, UnmountFlags::DETACH);
    }
}
