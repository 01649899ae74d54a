//! One layer onto the tree: members in order, whiteouts, and the metadata of directories at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use super::path::MemberPath;
use super::reader::{Kind, Member, TarReader};
use super::tree::Tree;
use super::{UnpackError, UnpackSettings};

/// What a layer says about a file that a lower one has: `.wh.<name>` is gone.
const WHITEOUT: &[u8] = b".wh.";
/// Everything that lower layers have in this directory is gone.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other names of this kind are bookkeeping of aufs.
const BOOKKEEPING: &[u8] = b".wh..wh.";

/// Applies all members and says how many there were.
pub(super) fn layer<R: Read>(
    tree: &mut Tree,
    members: &mut TarReader<R>,
    settings: &UnpackSettings,
    entries_left: u64,
) -> Result<u64, UnpackError> {
    let (made, cleared, directories) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
    let mut layer = Layer { tree, settings, made, cleared, directories };
    let (mut entries, mut names) = (0, 0);
    while let Some(member) = members.next()? {
        entries += 1;
        names += member.path.len();
        if names > settings.limits.names {
            let what = "the length of all names of a layer";
            return Err(UnpackError::TooLarge { what, limit: settings.limits.names });
        }
        if entries > entries_left {
            return Err(UnpackError::TooLarge { what: "the number of members", limit: settings.limits.entries });
        }
        layer.apply(&member, members)?;
    }
    layer.finish()?;
    Ok(entries)
}

struct Layer<'a> {
    tree: &'a mut Tree,
    settings: &'a UnpackSettings,
    /// What this layer made: whiteouts are about lower layers only, and nothing is made twice.
    made: BTreeSet<MemberPath>,
    /// Directories that this layer said are opaque; once is enough, and listing one may be long.
    cleared: BTreeSet<MemberPath>,
    /// Modes and times of directories are set last: a read-only one could not be filled, and filling moves its time.
    directories: BTreeMap<MemberPath, Member>,
}

impl Layer<'_> {
    fn apply<R: Read>(&mut self, member: &Member, content: &mut TarReader<R>) -> Result<(), UnpackError> {
        let Some((parent, name)) = member.path.split() else {
            // The root: it is there, only its metadata counts.
            if member.kind != Kind::Directory {
                return Err(refused(member, "the root is a directory"));
            }
            self.directories.insert(member.path.clone(), member.metadata());
            return Ok(());
        };
        if name == OPAQUE {
            if self.cleared.insert(parent.clone()) {
                self.tree.remove_children(&parent, &self.made)?;
            }
            return Ok(());
        }
        if name.starts_with(BOOKKEEPING) {
            return Ok(());
        }
        if let Some(gone) = name.strip_prefix(WHITEOUT) {
            return self.white_out(member, &parent, gone);
        }
        let is_new = self.made.insert(member.path.clone());
        match &member.kind {
            Kind::Directory => {
                self.tree.make_directory(&member.path)?;
                self.directories.insert(member.path.clone(), member.metadata());
                return Ok(());
            }
            _ if !is_new => return Err(refused(member, "the layer has it twice")),
            Kind::File => return self.tree.make_file(member, content, self.settings),
            Kind::Symlink(target) => self.tree.make_symlink(&member.path, target)?,
            Kind::HardLink(target) => return self.tree.make_hard_link(&member.path, target),
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo if !self.settings.allow_devices => {
                return Err(refused(member, "devices and FIFOs are not unpacked"));
            }
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => self.tree.make_node(member)?,
        }
        self.tree.set_metadata_of_name(member, self.settings)
    }

    fn white_out(&mut self, member: &Member, parent: &MemberPath, gone: &[u8]) -> Result<(), UnpackError> {
        if gone.is_empty() || gone == b"." || gone == b".." {
            return Err(refused(member, "a whiteout must name a file of its own directory"));
        }
        let path = parent.join(gone);
        if path.leads_into(&self.made) {
            return Err(refused(member, "the layer has both the file and its whiteout"));
        }
        self.tree.remove(&path)
    }

    fn finish(self) -> Result<(), UnpackError> {
        // Deepest first: setting a child does not move the time of what is set later.
        for member in self.directories.values().rev() {
            self.tree.set_directory_metadata(member, self.settings)?;
        }
        Ok(())
    }
}

fn refused(member: &Member, why: &'static str) -> UnpackError {
    UnpackError::Refused { member: member.path.to_string(), why }
}
