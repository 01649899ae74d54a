//! The `rust` step: cargo in the sandbox, twice. First the dependencies, kept; then the application on top of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use nebh_face::{Exit, Failure};

use super::cargo::{CONFIG, Cargo, RustInputs, profile_folder};
use super::collect::collect;
use super::dependencies::dependencies;
use super::vendor::vendor;
use crate::assembly::{Entry, EntryPath, FileTree, Meta, Spill};
use crate::blocking::blocking;
use crate::event::BuildEvent;
use crate::packages::internal;
use crate::sandbox::Layered;
use crate::spec::RustStep;

/// Runs the step; its programs as a tree.
pub async fn rust(step: &RustStep, inputs: &RustInputs<'_>, spill: &Spill) -> Result<FileTree, Failure> {
    let events = inputs.packages.events;
    let begun = Instant::now();
    let what = step.toolchain.to_string();
    events.send(BuildEvent::StepStarted { step: "toolchain".into(), what: what.clone() });
    let (root, root_key, kept) = blocking(|| inputs.packages.root(&inputs.lock.toolchain))?;
    events.send(BuildEvent::StepDone { step: "toolchain".into(), what, millis: millis(begun), kept });
    let (crates, vendor_key) = blocking(|| vendor(inputs.lock.crates(), inputs.packages))?;
    let config_folder = inputs.packages.work.folder("cargo")?;
    let cargo = Cargo { inputs, root, root_key, crates, vendor_key, config_folder };
    let config = cargo.config_folder.join("config.toml");
    fs::write(&config, CONFIG)
        .and_then(|()| fs::set_permissions(&config, fs::Permissions::from_mode(0o644)))
        .map_err(|cause| failed_at(&config, &cause))?;
    let begun = Instant::now();
    let what = format!("{} crates", inputs.lock.crates().len());
    events.send(BuildEvent::StepStarted { step: "dependencies".into(), what: what.clone() });
    let (compiled, kept) = dependencies(step, inputs, &cargo).await?;
    events.send(BuildEvent::StepDone { step: "dependencies".into(), what, millis: millis(begun), kept });
    let begun = Instant::now();
    let what = step.bins.iter().map(crate::spec::BinName::as_str).collect::<Vec<_>>().join(", ");
    events.send(BuildEvent::StepStarted { step: "rust".into(), what: what.clone() });
    let target = Layered::over(&compiled, inputs.packages.work.path()).map_err(|error| internal(&error))?;
    cargo.build("rust", step, inputs.source, target.path()).await?;
    let tree = programs(step, target.path(), spill, inputs.checkout.time())?;
    events.send(BuildEvent::StepDone { step: "rust".into(), what, millis: millis(begun), kept: false });
    Ok(tree)
}

fn millis(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn programs(step: &RustStep, target: &Path, spill: &Spill, mtime: u64) -> Result<FileTree, Failure> {
    let mut tree = FileTree::default();
    for bin in &step.bins {
        let path = Path::new(profile_folder(&step.profile)).join(bin.as_str());
        let content = collect(target, &path, spill).map_err(|error| {
            Failure::new(Exit::Failed, format!("step `rust` made no program `{bin}`")).because(&error)
        })?;
        let place = EntryPath::parse(&format!("usr/bin/{bin}")).map_err(|error| internal(&error))?;
        tree.insert(place, Entry::content(Meta::root(0o755, mtime), content)).map_err(|error| internal(&error))?;
    }
    Ok(tree)
}

fn failed_at(path: &Path, cause: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot write `{}`", path.display())).because(cause)
}
