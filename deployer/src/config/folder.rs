//! Config on disk: the node's own layers are folders that are read, a rendered tree is a folder that is written once.
//!
//! Side effects: reads the folders of `node.yaml`; writes `<state>/config/<digest>`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nebh_trust::release::{ConfigFile, ConfigLayer};

use super::render::Rendered;

/// Files of one folder.
const FILES_MAX: usize = 4096;
/// Bytes of one folder. Config that is larger is data.
const LAYER_BYTES_MAX: u64 = 4 << 20;

/// Why config cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file operation failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// The verb.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        #[source]
        cause: io::Error,
    },
    /// Not a plain file with a plain name.
    #[error("config holds {}, which is no plain file with a plain name", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Too much.
    #[error("config folder {} has more than {FILES_MAX} files or {LAYER_BYTES_MAX} bytes; what is larger is data", path.display())]
    TooLarge {
        /// The folder.
        path: PathBuf,
    },
}

/// Reads one of the node's folders as a layer.
pub fn read_folder(folder: &Path) -> Result<ConfigLayer, ConfigError> {
    let mut files = Vec::new();
    let mut bytes_total = 0;
    for entry in walkdir::WalkDir::new(folder).follow_links(false).sort_by_file_name() {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(folder).to_owned();
            failed("read the config folder", &path, error.into())
        })?;
        if entry.file_type().is_dir() {
            continue;
        }
        let not_a_file = || ConfigError::NotAFile { path: entry.path().to_owned() };
        let inner = entry.path().strip_prefix(folder).ok().and_then(Path::to_str).ok_or_else(not_a_file)?;
        let path = inner.parse().map_err(|_| not_a_file())?;
        if !entry.file_type().is_file() {
            return Err(not_a_file());
        }
        let metadata = entry.metadata().map_err(|error| failed("look at", entry.path(), error.into()))?;
        bytes_total += metadata.len();
        if bytes_total > LAYER_BYTES_MAX || files.len() == FILES_MAX {
            return Err(ConfigError::TooLarge { path: folder.to_owned() });
        }
        let bytes = fs::read(entry.path()).map_err(|cause| failed("read", entry.path(), cause))?;
        files.push(ConfigFile { path, bytes, executable: metadata.permissions().mode() & 0o100 != 0 });
    }
    let name =
        folder.file_name().map_or_else(|| folder.display().to_string(), |name| name.to_string_lossy().into_owned());
    Ok(ConfigLayer { name, origin: folder.display().to_string(), files })
}

/// Writes a rendered tree under its digest below `folder`, if it is not there; returns its path.
pub fn place(rendered: &Rendered, folder: &Path) -> Result<PathBuf, ConfigError> {
    let target = folder.join(rendered.digest().hex());
    if target.is_dir() {
        return Ok(target);
    }
    fs::create_dir_all(folder).map_err(|cause| failed("create", folder, cause))?;
    let half = tempfile::Builder::new()
        .prefix(".half-")
        .tempdir_in(folder)
        .map_err(|cause| failed("create a folder in", folder, cause))?;
    for (path, file) in rendered.files() {
        let at = half.path().join(path.as_str());
        if let Some(parent) = at.parent() {
            fs::create_dir_all(parent).map_err(|cause| failed("create", parent, cause))?;
        }
        let mode = if file.executable { 0o755 } else { 0o644 };
        write(&at, &file.bytes, mode).map_err(|cause| failed("write", &at, cause))?;
    }
    for entry in walkdir::WalkDir::new(half.path()).contents_first(true) {
        let entry = entry.map_err(|error| failed("sync", half.path(), error.into()))?;
        if entry.file_type().is_dir() {
            // The program runs as somebody else: whatever the umask, it may read.
            let open = fs::Permissions::from_mode(0o755);
            fs::set_permissions(entry.path(), open)
                .and_then(|()| File::open(entry.path())?.sync_all())
                .map_err(|cause| failed("sync", entry.path(), cause))?;
        }
    }
    match fs::rename(half.path(), &target) {
        Ok(()) => drop(half.keep()),
        // Somebody was faster with the same content.
        Err(_) if target.is_dir() => return Ok(target),
        Err(cause) => return Err(failed("name", &target, cause)),
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|cause| failed("sync", folder, cause))?;
    Ok(target)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn failed(doing: &'static str, path: &Path, cause: io::Error) -> ConfigError {
    ConfigError::Io { doing, path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Facts, render};

    fn facts() -> Facts {
        let text = String::new;
        Facts {
            node: "n1".to_owned(),
            groups: vec![],
            app: text(),
            version: text(),
            commit: text(),
            ports: vec![],
            data: BTreeMap::new(),
        }
    }

    #[test]
    fn folder_is_read_rendered_and_placed_once() {
        let place_at = tempfile::tempdir().unwrap();
        let source = tempfile::tempdir().unwrap();
        fs::create_dir(source.path().join("inner")).unwrap();
        fs::write(source.path().join("inner/a.toml.j2"), "node = {{ node }}").unwrap();
        fs::write(source.path().join("run"), "#!").unwrap();
        fs::set_permissions(source.path().join("run"), fs::Permissions::from_mode(0o750)).unwrap();
        let layer = read_folder(source.path()).unwrap();
        let rendered = render(&[layer], &facts()).unwrap();
        let at = place(&rendered, place_at.path()).unwrap();
        assert_eq!(fs::read_to_string(at.join("inner/a.toml")).unwrap(), "node = n1");
        assert_eq!(fs::metadata(at.join("run")).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(fs::metadata(at.join("inner")).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(place(&rendered, place_at.path()).unwrap(), at);
        assert_eq!(fs::read_dir(place_at.path()).unwrap().count(), 1, "nothing half is left");
    }

    #[test]
    fn links_and_missing_folders_are_refused_by_name() {
        let source = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", source.path().join("a")).unwrap();
        assert!(matches!(read_folder(source.path()), Err(ConfigError::NotAFile { .. })));
        let missing = source.path().join("none");
        let error = read_folder(&missing).unwrap_err().to_string();
        assert_eq!(error, format!("cannot read the config folder {}", missing.display()));
    }
}
