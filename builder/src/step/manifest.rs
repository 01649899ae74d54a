//! Cargo's manifests without the source: enough to compile every dependency and nothing of the application, so that the
//! compiled dependencies follow from the lock, the features and the profile alone.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

/// The version that every package of the source gets: its own would make dependencies follow from it.
const VERSION: &str = "0.0.0";
/// What a program is made of until the application comes.
const EMPTY_PROGRAM: &str = "fn main() {}\n";

/// The files of the skeleton, and the names of the packages that are the application's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Skeleton {
    /// Content by path.
    pub(super) files: BTreeMap<String, String>,
    /// Packages of the source.
    pub(super) members: BTreeSet<String>,
}

/// Why there is no skeleton.
#[derive(Debug, thiserror::Error)]
pub(super) enum ManifestError {
    /// A manifest is no TOML.
    #[error("`{path}` cannot be read")]
    Toml {
        /// The file.
        path: String,
        /// Cause.
        #[source]
        cause: Box<toml::de::Error>,
    },
    /// It says where crates come from, which the lock does.
    #[error("`{path}` sets `{key}`: crates come from the lock, by the digests of `Cargo.lock`; take it out")]
    OwnCrates {
        /// The file.
        path: String,
        /// The field.
        key: &'static str,
    },
    /// It cannot be written back.
    #[error("`{path}` cannot be written")]
    Write {
        /// The file.
        path: String,
        /// Cause.
        #[source]
        cause: toml::ser::Error,
    },
}

/// True for files whose text the skeleton needs.
pub(super) fn is_wanted(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let in_cargo_folder = path.starts_with(".cargo/") || path.contains("/.cargo/");
    name == "Cargo.toml" || path == "Cargo.lock" || (in_cargo_folder && matches!(name, "config" | "config.toml"))
}

/// Makes the skeleton from the texts of the wanted files and the names of all.
pub(super) fn skeleton(paths: &BTreeSet<&str>, texts: &BTreeMap<String, String>) -> Result<Skeleton, ManifestError> {
    let mut manifests = BTreeMap::new();
    let mut files = BTreeMap::new();
    for (path, text) in texts {
        if path == "Cargo.toml" || path.ends_with("/Cargo.toml") {
            manifests.insert(path.clone(), parse(path, text)?);
        } else if path != "Cargo.lock" {
            if let Some(key) = crates_of_its_own(path, &parse(path, text)?) {
                return Err(ManifestError::OwnCrates { path: path.clone(), key });
            }
            files.insert(path.clone(), text.clone());
        }
    }
    let keeps_versions = manifests.values().any(names_own_versions);
    let mut members = BTreeSet::new();
    for (path, manifest) in &mut manifests {
        let folder = path.strip_suffix("Cargo.toml").unwrap_or_default();
        if let Some(name) = package_name(manifest) {
            members.insert(name);
            for (target, text) in targets(folder, manifest, paths) {
                files.insert(target, text.to_owned());
            }
        }
        for table in ["test", "bench", "example"] {
            manifest.remove(table);
        }
        if !keeps_versions {
            reset_version(manifest);
        }
        files.insert(path.clone(), write(path, manifest)?);
    }
    if let Some(text) = texts.get("Cargo.lock") {
        let mut lock = parse("Cargo.lock", text)?;
        if !keeps_versions {
            reset_lock(&mut lock);
        }
        files.insert("Cargo.lock".to_owned(), write("Cargo.lock", &lock)?);
    }
    Ok(Skeleton { files, members })
}

fn parse(path: &str, text: &str) -> Result<Table, ManifestError> {
    text.parse().map_err(|cause| ManifestError::Toml { path: path.to_owned(), cause: Box::new(cause) })
}

fn write(path: &str, table: &Table) -> Result<String, ManifestError> {
    toml::to_string(table).map_err(|cause| ManifestError::Write { path: path.to_owned(), cause })
}

/// What in cargo's settings of the project puts other crates in the place of the locked ones. A folder of crates says
/// itself what their digests are, so `Cargo.lock` would agree, and the bill of materials name what was never compiled.
/// Settings in deeper folders are not read where cargo runs.
fn crates_of_its_own(path: &str, settings: &Table) -> Option<&'static str> {
    let is_read = matches!(path, ".cargo/config" | ".cargo/config.toml");
    ["source", "paths", "include"].into_iter().find(|key| is_read && settings.contains_key(*key))
}

fn package_name(manifest: &Table) -> Option<String> {
    manifest.get("package")?.get("name")?.as_str().map(str::to_owned)
}

/// True if a dependency is named by path and by version at once: then versions of our own packages matter.
fn names_own_versions(table: &Table) -> bool {
    table.iter().any(|(_, value)| match value {
        Value::Table(inner) => {
            (inner.contains_key("path") && inner.contains_key("version") && !inner.contains_key("name"))
                || names_own_versions(inner)
        }
        _ => false,
    })
}

fn reset_version(manifest: &mut Table) {
    let package = |manifest: &mut Table| {
        if let Some(version) = manifest.get_mut("version")
            && version.is_str()
        {
            *version = Value::String(VERSION.to_owned());
        }
    };
    if let Some(Value::Table(own)) = manifest.get_mut("package") {
        package(own);
    }
    if let Some(Value::Table(workspace)) = manifest.get_mut("workspace")
        && let Some(Value::Table(shared)) = workspace.get_mut("package")
    {
        package(shared);
    }
}

fn reset_lock(lock: &mut Table) {
    let Some(Value::Array(packages)) = lock.get_mut("package") else { return };
    let mut own = BTreeSet::new();
    for package in packages.iter_mut().filter_map(Value::as_table_mut).filter(|one| !one.contains_key("source")) {
        if let (Some(name), Some(version)) = (text(package, "name"), text(package, "version")) {
            own.insert(format!("{name} {version}"));
            package.insert("version".to_owned(), Value::String(VERSION.to_owned()));
        }
    }
    for package in packages.iter_mut().filter_map(Value::as_table_mut) {
        let Some(Value::Array(dependencies)) = package.get_mut("dependencies") else { continue };
        for dependency in dependencies {
            // `name version` where the name alone is not enough.
            let named = dependency.as_str().filter(|text| own.contains(*text));
            if let Some((name, _)) = named.and_then(|text| text.split_once(' ')) {
                *dependency = Value::String(format!("{name} {VERSION}"));
            }
        }
    }
}

fn text(table: &Table, key: &str) -> Option<String> {
    table.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// `path` seen from `folder`, if that is inside the source. Members of a workspace share files by `..`.
fn within(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    if path.starts_with('/') {
        return None;
    }
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// The root files of the package's targets, each empty.
fn targets(folder: &str, manifest: &Table, paths: &BTreeSet<&str>) -> BTreeMap<String, &'static str> {
    let mut all = BTreeMap::new();
    let exists = |path: &str| paths.contains(format!("{folder}{path}").as_str());
    let declared = |table: &Value| table.get("path").and_then(Value::as_str).map(str::to_owned);
    let mut put = |path: &str, text| {
        // What lies outside is not in the commit: cargo itself will say so.
        if let Some(place) = within(folder, path) {
            all.insert(place, text);
        }
    };
    if exists("src/main.rs") {
        put("src/main.rs", EMPTY_PROGRAM);
    }
    for path in paths.iter().filter_map(|path| path.strip_prefix(folder)) {
        let program = path.strip_prefix("src/bin/").is_some_and(|rest| match rest.split_once('/') {
            None => std::path::Path::new(rest).extension().is_some_and(|extension| extension == "rs"),
            Some((_, rest)) => rest == "main.rs",
        });
        if program {
            put(path, EMPTY_PROGRAM);
        }
    }
    for program in manifest.get("bin").and_then(Value::as_array).into_iter().flatten() {
        if let Some(path) = declared(program) {
            put(&path, EMPTY_PROGRAM);
        }
    }
    match manifest.get("lib") {
        Some(library) => put(&declared(library).unwrap_or_else(|| "src/lib.rs".to_owned()), ""),
        None if exists("src/lib.rs") => put("src/lib.rs", ""),
        None => {}
    }
    match manifest.get("package").and_then(|package| package.get("build")) {
        Some(Value::String(path)) => put(path, EMPTY_PROGRAM),
        None if exists("build.rs") => put("build.rs", EMPTY_PROGRAM),
        Some(_) | None => {}
    }
    all
}
