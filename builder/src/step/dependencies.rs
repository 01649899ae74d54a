//! The step that compiles what the application depends on, kept by all that it follows from. Its result is an input of the
//! application's step, and never written again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use nebh_face::{Exit, Failure};
use nebh_oci::digest::Digest;

use super::cargo::{CONFIG, Cargo, EPOCH, RustInputs, environment, profile_folder};
use super::manifest::{Skeleton, is_wanted, skeleton};
use crate::assembly::{Entry, EntryPath, FileTree, Meta};
use crate::packages::{internal, key_of};
use crate::root::materialize;
use crate::spec::RustStep;

/// Version of this step; part of the key.
const DEPENDENCIES_VERSION: &str = "dependencies-2";
/// The folder with the compiled dependencies, and whether it was kept from before.
pub(super) async fn dependencies(
    step: &RustStep,
    inputs: &RustInputs<'_>,
    cargo: &Cargo<'_>,
) -> Result<(PathBuf, bool), Failure> {
    let skeleton = read_skeleton(inputs)?;
    let key = key(step, cargo, &skeleton)?;
    let store = inputs.packages.store;
    if let Some(folder) = store.folder("dependencies", &key) {
        return Ok((folder, true));
    }
    let source = inputs.packages.work.folder("skeleton")?;
    let target = inputs.packages.work.folder("dependencies")?;
    let mut tree = FileTree::default();
    for (path, text) in &skeleton.files {
        let path = EntryPath::parse(path).map_err(|error| internal(&error))?;
        let file = Entry::file(Meta::root(0o644, EPOCH), text.clone().into_bytes());
        tree.insert(path, file).map_err(|error| internal(&error))?;
    }
    materialize(tree, &source).map_err(|error| internal(&error))?;
    cargo.build("dependencies", step, &source, &target).await?;
    forget(&target.join(profile_folder(&step.profile)), &skeleton.members)
        .map_err(|cause| Failure::new(Exit::Failed, "cannot keep the compiled dependencies").because(&cause))?;
    Ok((store.keep_folder("dependencies", &key, &target)?, false))
}

fn read_skeleton(inputs: &RustInputs<'_>) -> Result<Skeleton, Failure> {
    let tree = inputs.checkout.tree();
    let mut texts = BTreeMap::new();
    for entry in tree.entries().filter(|entry| is_wanted(&entry.path)) {
        texts.insert(entry.path.clone(), inputs.checkout.text(&entry.path)?);
    }
    let paths: BTreeSet<&str> = tree.entries().map(|entry| entry.path.as_str()).collect();
    skeleton(&paths, &texts).map_err(|error| Failure::new(Exit::Usage, "the manifests make no sense").because(&error))
}

fn key(step: &RustStep, cargo: &Cargo<'_>, skeleton: &Skeleton) -> Result<Digest, Failure> {
    let mut bins: Vec<&str> = step.bins.iter().map(crate::spec::BinName::as_str).collect();
    bins.sort_unstable();
    let mut features = step.features.clone();
    features.sort();
    key_of(&(
        DEPENDENCIES_VERSION,
        crate::plan::SANDBOX,
        (&cargo.root_key, &cargo.vendor_key),
        &skeleton.files,
        (bins, features, step.profile.as_str()),
        environment(),
        CONFIG,
    ))
}

/// Takes away what was compiled from the empty sources. Cargo judges sources by their times, and those of the commit are
/// older than anything compiled now: it would take the empty program for the application.
fn forget(folder: &Path, members: &BTreeSet<String>) -> std::io::Result<()> {
    let crates: BTreeSet<String> = members.iter().map(|name| name.replace('-', "_")).collect();
    let is_own = |name: &str| {
        let stem = name.split('.').next().unwrap_or(name);
        let Some((before, hash)) = stem.rsplit_once('-') else { return false };
        let hashed = hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let before = before.strip_prefix("lib").filter(|rest| crates.contains(*rest)).unwrap_or(before);
        hashed && (members.contains(before) || crates.contains(before))
    };
    if !is_plain_folder(folder)? {
        return Ok(());
    }
    for inner in [".fingerprint", "build", "deps"] {
        let inner = folder.join(inner);
        if !is_plain_folder(&inner)? {
            continue;
        }
        for entry in fs::read_dir(&inner)? {
            let entry = entry?;
            if is_own(&entry.file_name().to_string_lossy()) {
                remove(&entry.path())?;
            }
        }
    }
    // The programs themselves, under their plain names.
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if !entry.file_type()?.is_dir() && path.file_name().is_none_or(|name| name != ".cargo-lock") {
            remove(&path)?;
        }
    }
    Ok(())
}

/// A build script of any crate could write here, and it may have put a link in the place of a folder: what lies behind it
/// is not ours to remove. Nobody writes here any more, so a look before is enough.
fn is_plain_folder(path: &Path) -> std::io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => Ok(true),
        Ok(_) => Err(std::io::Error::other(format!("`{}` is not the folder that cargo made", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_planted_by_a_build_script_where_a_folder_was_removes_nothing_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().join("host");
        fs::create_dir_all(&host).unwrap();
        let own = host.join("my_app-0123456789abcdef");
        fs::write(&own, "the host's").unwrap();
        let members = BTreeSet::from(["my-app".to_owned()]);
        for planted in ["release", "release/deps", "release/build"] {
            let target = dir.path().join("target");
            fs::create_dir_all(target.join(planted).parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(&host, target.join(planted)).unwrap();
            let error = forget(&target.join("release"), &members).unwrap_err();
            assert!(error.to_string().contains("is not the folder that cargo made"), "{error}");
            assert!(own.exists(), "removed through {planted}");
            fs::remove_dir_all(&target).unwrap();
        }
        // A link among the files themselves is taken away, not what it leads to.
        let target = dir.path().join("target");
        fs::create_dir_all(&target).unwrap();
        std::os::unix::fs::symlink(&host, target.join("my-app")).unwrap();
        forget(&target, &members).unwrap();
        assert!(own.exists() && !target.join("my-app").is_symlink());
    }

    #[test]
    fn only_what_came_from_the_empty_sources_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let kept = [
            "deps/libserde-0123456789abcdef.rlib",
            "deps/my_app_util-0123456789abcdef.d",
            ".fingerprint/my-app-util-0123456789abcdef/x",
            "build/ring-0123456789abcdef/out",
            ".cargo-lock",
        ];
        let gone = [
            "deps/my_app-0123456789abcdef",
            "deps/libmy_app-0123456789abcdef.rlib",
            ".fingerprint/my-app-0123456789abcdef/x",
            "build/my-app-0123456789abcdef/out",
            "my-app",
            "my-app.d",
        ];
        for path in kept.iter().chain(&gone) {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        forget(dir.path(), &BTreeSet::from(["my-app".to_owned()])).unwrap();
        let there = |path: &&&str| dir.path().join(path).exists();
        assert_eq!(kept.iter().filter(there).count(), kept.len());
        assert_eq!(gone.iter().filter(there).count(), 0);
    }
}
