//! What generations share on this disk: unpacked images. Each is whole under its digest's name, or absent.
//!
//! Side effects: writes and removes below `<state>/roots`, `<state>/config` and `<state>/store`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use nebh_oci::image_config::ImageConfig;
use nebh_oci::layout::Layout;
use nebh_oci::manifest::RawManifest;
use nebh_oci::unpack::unpack_image;

use super::generation::Folder;
use super::trouble;
use crate::machine::Trouble;

/// Begins the names of what is not whole yet.
const HALF: &str = ".half-";

/// Unpacks an image under its digest's name, unless it is there, and gives its config.
pub(super) fn unpack(store: &Layout, image: &RawManifest, roots: &Path) -> Result<ImageConfig, Trouble> {
    let target = roots.join(image.digest().hex());
    let config = || {
        let descriptor = &image.image().ok_or_else(|| trouble::wrong("the release's image is an index"))?.config;
        let bytes = store
            .read(&descriptor.digest, nebh_oci::image_config::CONFIG_SIZE_MAX)
            .map_err(|error| trouble::failed(&error))?;
        ImageConfig::parse(&bytes).map_err(|error| trouble::failed(&error))
    };
    if target.is_dir() {
        return config();
    }
    fs::create_dir_all(roots).map_err(|error| trouble::failed(&error))?;
    let half = tempfile::Builder::new().prefix(HALF).tempdir_in(roots).map_err(|error| trouble::failed(&error))?;
    // The container's user has to come in, whatever our own umask is.
    open_to_all(half.path()).map_err(|error| trouble::failed(&error))?;
    // Dropping `half` on any error gives its space back.
    let config = unpack_image(store, image, half.path()).map_err(|error| trouble::failed(&error))?;
    let finish = || -> io::Result<()> {
        for name in ["proc", "dev", "sys", "tmp", "run", "etc"] {
            mount_point(half.path(), name)?;
        }
        // One call for thousands of files; they are named only when all of them are on the disk.
        rustix::fs::syncfs(File::open(half.path())?)?;
        fs::rename(half.path(), &target)?;
        File::open(roots)?.sync_all()
    };
    finish().map_err(|error| trouble::failed(&error))?;
    drop(half.keep());
    Ok(config)
}

fn open_to_all(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
}

/// A top-level folder that every container mounts on. Whatever the image has there already stays.
fn mount_point(root: &Path, name: &str) -> io::Result<()> {
    let path = root.join(name);
    if fs::symlink_metadata(&path).is_ok() {
        return Ok(());
    }
    fs::create_dir(&path)?;
    open_to_all(&path)
}

/// Removes whatever no generation of any application names. Called with the disk's lock held.
pub(super) fn sweep(state: &Path, store: &Layout) -> io::Result<()> {
    let mut kept = Kept::default();
    for app in fs::read_dir(state.join("apps")).into_iter().flatten().flatten() {
        for id in Folder::all(&app.path()) {
            let folder = Folder::of(&app.path(), "", id);
            // A generation that cannot be read keeps everything: what is unknown is never dropped.
            let (Ok(generation), Ok(evidence)) = (folder.read(), folder.evidence()) else {
                if folder.path().join("generation.json").exists() {
                    return Ok(());
                }
                continue;
            };
            kept.roots.insert(generation.image.hex());
            kept.configs.insert(generation.config.hex());
            let image = &evidence.image.manifest;
            kept.blobs.insert(image.digest().hex());
            if let Some(image) = image.image() {
                kept.blobs.extend(image.layers.iter().chain([&image.config]).map(|blob| blob.digest.hex()));
            }
        }
    }
    remove_others(&state.join("roots"), &kept.roots)?;
    remove_others(&state.join("config"), &kept.configs)?;
    remove_others(&store.root().join("blobs/sha256"), &kept.blobs)
}

#[derive(Default)]
struct Kept {
    roots: BTreeSet<String>,
    configs: BTreeSet<String>,
    blobs: BTreeSet<String>,
}

fn remove_others(folder: &Path, kept: &BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_ours = name.starts_with(HALF) || name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_ours || kept.contains(&name) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
