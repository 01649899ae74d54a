//! A folder that begins as another one and can be written without changing it: an overlay mount where that is allowed, else
//! a copy. Owns the mount, which ends with the value.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// The writable face of a folder that stays as it is.
#[derive(Debug)]
pub struct Layered {
    path: PathBuf,
    is_mounted: bool,
}

impl Layered {
    /// A writable view of `lower`, made inside `work`.
    pub fn over(lower: &Path, work: &Path) -> io::Result<Self> {
        let path = work.join(crate::store::LAYERED);
        let (upper, scratch) = (work.join("layered-upper"), work.join("layered-work"));
        for folder in [&path, &upper, &scratch] {
            fs::create_dir_all(folder)?;
        }
        if rustix::process::geteuid().is_root() {
            // `:` and `,` separate options; a state folder with one of them gets a copy.
            let options =
                format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), scratch.display());
            let plain = [lower, work].iter().all(|path| !path.to_string_lossy().contains([':', ',', '\\']));
            if plain
                && let Ok(options) = CString::new(options)
                && mount("overlay", &path, "overlay", MountFlags::NODEV | MountFlags::NOSUID, options.as_c_str())
                    .is_ok()
            {
                return Ok(Self { path, is_mounted: true });
            }
        }
        copy(lower, &path)?;
        Ok(Self { path, is_mounted: false })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Layered {
    fn drop(&mut self) {
        if self.is_mounted {
            let _gone_already = unmount(&self.path, UnmountFlags::DETACH);
        }
    }
}

/// Copies a tree with owners, modes and times to the nanosecond: build tools compare times.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut folders = Vec::new();
    for entry in walkdir::WalkDir::new(from).follow_links(false).sort_by_file_name() {
        let entry = entry?;
        let below = entry.path().strip_prefix(from).unwrap_or(entry.path());
        let place = to.join(below);
        let there = entry.metadata()?;
        if there.is_dir() {
            fs::create_dir_all(&place)?;
            folders.push((place, there));
            continue;
        }
        if there.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, &place)?;
        } else if there.is_file() {
            fs::copy(entry.path(), &place)?;
        } else {
            // A pipe or socket that a program left behind: opening it could wait for ever, and no compiler reads one.
            continue;
        }
        stamp(&place, &there)?;
    }
    folders.iter().rev().try_for_each(|(place, there)| {
        fs::set_permissions(place, there.permissions())?;
        stamp(place, there)
    })
}

fn stamp(place: &Path, there: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::lchown(place, Some(there.uid()), Some(there.gid()))?;
    }
    let time = Timespec { tv_sec: there.mtime(), tv_nsec: there.mtime_nsec() };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(layered: &Path, lower: &Path) {
        let time = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        assert_eq!(time(&layered.join("a/file")), time(&lower.join("a/file")));
        fs::write(layered.join("a/file"), "new").unwrap();
        fs::write(layered.join("more"), "more").unwrap();
        assert_eq!(fs::read_to_string(lower.join("a/file")).unwrap(), "old");
        assert!(!lower.join("more").exists());
        assert_eq!(fs::read_to_string(layered.join("a/file")).unwrap(), "new");
    }

    #[test]
    fn pipe_that_a_build_script_left_behind_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let lower = dir.path().join("lower");
        fs::create_dir(&lower).unwrap();
        fs::write(lower.join("file"), "x").unwrap();
        rustix::fs::mknodat(CWD, lower.join("pipe"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(lower.join("socket")).unwrap();
        let to = dir.path().join("to");
        fs::create_dir(&to).unwrap();
        copy(&lower, &to).unwrap();
        let names: Vec<_> = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["file"]);
    }

    #[test]
    fn writing_leaves_the_lower_folder_alone() {
        let dir = tempfile::tempdir().unwrap();
        let lower = dir.path().join("lower");
        fs::create_dir_all(lower.join("a")).unwrap();
        fs::write(lower.join("a/file"), "old").unwrap();
        let work = dir.path().join("work");
        let layered = Layered::over(&lower, &work).unwrap();
        check(layered.path(), &lower);
        drop(layered);
        let copied = dir.path().join("copied");
        fs::create_dir_all(&copied).unwrap();
        copy(&lower, &copied).unwrap();
        check(&copied, &lower);
        assert!(!fs::read_to_string("/proc/self/mounts").unwrap().contains(dir.path().to_str().unwrap()));
    }
}
