//! The tree that is written: every path resolved by the kernel below the root, every last component never followed.
//!
//! Owns: the file system below one directory, held by its descriptor. There is no moment between a check and its use:
//! a parent is opened once and acted upon by descriptor.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::path::MemberPath;
use super::reader::{Kind, Member, TarReader};
use super::{UnpackError, UnpackSettings};

/// Links are followed as they will be in the container: an absolute one starts at the root of the tree.
const RESOLVE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Directories that no layer describes.
const IMPLIED_MODE: Mode = Mode::from_raw_mode(0o755);
/// While a directory is filled, its owner must be able to.
const FILLING_MODE: Mode = Mode::from_raw_mode(0o700);
/// Trees made through links may be deeper than any one name; this many are removed, more are an attack.
const REMOVAL_DEPTH_MAX: usize = 512;
const BUFFER: usize = 1 << 17;

#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    path: PathBuf,
    /// The last parent: members of one directory come together.
    last: Option<(MemberPath, OwnedFd)>,
}

impl Tree {
    pub(super) fn open(path: &Path) -> Result<Self, UnpackError> {
        let root = rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty());
        let failed = |error: Errno| write_error("open", ".".to_owned(), path, error);
        Ok(Self { root: root.map_err(failed)?, path: path.to_owned(), last: None })
    }

    pub(super) fn sync(&self) -> Result<(), UnpackError> {
        rustix::fs::syncfs(&self.root).map_err(|error| write_error("sync", ".".to_owned(), &self.path, error))
    }

    pub(super) fn make_directory(&mut self, path: &MemberPath) -> Result<(), UnpackError> {
        self.at(path, "make directory", |parent, name| {
            match file_type(parent, name)? {
                // What is in it stays: this is how a layer says something about a directory of a lower one.
                Some(FileType::Directory) => return Ok(()),
                Some(_) => rustix::fs::unlinkat(parent, name, AtFlags::empty())?,
                None => {}
            }
            rustix::fs::mkdirat(parent, name, FILLING_MODE)
        })
    }

    pub(super) fn make_file<R: Read>(
        &mut self,
        member: &Member,
        content: &mut TarReader<R>,
        settings: &UnpackSettings,
    ) -> Result<(), UnpackError> {
        let file = self.at(&member.path, "make file", |parent, name| {
            remove_name(parent, name, 0)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
        })?;
        let mut file = File::from(file);
        let mut buffer = vec![0; BUFFER.min(usize::try_from(member.size).unwrap_or(BUFFER))];
        loop {
            let count = content.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            file.write_all(&buffer[..count]).map_err(|source| UnpackError::Write {
                action: "write",
                member: member.path.to_string(),
                root: self.path.clone(),
                source,
            })?;
        }
        let set = || -> Result<(), Errno> {
            // Owner first: a change of owner takes set-id bits and capabilities away.
            if settings.keep_owners {
                rustix::fs::fchown(&file, Some(uid(member)), Some(gid(member)))?;
            }
            rustix::fs::fchmod(&file, mode(member, settings))?;
            for (name, value) in wanted_xattrs(member, settings) {
                match rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty()) {
                    // A file system without them.
                    Err(Errno::NOTSUP) if name.starts_with(b"user.") => {}
                    outcome => outcome?,
                }
            }
            rustix::fs::futimens(&file, &times(member))
        };
        set().map_err(|error| self.failed("set the metadata of", &member.path, error))
    }

    pub(super) fn make_symlink(&mut self, path: &MemberPath, target: &[u8]) -> Result<(), UnpackError> {
        self.at(path, "make link", |parent, name| {
            remove_name(parent, name, 0)?;
            rustix::fs::symlinkat(target, parent, name)
        })
    }

    /// The target is found below the root like any other path, its last component not followed.
    pub(super) fn make_hard_link(&mut self, path: &MemberPath, target: &MemberPath) -> Result<(), UnpackError> {
        let refuse = |why| UnpackError::Refused { member: path.to_string(), why };
        let (directory, target_name) = target.split().ok_or_else(|| refuse("it is a hard link to the root"))?;
        let resolved = rustix::fs::openat2(&self.root, directory.bytes(), DIRECTORY, Mode::empty(), RESOLVE);
        let directory = match resolved {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                return Err(refuse("its hard link target is not in the image"));
            }
            Err(error) => return Err(self.failed("find the target of", path, error)),
        };
        match file_type(directory.as_fd(), target_name) {
            Ok(Some(FileType::Directory)) => return Err(refuse("it is a hard link to a directory")),
            Ok(Some(_)) => {}
            Ok(None) => return Err(refuse("its hard link target is not in the image")),
            Err(error) => return Err(self.failed("find the target of", path, error)),
        }
        if path == target {
            return Err(refuse("it is a hard link to itself"));
        }
        self.at(path, "make hard link", |parent, name| {
            // Another name of the same file, through a link: removing it first would lose the file.
            let (from, to) = (identity(directory.as_fd(), target_name)?, identity(parent, name)?);
            if from.is_some() && from == to {
                return Ok(());
            }
            remove_name(parent, name, 0)?;
            rustix::fs::linkat(&directory, target_name, parent, name, AtFlags::empty())
        })
    }

    pub(super) fn make_node(&mut self, member: &Member) -> Result<(), UnpackError> {
        let (major, minor) = member.device;
        let file_type = match member.kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        self.at(&member.path, "make node", |parent, name| {
            remove_name(parent, name, 0)?;
            let device = rustix::fs::makedev(major, minor);
            rustix::fs::mknodat(parent, name, file_type, Mode::RUSR | Mode::WUSR, device)
        })
    }

    /// Owner, mode and time of what is no file and no directory, by name and never followed.
    pub(super) fn set_metadata_of_name(
        &mut self,
        member: &Member,
        settings: &UnpackSettings,
    ) -> Result<(), UnpackError> {
        let is_link = matches!(member.kind, Kind::Symlink(_));
        self.at(&member.path, "set the metadata of", |parent, name| {
            if settings.keep_owners {
                rustix::fs::chownat(parent, name, Some(uid(member)), Some(gid(member)), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            if !is_link {
                rustix::fs::chmodat(parent, name, mode(member, settings), AtFlags::empty())?;
            }
            rustix::fs::utimensat(parent, name, &times(member), AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    /// Owner, mode and time of a directory, if it is still one.
    pub(super) fn set_directory_metadata(&self, member: &Member, settings: &UnpackSettings) -> Result<(), UnpackError> {
        let flags = DIRECTORY | OFlags::NOFOLLOW;
        let opened = rustix::fs::openat2(&self.root, member.path.bytes(), flags, Mode::empty(), RESOLVE);
        let directory = match opened {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(error) => return Err(self.failed("open", &member.path, error)),
        };
        let set = || -> Result<(), Errno> {
            if settings.keep_owners {
                rustix::fs::fchown(&directory, Some(uid(member)), Some(gid(member)))?;
            }
            rustix::fs::fchmod(&directory, mode(member, settings))?;
            rustix::fs::futimens(&directory, &times(member))
        };
        set().map_err(|error| self.failed("set the metadata of", &member.path, error))
    }

    /// Removes what is at `path`, with all that is below. Nothing there is fine.
    pub(super) fn remove(&mut self, path: &MemberPath) -> Result<(), UnpackError> {
        let Some((parent, name)) = path.split() else { return Ok(()) };
        let Some(directory) = self.existing(&parent)? else { return Ok(()) };
        self.last = None;
        remove_name(directory.as_fd(), name, 0).map_err(|error| self.failed("remove", path, error))
    }

    /// Removes everything in the directory but what is kept (and what leads to it).
    pub(super) fn remove_children(
        &mut self,
        path: &MemberPath,
        kept: &BTreeSet<MemberPath>,
    ) -> Result<(), UnpackError> {
        let Some(directory) = self.existing(path)? else { return Ok(()) };
        self.last = None;
        let names = names_in(directory.as_fd()).map_err(|error| self.failed("list", path, error))?;
        for name in names {
            let child = path.join(&name);
            if !child.leads_into(kept) {
                remove_name(directory.as_fd(), &name, 0).map_err(|error| self.failed("remove", &child, error))?;
            } else if file_type(directory.as_fd(), &name) == Ok(Some(FileType::Directory)) {
                self.remove_children(&child, kept)?;
            }
        }
        Ok(())
    }

    fn existing(&self, path: &MemberPath) -> Result<Option<OwnedFd>, UnpackError> {
        match rustix::fs::openat2(&self.root, path.bytes(), DIRECTORY, Mode::empty(), RESOLVE) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(self.failed("open", path, error)),
        }
    }

    /// Acts on the last component of `path` in its opened parent.
    fn at<T>(
        &mut self,
        path: &MemberPath,
        action: &'static str,
        act: impl FnOnce(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, UnpackError> {
        let Some((parent, name)) = path.split() else { return Err(self.failed(action, path, Errno::EXIST)) };
        let opened = match self.last.take() {
            Some((known, directory)) if known == parent => directory,
            _ => self.open_parent(&parent)?,
        };
        let outcome = act(opened.as_fd(), name).map_err(|error| self.failed(action, path, error));
        // A made link, or a removed directory, may give an old name a new meaning.
        let keeps_meaning = matches!(action, "make file" | "set the metadata of");
        self.last = keeps_meaning.then_some((parent, opened));
        outcome
    }

    fn open_parent(&self, path: &MemberPath) -> Result<OwnedFd, UnpackError> {
        if let Some(directory) = self.existing(path)? {
            return Ok(directory);
        }
        // Some archives leave directories out: made one by one, each resolved below the root.
        let mut directory = self.root.try_clone().map_err(|source| UnpackError::Write {
            action: "open",
            member: path.to_string(),
            root: self.path.clone(),
            source,
        })?;
        for prefix in path.prefixes() {
            let name = prefix.rsplit(|b| *b == b'/').next().unwrap_or(prefix);
            let open = || rustix::fs::openat2(&self.root, prefix, DIRECTORY, Mode::empty(), RESOLVE);
            let next = match open() {
                Err(Errno::NOENT) => rustix::fs::mkdirat(&directory, name, IMPLIED_MODE).and_then(|()| open()),
                outcome => outcome,
            };
            directory = next.map_err(|error| self.failed("make the parents of", path, error))?;
        }
        Ok(directory)
    }

    fn failed(&self, action: &'static str, path: &MemberPath, error: Errno) -> UnpackError {
        write_error(action, path.to_string(), &self.path, error)
    }
}

fn write_error(action: &'static str, member: String, root: &Path, error: Errno) -> UnpackError {
    UnpackError::Write { action, member, root: root.to_owned(), source: error.into() }
}

fn file_type(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Option<FileType>, Errno> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn identity(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Option<(u64, u64)>, Errno> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some((stat.st_dev, stat.st_ino))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a name with all that is below, by descriptors, following nothing.
fn remove_name(parent: BorrowedFd<'_>, name: &[u8], depth: usize) -> Result<(), Errno> {
    match file_type(parent, name)? {
        None => Ok(()),
        Some(FileType::Directory) if depth == REMOVAL_DEPTH_MAX => Err(Errno::NAMETOOLONG),
        Some(FileType::Directory) => {
            let directory = rustix::fs::openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
            for child in names_in(directory.as_fd())? {
                remove_name(directory.as_fd(), &child, depth + 1)?;
            }
            rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
        }
        Some(_) => rustix::fs::unlinkat(parent, name, AtFlags::empty()),
    }
}

fn names_in(directory: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

fn uid(member: &Member) -> Uid {
    Uid::from_raw(member.uid)
}

fn gid(member: &Member) -> Gid {
    Gid::from_raw(member.gid)
}

fn mode(member: &Member, settings: &UnpackSettings) -> Mode {
    // Without the right owner a set-id bit would lend out ours.
    Mode::from_raw_mode(if settings.keep_owners { member.mode } else { member.mode & 0o1777 })
}

fn times(member: &Member) -> Timestamps {
    let time = Timespec { tv_sec: member.mtime.0, tv_nsec: i64::from(member.mtime.1) };
    Timestamps { last_access: time, last_modification: time }
}

fn wanted_xattrs<'a>(member: &'a Member, settings: &UnpackSettings) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    let capabilities = settings.keep_owners;
    // `user.overlay.*` are orders to an overlay that is mounted on the tree, not the image's attributes.
    let is_user = |name: &[u8]| name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
    let wanted = move |name: &[u8]| is_user(name) || (capabilities && name == b"security.capability");
    member.xattrs.iter().filter(move |(name, _)| wanted(name)).map(|(name, value)| (name.as_slice(), value.as_slice()))
}
