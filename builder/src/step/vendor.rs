//! Lays crates out as cargo's own `directory` source wants them, from the archived `.crate` files. Made once for a set of
//! crates; nothing in it was made by a tool whose output could change.

use std::fs::File;
use std::path::PathBuf;

use nebh_face::{Exit, Failure};
use nebh_oci::digest::Digest;

use crate::assembly::{Entry, EntryPath, FileTree, Meta, PathError, Spill};
use crate::lock::LockedCrate;
use crate::packages::{Packages, internal, key_of};
use crate::root::{Limits, materialize, read_tar_tree};

/// Version of the layout.
const VENDOR_VERSION: &str = "vendor-1";
/// Crates are text; the largest with data stay below a tenth of this.
const CRATE_BYTES_MAX: u64 = 1 << 30;

/// The folder with all crates, and the digest that it follows from.
pub(super) fn vendor(crates: &[LockedCrate], packages: &Packages<'_>) -> Result<(PathBuf, Digest), Failure> {
    let mut sorted: Vec<&LockedCrate> = crates.iter().collect();
    sorted.sort();
    let key = key_of(&(VENDOR_VERSION, &sorted))?;
    if let Some(folder) = packages.store.folder("vendor", &key) {
        return Ok((folder, key));
    }
    let spill = Spill::new(packages.work.path()).map_err(|error| internal(&error))?;
    let mut all = FileTree::default();
    for one in sorted {
        all.merge(unpack(one, packages, &spill)?).map_err(|error| internal(&error))?;
    }
    let made = packages.work.folder("vendor").map_err(|error| internal(&error))?;
    materialize(all, &made).map_err(|error| internal(&error))?;
    let folder = packages.store.keep_folder("vendor", &key, &made).map_err(|error| internal(&error))?;
    Ok((folder, key))
}

fn unpack(one: &LockedCrate, packages: &Packages<'_>, spill: &Spill) -> Result<FileTree, Failure> {
    let name = format!("{}-{}", one.name, one.version);
    let wrong = |error: &dyn std::error::Error| {
        Failure::new(Exit::Failed, format!("crate {} {} cannot be unpacked", one.name, one.version)).because(error)
    };
    let file = File::open(packages.inputs.path(&one.sha256)).map_err(|error| wrong(&error))?;
    let limits = Limits { bytes: CRATE_BYTES_MAX, ..Limits::default() };
    let tree = read_tar_tree("crate", flate2::read::MultiGzDecoder::new(file), spill, &limits, keep)
        .map_err(|error| wrong(&error))?;
    let inside = tree.iter().all(|(path, _)| path.as_str() == name || path.as_str().starts_with(&format!("{name}/")));
    if !inside {
        return Err(Failure::new(
            Exit::Failed,
            format!("crate {} {} has files outside `{name}`", one.name, one.version),
        ));
    }
    let mut tree = tree;
    for (_, entry) in tree.iter_mut() {
        // Whatever the packer's umask was, the sandbox's user has to read it.
        entry.meta = Meta::root(entry.meta.mode & 0o111 | 0o644, entry.meta.mtime);
        if matches!(entry.kind, crate::assembly::Kind::Folder) {
            entry.meta.mode = 0o755;
        }
    }
    // Cargo compares the package's own digest with `Cargo.lock`; single files were covered by it when they were unpacked.
    let checksum = format!(r#"{{"files":{{}},"package":"{}"}}"#, one.sha256.hex());
    let path = EntryPath::parse(&format!("{name}/.cargo-checksum.json")).map_err(|error| wrong(&error))?;
    tree.insert(path, Entry::file(Meta::root(0o644, 1), checksum.into_bytes())).map_err(|error| wrong(&error))?;
    Ok(tree)
}

/// Links are left out: cargo packs none, and a crate that has one was not packed by cargo.
#[expect(clippy::unnecessary_wraps, reason = "the reader of archives asks for this form")]
fn keep(path: &EntryPath, entry: &Entry) -> Result<Option<EntryPath>, PathError> {
    Ok((!matches!(entry.kind, crate::assembly::Kind::Link(_))).then(|| path.clone()))
}
