//! The `files` step: parts of the source, as they are, at places of the image.

use std::path::Path;

use nebh_face::{Exit, Failure};

use crate::assembly::{Entry, EntryPath, FileTree, Meta, Spill};
use crate::git::{EntryKind, Tree};
use crate::spec::FilesStep;

use super::collect::collect;

/// The tree of a `files` step. `source` is the exported source; `mtime` the time of the build.
pub fn files(step: &FilesStep, tree: &Tree, source: &Path, spill: &Spill, mtime: u64) -> Result<FileTree, Failure> {
    let mut out = FileTree::default();
    for rule in &step.copy {
        let from = rule.from.as_str();
        let mut found = false;
        for entry in tree.entries() {
            let Some(rest) = below(&entry.path, from) else { continue };
            found = true;
            let place = format!("{}/{rest}", rule.to.as_str());
            let place = EntryPath::parse(&place).map_err(|error| wrong(from, &error))?;
            let made = match entry.kind {
                EntryKind::Link => {
                    let target = std::fs::read_link(source.join(&entry.path)).map_err(|error| wrong(from, &error))?;
                    Entry::link(target.to_string_lossy(), mtime)
                }
                EntryKind::File | EntryKind::Executable => {
                    let mode = if entry.kind == EntryKind::Executable { 0o755 } else { 0o644 };
                    let content =
                        collect(source, Path::new(&entry.path), spill).map_err(|error| wrong(from, &error))?;
                    Entry::content(Meta::root(mode, mtime), content)
                }
            };
            out.insert(place, made).map_err(|error| wrong(from, &error))?;
        }
        if !found {
            return Err(Failure::new(Exit::Usage, format!("`files` copies `{from}`, which is not in the commit")));
        }
    }
    Ok(out)
}

/// What is left of `path` below `folder`; empty if it is that path itself. `.` is the whole source.
fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    match path.strip_prefix(folder) {
        _ if folder == "." => Some(path),
        Some("") => Some(""),
        Some(rest) => rest.strip_prefix('/'),
        None => None,
    }
}

fn wrong(from: &str, error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Failed, format!("`files` cannot copy `{from}`")).because(error)
}
