//! Which numbers an image's `user` stands for, by the image's own `/etc/passwd` and `/etc/group`.
//!
//! Side effects: reads these two files, never through a link that leaves the image's root.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Bytes of `/etc/passwd` that are read.
const TABLE_BYTES_MAX: u64 = 1 << 20;

/// Numbers of the program's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Why a user is nobody.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// No such name.
    #[error("the image runs as `{user}`, and its `{table}` has no such name")]
    Unknown {
        /// The image's user.
        user: String,
        /// `/etc/passwd` or `/etc/group`.
        table: &'static str,
    },
    /// The table cannot be read.
    #[error("cannot read `{table}` in {}", root.display())]
    Table {
        /// The table.
        table: &'static str,
        /// The image's root.
        root: PathBuf,
        /// The cause.
        #[source]
        cause: io::Error,
    },
}

/// `user`, `uid`, `user:group` or `uid:gid`; nothing means root.
pub fn resolve(root: &Path, user: Option<&str>) -> Result<User, UserError> {
    let text = user.unwrap_or("0");
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let unknown = |table| UserError::Unknown { user: text.to_owned(), table };
    let row = row(&table(root, "/etc/passwd")?, user, 2);
    let uid = row.as_ref().map(|row| row.0).or_else(|| user.parse().ok()).ok_or_else(|| unknown("/etc/passwd"))?;
    let gid = match group {
        Some(group) => match group.parse() {
            Ok(gid) => gid,
            Err(_) => self::row(&table(root, "/etc/group")?, group, 2).ok_or_else(|| unknown("/etc/group"))?.0,
        },
        None => row.and_then(|row| row.1).unwrap_or(0),
    };
    Ok(User { uid, gid })
}

/// The number of a row by name or number, and the number after it.
fn row(table: &str, name: &str, column: usize) -> Option<(u32, Option<u32>)> {
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let number = fields.get(column)?.parse().ok()?;
        let is_it = fields.first() == Some(&name) || name.parse() == Ok(number);
        is_it.then(|| (number, fields.get(column + 1).and_then(|text| text.parse().ok())))
    })
}

/// The table's text; empty if the image has none.
fn table(root: &Path, table: &'static str) -> Result<String, UserError> {
    let read = || -> io::Result<String> {
        let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::openat2(&root, table, flags, Mode::empty(), inside) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(String::new()),
            Err(error) => return Err(error.into()),
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no plain file"));
        }
        let mut bytes = Vec::new();
        file.take(TABLE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().map_err(|cause| UserError::Table { table, root: root.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_looked_up_in_the_image() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/passwd"), "root:x:0:0::/:\nshop:x:101:102::/:\n").unwrap();
        std::fs::write(root.path().join("etc/group"), "shop:x:102:\nlog:x:7:\n").unwrap();
        let of = |text| resolve(root.path(), text).map(|user| (user.uid, user.gid));
        assert_eq!(of(None).unwrap(), (0, 0));
        assert_eq!(of(Some("shop")).unwrap(), (101, 102));
        assert_eq!(of(Some("101")).unwrap(), (101, 102));
        assert_eq!(of(Some("shop:log")).unwrap(), (101, 7));
        assert_eq!(of(Some("65532")).unwrap(), (65532, 0));
        assert_eq!(of(Some("65532:65533")).unwrap(), (65532, 65533));
        assert_eq!(
            of(Some("nobody")).unwrap_err().to_string(),
            "the image runs as `nobody`, and its `/etc/passwd` has no such name"
        );
    }

    #[test]
    fn a_link_in_the_image_does_not_lead_to_the_hosts_table() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("passwd"), "evil:x:0:0::/:\n").unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("passwd"), root.path().join("etc/passwd")).unwrap();
        assert!(matches!(resolve(root.path(), Some("evil")), Err(UserError::Unknown { .. })));
    }

    #[test]
    fn an_image_without_tables_runs_by_number() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(resolve(root.path(), Some("65532")).unwrap(), User { uid: 65532, gid: 0 });
    }
}
